"""Text of others in a Markdown document: it is shown as it is, and is never markup, a link or a line of its own."""

import re

from triptych.text.characters import showable

_MARKUP = re.compile(r"[\\`*_{}\[\]<>#|$~&!@]|:(?=//)|(?<=www)\.", re.IGNORECASE)
_DIRECTIONS = re.compile("[\u202a-\u202e\u2066-\u2069]")  # would show what follows in another order than it is in
_AT_BEGINNING = re.compile(r"^(\d{0,9})([-+=.)])")  # of a list, or the line under a heading


def plain(text: str) -> str:
    """Text on one line with everything escaped that a renderer would act on, bare addresses too."""
    escaped = _MARKUP.sub(lambda found: f"\\{found.group()}", _one_line(text))
    return _AT_BEGINNING.sub(r"\1\\\2", escaped)


def code(text: str) -> str:
    """Text on one line as a code span, which nothing in it can end; for a cell of a table use `plain`."""
    line = _one_line(text)
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") or not line else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _one_line(text: str) -> str:
    return " ".join(_DIRECTIONS.sub(" ", showable(text)).split())
