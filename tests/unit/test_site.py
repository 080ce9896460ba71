"""The documentation site: its contents list every page, generated pages show everything registered, links are
checked."""

import re

import pytest
import yaml

import check_site
import docs_site
import triptych
from support.paths import CHECKOUT
from triptych.cli.commands import make_parser

SETTINGS = yaml.safe_load((CHECKOUT / "mkdocs.yml").read_text(encoding="utf-8"))


def pages_of(nav) -> list[str]:
    """The pages named in a part of the site's contents."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in pages_of(part)]


def test_the_contents_list_every_page_once():
    """Each page of docs/, each document from outside it and each generated page is in the contents, or named as left
    out."""
    written = {path.relative_to(CHECKOUT / "docs").as_posix() for path in (CHECKOUT / "docs").rglob("*.md")}
    pages = written | set(docs_site.OUTSIDE.values()) | set(docs_site.made_pages())
    listed = pages_of(SETTINGS["nav"])
    assert len(listed) == len(set(listed))
    assert set(listed) == pages - set(SETTINGS["not_in_nav"].split())


def test_the_reference_names_everything_public():
    """Each public name has an entry in the Python reference, and each command and option in the command reference."""
    entries = re.findall(r"^::: triptych\.(\w+)$", docs_site.api_page(), re.MULTILINE)
    assert sorted(entries) == sorted(triptych.__all__)
    page = docs_site.commands_page()
    (commands,) = [each for each in make_parser()._actions if hasattr(each, "_choices_actions")]
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == list(commands.choices)
    for parser in commands.choices.values():
        for action in parser._actions:
            assert all(option in page for option in action.option_strings if action.help != "==SUPPRESS==")


def test_a_method_page_has_every_option_and_the_source():
    """A method's page describes each of its options, and shows its source file."""
    page = docs_site.made_pages()["methods/lora.md"]
    for option in ("rank", "alpha", "target_modules", "learning_rates"):
        assert f"| `{option}` |" in page
    assert '@register("lora")' in page


@pytest.mark.parametrize(
    ("source", "page", "text", "expected"),
    [
        ("README.md", "index.md", "[a](docs/guides/x.md#y)", "[a](guides/x.md#y)"),
        ("docs/api.md", "api.md", "[a](../SECURITY.md)", "[a](security.md)"),
        ("docs/guides/x.md", "guides/x.md", "[a](../api.md), [b](#c)", "[a](../api.md), [b](#c)"),
        ("docs/api.md", "api.md", "[a](../examples/compare.ipynb)", "[a](files/examples/compare.ipynb)"),
        ("docs/scaling.md", "scaling.md", "[JSON](../benchmarks/results)", "JSON"),
        ("docs/api.md", "api.md", "[a](https://example.org/b)", "[a](https://example.org/b)"),
        ("docs/api.md", "api.md", "```csv a/b.csv\n[a](../x)\n```", '```csv title="a/b.csv"\n[a](../x)\n```'),
        ("docs/api.md", "api.md", "```sh hub\nls\n```", "```sh\nls\n```"),
    ],
)
def test_links_and_examples_fit_the_site(source, page, text, expected):
    """Links lead to the site's pages and files; links to folders, which it lacks, are removed; code is unchanged."""
    assert docs_site.for_site(text, source, page) == expected


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('<a href="b.html#there">', None),
        ('<a href="/b.html">', None),
        ('<a href="https://example.org">', None),
        ('<a href="c.html">', "links to c.html, which is not there"),
        ('<a href="../../etc/passwd">', "which is not there"),
        ('<a href="b.html#nowhere">', "no such heading"),
        ('<a href="#nowhere">', "no such heading"),
        ('<script src="https://example.org/a.js">', "loads https://example.org/a.js"),
    ],
)
def test_a_broken_link_is_found(text, fault, tmp_path):
    """A missing file, a missing heading and anything loaded from elsewhere are reported; other links are not."""
    (tmp_path / "a.html").write_text(text)
    (tmp_path / "b.html").write_text('<h2 id="there">')
    found = check_site.faults(tmp_path)
    assert found == [] if fault is None else len(found) == 1 and fault in found[0]
