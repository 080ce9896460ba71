"""Read JSON, object by object: one object per line, an array of objects, or an object with such an array."""

import json
import shlex
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from typing import Any

from triptych.datasets.tables.columns import DOCUMENT_NAMES, MAX_COLUMNS, SUMMARY_NAMES, joined, usual
from triptych.datasets.tables.encodings import MAX_LINE, read_lines, read_text
from triptych.datasets.tables.sources import File, state
from triptych.errors import DataError, shorten

_NO_OBJECT = (
    'one object per line is needed, such as {"document": ..., "summary": ...}, or one array of such objects. '
    "Convert an array of arrays with: jq -c '.[] | {document: .[0], summary: .[1]}' OLD.json > NEW.jsonl."
)


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object from its keys and values; duplicate keys are refused."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(_twice(next(name for name in names if names.count(name) > 1)))
    return made


def _twice(name: str) -> str:
    return f"an object has the key {shorten(repr(name))} twice, which is ambiguous. Rename one"


_DECODER = json.JSONDecoder(object_pairs_hook=_single)
_SMALL = 2**18  # maximum characters of an object that is parsed to see whether it is a row


def json_names(file: File) -> list[str]:
    """The keys of all objects, in order of first occurrence; an object may lack some."""
    return list(_names(file, state(file)))


@lru_cache(maxsize=64)
def _names(file: File, _state: str) -> tuple[str, ...]:
    """The keys of a file in its current state; the file is scanned only once."""
    names: dict[str, None] = {}
    for where, value in _objects(file):
        names |= dict.fromkeys(value)
        if len(names) > MAX_COLUMNS:
            raise DataError(
                f"{where}: {len(names):,} columns are more than the {MAX_COLUMNS:,} that are read. Drop some."
            )
    if not names:
        raise DataError(f"{file} is empty.")
    return tuple(names)


