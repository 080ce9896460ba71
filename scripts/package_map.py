"""Check or write the map of the package in docs/design.md, derived from docstrings and the import contract.

    python scripts/package_map.py [--write]

Without `--write` the script reports whether the map is out of date, with status 1 if it is. With it, the marked section
of docs/design.md is replaced: one line per module, in the layers of the import contract. Each line has the first
paragraph of the docstring of the package or module.
"""

import argparse
import ast
import sys
import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
PACKAGE = CHECKOUT / "src" / "triptych"
BEGIN, END = "<!-- package map: written by scripts/package_map.py -->", "<!-- end of package map -->"
COMMAND = "python scripts/package_map.py --write"


def layers() -> list[list[str]]:
    """The layers of the import contract in pyproject.toml, top down, as names of packages and modules."""
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (contract,) = (contract for contract in contracts if contract["type"] == "layers")
    return [layer.replace("|", " ").replace(":", " ").split() for layer in contract["layers"]]


def summary(path: Path) -> str:
    """The first paragraph of a module's docstring, on one line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def source(name: str) -> Path:
    """The file whose docstring describes a package or a top-level module."""
    package = PACKAGE / name
    return package / "__init__.py" if package.is_dir() else package.with_suffix(".py")


def title(name: str) -> str:
    """The name of a package or module in the map: `engine/`, `errors.py`."""
    return f"{name}/" if (PACKAGE / name).is_dir() else f"{name}.py"


def modules(folder: Path) -> list[Path]:
    """The modules of a package; a package inside it is listed before its modules."""
    found = []
    for path in sorted(folder.iterdir()):
        if (path / "__init__.py").is_file():
            found += [path / "__init__.py", *modules(path)]
        elif path.suffix == ".py" and path.name != "__init__.py":
            found.append(path)
    return found


def tree() -> str:
    """The map: for each layer, a table of each package's modules."""
    parts = []
    for number, layer in enumerate(layers(), 1):
        parts.append(f"### Layer {number}: {', '.join(f'`{name}`' for name in layer)}")
        rows = []
        for name in layer:
            rows.append(f"| **`{title(name)}`** | {cell(summary(source(name)))} |")
            if (PACKAGE / name).is_dir():
                rows += [f"| `{shown(path)}` | {cell(summary(path))} |" for path in modules(PACKAGE / name)]
        parts.append("\n".join(["| module | purpose |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def shown(path: Path) -> str:
    """A module's path relative to the package; for a package, its folder."""
    path = path.parent if path.name == "__init__.py" else path
    return f"{path.relative_to(PACKAGE)}{'' if path.suffix else '/'}"


def cell(text: str) -> str:
    """Text escaped for a Markdown table cell."""
    return text.replace("|", "\\|")


DOCUMENTS = {"docs/design.md": tree}


def rewritten(text: str, section: str) -> str:
    """A document with its marked section replaced.

    Raises:
        ValueError: the document does not contain the two marks in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"The marks of the package map are missing: {BEGIN} and {END}.")
    return f"{before}{begin}\n\n{section}\n\n{end}{after}"


def stale(folder: Path = CHECKOUT) -> list[str]:
    """The documents whose map differs from the package.

    Args:
        folder: where the documents are.
    """
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in DOCUMENTS}
    return [name for name, make in DOCUMENTS.items() if rewritten(texts[name], make()) != texts[name]]


def main() -> int:
    """Parse the command line; check or write the map."""
    parser = argparse.ArgumentParser(description="The map of the package in docs/design.md.")
    parser.add_argument("--write", action="store_true", help="replace the marked sections instead of checking them")
    write = parser.parse_args().write
    for name in stale():
        path = CHECKOUT / name
        if write:
            path.write_text(rewritten(path.read_text(encoding="utf-8"), DOCUMENTS[name]()), encoding="utf-8")
        print(f"{name}: {'written' if write else f'out of date; run `{COMMAND}`'}")
    return int(not write and bool(stale()))


if __name__ == "__main__":
    sys.exit(main())
