"""Documents to be summarized: a plain text is one document, a table has one in each row."""

import sys
from collections.abc import Iterator
from pathlib import Path

from triptych.datasets import tables
from triptych.datasets.tables.columns import usual
from triptych.datasets.tables.encodings import codec_of, explain
from triptych.errors import DataError, nearest, shorten
from triptych.storage.files import expand_path

STANDARD_INPUT = "-"
MAX_BYTES = 16 * 2**20  # of a plain text; more is not an article


def read_documents(source: str, column: str | None = None) -> Iterator[tuple[str, str]]:
    """Read `(id, text)` of every document, one after the other; all are checked before the first is given.

    Args:
        source: a file, or `-` for standard input. Tables (CSV, TSV, JSON, Parquet, Arrow) hold one document a row;
            anything else is one document, of UTF-8 text or of UTF-16 with a byte order mark.
        column: the table's column with the documents; None: recognised by its usual names.

    Raises:
        DataError: a file is missing, not UTF-8, binary or too long, or a document is empty.
    """
    if source == STANDARD_INPUT:
        return iter([("standard input", _plain_text(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input"))])
    path = expand_path(source)
    if path.is_dir():
        raise DataError(f"{source!r} is a folder: name a file in it.")
    if not path.is_file():
        raise DataError(f"There is no file {source!r} to summarize.")
    if not is_document_table(source):
        if column is not None:
            raise DataError(f"{source!r} is not a table, so it has no column {column!r}.")
        try:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise DataError(f"{source!r} cannot be read: {error.strerror}.") from None
        return iter([(path.name, _plain_text(content, source))])
    if not sum(1 for _ in _table(path, column)):
        raise DataError(f"{source!r} has column names but no rows: there is nothing to summarize.")
    return _table(path, column)


def is_document_table(source: str) -> bool:
    """Whether the source may hold several documents."""
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


def _table(path: Path, column: str | None) -> Iterator[tuple[str, str]]:
    names = tables.column_names(path)
    document, key = _document_column(path, names, column), next(iter(usual(names, tables.ID_NAMES)), None)
    wanted = [document, *([key] if key and key != document else [])]
    tables.check_single(names, wanted, str(path))
    for number, (where, (cell, *rest)) in enumerate(tables.read_cells(path, wanted), 1):
        text = tables.text_cell(cell, document, where, "--column")
        if not text.strip():
            raise DataError(f"{where}: column {document!r} is empty: there is nothing to summarize.")
        yield tables.id_cell(rest[0] if rest else None, path.name, number, where), text


def _document_column(path: Path, names: list[str], column: str | None) -> str:
    if column is not None:
        if column not in names:
            raise DataError(f"{path} has no column {column!r}.{nearest(column, names)}")
        return column
    likely = usual(names, tables.DOCUMENT_NAMES)
    if len(likely) != 1:
        found = f"any of {shorten(', '.join(likely))} could be" if likely else "none is known to be"
        raise DataError(
            f"{path}: {found} the column with the documents. Name it with --column; there are: "
            f"{shorten(', '.join(names))}."
        )
    return likely[0]
