"""One name means one thing: no public name is defined in two modules of the package without a reason."""

import ast
from collections import defaultdict

from support.paths import CHECKOUT

PACKAGE = CHECKOUT / "src" / "triptych"

# Names that may be defined in several modules, each with the reason.
REASONS: dict[str, str] = {}


def names_of(source: str) -> set[str]:
    """The public names that a module defines at its top level: functions, classes, constants and type aliases."""
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            targets = [part for target in node.targets for part in getattr(target, "elts", [target])]
            names.update(target.id for target in targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_")}


def shared_names() -> dict[str, list[str]]:
    """Each public name defined in several modules, with these modules."""
    modules = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for name in names_of(path.read_text(encoding="utf-8")):
            modules[name].append(str(path.relative_to(PACKAGE)))
    return {name: found for name, found in sorted(modules.items()) if len(found) > 1}


def test_no_public_name_is_defined_twice():
    """Each function, class or constant has a name that no other module defines, or a reason in `REASONS`."""
    found = {name: modules for name, modules in shared_names().items() if name not in REASONS}
    assert not found, "\n".join(f"{name}: {', '.join(modules)}" for name, modules in found.items())


def test_every_reason_is_for_a_name_that_is_shared():
    """A reason is removed once its name is unique."""
    assert set(REASONS) <= set(shared_names()), sorted(set(REASONS) - set(shared_names()))


def test_public_names_are_found():
    """Functions, classes and constants are found, however they are assigned; private and nested ones are not."""
    source = "A = 1\nB, C = 2, 3\nD: int = 4\n_E = 5\nclass F:\n    g = 6\ndef h():\n    i = 7\nasync def j(): ...\n"
    assert names_of(source) == {"A", "B", "C", "D", "F", "h", "j"}
