"""Read CSV, TSV, and pairs of parallel text files."""

import csv
import re
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from triptych.datasets.tables.encodings import MAX_LINE, read_lines
from triptych.datasets.tables.sources import File, Member
from triptych.errors import DataError

CSV_REMARK = "(A CSV file must begin with a header such as id,document,summary.)"
PARTNERS = {".source": ".target", ".src": ".tgt"}  # fairseq and early transformers scripts; OpenNMT
_BACKSLASH = (
    r"Quotes inside a text are written \" there, and must be doubled: sed " r"""'s/\\"/""/g' OLD.csv > NEW.csv."""
)
_SPACED = (
    "There are spaces between a comma and a quote, so the quote is not recognized. Remove them: python -c "
    '"import pandas; '
    "pandas.read_csv('OLD.csv', skipinitialspace=True, dtype=str, keep_default_na=False).to_csv('NEW.csv', "
    'index=False)".'
)
_SWALLOWED = (
    "a cell includes the lines that follow, each of which looks like a row. The quote at its start is not closed "
    'or is part of the text: remove it, or quote the whole text and double the quotes in it ("one ""two"" three").'
)
_COMMA = re.compile(r",(?! )(?!(?<=[0-9],)[0-9]{3}(?![0-9]))")  # not a comma in prose or in 1,000
_TAB = re.compile("\t")
_AFTER_A_SPACE = re.compile(r'\s+"')


class _Lines:
    """Pass lines to the parser, and remember what is odd in those of the current record."""

    def __init__(self, lines: Iterator[str], delimiter: str):
        self._lines, self._delimiter = lines, delimiter
        self._odd = re.compile(rf'{re.escape(delimiter)} +"')
        self._separator = _TAB if delimiter == "\t" else _COMMA
        self._read: list[str] = []
        self._backslash = self._spaced = False

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._read.append(line)
        self._backslash = self._backslash or '\\"' in line
        self._spaced = self._spaced or bool(self._odd.search(line))
        return line

    def begin(self) -> None:
        """Start a new record."""
        self._read = []
        self._backslash = self._spaced = False

    def hint(self, otherwise: str) -> str:
        """What is probably wrong with the current record."""
        return _BACKSLASH if self._backslash else _SPACED if self._spaced else otherwise

    def swallows_rows(self, record: list[str]) -> bool:
        """Whether lines of the current record are rows of their own, swallowed by an unclosed quote.

        All of its lines have as many separators as a row, and those between the first and the last have no quote. Prose
        can have as many commas, so the lines must begin with a cell as long as the record's, or there must be several.
        """
        inner = self._read[1:-1]
        if not inner or len(record) < 2 or any('"' in line for line in inner):
            return False
        if any(len(self._separator.findall(line)) != len(record) - 1 for line in self._read):
            return False
        if self._separator is _TAB:
            return True
        if "\n" in record[0]:
            return len(inner) > 2
        return all(abs(len(line.partition(",")[0]) - len(record[0])) < 3 for line in self._read[1:])

    def misses_quotes(self, record: list[str]) -> bool:
        """Whether quotes after a space were read as text: a cell begins with them, and no cell was unquoted."""
        return self._read[-1].rstrip("\r\n") == self._delimiter.join(record) and any(map(_AFTER_A_SPACE.match, record))


def _records(file: File) -> Generator[tuple[str, list[str], _Lines], None, None]:
    """Yield `(where, record, lines)` for each record of a CSV or TSV file, header first, with the line it begins on."""
    tabs = file.name.lower().removesuffix(".gz").endswith(".tsv")
    csv.field_size_limit(MAX_LINE)  # for the whole process: Python has no limit per reader
    with closing(read_lines(file)) as text:
        lines = _Lines(text, "\t" if tabs else ",")
        reader = csv.reader(lines, "excel-tab" if tabs else "excel", strict=True)
        while True:
            where = f"{file}, line {reader.line_num + 1}"
            lines.begin()
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                hint = lines.hint("A quote may be missing or not doubled, or the ends of lines are not \\n.")
                raise DataError(f"{where}: malformed: {error}. {hint}") from None
            if record:  # a blank line is not a record
                yield where, record, lines


def delimited_names(file: File) -> list[str]:
    """The header of a CSV or TSV file."""
    with closing(_records(file)) as records:
        first = next(records, None)
    if first is None:
        raise DataError(f"{file} is empty.")
    return first[1]


def delimited_rows(file: File, wanted: list[str]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the wanted cells of each row of a CSV or TSV file, with the line it begins on."""
    records = _records(file)
    _, header, _ = next(records)
    positions = [header.index(name) for name in wanted]
    for number, (where, record, lines) in enumerate(records):
        if len(record) != len(header):
            hint = lines.hint("A text with a comma, tab, quote or line break in it must be in quotes.")
            raise DataError(f"{where}: {len(record)} columns, but the header has {len(header)}. {hint}")
        if lines.swallows_rows(record):
            raise DataError(f"{where}: {_SWALLOWED}")
        if number == 0 and lines.misses_quotes(record):
            raise DataError(f"{where}: {_SPACED}")
        yield where, [record[position] for position in positions]


def partner(file: File) -> File | None:
    """The file with the summaries next to one with documents, or None."""
    ending = Path(file.name).suffix
    other = PARTNERS[ending.lower()]
    if isinstance(file, Member):
        return Member(file.archive, file.inner.removesuffix(ending) + other)
    found = file.with_suffix(other)
    return found if found.is_file() else None


def parallel_names(file: File) -> list[str]:
    """`source` and, if there is a partner file, `target`."""
    return ["source", "target"] if partner(file) else ["source"]


def parallel_rows(file: File, wanted: list[str]) -> Iterator[tuple[str, list[Any]]]:
    """Yield one document per line and, if there is a partner file, the summary on the same line of that file."""
    other = partner(file) if "target" in wanted else None
    with closing(read_lines(file)) as documents, closing(read_lines(other) if other else iter(())) as summaries:  # type: ignore[type-var]
        number = 0
        for number, document in enumerate(documents, 1):
            cells = {"source": document.rstrip("\r\n")}
            if other:
                summary = next(summaries, None)
                if summary is None:
                    raise DataError(
                        f"{other}: it ends after line {number - 1}, and {file.name} has more. Each needs its line."
                    )
                cells["target"] = summary.rstrip("\r\n")
            yield f"{file}, line {number}", [cells[name] for name in wanted]
        if other and next(summaries, None) is not None:
            raise DataError(f"{other}: it has more than the {number} lines of {file.name}. Each needs its line.")
