"""Merge the settings of a preset, a suite file, flags and `--set`."""

import json
import shlex
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from datetime import date, time
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from triptych.errors import ConfigError, nearest, shorten
from triptych.storage.files import named_path
from triptych.storage.given_documents import find_documents

PRESET_FILES = Path(__file__).with_name("presets")
DEFAULT = "assignment"  # the preset that has every key's default


class Preset(NamedTuple):
    """Settings to start from, and what they are for.

    Attributes:
        summary: the first paragraph of the preset's file.
        settings: keys of a suite file, as in TOML.
    """

    summary: str
    settings: dict[str, Any]


@cache
def presets() -> dict[str, Preset]:
    """The presets by name; a copy of the package with only `.py` files just has every key's default."""
    found = {DEFAULT: Preset("every key's default", {})}
    for file in sorted(PRESET_FILES.glob("*.toml")):
        text = file.read_text(encoding="utf-8")
        paragraph = takewhile(lambda line: line.startswith("# "), text.splitlines())
        found[file.stem] = Preset(" ".join(line.removeprefix("# ") for line in paragraph), tomllib.loads(text))
    return found


def preset_settings(name: str) -> dict[str, Any]:
    """The settings of a preset, as a suite file would give them.

    Raises:
        ConfigError: there is no preset of that name.
    """
    if name not in presets():
        raise ConfigError(f"Unknown preset {name!r}.{nearest(name, presets())}")
    return deepcopy(presets()[name].settings)


def read_suite_file(path: Path) -> dict[str, Any]:
    """Read a suite from TOML, or from the JSON of a resolved suite, whose documents may be next to it.

    Raises:
        ConfigError: the file is missing, unreadable, malformed or not a table.
    """
    if path.is_dir():
        raise ConfigError(
            f"The folder {str(path)!r} has no suite.json: give a suite file, or a results folder that `triptych "
            "compare` wrote."
        )
    if path.exists() and not path.is_file():
        raise ConfigError(f"The suite file {str(path)!r} is not a file.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"There is no suite file {str(path)!r}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The suite file {str(path)!r} cannot be read: {error}.") from None
    try:
        settings = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"The suite file {str(path)!r} is malformed: {error}.") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"The suite file {str(path)!r} must contain a table of keys.")
    return find_documents(settings, path.parent)


def merge_tables(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` merged into it, table by table; neither is changed."""
    merged = dict(base)
    for key, value in over.items():
        both_tables = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge_tables(merged[key], value) if both_tables else value
    return merged


def parse_setting(text: str) -> dict[str, Any]:
    """Parse `a.b=value` into nested tables; the value is read as TOML, or else taken as a string.

    A date is a string too: no key takes anything else.

    Raises:
        ConfigError: there is no `=`, or an empty key.
    """
    key, equals, raw = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise ConfigError(f"--set {shorten(repr(text))} is not KEY=VALUE; an example: --set limits.train_documents=64.")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except (ValueError, RecursionError):
        value = raw
    if isinstance(value, date | time):
        value = raw.strip()
    for part in reversed(parts):
        value = {part: value}
    return value


def as_setting(key: str, value: str) -> str:
    """Format `key=value` for `parse_setting`, quoted for a shell if needed."""
    try:
        plain = tomllib.loads(f"value = {value}")["value"] == value
    except (ValueError, RecursionError):
        plain = True  # not TOML: taken as a string
    return shlex.quote(f"{key}={value if plain else json.dumps(value)}")


def default_preset(suite_file: str | Path | None, settings: Mapping[str, Any]) -> str:
    """The preset to start from if none is named: `assignment` with a suite file, a model or data, else `demo`."""
    return DEFAULT if suite_file or settings.keys() & {"model", "data"} else "demo"


def began_from(suite_file: str | Path | None, preset: str | None, settings: Mapping[str, Any]) -> str:
    """The preset that settings are reported to start from; "" for a suite with every key, as in a results folder."""
    if preset is None and suite_file is not None and Path(suite_file).suffix == ".json":
        return ""
    return preset or default_preset(suite_file, settings)


def merge_settings(
    suite_file: str | Path | None = None, preset: str | None = None, settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Merge the settings of a suite: a preset, then a suite file, then further settings, the later over the earlier.

    Args:
        suite_file: TOML, or the JSON of a resolved suite.
        preset: the preset's name; None: `default_preset`.
        settings: keys of a suite file, with tables as dictionaries.

    Raises:
        InputError: there is no such preset, or the suite file cannot be read or has an empty name.
    """
    over = dict(settings or {})
    merged = preset_settings(preset or default_preset(suite_file, over))
    if suite_file is not None:
        merged = merge_tables(merged, read_suite_file(named_path(suite_file)))
    return merge_tables(merged, over)


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted keys such as `limits.train_documents` into nested tables, as `--set` does."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        parts = key.split(".") if isinstance(key, str) else [key]
        if len(parts) > 1 and all(parts):
            for part in reversed(parts):
                value = {part: value}
            found = merge_tables(found, value)
        else:
            found = merge_tables(found, {key: value})
    return found


def parse_seeds(seeds: str | int | Sequence[int], name: str = "seeds") -> list[int]:
    """Return seeds as a list.

    Args:
        seeds: one, several, or a text such as `0,1,2`.
        name: their name in messages.

    Raises:
        ConfigError: the text contains anything else.
    """
    if isinstance(seeds, int):
        return [seeds]
    if not isinstance(seeds, str):
        return list(seeds)
    try:
        return [int(part) for part in seeds.split(",")]
    except ValueError:
        raise ConfigError(
            f"{name} {seeds[:100]!r}: whole numbers separated by commas are needed, such as 0,1,2."
        ) from None


def parse_labels(labels: str | Sequence[str] | None) -> list[str] | None:
    """Return labels as a list; a text may have several, separated by commas. None stays None."""
    if labels is None:
        return None
    return [part.strip() for part in labels.split(",") if part.strip()] if isinstance(labels, str) else list(labels)


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Parse several `a.b=value` into nested tables, the later over the earlier.

    Raises:
        ConfigError: as `parse_setting`.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        settings = merge_tables(settings, parse_setting(text))
    return settings
