"""The real command line under encodings and interpreters that users have: results do not depend on them."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.made_up import make_results, write_results
from triptych import registry
from triptych.cli import commands
from triptych.contracts import Baseline, Method
from triptych.errors import ConfigError
from triptych.run import provenance

SMALL = [
    "limits.train_documents=8",
    "limits.validation_documents=2",
    "limits.test_documents=2",
    "training.max_epochs=1",
    "decoding.max_new_tokens=4",
    "decoding.num_beams=1",
    "search.trials=0",
]
POSIX = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def triptych(folder: Path, arguments: list[str], surroundings: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    """Run the command as a separate process."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("LC_", "PYTHONIO", "PYTHONUTF"))
    }
    environment |= {"TRIPTYCH_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1", **surroundings}
    command = [sys.executable, "-m", "triptych", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=290)


@pytest.mark.parametrize(
    ("surroundings", "encoding"),
    [({"PYTHONIOENCODING": "latin-1"}, "latin-1"), ({"PYTHONIOENCODING": "ascii:strict"}, "ascii"), (POSIX, "ascii")],
    ids=["latin-1", "ascii", "POSIX"],
)
def test_a_stream_that_lacks_a_dash_loses_the_dash_alone(tmp_path: Path, surroundings, encoding) -> None:
    """`report` ends with status 0 and its whole table; characters missing from its encoding are "?" there, and intact
    in the files."""
    write_results(make_results(("lead-3", "lora")), tmp_path / "out")
    done = triptych(tmp_path, ["report", "out"], surroundings)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode(encoding).splitlines()
    assert [line for line in lines if line.startswith("|lead-3") and "?" in line] and "report.html" in lines[-1]
    assert "—" in (tmp_path / "out/comparison.md").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("surroundings", [{"PYTHONOPTIMIZE": "2"}, POSIX | {"PYTHONIOENCODING": "ascii:strict"}])
def test_a_suite_runs_in_these_surroundings(tmp_path: Path, surroundings) -> None:
    """Training, its events and the report need neither docstrings nor UTF-8 streams."""
    done = triptych(
        tmp_path, ["compare", "--methods", "lora", "--seeds", "0", "--out", "out", "--set", *SMALL], surroundings
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/report.html").is_file()


def test_without_docstrings_every_command_works(tmp_path: Path) -> None:
    """Under PYTHONOPTIMIZE=2 `list` still describes each plug-in."""
    done = triptych(tmp_path, ["list"], {"PYTHONOPTIMIZE": "2"})
    assert done.returncode == 0, done.stderr
    shown = done.stdout.decode()
    for contract in (Method, Baseline):
        for name, kind in registry.registered(contract).items():
            assert f"  {name}: {kind.summary_line()}\n" in shown and kind.summary_line()


def test_a_plugin_whose_source_is_gone_is_registered_without_docstrings(monkeypatch) -> None:
    """If docstrings are stripped and there is no source, none is required; otherwise a missing one is refused."""
    namespace: dict = {"Baseline": Baseline}
    exec("class Mine(Baseline):\n    def predict(self, documents):\n        return documents", namespace)
    with pytest.raises(ConfigError, match="docstring"):
        registry.register("mine")(namespace["Mine"])
    monkeypatch.setattr(registry.sys, "flags", SimpleNamespace(optimize=2))
    assert registry.register("mine")(namespace["Mine"]).summary_line() == ""


def test_streams_replace_what_they_lack(monkeypatch) -> None:
    """Standard output and error accept any text, lone surrogates included."""
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding="ascii") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    commands.replace_what_streams_lack()
    for stream in streams.values():
        stream.write("a – b \udce9 日")
        stream.flush()
        assert stream.buffer.getvalue() == b"a ? b ? ?"


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A commit of a source tree, which the package takes for its own."""
    package = tmp_path / "src/triptych/__init__.py"
    package.parent.mkdir(parents=True)
    package.write_text("")
    (tmp_path / "notes.md").write_text("")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "it"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(provenance.triptych, "__file__", str(package))
    return tmp_path


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_only_changes_of_the_source_are_changes(checkout: Path) -> None:
    """User files in a clone, and changed documents, do not mark a commit as changed; a changed or new source file, such
    as a method, does."""
    for name in ("my-suite.toml", "assignment.zip", "notes.md", "plugin.py"):
        (checkout / name).write_text("mine")
    assert provenance._commit()[1] is False
    method = checkout / "src/triptych/methods/mine.py"
    method.parent.mkdir()
    method.write_text("mine")
    assert provenance._commit()[1] is True
    method.unlink()
    assert provenance._commit()[1] is False
    (checkout / "src/triptych/__init__.py").write_text("changed")
    assert provenance._commit()[1] is True


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_looking_at_the_commit_writes_nothing_into_the_checkout(checkout: Path) -> None:
    """The commit of the source tree is read without locking or writing its index, so no lock can be left there."""
    os.utime(checkout / "src/triptych/__init__.py", (1, 1))  # what `git status` would write to the index
    before = (checkout / ".git/index").read_bytes()
    commit, dirty = provenance._commit()
    assert commit is not None and len(commit) == 40 and dirty is False
    assert (checkout / ".git/index").read_bytes() == before
    subprocess.run(["git", "-C", str(checkout), "status", "--porcelain"], check=True, capture_output=True)
    assert (checkout / ".git/index").read_bytes() != before  # the test would notice it
