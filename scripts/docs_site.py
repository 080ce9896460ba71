"""Hooks for the documentation site: generated pages, and links out of `docs/`. MkDocs calls the functions `on_*`.

`make docs` builds the site. Its pages are those of `docs/`, the documents at the top of the repository (`OUTSIDE`), and
pages generated here: commands, the Python API, and a page for each method.
"""

import argparse
import inspect
import posixpath
import re
from pathlib import Path

import triptych
from triptych.api import list_registered
from triptych.cli.commands import make_parser
from triptych.config.keys import toml_value
from triptych.registry import Plugin

CHECKOUT = Path(__file__).resolve().parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "LOG.md": "log.md",
    "benchmarks/results/README.md": "reference/benchmarks.md",
}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)(#[\w-]+)?\)")
FENCED = re.compile(r"(^```.*?^```)", flags=re.DOTALL | re.MULTILINE)
API_GROUPS = (
    ("Commands", lambda thing: inspect.isfunction(thing)),
    ("Contracts of plug-ins", lambda thing: thing.__module__ == "triptych.contracts"),
    ("Results", lambda thing: True),
)


def on_files(files, config):
    """Add the documents outside `docs/` and the generated pages."""
    from mkdocs.structure.files import File

    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(CHECKOUT / source)))
    for name, text in made_pages().items():
        files.append(File.generated(config, name, content=text))
    for path in sorted(linked_files()):
        files.append(File.generated(config, f"files/{path}", abs_src_path=str(CHECKOUT / path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Point the links of a page to the pages and files of the site."""
    places = {page_name: source for source, page_name in OUTSIDE.items()}
    source = places.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return for_site(markdown, source, page.file.src_uri)


def for_site(markdown: str, source: str, page: str) -> str:
    """A document's text, with relative links and file names above examples converted for the site.

    Args:
        markdown: the text.
        source: the document's path in the repository.
        page: its path in the site, ending in `.md`.
    """

    def target_of(match: re.Match) -> str:
        image, text, target, anchor = match[1], match[2], match[3], match[4] or ""
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if (place := place_in_site(path)) is None:
            return text
        return f"{image}[{text}]({posixpath.relpath(place, posixpath.dirname(page) or '.')}{anchor})"

    parts = FENCED.split(markdown)
    return "".join(titled(part) if part.startswith("```") else LINK.sub(target_of, part) for part in parts)


def titled(block: str) -> str:
    """A fenced block, with a file name in its first line (`csv my-news/train.csv`) as its title."""
    first, rest = block.split("\n", 1)
    language, _, word = first.partition(" ")
    return f'{language} title="{word}"\n{rest}' if "." in word else f"{language}\n{rest}"


def place_in_site(path: str) -> str | None:
    """The path of a repository file in the site; None for a folder, which the site lacks."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    if (CHECKOUT / path).is_dir():
        return None
    return path.removeprefix("docs/") if path.startswith("docs/") else f"files/{path}"


def linked_files() -> set[str]:
    """Files of the repository, other than pages, that documents outside or inside `docs/` link to."""
    found = set()
    documents = [CHECKOUT / name for name in OUTSIDE] + list((CHECKOUT / "docs").rglob("*.md"))
    for document in documents:
        folder = document.parent.relative_to(CHECKOUT).as_posix()
        for match in LINK.finditer(document.read_text(encoding="utf-8")):
            path = posixpath.normpath(posixpath.join(folder, match[3]))
            if (place_in_site(path) or "").startswith("files/") and (CHECKOUT / path).is_file():
                found.add(path)
    return found


def made_pages() -> dict[str, str]:
    """The generated pages, by path in the site."""
    pages = {"reference/commands.md": commands_page(), "reference/python.md": api_page()}
    for contract in ("method", "baseline"):
        for name, kind in list_registered().plugins[contract].items():
            pages[f"methods/{name}.md"] = method_page(name, kind)
    return pages


def commands_page() -> str:
    """The page of every command with its arguments and options, from the parser."""
    (commands,) = [each for each in make_parser()._actions if isinstance(each, argparse._SubParsersAction)]
    summaries = {action.dest: action.help for action in commands._choices_actions}
    parts = ["# Commands\n\nMade from the parser; `triptych COMMAND --help` prints the same.\n"]
    for name, parser in commands.choices.items():
        usage = re.sub(r"\s+", " ", parser.format_usage().removeprefix("usage: "))
        parts.append(f"\n## {name}\n\n{sentence(summaries[name] or '')} {escaped(parser.description or '')}\n\n")
        parts.append(f"```text\n{usage}\n```\n\n| argument | meaning |\n|---|---|\n")
        formatter = parser._get_formatter()
        for action in parser._actions:
            if action.help == argparse.SUPPRESS:
                continue
            shown = formatter._format_action_invocation(action).replace("|", "\\|")
            parts.append(f"| `{shown}` | {escaped(formatter._expand_help(action) if action.help else '')} |\n")
        if parser.epilog:
            parts.append(f"\n```text\n{parser.epilog.strip()}\n```\n")
    return "".join(parts)


def api_page() -> str:
    """The page of every public name of the package, to be filled in by mkdocstrings."""
    things = {name: getattr(triptych, name) for name in triptych.__all__}
    parts = ["# Python API\n\nEvery public name of `triptych`. [From Python](../api.md) shows them in use.\n"]
    for title, belongs in API_GROUPS:
        names = [name for name, thing in things.items() if belongs(thing)]
        parts.append(f"\n## {title}\n")
        parts += [f"\n::: triptych.{name}\n" for name in names]
        things = {name: thing for name, thing in things.items() if name not in names}
    return "".join(parts)


def method_page(name: str, kind: type[Plugin]) -> str:
    """The page of a method or baseline: what it does, its options, and its source.

    Args:
        name: its name in suites.
        kind: its class.
    """
    module = inspect.getmodule(kind)
    text = inspect.cleandoc(kind.__doc__ or "")
    parts = [f"# {name}\n\n{escaped(text)}\n\n"]
    if options := kind.model_fields:
        parts.append(f"## Options\n\nIn a suite file under `[method.{name}]`, on the command line ")
        parts.append(f"`--set method.{name}.OPTION=VALUE`.\n\n| option | default | meaning |\n|---|---|---|\n")
        for option, field in options.items():
            default = "none" if field.default is None else toml_value(field.get_default(call_default_factory=True))
            parts.append(f"| `{option}` | `{default}` | {escaped(field.description or '')} |\n")
    source = inspect.getsource(module)
    parts.append(f"\n## Source\n\n`{Path(module.__file__).relative_to(CHECKOUT)}`\n\n```python\n{source}```\n")
    return "".join(parts)


def sentence(text: str) -> str:
    """A help text as a sentence."""
    return text[:1].upper() + text[1:].rstrip(".") + "." if text else ""


def escaped(text: str) -> str:
    """Text escaped so that Markdown shows it literally, in a paragraph or a table cell."""
    return re.sub(r"([|*_<>\[\]])", r"\\\1", " ".join(text.split())) if "`" not in text else " ".join(text.split())
