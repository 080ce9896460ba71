"""The documents point to what exists: links to files and headings, paths of modules, and functions that walks name."""

import ast
import re
from pathlib import Path

import pytest

import package_map
from support.paths import CHECKOUT

PACKAGE = CHECKOUT / "src" / "triptych"
FILES = ("README.md", "CONTRIBUTING.md", "SECURITY.md")
DOCUMENTS = sorted([*(CHECKOUT / name for name in FILES), *(CHECKOUT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)\s#]*)(?:#([\w-]+))?\)")
MODULE = re.compile(r"`((?:src/triptych/)?[a-z_]+/[a-z_/]+\.py)(?:::([\w.]+))?`")
ROOTS = (CHECKOUT, PACKAGE)


def text_of(document: Path) -> str:
    """A document without its fenced code, and without the map of the package, which has its own test."""
    before, _, rest = document.read_text(encoding="utf-8").partition(package_map.BEGIN)
    text = before + rest.partition(package_map.END)[2]
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", text_of(document), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def definitions(module: Path) -> set[str]:
    """The functions and classes of a module, and `Class.method` for what classes define."""
    names = set()
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return names


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(path.relative_to(CHECKOUT)) for path in DOCUMENTS])
def test_links_lead_somewhere(document):
    """A relative link names a file in the checkout, and its anchor a heading of that file."""
    for target, anchor in LINK.findall(text_of(document)):
        if "://" in target or not (target or anchor):
            continue
        file = (document.parent / target).resolve() if target else document
        assert file.exists(), target
        assert not anchor or file.suffix != ".md" or anchor in anchors(file), f"{target}#{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(path.relative_to(CHECKOUT)) for path in DOCUMENTS])
def test_modules_and_functions_that_are_named_exist(document):
    """`wing/module.py` is a file of the checkout or the package, and `wing/module.py::name` is defined in it."""
    for path, name in MODULE.findall(text_of(document)):
        found = [root / path for root in ROOTS if (root / path).is_file()]
        assert found, path
        assert not name or name in definitions(found[0]), f"{path}::{name}"


def test_each_walk_has_at_most_ten_steps():
    """The walks of docs/design.md follow a text and a learning rate in at most ten steps, each naming a function."""
    walks = (CHECKOUT / "docs/design.md").read_text(encoding="utf-8").partition("## Two walks")[2].partition("\n## ")[0]
    text, rate = (re.split(r"\n(?=\d+\. )", walk)[1:] for walk in walks.split("One learning rate"))
    for steps in (text, rate):
        assert [step.partition(".")[0] for step in steps] == [str(number) for number in range(1, len(steps) + 1)]
        assert 5 <= len(steps) <= 10
        assert all(MODULE.search(step)[2] for step in steps)


def test_every_entry_of_the_log_has_date_commit_and_verdict():
    """An entry of LOG.md has its date in its title, newest first, and then its commits and a verdict."""
    entries = re.split(r"^## ", (CHECKOUT / "LOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    for entry in entries:
        assert re.match(
            r"\d{4}-\d\d-\d\d: \S.*\n\nCommits? [0-9a-f]{7}((?:, | and )[0-9a-f]{7})*\. \*\*Verdict:\*\* \S", entry
        ), entry[:80]
    dates = [entry[:10] for entry in entries]
    assert dates == sorted(dates, reverse=True)


def test_the_changelog_has_releases_and_kinds_of_change():
    """CHANGELOG.md has what is unreleased, then dated versions; each says what was added, changed and fixed."""
    releases = re.split(r"^## ", (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    titles = [release.partition("\n")[0] for release in releases]
    assert titles[0] == "Unreleased" or re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", titles[0])
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", title) for title in titles[1:])
    for release in releases:
        kinds = re.findall(r"^### (.*)$", release, flags=re.MULTILINE)
        assert kinds and set(kinds) <= {"Added", "Changed", "Fixed"} and len(kinds) == len(set(kinds))
        assert not re.search(r"^- ", release.partition("### ")[0], flags=re.MULTILINE)


def test_nothing_needs_files_that_are_not_in_the_repository():
    """No document, Makefile, script or benchmark names a file next to the checkout: only what it can make or fetch."""
    programs = [CHECKOUT / "Makefile", *(CHECKOUT / "scripts").rglob("*.py"), *(CHECKOUT / "benchmarks").rglob("*.py")]
    written = [path for path in DOCUMENTS if path.name != "comparison.md"]  # which a run made
    for path in [*programs, *written]:
        assert not re.search(r"(?<!\]\()\.\./shared|(?<![\w/])shared/", path.read_text(encoding="utf-8")), path
