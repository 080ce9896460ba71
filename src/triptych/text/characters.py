"""Characters that a file may hold and a document, a terminal or UTF-8 cannot: each is shown as something that can be
seen."""

import json
import re
from collections.abc import Callable
from typing import Any

# What HTML has no code for: C0 controls but tab and line ends, DEL, C1 controls, half characters, noncharacters.
UNSHOWABLE = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff" + "".join(
    chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(1, 17)
)
_UNSHOWABLE = re.compile(f"[{UNSHOWABLE}]")
_ESCAPED_IN_JSON = re.compile(f"[{UNSHOWABLE}\u2028\u2029]")
# Controls but tab and line feed, line and paragraph separators, half characters, and what reorders a line: embeddings,
# overrides and isolates. A carriage return overwrites the line before it.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_HALF = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def showable(text: str) -> str:
    """The text with U+FFFD for every character that a document cannot hold."""
    return _UNSHOWABLE.sub(REPLACEMENT, text)


def unshowable(text: str) -> set[str]:
    """The characters that `showable` replaces in this text."""
    return set(_UNSHOWABLE.findall(text))


def whole(text: str) -> str:
    """The text with U+FFFD for every half of a surrogate pair: what is left has an encoding."""
    return _HALF.sub(REPLACEMENT, text)


def visible(text: str) -> str:
    """The text with control characters written out as escapes: none of them reaches a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def for_terminal(text: str) -> str:
    """Running text of others with escapes for what a terminal would obey or show in another order; its letters stay.

    Unlike `visible` it keeps the spaces and joiners that writing needs, such as U+3000 in Japanese, U+200C in Persian.
    """
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def to_json(value: Any, indent: int | None = None, separators: tuple[str, str] | None = None) -> str:
    """JSON in the letters of its texts, with escapes for those alone that a document cannot hold: it reads back as it
    was.

    Args:
        value: what JSON can hold; NaN and infinity are refused.
        indent: spaces of a level; None: all in one line.
        separators: between items, and between key and value.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
    return _ESCAPED_IN_JSON.sub(lambda found: json.dumps(found[0])[1:-1], text)


def in_all(change: Callable[[str], str], value: Any) -> Any:
    """A value of JSON with every text in it changed, names of fields too.

    Args:
        change: from a text to a text.
        value: dicts, lists, tuples, texts, and anything else, which stays.
    """
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key) if isinstance(key, str) else key: in_all(change, item) for key, item in value.items()}
    return [in_all(change, item) for item in value] if isinstance(value, (list, tuple)) else value