def json_rows(file: File, wanted: list[str]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the wanted values of each object, with the line it begins on."""
    for where, value in _objects(file):
        missing = [name for name in wanted if name not in value]
        if missing:
            raise DataError(
                f"{where}: there is no {missing[0]!r}, which other objects have. Write null where there is none."
            )
        yield where, [value[name] for name in wanted]


def _objects(file: File) -> Iterator[tuple[str, dict[str, Any]]]:
    return _values(file) if _is_whole(file) else _by_line(file)


def _is_whole(file: File) -> bool:
    """Whether the file is a single array or object, not one object per line."""
    line: list[str] = []
    size = 0
    with closing(read_text(file)) as pieces:
        for piece in pieces:
            text = piece if size else piece.lstrip()
            if not size and text and text[0] != "{":
                return text[0] == "["
            begin, end, rest = text.partition("\n")
            line.append(begin)
            size += len(begin)
            if size > MAX_LINE:
                return True
            if end:
                try:
                    json.loads("".join(line))
                except (ValueError, RecursionError):
                    return True
                return not rest.strip() and all(not later.strip() for later in pieces)
    return bool(size)


def _by_line(file: File) -> Iterator[tuple[str, dict[str, Any]]]:
    with closing(read_lines(file)) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{file}, line {number}"
            try:
                value = _DECODER.decode(line)
                _check_text(line, value)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}: malformed JSON: {error}. Each line must be one whole object.") from None
            yield where, _checked(value, where)


def _values(file: File) -> Iterator[tuple[str, dict[str, Any]]]:
    with closing(_Scanner(file)) as scanner:
        if scanner.peek() == "[":
            yield from scanner.array()
            scanner.expect_end()
            return
        try:
            where, first = scanner.value(_SMALL)
        except _TooLong:
            first = None
        if first is not None and not _holds_rows(first):
            _check_rows(first, where, scanner.peek() == "")
            yield where, _checked(first, where)
            while scanner.peek():
                where, value = scanner.value()
                yield where, _checked(value, where)
            return
    # read again, key by key: a long object, or one that contains the array of rows
    with closing(_Scanner(file)) as scanner:
        while scanner.peek():
            yield from scanner.object()


def _holds_rows(value: Any) -> bool:
    """Whether an object contains rows: it has an array of objects, and no text under a usual document name."""
    if not isinstance(value, dict) or any(
        isinstance(value[name], str | list) and _is_text(value[name]) for name in usual(list(value), DOCUMENT_NAMES)
    ):
        return False
    return any(isinstance(item, list) and item and isinstance(item[0], dict) for item in value.values())


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or joined(value) is not None


def _check_rows(value: Any, where: str, alone: bool) -> None:
    """Refuse a file's only object if it is a table in another layout.

    Raises:
        DataError: the object contains columns, or rows keyed by id.
    """
    if not alone or not isinstance(value, dict) or not value:
        return
    inner = list(value.values())
    if all(isinstance(item, dict) for item in inner) and usual(list(inner[0]), DOCUMENT_NAMES + SUMMARY_NAMES):
        raise DataError(
            f"{where}: its rows are keyed by id. Write one object per line: jq -c '.[]' OLD.json > NEW.jsonl."
        )
    columns = all(isinstance(item, dict) for item in inner) or (
        all(isinstance(item, list) for item in inner) and len({len(item) for item in inner}) == 1 and len(inner[0]) > 1
    )
    if columns and usual(list(value), DOCUMENT_NAMES + SUMMARY_NAMES):
        raise DataError(
            f'{where}: it contains columns, not rows. Convert it to rows: python -c "import json, pandas; '
            "pandas.DataFrame(json.load(open('OLD.json'))).to_json('NEW.jsonl', orient='records', lines=True)\"."
        )


def _checked(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: {_NO_OBJECT}")
    return value


def _check_text(source: str, value: Any) -> None:
    """Refuse an unpaired surrogate, which is valid JSON but not valid text.

    Raises:
        UnicodeEncodeError: the text has one.
    """
    if "\\ud" in source.lower():
        json.dumps(value, ensure_ascii=False).encode()


class _TooLong(DataError):
    """A value is too long to be read at once."""


class _Scanner:
    """Parse JSON values from text that arrives in pieces, with at most `MAX_LINE` characters of a value in memory.

    Args:
        file: the file to read.
    """

    def __init__(self, file: File):
        self._file = file
        self._pieces = read_text(file)
        self._text = ""
        self._at = 0
        self._line = 1  # line number of the beginning of `_text`
        self._ended = False

    def close(self) -> None:
        """Close the file."""
        self._pieces.close()

    def peek(self) -> str:
        """The next non-space character; empty at the end of the file."""
        while True:
            while self._at < len(self._text):
                if not self._text[self._at].isspace():
                    return self._text[self._at]
                self._at += 1
            if not self._read(1):
                return ""

    def take(self, expected: str) -> str:
        """Consume the next character, which must be one of `expected`."""
        found = self.peek()
        if not found or found not in expected:
            seen = repr(found) if found else "the end of the file"
            raise DataError(
                f"{self._where()}: malformed JSON: {' or '.join(map(repr, expected))} is expected, not {seen}."
            )
        self._at += 1
        return found

    def expect_end(self) -> None:
        """Check that nothing follows."""
        if self.peek():
            raise DataError(f"{self._where()}: malformed JSON: there is text after the end of the array. {_NO_OBJECT}")

    def value(self, most: int = MAX_LINE) -> tuple[str, Any]:
        """Read the next value, of at most `most` characters, with the line it begins on."""
        self.peek()
        where = self._where()
        least = 2**16
        while True:
            problem: json.JSONDecodeError | None = None
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
                if end < len(self._text) or self._ended:  # otherwise a number may continue in the next piece
                    _check_text(self._text[self._at : end], value)
                    self._at = end
                    return where, value
            except json.JSONDecodeError as error:
                problem = error
            except RecursionError:
                raise DataError(f"{where}: malformed JSON: it is nested too deeply. {_NO_OBJECT}") from None
            except ValueError as error:
                raise DataError(f"{where}: malformed JSON: {error}.") from None
            if len(self._text) - self._at > most:
                raise _TooLong(
                    f"{where}: one value is longer than {MAX_LINE // 2**20} MiB. This does not look like a table."
                )
            if not self._read(least) and problem:
                line = self._line + self._text.count("\n", 0, problem.pos)
                raise DataError(
                    f"{self._file}, line {line}: malformed JSON: {problem.msg}. Fetch the file again, or fix it."
                )
            least *= 2

    def array(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the objects of an array, each with the line it begins on."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            where, value = self.value()
            yield where, _checked(value, where)
            if self.take(",]") == "]":
                return

    def object(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the objects of the only array of objects in an object, or the object itself if it is a row."""
        begin, held = self._where(), None
        row: dict[str, Any] = {}
        self.take("{")
        while self.peek() != "}":
            where, key = self.value()
            if key in row or key == held:
                raise DataError(f"{where}: malformed JSON: {_twice(key)}.")
            self.take(":")
            if self.peek() != "[" or not self._objects_follow() or usual(list(row), DOCUMENT_NAMES):
                row[key] = self.value()[1]
            elif held is None:
                held = key
                yield from self.array()
            else:
                raise DataError(
                    f"{where}: it contains several lists, {held!r} and {key!r}. Put each into a separate file, "
                    f"such as: jq -c {shlex.quote(f'.[{json.dumps(key)}][]')} OLD.json > NEW.jsonl."
                )
            if self.take(",}") == "}":
                break
        else:
            self.take("}")
        if held is None:
            yield begin, row

    def _objects_follow(self) -> bool:
        """Whether the array that begins here contains objects."""
        at = self._at + 1
        while True:
            while at < len(self._text) and self._text[at].isspace():
                at += 1
            if at < len(self._text):
                return self._text[at] == "{"
            at -= self._at
            if not self._read(1):
                return False
            at += self._at

    def _where(self) -> str:
        return f"{self._file}, line {self._line + self._text.count(chr(10), 0, self._at)}"

    def _read(self, least: int) -> bool:
        """Drop consumed text and read at least `least` more characters; False at the end of the file."""
        self._line += self._text.count("\n", 0, self._at)
        pieces, size = [self._text[self._at :]], 0
        self._at = 0
        while size < least:
            piece = next(self._pieces, None)
            if piece is None:
                self._ended = True
                break
            pieces.append(piece)
            size += len(piece)
        self._text = "".join(pieces)
        return size > 0
