"""Read documents to summarize: a plain text is one document, a table has one per row, a folder has several files."""

import glob
import math
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triptych.config.schema import Columns
from triptych.datasets import tables
from triptych.datasets.tables.columns import usual, usual_id
from triptych.datasets.tables.encodings import codec_of, explain
from triptych.errors import DataError, nearest, shorten
from triptych.storage.files import expand_path

STANDARD_INPUT = "-"
MAX_BYTES = 16 * 2**20  # limit for a plain text; anything longer is not an article
TEXTS = frozenset((".txt", ".text", ".md", ".story"))  # files of a folder with one document each


@dataclass(frozen=True)
class GivenDocument:
    """A document to summarize.

    Attributes:
        id: the id of its row, or the name of its file.
        text: the document.
        cells: its table row by column, if requested; empty for a text.
    """

    id: str
    text: str
    cells: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Documents:
    """Documents from one or more sources, all checked.

    Attributes:
        columns: the columns of all tables, in order, if requested.
        number: the number of documents.
        notes: sentences on skipped files of a folder.
        sources: the files, each with its column names and its document and id columns; a text has none.
    """

    columns: list[str]
    number: int
    notes: list[str]
    sources: list["_Source"]

    def __iter__(self) -> Iterator[GivenDocument]:
        """Yield the documents one by one; memory does not grow with their number."""
        for source in self.sources:
            yield from source.documents()


def open_documents(
    sources: Sequence[str], column: str | None = None, known: Sequence[Columns] = (), cells: bool = False
) -> Documents:
    """Find and check documents; only plain texts are kept in memory.

    Args:
        sources: files, folders, patterns such as `notes/*.txt`, or `-` for standard input. Tables (CSV, TSV, JSON,
            Parquet, Arrow) have one document per row; anything else is one document, in UTF-8 or in UTF-16 with a
            byte order mark. In a folder, tables and texts (.txt, .text, .md, .story) are read in order of their names.
        column: the column with the documents in tables; None: one of `known`, else recognized by its usual names.
        known: columns of suites whose runs will summarize; used for tables that have them.
        cells: include all cells of each row.

    Raises:
        DataError: a file is missing, not UTF-8, binary or too long, a table has no such column, a column is named but
            there is no table, or a document is empty.
    """
    notes: list[str] = []
    files = [file for source in sources for file in _expand(source, notes)]
    if column is not None and not any(map(is_document_table, files)):
        raise DataError(
            f"There is no table among the documents ({shorten(', '.join(files))}), so none has a column {column!r}: "
            "leave --column out."
        )
    opened = [_open(file, column, known, cells) for file in files]
    number = sum(_count(source) for source in opened)
    columns = list(dict.fromkeys(name for source in opened for name in source.names)) if cells else []
    return Documents(columns, number, notes, opened)


def read_documents(source: str, column: str | None = None) -> Iterator[tuple[str, str]]:
    """Read `(id, text)` of every document in a file or folder; all are checked before the first is returned.

    Args:
        source: a source as for `open_documents`.
        column: as for `open_documents`.

    Raises:
        DataError: as for `open_documents`.
    """
    return ((document.id, document.text) for document in open_documents([source], column))


@dataclass(frozen=True)
class _Source:
    """A file: one text, or a table with its columns and which of them are document and id."""

    file: str
    text: str | None = None
    names: list[str] = field(default_factory=list)
    document: str = ""
    key: str | None = None

    def documents(self) -> Iterator[GivenDocument]:
        if self.text is not None:
            name = "standard input" if self.file == STANDARD_INPUT else Path(self.file).name
            yield GivenDocument(name, self.text)
            return
        path = expand_path(self.file)
        for number, (where, row) in enumerate(tables.read_cells(path, self.names), 1):
            cells = dict(zip(self.names, row, strict=True))
            text = tables.text_cell(cells[self.document], self.document, where, "--column")
            if not text.strip():
                raise DataError(f"{where}: column {self.document!r} is empty: there is nothing to summarize.")
            key = cells[self.key] if self.key is not None else None
            name = tables.id_cell(key, path.name, number, where)
            yield GivenDocument(name, text, {each: _writable(cell, each, where) for each, cell in cells.items()})


