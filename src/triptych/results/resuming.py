"""The command that resumes or extends a results folder, with the plug-ins that its runs were made with."""

import shlex
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from triptych.errors import ResultsError
from triptych.results import json_files, layout


def resuming(out: Path) -> str:
    """The command that resumes the suite of a results folder.

    Args:
        out: the results folder, or one for its data-size curve.
    """
    suite = out.parents[1] if out.parent.name == "scaling" else out
    return shlex.join(["triptych", "compare", str(suite), *plugin_options(suite)])


def plugin_options(out: Path) -> list[str]:
    """`--plugin FILE` for each plug-in file that the runs of a results folder were made with.

    They are taken as given from `OUT/command.json`, or else from the first record that contains its command.

    Args:
        out: the results folder.
    """
    command = _text(layout.command_file(out), "command")
    if command is None:
        recorded = (_text(file, "provenance", "command") for file in out.glob("runs/*/*/record.json"))
        command = next(filter(None, recorded), "")
    return options_for(plugins_in(command))


def options_for(plugins: Sequence[str]) -> list[str]:
    """`--plugin FILE` for each file, as command-line arguments."""
    return [word for plugin in plugins for word in ("--plugin", plugin)]


def plugins_in(command: str) -> list[str]:
    """The files that a command names with `--plugin`, each once; empty if the command cannot be parsed."""
    try:
        words = shlex.split(command)
    except ValueError:
        return []
    joined = "--plugin="
    found = [
        word.removeprefix(joined) if word.startswith(joined) else after
        for word, after in pairwise([*words, ""])
        if word.startswith(joined) or (word == "--plugin" and after)
    ]
    return list(dict.fromkeys(found))


def _text(file: Path, *keys: str) -> str | None:
    """A string in a JSON file, by its keys; None if the file or the string is missing."""
    if not file.is_file():
        return None
    value: Any = None
    with suppress(ResultsError):
        value = json_files.read_object(file)
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None
