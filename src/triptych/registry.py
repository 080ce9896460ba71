"""Register plug-in classes by name, look them up, and build them from options.

`@register("lora")` on a subclass of a contract (`Method`, `Dataset`, ...) makes it available under that name. A class's
fields are its options. The tables of registered classes, one per contract, are kept here and nowhere else.
"""

import ast
import inspect
import sys
import textwrap
from abc import ABC
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from triptych.errors import ConfigError, explain_validation, nearest

MOST_DIGITS = 30  # in a whole number of settings or JSON; parsing a longer one can take very long


class Settings(BaseModel):
    """User settings: frozen, without unknown keys, NaN, infinity or endless numbers; true and false are no numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        types = _plain_types(cls.model_fields[str(info.field_name)].annotation)
        given = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(each, int) and abs(each) >= 10**MOST_DIGITS for each in given):
            raise ValueError(f"a whole number of at most {MOST_DIGITS} digits is needed")
        if {int, float} & types and bool not in types and any(isinstance(each, bool) for each in given):
            raise ValueError("a number is needed, not true or false")
        return value


def _plain_types(annotation: Any) -> set[Any]:
    """The classes in an annotation, such as `int` and `None` in `tuple[int, ...] | None`."""
    parts = [part for part in get_args(annotation) if isinstance(part, type) or get_args(part)]
    return set().union(*map(_plain_types, parts)) if parts else {annotation}


class Plugin(Settings, ABC):
    """Base of all plug-ins: a frozen pydantic model whose fields are its options, each with a `description`.

    Direct subclasses are the contracts (`Method`, `Dataset`, ...); plug-ins inherit from a contract and are registered
    under it.
    """

    contract: ClassVar[str]

    @classmethod
    def summary_line(cls) -> str:
        """The first line of the class's docstring; empty under `python -OO` if the source is not available."""
        return (_docstring(cls) or "\n").strip("\n ").partition("\n")[0]


PluginType = TypeVar("PluginType", bound=Plugin)
_tables: dict[str, dict[str, type[Plugin]]] = {}


def register(name: str):
    """Class decorator that registers a plug-in under its contract.

    Args:
        name: its name in suites and on the command line.

    Raises:
        ConfigError: another class already has that name, or the class has no docstring.
    """

    def decorate(cls: type[PluginType]) -> type[PluginType]:
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
    """The docstring of a class; under `python -OO`, which drops docstrings, it is read from the source."""
    if cls.__doc__ or sys.flags.optimize < 2:
        return cls.__doc__
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    return ast.get_docstring(definition) if isinstance(definition, ast.ClassDef) else None


def registered(contract: type[PluginType]) -> dict[str, type[PluginType]]:
    """The classes registered under a contract, by name in alphabetical order.

    Args:
        contract: such as `Method` or `Dataset`.
    """
    return dict(sorted(_tables.get(contract.contract, {}).items()))  # type: ignore[arg-type]


def find(contract: type[PluginType], name: str) -> type[PluginType]:
    """The class registered as `name`.

    Args:
        contract: such as `Method` or `Dataset`.
        name: the registered name.

    Raises:
        ConfigError: there is no such class; the message suggests the nearest name.
    """
    table = registered(contract)
    if name not in table:
        raise ConfigError(f"Unknown {contract.contract} {name!r}.{nearest(name, table)}")
    return table[name]


def build(cls: type[PluginType], options: dict[str, Any], where: str) -> PluginType:
    """Build a plug-in from the user's options.

    Args:
        cls: the registered class.
        options: its fields by name; the others keep their defaults.
        where: the section the options came from, for the message.

    Raises:
        ConfigError: an option is unknown, or its value is not allowed.
    """
    try:
        return cls(**options)
    except ValidationError as error:
        raise ConfigError(explain_validation(error, where, cls)) from None
