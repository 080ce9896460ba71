"""Replace or escape characters that a document, a terminal or UTF-8 cannot contain."""

import json
import re
from collections.abc import Callable
from typing import Any

# Not allowed in HTML: C0 controls except tab and line ends, DEL, C1 controls, unpaired surrogates, noncharacters.
UNSHOWABLE = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff" + "".join(
    chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(1, 17)
)
_UNSHOWABLE = re.compile(f"[{UNSHOWABLE}]")
_ESCAPED_IN_JSON = re.compile(f"[{UNSHOWABLE}\u2028\u2029]")
# Characters a terminal acts on: controls except tab and line feed (a carriage return overwrites the line before it),
# line and paragraph separators, unpaired surrogates, and the embeddings, overrides and isolates that reorder a line.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_HALF = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def showable(text: str) -> str:
    """The text with every character that a document cannot contain replaced by U+FFFD."""
    return _UNSHOWABLE.sub(REPLACEMENT, text)


def unshowable(text: str) -> set[str]:
    """The characters that `showable` replaces in this text."""
    return set(_UNSHOWABLE.findall(text))


def whole(text: str) -> str:
    """The text with every unpaired surrogate replaced by U+FFFD, so that it can be encoded as UTF-8."""
    return _HALF.sub(REPLACEMENT, text)


def visible(text: str) -> str:
    """The text with every unprintable character except tab and line feed written as an escape."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def for_terminal(text: str) -> str:
    """Escape the characters of untrusted text that control a terminal or reorder a line.

    Unlike `visible`, it keeps the spaces and joiners that some scripts need, such as U+3000 in Japanese and U+200C in
    Persian.
    """
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def to_json(value: Any, indent: int | None = None, separators: tuple[str, str] | None = None) -> str:
    """JSON with non-ASCII letters kept readable; only characters that a document cannot contain are escaped.

    Args:
        value: anything that JSON can represent; NaN and infinity are refused.
        indent: spaces per level; None writes everything on one line.
        separators: the separators between items and between key and value; None for the defaults of `json`.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
    return _ESCAPED_IN_JSON.sub(lambda found: json.dumps(found[0])[1:-1], text)


def map_texts(change: Callable[[str], str], value: Any) -> Any:
    """Replace every string in a JSON value, including keys, with `change(string)`.

    Args:
        change: a function from string to string.
        value: dicts, lists, tuples, strings; anything else is returned as it is.
    """
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key) if isinstance(key, str) else key: map_texts(change, item) for key, item in value.items()}
    return [map_texts(change, item) for item in value] if isinstance(value, (list, tuple)) else value
