"""Read JSON and JSON lines strictly, and write them; each error names the file, the line and a remedy."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from triptych.errors import ResultsError
from triptych.registry import MOST_DIGITS
from triptych.storage.files import write_bytes
from triptych.text.characters import map_texts, to_json, whole


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, keeping the order of keys.

    Raises:
        ResultsError: the folder cannot be written, or the disk is full.
        ValueError: a number is not finite.
    """
    write_bytes(path, f"{to_json(value, indent=2)}\n".encode())


def write_json_lines(path: Path, values: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object on each line.

    Raises:
        ResultsError: the folder cannot be written, or the disk is full.
        ValueError: a number is not finite.
    """
    write_bytes(path, "".join(f"{to_json(value)}\n" for value in values).encode())


def read_json(path: Path, remedy: str = "") -> Any:
    """Read JSON in UTF-8; NaN, infinity and whole numbers of more than 30 digits are refused.

    Half of a surrogate pair, which JSON can express but no encoding can, is read as U+FFFD.

    Args:
        path: the file.
        remedy: what to do if it is missing or damaged, for the message.

    Raises:
        ResultsError: the file is missing, unreadable or malformed.
    """
    return _parse(_text(path, remedy), path, 1, remedy)


def read_object(path: Path, remedy: str = "") -> dict[str, Any]:
    """Read a JSON object like `read_json`.

    Raises:
        ResultsError: the file is missing, unreadable or malformed, or contains something else.
    """
    return _checked_object(read_json(path, remedy), path, 1, remedy)


def read_json_lines(path: Path, remedy: str = "") -> Iterator[tuple[int, dict[str, Any]]]:
    """Read one JSON object from each line like `read_json`; a file without a final line end was truncated.

    Args:
        path: the file.
        remedy: what to do if it is missing or damaged, for the message.

    Yields:
        Each line's number, from 1, and its object.

    Raises:
        ResultsError: the file is missing, unreadable or cut, or a line is malformed or not an object.
    """
    lines = _text(path, remedy).split("\n")
    if lines.pop():
        refuse(path, "does not end its last line: the file is cut", remedy, len(lines) + 1)
    for number, line in enumerate(lines, 1):
        yield number, _checked_object(_parse(line, path, number, remedy), path, number, remedy)


def refuse(path: Path, what: str, remedy: str = "", line: int | None = None) -> NoReturn:
    """Refuse a file.

    Args:
        path: the file.
        what: what is wrong with it, as it follows the path in a sentence.
        remedy: what to do, if known.
        line: the line number.

    Raises:
        ResultsError: always.
    """
    where = repr(str(path)) if line is None else f"{str(path)!r}, line {line},"
    raise ResultsError(f"{where} {what[:1000]}." + (f" Remedy: {remedy}." if remedy else "")) from None


def _text(path: Path, remedy: str) -> str:
    if path.exists() and not path.is_file():  # a device or a pipe could be read without end
        refuse(path, "is not a regular file", remedy)
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        refuse(path, "is missing", remedy)
    except (OSError, UnicodeDecodeError) as error:
        refuse(path, f"cannot be read: {error}", remedy)


def _parse(text: str, path: Path, line: int, remedy: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_int=_whole_number)
        return map_texts(whole, value) if "\\u" in text and "\\ud" in text.lower() else value
    except (ValueError, RecursionError) as error:
        where = line + getattr(error, "lineno", 1) - 1
        refuse(path, f"is malformed: {getattr(error, 'msg', error)}", remedy, where)


def _checked_object(value: Any, path: Path, line: int, remedy: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        refuse(path, "is not a JSON object", remedy, line)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _whole_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a whole number has {len(digits)} digits, more than {MOST_DIGITS}")
    return int(digits)
