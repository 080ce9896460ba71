"""The map of the package in docs/design.md agrees with the modules and the import contract."""

import pytest

import package_map
from support.paths import CHECKOUT

PACKAGE = CHECKOUT / "src" / "triptych"


def test_every_module_has_a_line_in_the_map():
    """Each module and each package of the source appears once, with a purpose."""
    lines = [line for line in package_map.tree().splitlines() if line.startswith(("| `", "| **`"))]
    paths = [path for path in PACKAGE.rglob("*.py") if path.stem not in ("__main__",) and path.parent != PACKAGE]
    single = [path for path in PACKAGE.glob("*.py") if path.stem not in ("__init__", "__main__")]
    assert len(lines) == len(set(lines)) == len(paths) + len(single)


def test_a_document_is_replaced_between_its_marks_alone():
    """Text before and after the marked section is unchanged; a document without marks is an error."""
    text = f"before\n{package_map.BEGIN}\nold\n{package_map.END}\nafter\n"
    found = package_map.rewritten(text, "new")
    assert found == f"before\n{package_map.BEGIN}\n\nnew\n\n{package_map.END}\nafter\n"
    assert package_map.rewritten(found, "new") == found
    with pytest.raises(ValueError, match="marks"):
        package_map.rewritten("no marks", "new")


def test_the_map_is_up_to_date():
    """docs/design.md shows the existing packages and modules with their current first sentences."""
    assert not package_map.stale(), f"run `{package_map.COMMAND}`"


def test_every_module_says_what_it_is_for():
    """Each package and module has a docstring, so no line of the map is empty."""
    silent = [path for path in PACKAGE.rglob("*.py") if not package_map.summary(path)]
    assert not silent, silent
