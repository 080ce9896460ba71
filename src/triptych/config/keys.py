"""Every key of a suite file with its default, meaning and allowed values, from the models that check them."""

import json
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from triptych.config.schema import Section, Suite

FILE_COLUMNS = 120  # line width of a suite file that is written


class SuiteKey(NamedTuple):
    """A key of a suite file.

    Attributes:
        name: as `--set` takes it, such as `limits.train_documents`.
        default: its value if it is not given, as in JSON.
        description: what it means.
        allowed: the values that it accepts, in words.
    """

    name: str
    default: Any
    description: str
    allowed: str


def suite_keys() -> list[SuiteKey]:
    """Every key of a suite file, in order, without the options of methods and the record of a design."""
    keys = []
    for name, field in Suite.model_fields.items():
        value = field.get_default(call_default_factory=True)
        if isinstance(value, Section):
            keys += keys_of(type(value), f"{name}.")
        elif name not in ("design", "method"):
            keys += [key for key in keys_of(Suite) if key.name == name]
    return keys


def keys_of(model: type[BaseModel], prefix: str = "") -> list[SuiteKey]:
    """The fields of a model as keys: those of a section, or the options of a method.

    Args:
        model: its fields have descriptions and, except for required ones, defaults.
        prefix: put before each name, such as `limits.`.
    """
    properties, keys = model.model_json_schema(by_alias=True)["properties"], []
    for name, field in model.model_fields.items():
        schema = properties[field.alias or name]
        keys.append(
            SuiteKey(f"{prefix}{field.alias or name}", schema.get("default"), field.description or "", allowed(schema))
        )
    return keys


def sections() -> dict[str, str]:
    """The purpose of each section of a suite file, by name, in order."""
    found = {name: field.get_default(call_default_factory=True) for name, field in Suite.model_fields.items()}
    return {name: _first_line(value) for name, value in found.items() if isinstance(value, Section)}


def _first_line(model: BaseModel) -> str:
    return (type(model).__doc__ or "").strip().partition("\n")[0]


def allowed(schema: Mapping[str, Any]) -> str:
    """The values that a JSON schema allows, in words.

    Args:
        schema: the schema of one field.
    """
    if "anyOf" in schema:
        return ", or ".join(allowed(choice) for choice in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        *some, last = [json.dumps(value) for value in schema.get("enum", [schema.get("const")])]
        return f"{', '.join(some)} or {last}" if some else last
    if schema.get("type") == "array":
        count = f"{schema['minItems']} " if schema.get("minItems") == schema.get("maxItems") is not None else ""
        of: dict[str, Any] = schema.get("items") or next(iter(schema.get("prefixItems", [])), {})
        return f"a list of {count}{_PLURALS.get(of.get('type', ''), 'values')}{_bounds(of)}"
    return f"{_NAMES.get(schema.get('type', ''), 'a table')}{_bounds(schema)}"


_NAMES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "null": "not set",
}
_PLURALS = {"integer": "whole numbers", "number": "numbers", "string": "texts"}
_BOUNDS = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "up to",
    "exclusiveMaximum": "below",
}


def _bounds(schema: Mapping[str, Any]) -> str:
    if {"minimum", "maximum"} <= schema.keys():
        return f" from {schema['minimum']:g} to {schema['maximum']:g}"
    found = [f"{word} {schema[name]:g}" for name, word in _BOUNDS.items() if name in schema]
    return f" {' and '.join(found)}" if found else ""


def suite_text(settings: Mapping[str, Any], head: str, methods: Mapping[str, type[BaseModel]]) -> str:
    """Return a suite file with every key: those in `settings` are set, the others are comments with their defaults.

    Args:
        settings: keys of a suite file, with tables as dictionaries.
        head: text for the top, without comment signs.
        methods: the kinds of methods and baselines, by name; those that have options are listed with them.
    """
    lines = [*(f"# {line}".rstrip() for line in head.splitlines()), ""]
    top = [key for key in suite_keys() if "." not in key.name]
    lines += _key_lines(top, settings)
    for name, purpose in sections().items():
        own = settings.get(name) or {}
        inside = [key for key in suite_keys() if key.name.startswith(f"{name}.")]
        keys = [key._replace(name=key.name.partition(".")[2]) for key in inside]
        heading = f"[{name}]".ljust(40) + f"# {purpose}"
        fits = len(heading) <= FILE_COLUMNS
        lines += ["", *([heading] if fits else [f"# {purpose}", f"[{name}]"]), *_key_lines(keys, own)]
    lines += ["", "# Options of a method: uncomment its section and the keys that you set."]
    given = dict(settings.get("method") or {})
    for name, cls in methods.items():
        if not cls.model_fields or "kind" in given.get(name, {}):
            continue
        own = given.pop(name, {})
        sign = "" if own else "# "
        lines += ["", f"{sign}[method.{name}]", *_key_lines(keys_of(cls), own)]
    for label, own in given.items():  # with a kind, or of a variant
        lines += ["", f"[method.{toml_value(label)}]", *(f"{key} = {toml_value(value)}" for key, value in own.items())]
    return "\n".join(lines) + "\n"


def _key_lines(keys: Iterable[SuiteKey], settings: Mapping[str, Any]) -> list[str]:
    lines = []
    for key in keys:
        given = key.name in settings
        value = settings[key.name] if given else key.default
        assignment = f"{'' if given else '# '}{key.name} = {'' if value is None else toml_value(value)}".rstrip()
        plain = key.allowed.startswith(("text", "a list of texts"))  # an example shows that
        meaning = key.description if plain else f"{key.description} ({key.allowed})"
        line = f"{assignment:<39} # {meaning}"
        if len(line) <= FILE_COLUMNS:
            lines.append(line)
        else:
            lines += [f"#   {part}" for part in textwrap.wrap(meaning, FILE_COLUMNS - 4)]
            lines.append(assignment)
    return lines


def toml_value(value: Any) -> str:
    """A value in TOML: text, a number, true or false, or a list of them."""
    return json.dumps(value, ensure_ascii=False)
