"""Interpret a command line without running it."""

from collections.abc import Sequence
from typing import Any

from triptych.cli.commands import make_parser
from triptych.cli.options import flag_settings
from triptych.config.reading import merge_settings


def suite_settings(arguments: Sequence[str]) -> dict[str, Any]:
    """The suite settings given to a command: preset, suite file, --set and flags."""
    options = make_parser().parse_args(arguments)
    return merge_settings(options.suite, options.preset, flag_settings(options))
