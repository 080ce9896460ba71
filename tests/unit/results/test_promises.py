"""Every test named by the promises of `SECURITY.md` and `docs/reliability.md` exists."""

import ast
import re
from functools import cache

import pytest

from support.paths import CHECKOUT

DOCUMENTS = ("SECURITY.md", "docs/reliability.md")
TEST_FILE = re.compile(r"tests/[\w/]+\.py")
PROGRAM = re.compile(r"scripts/\w+(?:\.py|/)")
# Sections that promise nothing: whom the program trusts, what a stranger can do, how to report a weakness, and what
# was tried.
NOT_PROMISED = (
    "## Trusted",
    "## What a stranger's file can still do",
    "## Reporting",
    "## Faults tested",
    "## Latest results",
)


@cache
def functions(file: str) -> frozenset[str]:
    """The names of a test file's tests."""
    tree = ast.parse((CHECKOUT / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def quoted(document: str) -> list[str]:
    """Everything in backticks."""
    return re.findall(r"`([^`\n]+)`", (CHECKOUT / document).read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_test_that_a_document_names_exists(document):
    """Each named test is a function in some test file, and each named file or program is in the checkout."""
    names = [word for word in quoted(document) if word.startswith("test_")]
    files = [word for word in quoted(document) if TEST_FILE.fullmatch(word) or PROGRAM.fullmatch(word)]
    assert files and all((CHECKOUT / file).exists() for file in files), [
        f for f in files if not (CHECKOUT / f).exists()
    ]
    known = {name for file in (CHECKOUT / "tests").rglob("test_*.py") for name in functions(str(file))}
    assert not set(names) - known, sorted(set(names) - known)


def promises(document: str) -> dict[str, str]:
    """The bullets and paragraphs that must name a test, by their first words."""
    text = (CHECKOUT / document).read_text(encoding="utf-8")
    found = {}
    for section in re.split(r"\n(?=## )", text):
        if section.startswith(NOT_PROMISED):
            continue
        blocks = re.split(r"\n(?=- )|\n\n", section.partition("\n\n")[2])
        found |= {block[:60]: block for block in blocks if block.startswith(("- ", "**"))}
    return found


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_promise_names_a_test(document):
    """Each bullet, and each paragraph that begins with a promise, names a test or a file of tests."""
    made = promises(document)
    bare = [beginning for beginning, text in made.items() if not re.search(r"`(?:test_\w+|tests/[\w/]+\.py)`", text)]
    assert len(made) >= 4 and not bare, bare


def test_every_row_of_what_was_tried_names_a_test_or_a_program():
    """The table of faults says where each one is tested."""
    text = (CHECKOUT / "docs/reliability.md").read_text(encoding="utf-8")
    section = text.partition("## Faults tested")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| fault")]
    assert len(rows) > 10
    assert all(re.search(r"`(?:tests|scripts)/\w+", row) for row in rows), rows


# What the documents say about the source as a whole


def calls() -> list[tuple[str, ast.Call]]:
    """Every call in the package, with the name of the callee and its owner."""
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in sorted((CHECKOUT / "src/triptych").rglob("*.py"))]
    return [(ast.unparse(node.func), node) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_remote_code_is_refused_in_every_call_of_transformers():
    """Wherever an Auto class reads or creates something, `trust_remote_code` is given, as False."""
    asked = [call for name, call in calls() if re.fullmatch(r"Auto\w+\.from_(pretrained|config)", name)]
    given = [{word.arg: ast.unparse(word.value) for word in call.keywords}.get("trust_remote_code") for call in asked]
    assert len(given) >= 5 and set(given) == {"False"}


def test_the_source_neither_pickles_nor_unpickles():
    """No module imports a pickler, and neither torch nor numpy reads or writes anything that could be a pickle."""
    names = {name for name, _ in calls()}
    assert not names & {
        "torch.load",
        "torch.save",
        "np.load",
        "np.save",
        "numpy.load",
        "pandas.read_pickle",
        "eval",
        "exec",
    }
    picklers = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    for file in (CHECKOUT / "src/triptych").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                imported = {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
                assert not {name.partition(".")[0] for name in imported} & picklers, file
