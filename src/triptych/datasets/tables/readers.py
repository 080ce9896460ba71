"""Read the columns and rows of a table in the format given by its file extension."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.datasets.tables import arrow_files, delimited, json_tables
from triptych.datasets.tables.columns import DOCUMENT_NAMES, ID_NAMES, SUMMARY_NAMES, usual
from triptych.datasets.tables.sources import File


@dataclass(frozen=True, slots=True)
class _Reader:
    names: Callable[[File], list[str]]
    rows: Callable[[File, list[str]], Iterator[tuple[str, list[Any]]]]  # (where, cells in the requested order)


_CSV = _Reader(delimited.delimited_names, delimited.delimited_rows)
_JSON = _Reader(json_tables.json_names, json_tables.json_rows)
_PARALLEL = _Reader(delimited.parallel_names, delimited.parallel_rows)
_READERS = {
    ".csv": _CSV,
    ".tsv": _CSV,
    ".jsonl": _JSON,
    ".json": _JSON,
    ".ndjson": _JSON,
    ".parquet": _Reader(arrow_files.parquet_names, arrow_files.parquet_rows),
    ".arrow": _Reader(arrow_files.arrow_names, arrow_files.arrow_rows),
    **dict.fromkeys(delimited.PARTNERS, _PARALLEL),
}
ENDINGS = frozenset(_READERS)
PACKED = frozenset((".csv", ".tsv", ".jsonl", ".json", ".ndjson"))  # these may also end in .gz
ACCEPTED = (
    "Supported are .csv, .tsv, .jsonl and .json (one object per line, or an array of objects), each also with .gz, "
    ".parquet, "
    ".arrow, .source with .target, folders that save_to_disk wrote, and a .zip of such files."
)


def ending(file: File | Path) -> str:
    """The extension that says how a file is read, without `.gz`; empty if it is unknown."""
    name = file.name.lower()
    bare = name.removesuffix(".gz")
    found = Path(bare).suffix
    return found if found in (ENDINGS if bare == name else PACKED) else ""


def is_table(file: File) -> bool:
    """Whether a file is a complete table by its name, not half of a pair of text files."""
    return ending(file) not in ("", *delimited.PARTNERS)


def column_names(file: File) -> list[str]:
    """The columns of a table: a CSV's first row, the keys of all JSON objects, the schema of Parquet or Arrow.

    Raises:
        DataError: the file is empty, unreadable or malformed.
    """
    return _READERS[ending(file)].names(file)


def read_cells(file: File, wanted: list[str]) -> Iterator[tuple[str, list[Any]]]:
    """Yield `(where, cells of the wanted columns)`, row by row.

    Raises:
        DataError: the file is unreadable or malformed.
    """
    return _READERS[ending(file)].rows(file, wanted)


def remark(file: File, names: list[str]) -> str:
    """What may be wrong with a file of this format, if a required column is not among its columns."""
    kind = ending(file)
    if kind in (".csv", ".tsv") and not usual(names, DOCUMENT_NAMES + SUMMARY_NAMES + ID_NAMES):
        return delimited.CSV_REMARK
    if kind in delimited.PARTNERS and delimited.partner(file) is None:
        partner = f"{Path(file.name).stem}{delimited.PARTNERS[kind]}"
        return f"Summaries would be read from {partner} next to it, which is missing."
    return ""