def _expand(source: str, notes: list[str]) -> list[str]:
    """The files of a source; sentences on skipped files of a folder are added to `notes`."""
    if source == STANDARD_INPUT:
        return [source]
    path = expand_path(source)
    if path.is_dir():
        files = sorted((file for file in path.iterdir() if file.is_file()), key=lambda file: _natural(file.name))
        files = [file for file in files if not file.name.startswith(".")]
        read = [file for file in files if tables.is_table(file) or file.suffix.lower() in TEXTS]
        if not read:
            held = f" It holds {shorten(', '.join(file.name for file in files))}." if files else ""
            raise DataError(
                f"The folder {source!r} holds no text ({', '.join(sorted(TEXTS))}) and no table.{held} For files in "
                f"folders below it, give a pattern: '{path}/**/*.txt'."
            )
        left = [file.name for file in files if file not in read]
        if left:
            notes.append(f"Not read in {source}: {shorten(', '.join(left))}.")
        return [str(file) for file in read]
    if not path.exists() and glob.has_magic(source):
        found = [file for file in glob.glob(str(path), recursive=True) if Path(file).is_file()]
        if not found:
            raise DataError(f"No file matches {source!r}.")
        return sorted(found, key=_natural)
    if not path.is_file():
        raise DataError(f"There is no file {source!r} to summarize.")
    return [source]


def _natural(name: str) -> list[tuple[int, str]]:
    """A sort key that puts note2 before note10."""
    return [(int(part[-18:]) if part.isdecimal() else -1, part) for part in re.split(r"([0-9]+)", name)]


def _open(file: str, column: str | None, known: Sequence[Columns], cells: bool) -> _Source:
    if file == STANDARD_INPUT:
        return _Source(file, _plain_text(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input"))
    path = expand_path(file)
    if not is_document_table(file):
        try:
            with path.open("rb") as stream:
                content = stream.read(MAX_BYTES + 1)
        except OSError as error:
            raise DataError(f"{file!r} cannot be read: {error.strerror}.") from None
        return _Source(file, _plain_text(content, file))
    names = tables.column_names(path)
    document = _document_column(path, names, column, known)
    own = (each.id for each in known if each.id in names and each.id != document)
    key = next(own, None) or usual_id(names, (document,))
    wanted = [document, *([key] if key else [])]
    tables.check_single(names, names if cells else wanted, str(path))
    return _Source(file, None, names if cells else wanted, document, key)


def _writable(cell: Any, column: str, where: str) -> Any:
    """A cell as a JSON value: null for NaN and infinity, also within lists and structures.

    Raises:
        DataError: it contains bytes, which are not text.
    """
    if isinstance(cell, bytes):
        raise DataError(
            f"{where}: column {column!r} holds bytes, such as an image, which cannot be written as text. Turn them "
            "into text, or write the table without this column."
        )
    if isinstance(cell, float) and not math.isfinite(cell):
        return None
    if isinstance(cell, list | tuple):
        return [_writable(item, column, where) for item in cell]
    if isinstance(cell, dict):
        return {name: _writable(item, column, where) for name, item in cell.items()}
    return cell


def _count(source: _Source) -> int:
    """Check each document of a source and return their number."""
    number = sum(1 for _ in source.documents())
    if not number:
        raise DataError(f"{source.file!r} has column names but no rows: there is nothing to summarize.")
    return number


def is_document_table(source: str) -> bool:
    """Whether the source may contain several documents."""
    return source != STANDARD_INPUT and tables.is_table(Path(source))


def _plain_text(content: bytes, where: str) -> str:
    if len(content) > MAX_BYTES:
        raise DataError(
            f"{where} is longer than {MAX_BYTES // 2**20} MiB: too long for one article. Put several documents into a "
            "table."
        )
    codec = codec_of(content, where)
    try:
        text = content.decode(codec)
    except UnicodeDecodeError as error:
        if codec == "utf-8-sig" and 0 in content:
            raise DataError(f"{where} is binary, or {explain(content, error, 0)} A text is needed.") from None
        raise DataError(f"{where}: {explain(content, error, 0, codec)}") from None
    if "\0" in text:
        raise DataError(f"{where} is binary: a NUL byte at offset {content.index(0)}. A text is needed.")
    if not text.strip():
        raise DataError(f"{where} is empty: there is nothing to summarize.")
    return text


def _document_column(path: Path, names: list[str], column: str | None, known: Sequence[Columns]) -> str:
    if column is not None:
        if column not in names:
            raise DataError(f"{path} has no column {column!r}.{nearest(column, names)}")
        return column
    own = next((each.document for each in known if each.document in names), None)
    if own is not None:
        return own
    likely = usual(names, tables.DOCUMENT_NAMES)
    if len(likely) != 1:
        found = f"any of {shorten(', '.join(likely))} could be" if likely else "none is known to be"
        raise DataError(
            f"{path}: {found} the column with the documents. Name it with --column; there are: "
            f"{shorten(', '.join(names))}."
        )
    return likely[0]
