"""What the command line answers to unknown options."""

import argparse
import difflib
from collections.abc import Sequence
from typing import NoReturn

from triptych.text.characters import visible

COLUMNS = " Name columns with --set columns.document=NAME columns.summary=NAME."


def refuse_unknown(parser: argparse.ArgumentParser, command: str, left: Sequence[str]) -> NoReturn:
    """Exit with status 2 and a message that suggests the options that may have been meant.

    Args:
        parser: the command's parser.
        command: its name.
        left: the words that the parser did not know.
    """
    names = list(dict.fromkeys(word.partition("=")[0] for word in left if word.startswith("-") and word != "-"))
    if not names:
        parser.error(visible(f"unrecognized arguments: {' '.join(left)}"))
    parser.error(visible(" ".join(f"there is no option {name}.{_hint(parser, command, name)}" for name in names)))


def _hint(parser: argparse.ArgumentParser, command: str, name: str) -> str:
    """A hint with the options of a command that are close to a name."""
    known = [option for option in parser._option_string_actions if option.startswith("--")]
    if name == "--columns" and ("--data" in known or command == "list"):
        return COLUMNS
    close = difflib.get_close_matches(name[:100], known, n=3)
    return f" Did you mean {' or '.join(close)}?" if close else ""
