"""Settings from a preset, a suite file, `--set` and flags, laid on each other in this order."""

import json
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from triptych.errors import ConfigError, nearest, shorten

DEMO: dict[str, Any] = {
    "name": "demo",
    "model": "tiny",
    "data": "newswire",
    "seeds": [0],
    "limits": {
        "train_documents": 256,
        "validation_documents": 32,
        "test_documents": 48,
        "document_tokens": 352,
        "summary_tokens": 104,
    },
    "training": {"max_epochs": 3, "global_batch_size": 4, "micro_batch_size": 4},
    "decoding": {"max_new_tokens": 96, "batch_size": 48},
    "search": {"trials": 0},
    "method": {"prompt-tuning": {"learning_rate": 0.05}, "full": {"learning_rate": 3e-4}},
}
FULL: dict[str, Any] = {
    "name": "full-cnn-dailymail",
    "limits": {"train_documents": 0, "validation_documents": 0, "test_documents": 0, "document_tokens": 800},
    "training": {"max_epochs": 3, "patience": 1},
}
QUICK: dict[str, Any] = {
    "name": "quick",
    "seeds": [0],
    "limits": {"train_documents": 1000, "validation_documents": 200, "test_documents": 200, "document_tokens": 384},
    "training": {"max_epochs": 2, "global_batch_size": 16, "micro_batch_size": 16},
    "decoding": {"num_beams": 1, "max_new_tokens": 96, "batch_size": 64},
    "search": {"trials": 0},
}


class Preset(NamedTuple):
    """Settings to start from, as a suite file would give them, and what they are for."""

    summary: str
    settings: dict[str, Any]


PRESETS: dict[str, Preset] = {
    "demo": Preset("the embedded model and data, a few minutes on two cores, no network", DEMO),
    "assignment": Preset(
        "GPT-2 small on a sample of CNN/DailyMail: 21,000 / 6,000 / 3,000 documents, up to 10 epochs with early "
        "stopping, four learning rates a row, three seeds; every key's default",
        {},
    ),
    "full-cnn-dailymail": Preset(
        "GPT-2 small on all of CNN/DailyMail, 287,113 / 13,368 / 11,490 documents of up to 800 tokens, up to 3 "
        "epochs, four learning rates a row, three seeds",
        FULL,
    ),
    "quick": Preset(
        "a first look in minutes on a GPU: GPT-2 small on 1,000 / 200 / 200 documents of CNN/DailyMail, 2 epochs, no "
        "search, greedy summaries, one seed; too little for a verdict",
        QUICK,
    ),
}


def preset_settings(name: str) -> dict[str, Any]:
    """The settings of a preset, as a suite file would give them.

    Raises:
        ConfigError: there is no preset of that name.
    """
    if name not in PRESETS:
        raise ConfigError(f"Unknown preset {name!r}.{nearest(name, PRESETS)}")
    return json.loads(json.dumps(PRESETS[name].settings))


def read_suite_file(path: Path) -> dict[str, Any]:
    """Read a suite from TOML, or from the JSON that a suite resolves to.

    Raises:
        ConfigError: the file is missing, unreadable, malformed or not a table.
    """
    if path.exists() and not path.is_file():
        raise ConfigError(f"The suite file {str(path)!r} is no file.")
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
        raise ConfigError(f"The suite file {str(path)!r} must hold a table of keys.")
    return settings


def merge_tables(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`, table by table."""
    merged = dict(base)
    for key, value in over.items():
        both_tables = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge_tables(merged[key], value) if both_tables else value
    return merged


def parse_setting(text: str) -> dict[str, Any]:
    """`a.b=value` as nested tables; the value is read as TOML, else taken as a string.

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
    for part in reversed(parts):
        value = {part: value}
    return value


def as_setting(key: str, value: str) -> str:
    """`key=value` as `parse_setting` reads it, quoted for a shell where that is needed."""
    try:
        plain = tomllib.loads(f"value = {value}")["value"] == value
    except (ValueError, RecursionError):
        plain = True  # not TOML: taken as it is
    return shlex.quote(f"{key}={value if plain else json.dumps(value)}")


def default_preset(suite_file: str | Path | None, settings: Mapping[str, Any]) -> str:
    """The preset to start from where none is named: `assignment` with a suite file, a model or data, else `demo`."""
    return "assignment" if suite_file or settings.keys() & {"model", "data"} else "demo"


def merge_settings(
    suite_file: str | Path | None = None, preset: str | None = None, settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The settings of a suite: those of a preset, of a suite file and further ones, laid on each other in this order.

    Args:
        suite_file: TOML, or the JSON that a suite resolves to.
        preset: the preset's name; None: `default_preset`.
        settings: keys of a suite file, tables as dictionaries.

    Raises:
        ConfigError: there is no such preset, or the suite file cannot be read.
    """
    over = dict(settings or {})
    merged = preset_settings(preset or default_preset(suite_file, over))
    if suite_file:
        merged = merge_tables(merged, read_suite_file(Path(suite_file)))
    return merge_tables(merged, over)


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Several `a.b=value` as nested tables, the later over the earlier.

    Raises:
        ConfigError: as `parse_setting`.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        settings = merge_tables(settings, parse_setting(text))
    return settings
