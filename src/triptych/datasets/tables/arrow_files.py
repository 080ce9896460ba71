"""Read Parquet and Arrow files, a few rows at a time. Nothing in them is executed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow
import pyarrow.ipc
import pyarrow.parquet

from triptych.datasets.tables.sources import File, Member
from triptych.errors import DataError

_ROWS = 256  # converted to Python objects at a time
_ERRORS = (OSError, ValueError, OverflowError, pyarrow.ArrowException)


def parquet_names(file: File) -> list[str]:
    """The column names of a Parquet file."""
    with _open_parquet(file) as table:
        return _names(file, table.schema_arrow)


def parquet_rows(file: File, wanted: list[str]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the wanted cells of each row of a Parquet file."""
    with _open_parquet(file) as table:
        yield from _rows(file, table.iter_batches(batch_size=_ROWS, columns=wanted), wanted)


def arrow_names(file: File) -> list[str]:
    """The column names of an Arrow file, in the format that `datasets` writes."""
    with _open_arrow(file) as reader:
        return _names(file, reader.schema)


def arrow_rows(file: File, wanted: list[str]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the wanted cells of each row of an Arrow file."""
    with _open_arrow(file) as reader:
        yield from _rows(file, _checked(reader), wanted)


def _names(file: File, schema: pyarrow.Schema) -> list[str]:
    try:
        return list(schema.names)
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: the name of a column cannot be read: {error}. Fetch the file again.") from None


def _rows(file: File, batches: Iterator[pyarrow.RecordBatch], wanted: list[str]) -> Iterator[tuple[str, list[Any]]]:
    row = 0
    while True:
        try:
            batch = next(batches, None)
            columns = [] if batch is None else [_cells(file, row, name, batch.column(name)) for name in wanted]
        except _ERRORS as error:
            raise DataError(f"{file}, after row {row}: cannot be read: {error}. Fetch the file again.") from None
        if batch is None:
            return
        for cells in zip(*columns, strict=True):
            row += 1
            yield f"{file}, row {row}", list(cells)


def _cells(file: File, before: int, name: str, column: pyarrow.Array) -> list[Any]:
    """The cells of a column as Python objects.

    Raises:
        DataError: a cell cannot be represented in Python, such as a time after the year 9999, or is damaged.
    """
    try:
        return column.to_pylist()
    except _ERRORS:
        for row, cell in enumerate(column, before + 1):
            try:
                cell.as_py()
            except _ERRORS as error:
                raise DataError(
                    f"{file}, row {row}: the cell of column {name!r} ({column.type}) cannot be read: {error}. Fix it, "
                    "or write the table without this column."
                ) from None
        raise


def _open_parquet(file: File) -> pyarrow.parquet.ParquetFile:
    _check_unpacked(file)
    try:
        return pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=2**20)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(
            f"{file}: cannot be read as Parquet: {error}. Check that it is whole, or fetch it again."
        ) from None


@contextmanager
def _open_arrow(file: File) -> Iterator[Any]:
    """Open a memory-mapped Arrow stream or, if it is not a stream, an Arrow file."""
    _check_unpacked(file)
    try:
        source = pyarrow.memory_map(str(file))
        try:
            reader: Any = pyarrow.ipc.open_stream(source)
        except pyarrow.ArrowInvalid:
            source.seek(0)
            reader = pyarrow.ipc.open_file(source)
    except _ERRORS as error:
        raise DataError(
            f"{file}: cannot be read as Arrow: {error}. Check that it is whole, or fetch it again."
        ) from None
    with source:
        yield reader


def _checked(reader: Any) -> Iterator[pyarrow.RecordBatch]:
    """Validate the buffers of every batch, then yield it a few rows at a time."""
    whole = isinstance(reader, pyarrow.ipc.RecordBatchFileReader)
    for batch in map(reader.get_batch, range(reader.num_record_batches)) if whole else reader:
        batch.validate(full=True)  # out-of-bounds offsets would otherwise be followed
        for start in range(0, batch.num_rows, _ROWS):
            yield batch.slice(start, _ROWS)


def _check_unpacked(file: File) -> None:
    if isinstance(file, Member):
        raise DataError(f"{file}: only text files are read from archives. Unpack it: unzip {file.archive.name}.")
