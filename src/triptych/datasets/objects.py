"""Write documents with summaries given as Python objects to Parquet, in a folder named after their hash."""

import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from triptych.config.schema import Columns
from triptych.contracts import SPLITS, Example
from triptych.datasets.tables.columns import Roles, id_cell, recognize, summary_cell, text_cell
from triptych.datasets.tables.splits import assign_exact, read_claim
from triptych.errors import DataError, ResultsError, shorten
from triptych.storage.files import umask

_ROWS = 1000  # in memory at a time
_WHOLE = "pairs"  # the file of data without splits; the splits are cut from it
_KINDS = (
    "a path, a name on the hub, a pandas DataFrame, a Dataset or DatasetDict of the package datasets, a list of "
    "(document, summary) pairs or of dictionaries, or a dictionary of splits"
)


@dataclass(frozen=True)
class _Table:
    """Column names, and a function that yields the cells of some columns, given by position, row by row."""

    names: list[str]
    rows: Callable[[Sequence[int]], Iterator[Sequence[Any]]]


def is_object(data: Any) -> bool:
    """Whether data is neither a path nor a name, so that it must be written to files."""
    return not isinstance(data, str | os.PathLike)


def write_objects(data: Any, folder: Path, columns: Columns) -> Path:
    """Write documents with summaries to `FOLDER/DIGEST`, unless they are already there.

    Only the document, summary and id columns are written, under their original names. Rows are read one at a time, so a
    data set larger than memory can be written.

    Args:
        data: a pandas or polars DataFrame, a `pyarrow.Table`, a data set of the package datasets, an iterable of pairs
            (document, summary), of dictionaries or of `Example`, a dictionary of columns, each a list, or a dictionary
            of splits (train, validation, test), each one of these.
        folder: created if it is missing.
        columns: column names, if they are not the usual ones.

    Returns:
        The folder with a Parquet file for each split, or a single file for data without splits.

    Raises:
        DataError: the data has another type, no rows, no such columns or cells that are not text.
        ResultsError: the folder cannot be written.
    """
    tables = _splits(data)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=".objects.", dir=folder))
        try:
            content = sha256()
            for name, (table, where) in tables.items():
                content.update(name.encode())
                _write(table, where, place / f"{name}.parquet", columns, content)
            made = folder / content.hexdigest()[:32]
            place.chmod(0o777 & ~umask())
            try:
                place.rename(made)
            except OSError:  # it already exists, or another process has just created it
                if not made.is_dir():
                    raise
        finally:
            shutil.rmtree(place, ignore_errors=True)
    except OSError as error:
        raise ResultsError(f"The data cannot be written to {str(folder)!r}: {error.strerror or error}.") from error
    return made


def _splits(data: Any) -> dict[str, tuple[Any, str]]:
    """The data of each file, by file name, with its description for messages."""
    if not isinstance(data, Mapping) or not any(read_claim(str(name)) for name in data):
        return {_WHOLE: (data, "data")}
    named = {str(name): value for name, value in data.items()}
    assignment = assign_exact(list(named), "data")
    if assignment.left:
        raise DataError(
            f"data has the key {shorten(repr(assignment.left[0]))}, which is not a split. Give train, validation and "
            "test, and nothing else."
        )
    chosen = {split: assignment.named[split][0] for split in SPLITS if split in assignment.named}
    return {split: (named[name], f"data[{name!r}]") for split, name in chosen.items()}


def _write(data: Any, where: str, file: Path, columns: Columns, content: Any) -> None:
    """Write a table as Parquet and add it to a digest."""
    if isinstance(data, str | os.PathLike):
        raise DataError(f"{where} is {shorten(repr(data))}: give the table itself, or a folder of files as `data`.")
    source = _table(data, where)
    if not source.names:
        raise DataError(f"{where} has no columns and no rows: documents with summaries are needed.")
    roles = _recognize(source.names, columns, where)
    wanted = [name for name in (roles.id, roles.document, roles.summary) if name is not None]
    places = [source.names.index(name) for name in wanted]
    schema = pyarrow.schema([(name, pyarrow.string()) for name in wanted])
    content.update(json.dumps(wanted).encode())
    number = with_summary = 0

    def cells() -> Iterator[list[str | None]]:
        nonlocal number, with_summary
        for row in source.rows(places):
            number += 1
            at = f"{where}, row {number}"
            *key, document, summary = map(_plain, row)
            ids = [None if each is None else id_cell(each, "", number, at) for each in key]
            texts = summary_cell(summary, document, roles.summary, at, "columns.summary")
            with_summary += bool(texts.strip())
            yield [*ids, text_cell(document, roles.document, at, "columns.document"), texts]

    rows = cells()
    with closing(pyarrow.parquet.ParquetWriter(file, schema)) as writer:
        while batch := list(islice(rows, _ROWS)):
            try:
                content.update("".join(json.dumps(row, ensure_ascii=False) for row in batch).encode())
            except UnicodeEncodeError:
                raise DataError(
                    f"{where}: a text in rows {number - len(batch) + 1} to {number} holds half characters that are "
                    "not Unicode text."
                ) from None
            writer.write_table(pyarrow.table([list(cells) for cells in zip(*batch, strict=True)], schema=schema))
    if not number:
        raise DataError(f"{where} has no rows: documents with summaries are needed.")
    if not with_summary:
        raise DataError(
            f"{where}: none of the {number:,} rows has a summary in column {roles.summary!r}. Summaries are needed; "
            'name another column with settings={"columns.summary": NAME}.'
        )


