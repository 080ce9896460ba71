"""Quote untrusted text in Markdown, so that it is shown literally and never turns into markup, a link or a new line."""

import re

from triptych.text.characters import showable

_MARKUP = re.compile(r"[\\`*_{}\[\]<>#|$~&!@]|:(?=//)|(?<=www)\.", re.IGNORECASE)
_DIRECTIONS = re.compile("[\u202a-\u202e\u2066-\u2069]")  # would reorder the text that follows
_AT_BEGINNING = re.compile(r"^(\d{0,9})([-+=.)])")  # would start a list item, or underline a heading


def plain(text: str) -> str:
    """The text on one line, with everything escaped that a renderer would interpret, including bare URLs."""
    escaped = _MARKUP.sub(lambda found: f"\\{found.group()}", _one_line(text))
    return _AT_BEGINNING.sub(r"\1\\\2", escaped)


def code(text: str) -> str:
    """The text on one line, as a code span that its content cannot end; in table cells use `plain` instead."""
    line = _one_line(text)
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") or not line else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _one_line(text: str) -> str:
    return " ".join(_DIRECTIONS.sub(" ", showable(text)).split())
