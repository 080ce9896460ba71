"""The library as others use it: documented, typed, fast to import."""

import ast
import os
import re
import subprocess
import sys

import pytest

import triptych
from support.paths import CHECKOUT
from triptych import api, cli
from triptych.use import summarizers

ROOT = CHECKOUT


def test_importing_the_package_brings_no_torch():
    """`import triptych` alone imports neither torch nor transformers nor pydantic."""
    code = "import sys, triptych; sys.exit(bool({'torch', 'transformers', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_is_what_it_says():
    """Every name in `__all__` exists under its own name, and no other; commands come from the API, not from lower
    layers."""
    for name in triptych.__all__:
        assert getattr(triptych, name).__name__ == name
    assert triptych.load is api.load and triptych.Trained is summarizers.Trained
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        triptych.lode  # noqa: B018
    tree = ast.parse((ROOT / "src/triptych/__init__.py").read_text())
    (guarded,) = (node for node in tree.body if isinstance(node, ast.If))
    told = {alias.name for node in ast.walk(guarded) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert told == set(triptych.__all__)  # what a type checker sees


def test_every_command_is_a_function(capsys):
    """Each command of the command line has a public function in the table of docs/api.md."""
    table = re.findall(r"^\| `([\w -]+?)(?: DIR)?` \| (.*?) \|", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    commands = re.findall(r"^ {4}(\w+)\b", capsys.readouterr().out, re.MULTILINE)
    assert commands and {command.split()[0] for command, _ in table} == set(commands)
    functions = {name for _, cell in table for name in re.findall(r"`(\w+)`", cell)}
    assert functions <= set(triptych.__all__)
    for name in functions:
        assert (getattr(triptych, name).__doc__ or "").strip() and not hasattr(getattr(triptych, name), "mro")


def test_the_documented_examples_run(tmp_path):
    """The examples of docs/api.md run one after another as written."""
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "docs/api.md").read_text(), re.DOTALL)
    assert len(examples) == 8
    (tmp_path / "examples.py").write_text("\n".join(examples))
    environment = {**os.environ, "TRIPTYCH_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    found = subprocess.run(
        [sys.executable, "examples.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("\n") == 13 and "False" in found.stdout


USE = """
import triptych

rows = triptych.load_all(["a", "b"])
reveal_type(rows[0].summarize(["x"]))
reveal_type(triptych.load("a").stream)
reveal_type(triptych.compare(out="x").rows["lora"].rouge1)
reveal_type(triptych.train("lora", out="x"))
reveal_type(triptych.Example("a", "b", "c").document)
triptych.bundle("out")
triptych.load(3)
"""


@pytest.mark.slow
def test_a_type_checker_knows_the_public_api(tmp_path):
    """mypy, with only the installed package, reveals the types of the public API and finds wrong calls."""
    assert (ROOT / "src/triptych/py.typed").is_file()
    (tmp_path / "use.py").write_text(USE)
    # The package's imports are left out: checking them takes a minute, and says nothing about this package.
    heavy = "\n".join(f"[mypy-{name}.*]\nfollow_imports = skip" for name in ("torch", "transformers", "numpy", "peft"))
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nplugins = pydantic.mypy\nfollow_imports = silent\n{heavy}\n")
    environment = {**os.environ, "MYPYPATH": str(ROOT / "src")}
    command = [
        sys.executable,
        "-m",
        "mypy",
        "use.py",
        "--cache-dir",
        str(tmp_path / "cache"),
        "--ignore-missing-imports",
    ]
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False).stdout
    revealed = re.findall(r'Revealed type is "(.*)"', found)
    assert [re.sub(r"\b(builtins|typing|collections\.abc)\.", "", text) for text in revealed] == [
        "list[str]",
        "def (documents: Sequence[str]) -> Iterator[tuple[int, triptych.use.summarizers.Summary]]",
        "triptych.results.records.Estimate | None",
        "list[triptych.results.records.Record]",
        "str",
    ]
    assert (
        'Missing positional argument "file"' in found
        and 'has incompatible type "int"' in found
        and "Found 2 errors" in found
    )
