"""Documents with summaries from your own files: a folder or a single file, read row by row.

Memory use is bounded for files of any size. Nothing in a file is ever executed, and ids are only data.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pydantic import Field

from triptych.config.schema import Columns
from triptych.contracts import Dataset, Example
from triptych.datasets.tables.columns import (
    DOCUMENT_NAMES,
    ID_NAMES,
    SUMMARY_NAMES,
    Roles,
    check_single,
    id_cell,
    list_notes,
    recognize,
    summary_cell,
    text_cell,
)
from triptych.datasets.tables.encodings import read_lines
from triptych.datasets.tables.folders import ALL, Layout, find_layout
from triptych.datasets.tables.readers import column_names, is_table, read_cells, remark
from triptych.datasets.tables.sources import File, state
from triptych.errors import DataError, nearest
from triptych.registry import register

__all__ = [
    "ALL",
    "DOCUMENT_NAMES",
    "ID_NAMES",
    "SUMMARY_NAMES",
    "Description",
    "Roles",
    "SplitDescription",
    "Tables",
    "check_single",
    "column_names",
    "describe_tables",
    "id_cell",
    "is_table",
    "read_cells",
    "read_lines",
    "recognize",
    "text_cell",
]

_USUAL = Columns()


@dataclass(frozen=True, slots=True)
class SplitDescription:
    """A split: its files, how their columns are read, its number of rows, and the first pair with both texts."""

    split: str
    files: tuple[File, ...]
    columns: tuple[str, ...]
    roles: Roles
    rows: int
    first: Example | None


@dataclass(frozen=True, slots=True)
class Description:
    """What a folder contains and how it would be read.

    Attributes:
        splits: the splits, train first.
        unread: tables that belong to no split.
        notes: sentences about what is not obvious, including what is not read.
    """

    splits: tuple[SplitDescription, ...]
    unread: tuple[File, ...]
    notes: tuple[str, ...]


@register("tables")
class Tables(Dataset):
    """Your own files: CSV, TSV, JSON, Parquet or Arrow, also in gzip or zip; one file or a folder with splits."""

    path: Path = Field(description="folder with train|validation|test files or folders, or one file")
    columns: Columns = Field(_USUAL, description="column names, if they are not the usual ones")

    def splits(self) -> tuple[str, ...]:
        """The splits that files or folders are named after; `("all",)` for a single file with any other name.

        Raises:
            DataError: the path is missing or contains no table, or two files claim the same split.
        """
        return tuple(self._layout().splits)

    def examples(self, split: str) -> Iterator[Example]:
        """The rows of a split in file order; an empty or null cell is an empty string.

        Raises:
            DataError: a file is unreadable, malformed or in another encoding, or has no such columns, no rows or no
                summaries.
        """
        layout = self._layout()
        if split not in layout.splits:
            raise DataError(f"{str(self.path)!r} has no split {split!r}.{nearest(split, layout.splits)}")
        files = layout.splits[split]
        before: Roles | None = None
        rows = with_summary = 0
        for file in files:
            roles = self._roles(file)
            if before not in (None, roles):
                raise DataError(
                    f"{file}: its columns differ from those of {files[0]} in the same split: here document = "
                    f"{roles.document}, summary = {roles.summary}, id = {roles.id}. Use the same names in all files."
                )
            before = roles
            wanted = [roles.document, roles.summary, *([roles.id] if roles.id is not None else [])]
            for where, (document, summary, *key) in read_cells(file, wanted):
                rows += 1
                summary = summary_cell(summary, document, roles.summary, where, "--set columns.summary")
                document = text_cell(document, roles.document, where, "--set columns.document")
                with_summary += bool(summary.strip())
                yield Example(id_cell(key[0] if key else None, split, rows, where), document, summary)
        names = ", ".join(map(str, files[:8]))
        if not rows:
            raise DataError(f"{names}: there are column names but no rows. Give a file with documents and summaries.")
        if before and not with_summary:
            raise DataError(
                f"{names}: none of the {rows} rows has a summary in column {before.summary!r}. Summaries are needed "
                "in every split; name another column with --set columns.summary=NAME."
            )

    def fingerprint(self) -> str:
        """A digest of the columns and of the path, size and modification time of every file."""
        digest = sha256(self.columns.model_dump_json().encode())
        for split, files in self._layout().splits.items():
            for file in files:
                digest.update(f"\n{split}\t{state(file)}".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def columns_read(self) -> dict[str, str]:
        """The columns read from the first file."""
        return self._roles(next(iter(self._layout().splits.values()))[0]).as_names()

    def notes(self) -> tuple[str, ...]:
        """Sentences about what is not read, splits with other names, and columns that contain lists."""
        layout = self._layout()
        file = next(iter(layout.splits.values()))[0]
        roles = self._roles(file)
        wanted = [roles.document, roles.summary]
        _, first = next(read_cells(file, wanted), ("", []))
        return (*layout.notes, *list_notes(zip(wanted, first, strict=False)))

    def _layout(self) -> Layout:
        return find_layout(self.path)

    def _roles(self, file: File) -> Roles:
        names = column_names(file)
        return recognize(names, self.columns, str(file), remark(file, names))


def describe_tables(path: Path, columns: Columns = _USUAL) -> Description:
    """Find which file is which split, how columns are read, and the number of rows. Reads every row.

    Raises:
        DataError: see `Tables.splits` and `Tables.examples`.
    """
    tables = Tables(path=path, columns=columns)
    layout = find_layout(path)
    descriptions = []
    for split, files in layout.splits.items():
        names = column_names(files[0])
        roles = recognize(names, columns, str(files[0]), remark(files[0], names))
        rows, first = 0, None
        for example in tables.examples(split):
            rows += 1
            if first is None and example.document.strip() and example.summary.strip():
                first = example
        descriptions.append(SplitDescription(split, files, tuple(names), roles, rows, first))
    return Description(tuple(descriptions), layout.unread, tables.notes())
