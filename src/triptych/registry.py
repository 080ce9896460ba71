"""Registered classes whose fields are their options.

`@register("lora")` on a subclass of a contract makes it known under that name. What is known is kept here, one
table for each contract, and nowhere else.
"""

import ast
import inspect
import sys
import textwrap
from abc import ABC
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from triptych.errors import ConfigError, explain_validation, nearest


class Plugin(BaseModel, ABC):
    """A frozen class whose fields are its options, each with its `description`.

    A direct subclass is a contract (`Method`, `Dataset`, ...); its subclasses are registered under it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())
    contract: ClassVar[str]

    @classmethod
    def summary_line(cls) -> str:
        """The first line of the class's docstring; empty under `python -OO` where the source is not there."""
        return (_docstring(cls) or "\n").strip("\n ").partition("\n")[0]


P = TypeVar("P", bound=Plugin)
_tables: dict[str, dict[str, type[Plugin]]] = {}


def register(name: str):
    """Class decorator: make a plug-in known as `name` under its contract.

    Raises:
        ConfigError: another class already has that name, or the class has no docstring.
    """

    def decorate(cls: type[P]) -> type[P]:
        table = _tables.setdefault(cls.contract, {})
        known = table.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ConfigError(
                f"{cls.contract} {name!r} is registered twice: by {known.__module__} and {cls.__module__}."
            )
        if not _docstring(cls) and sys.flags.optimize < 2:
            raise ConfigError(f"{cls.contract} {name!r} needs a docstring: its first line is shown to users.")
        table[name] = cls
        return cls

    return decorate


def _docstring(cls: type) -> str | None:
    """The docstring of a class; from its source under `python -OO`, which drops docstrings."""
    if cls.__doc__ or sys.flags.optimize < 2:
        return cls.__doc__
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    return ast.get_docstring(definition) if isinstance(definition, ast.ClassDef) else None


def registered(contract: type[P]) -> dict[str, type[P]]:
    """Everything registered under a contract, by name."""
    return dict(sorted(_tables.get(contract.contract, {}).items()))  # type: ignore[arg-type]


def find(contract: type[P], name: str) -> type[P]:
    """The class registered as `name`.

    Raises:
        ConfigError: nothing has that name; the message gives the nearest.
    """
    table = registered(contract)
    if name not in table:
        raise ConfigError(f"Unknown {contract.contract} {name!r}.{nearest(name, table)}")
    return table[name]


def build(cls: type[P], options: dict[str, Any], where: str) -> P:
    """Make a plug-in from options read from outside.

    Raises:
        ConfigError: an unknown option or a bad value; `where` says which section it stood in.
    """
    try:
        return cls(**options)
    except ValidationError as error:
        raise ConfigError(explain_validation(error, where, cls)) from None
