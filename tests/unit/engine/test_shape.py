"""The engine's structure: few parameters, and a plain path that can be read without the speed-ups."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.paths import CHECKOUT

ENGINE = CHECKOUT / "src/triptych/engine"
MODULES = sorted(ENGINE.rglob("*.py"))
MOST_PARAMETERS = 6

# The plain path, and the speed-ups each of its modules may call if the model supports them.
PLAIN_PATH: dict[str, set[str]] = {
    "model": {"recomputation"},
    "modes": set(),
    "batching": set(),
    "inputs": set(),
    "prefix": set(),
    "evaluation": set(),
    "forward": {"partial_forward"},
    "training": {"trunk_cache"},
}


def parameters(source: str) -> Iterator[tuple[str, int]]:
    """Each function with its number of parameters, except `self` and `cls`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            a = node.args
            named = [
                argument.arg for argument in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg) if argument
            ]
            yield node.name, len([name for name in named if name not in ("self", "cls")])


def savings_of(path: Path) -> set[str]:
    """The speed-ups that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("triptych.engine.savings"):
            inner = (node.module or "").removeprefix("triptych.engine.savings").strip(".")
            found |= {inner} if inner else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(ENGINE)) for path in MODULES])
def test_no_function_takes_many_parameters(path):
    """No function of the engine takes more than six parameters."""
    many = {name: count for name, count in parameters(path.read_text(encoding="utf-8")) if count > MOST_PARAMETERS}
    assert not many


def test_parameters_are_counted():
    """Every kind of parameter counts, except a method's `self` or `cls`."""
    source = "class A:\n    def f(self, a, /, b, *c, d, **e): ...\n    @classmethod\n    def g(cls): ...\n"
    assert dict(parameters(source)) == {"f": 5, "g": 0}


@pytest.mark.parametrize("name", PLAIN_PATH)
def test_the_plain_path_is_read_without_the_speed_ups(name):
    """A module of the plain path imports at most the speed-up it hands over to."""
    assert savings_of(ENGINE / f"{name}.py") <= PLAIN_PATH[name]


def test_each_speed_up_names_the_version_it_was_tried_with():
    """Modules that rely on transformers' internals name the version that the constraints pin, so a new pin requires a
    new check."""
    pinned = re.search(r"^transformers==(\S+)$", (CHECKOUT / "constraints.txt").read_text(encoding="utf-8"), re.M)
    assert pinned
    savings = [path for path in (ENGINE / "savings").glob("*.py") if path.stem not in ("__init__", "replacement")]
    for path in [*savings, ENGINE / "generation/own_loop.py", ENGINE / "generation/shared_cache.py"]:
        text = " ".join((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split())
        assert f"Tested with transformers {pinned[1]}." in text, path.name