def _recognize(names: list[str], columns: Columns, where: str) -> Roles:
    """Find the columns by role; if an error message names command-line options, add the Python equivalent."""
    try:
        return recognize(names, columns, where)
    except DataError as error:
        here = (
            ' In Python: settings={"columns.document": NAME, "columns.summary": NAME}.' if "--set" in str(error) else ""
        )
        raise DataError(f"{error}{here}") from None


def _table(data: Any, where: str) -> _Table:
    """Convert any supported kind of data to columns and rows."""
    if _is_of(data, "pandas", "DataFrame"):
        return _Table([str(name) for name in data.columns], partial(_frame_rows, data))
    if _is_of(data, "datasets", "Dataset"):
        return _Table(list(data.column_names), partial(_dataset_rows, data))
    if _is_of(data, "polars", "DataFrame"):
        data = data.to_arrow()
    if isinstance(data, pyarrow.Table):
        return _Table(list(data.column_names), partial(_arrow_rows, data))
    if isinstance(data, Mapping):
        if not data or not all(isinstance(cells, list | tuple) for cells in data.values()):
            raise DataError(f"{where} is a dictionary of neither splits nor columns. Give {_KINDS}.")
        if len({len(cells) for cells in data.values()}) > 1:
            raise DataError(f"{where} is a dictionary of columns of different lengths.")
        columns = list(data.values())
        return _Table(
            [str(name) for name in data], lambda places: zip(*(columns[place] for place in places), strict=True)
        )
    if isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise DataError(f"{where} is {shorten(repr(data))} ({type(data).__name__}). Give {_KINDS}.")
    return _records(data, where)


def _records(data: Iterable[Any], where: str) -> _Table:
    """A table of pairs, dictionaries or examples, all of the same kind as the first.

    Any dictionary may lack a key, but if `data` can be iterated only once, the first must have all keys.
    """
    rows = iter(data)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{where} has no rows: documents with summaries are needed.")
    names: dict[Any, None] = dict.fromkeys(["document", "summary"])
    if isinstance(first, Mapping):
        seen = [first] if rows is data else (row for row in data if isinstance(row, Mapping))
        names = {name: None for row in seen for name in row}
    elif isinstance(first, Example):
        names = dict.fromkeys(["id", "document", "summary"])
    keys = list(names)

    def cells(places: Sequence[int]) -> Iterator[Sequence[Any]]:
        for number, row in enumerate(chain([first], rows), 1):
            if isinstance(row, Mapping) and isinstance(first, Mapping):
                further = next((name for name in row if name not in names), None)
                if further is not None:
                    raise DataError(
                        f"{where}, row {number}: the first row has no key {shorten(repr(further))}. Give a list of the "
                        "rows, or put None for missing keys in the first row."
                    )
                yield [row.get(keys[place]) for place in places]
            elif isinstance(row, Example) and isinstance(first, Example):
                yield [getattr(row, keys[place]) for place in places]
            elif isinstance(row, list | tuple) and len(row) == 2 and isinstance(first, list | tuple):
                yield [row[place] for place in places]
            else:
                raise DataError(
                    f"{where}, row {number}: {shorten(repr(row))} is not a pair (document, summary), a dictionary or "
                    "an Example; all rows must be of one kind."
                )

    return _Table([str(name) for name in keys], cells)


def _frame_rows(frame: Any, places: Sequence[int]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(frame), _ROWS):
        part = frame.iloc[start : start + _ROWS]
        yield from zip(*(part.iloc[:, place].tolist() for place in places), strict=True)


def _dataset_rows(dataset: Any, places: Sequence[int]) -> Iterator[Sequence[Any]]:
    names = [dataset.column_names[place] for place in places]
    for batch in dataset.select_columns(names).with_format(None).iter(batch_size=_ROWS):
        yield from zip(*(batch[name] for name in names), strict=True)


def _arrow_rows(table: pyarrow.Table, places: Sequence[int]) -> Iterator[Sequence[Any]]:
    for batch in table.select(list(places)).to_batches(max_chunksize=_ROWS):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _is_of(data: Any, package: str, name: str) -> bool:
    """Whether data is an instance of a class of a package, without importing the package."""
    module = sys.modules.get(package)
    return module is not None and isinstance(data, getattr(module, name, ()))


def _plain(cell: Any) -> Any:
    """A cell as a plain Python object, with None for all kinds of missing values."""
    if isinstance(cell, float) and math.isnan(cell):
        return None
    if type(cell).__name__ in ("NAType", "NaTType"):
        return None
    return cell.tolist() if hasattr(cell, "tolist") else cell  # NumPy scalars and arrays
