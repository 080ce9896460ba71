"""Documents with summaries from CSV, TSV, JSON lines and Parquet: a folder or one file, read row by row.

Memory stays bounded whatever the size of a file. Nothing in a file is ever executed, and an id is data only.
"""

import csv
import difflib
import gzip
import json
import re
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from pydantic import Field

from triptych import store
from triptych.config import Columns
from triptych.contracts import Dataset, Example
from triptych.errors import DataError, nearest
from triptych.registry import register

DOCUMENT_NAMES = ("document", "article", "text", "dialogue", "source", "content", "body", "story", "description")
SUMMARY_NAMES = ("summary", "highlights", "abstract", "target", "tldr")
ID_NAMES = ("id", "guid", "uid", "document_id", "article_id", "dialogue_id")
SPLIT_NAMES = {"train": "train", "training": "train",
               "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
               "test": "test"}  # fmt: skip
ALL = "all"  # the name of the one split of data to be cut
MAX_LINE = 16 * 2**20  # bytes; a longer line is no table, and reading it would not be bounded
MAX_COLUMNS = 10_000  # more are no table either, and comparing their names would take hours
_USUAL = Columns()
_SHARD = re.compile(r"(?P<stem>.+)-(?P<index>\d{5})-of-(?P<total>\d{5})")


@dataclass(frozen=True, slots=True)
class Roles:
    """Which column is read as what; no `id`: ids are made from split and row number."""

    id: str | None
    document: str
    summary: str


@dataclass(frozen=True, slots=True)
class SplitDescription:
    """One split of a folder: its files, how their columns are read, and its number of rows."""

    split: str
    files: tuple[Path, ...]
    columns: tuple[str, ...]
    roles: Roles
    rows: int


@dataclass(frozen=True, slots=True)
class Description:
    """What a folder holds and how it would be read; `unread` are tables in it that belong to no split."""

    splits: tuple[SplitDescription, ...]
    unread: tuple[Path, ...]


@register("tables")
class Tables(Dataset):
    """A folder or file of your own: CSV, TSV, JSON lines or Parquet, gzip and Parquet shards too."""

    path: Path = Field(description="folder with train|validation|test files, or one file")
    columns: Columns = Field(_USUAL, description="column names, where they are not the usual ones")

    def splits(self) -> tuple[str, ...]:
        """The splits that the files are named after; `("all",)` for one file of any other name.

        Raises:
            DataError: the path is missing, holds no table, or two files claim one split.
        """
        return tuple(_find_splits(self.path)[0])

    def examples(self, split: str) -> Iterator[Example]:
        """The rows of a split in file order; an empty or null cell is an empty string.

        Raises:
            DataError: a file is unreadable, malformed, not UTF-8, has no such columns, no rows or no summaries.
        """
        files = _files_of(self.path, split)
        rows = with_summary = 0
        for file in files:
            roles = recognise(column_names(file), self.columns, str(file))
            wanted = [roles.document, roles.summary, *([roles.id] if roles.id else [])]
            for where, (document, summary, *key) in _rows(file, wanted):
                rows += 1
                document = text_cell(document, roles.document, where, "--set columns.document")
                summary = text_cell(summary, roles.summary, where, "--set columns.summary")
                with_summary += bool(summary.strip())
                yield Example(id_cell(key[0] if key else None, split, rows, where), document, summary)
        names = ", ".join(str(file) for file in files)
        if not rows:
            raise DataError(f"{names}: there are column names but no rows. Give a file with documents and summaries.")
        if not with_summary:
            raise DataError(
                f"{names}: none of the {rows} rows has a summary in column {roles.summary!r}. Summaries are needed "
                "in every split; name another column with --set columns.summary=NAME."
            )

    def fingerprint(self) -> str:
        """Over the columns and every file's path, size and time of change."""
        digest = sha256(self.columns.model_dump_json().encode())
        for split, files in _find_splits(self.path)[0].items():
            for file in files:
                status = file.stat()
                digest.update(f"\n{split}\t{file.resolve()}\t{status.st_size}\t{status.st_mtime_ns}".encode())
        return digest.hexdigest()


def describe(path: Path, columns: Columns = _USUAL) -> Description:
    """Which file is which split, which column is read as what, and how many rows there are. Reads every row.

    Raises:
        DataError: as `Tables.splits` and `Tables.examples` do.
    """
    tables = Tables(path=path, columns=columns)
    splits, unread = _find_splits(path)
    descriptions = []
    for split, files in splits.items():
        names = column_names(files[0])
        roles = recognise(names, columns, str(files[0]))
        rows = sum(1 for _ in tables.examples(split))
        descriptions.append(SplitDescription(split, files, tuple(names), roles, rows))
    return Description(tuple(descriptions), unread)


def recognise(names: Sequence[str], columns: Columns, where: str) -> Roles:
    """Tell the document's and the summary's column by the names given, else by their usual names.

    Args:
        names: the columns that there are.
        columns: names given by the user, each taken as it is.
        where: the file or data set, for messages.

    Raises:
        DataError: a column is absent, ambiguous or there twice; the message lists the columns.
    """
    if len(names) > MAX_COLUMNS:
        raise DataError(f"{where}: {len(names):,} columns are more than the {MAX_COLUMNS:,} that are read. Drop some.")
    document = _pick("document", columns.document, DOCUMENT_NAMES, names, where, taken=columns.summary)
    summary = _pick("summary", columns.summary, SUMMARY_NAMES, names, where, taken=document)
    if document == summary:
        raise DataError(f"{where}: column {document!r} cannot be both document and summary.")
    key: str | None
    if columns.id is not None:
        key = _pick("id", columns.id, ID_NAMES, names, where, taken=None)
    else:
        known = {_plain(name): name for name in reversed(names) if name not in (document, summary)}
        key = next((known[usual] for usual in ID_NAMES if usual in known), None)
    check_single(names, [name for name in (document, summary, key) if name], where)
    return Roles(key, document, summary)


def check_single(names: Sequence[str], wanted: Sequence[str], where: str) -> None:
    """A column that is read is there once.

    Raises:
        DataError: there are several of its name.
    """
    for name in wanted:
        if list(names).count(name) > 1:
            raise DataError(f"{where}: there are several columns named {_shorten(name)!r}. Rename all but one.")


def text_cell(value: Any, column: str, where: str, option: str) -> str:
    """A cell as text; null is empty.

    Args:
        option: how another column is named, for the message.

    Raises:
        DataError: the cell holds something else than text.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(
            f"{where}: column {column!r} holds {_shorten(repr(value))} ({type(value).__name__}), but text is needed. "
            f"Convert it to a string, or name another column with {option}=NAME."
        )
    return value


def id_cell(value: Any, split: str, row: int, where: str) -> str:
    """A cell as an id; where there is none, one is made from the split and the row number, counted from 1.

    Raises:
        DataError: the cell is neither text nor a whole number.
    """
    if value is None or value == "":
        return f"{split}-{row}"
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{where}: the id is {_shorten(repr(value))}; text or a whole number is needed.")
    return str(value)


def column_names(file: Path) -> list[str]:
    """The columns of a table: a CSV's first row, the keys of the first JSON line, a Parquet schema.

    Raises:
        DataError: the file is empty, unreadable or malformed.
    """
    return _READERS[_ending(file)].names(file)


def is_table(file: Path) -> bool:
    """Whether a file's name says that it is a table."""
    return bool(_ending(file))


def cells(file: Path, wanted: list[str]) -> Iterator[tuple[str, list[Any]]]:
    """`(where, cells of the columns wanted)`, row by row.

    Raises:
        DataError: the file is unreadable or malformed.
    """
    return _rows(file, wanted)


def text_lines(file: Path) -> Iterator[str]:
    """The lines of a plain text file, each with its end, gzip undone.

    Raises:
        DataError: the file is empty, unreadable, not UTF-8, or has a line above `MAX_LINE` bytes.
    """
    return _lines(file)


# What is in a folder


def _find_splits(path: Path) -> tuple[dict[str, tuple[Path, ...]], tuple[Path, ...]]:
    """The files of each split, train first, and the tables that belong to none."""
    path = store.locate(str(path))
    if path.is_file():
        if not _ending(path):
            raise DataError(f"{path} is not a table that can be read. {_ACCEPTED}")
        return {ALL: (path,)}, ()
    if not path.is_dir():
        raise DataError(f"There is no folder or file {str(path)!r}. Give --data a folder with {_LAYOUT}.")
    try:
        tables = sorted(file for file in path.iterdir() if _is_table(file))
    except OSError as error:
        raise DataError(f"The folder {str(path)!r} cannot be read: {error.strerror}.") from None
    if not tables:
        below = sorted({str(file.parent) for file in path.glob("*/*") if _is_table(file)})
        hint = f" There are tables in {', '.join(below[:5])}: give one of these." if below else ""
        raise DataError(f"The folder {str(path)!r} holds no table.{hint} {_ACCEPTED}")
    groups: dict[str, list[Path]] = {}
    for file in tables:
        groups.setdefault(_split_named(file), []).append(file)
    named = {split: tuple(groups[split]) for split in dict.fromkeys(SPLIT_NAMES.values()) if split in groups}
    unread = tuple(groups.get(ALL, ()))
    if not named:
        named, unread = {ALL: unread}, ()
    for split, files in named.items():
        _check_one_table(path, split, files)
    return named, unread


def _files_of(path: Path, split: str) -> tuple[Path, ...]:
    splits, _ = _find_splits(path)
    if split not in splits:
        raise DataError(f"{str(path)!r} has no split {split!r}.{nearest(split, splits)}")
    return splits[split]


def _is_table(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".") and bool(_ending(file))


def _ending(file: Path) -> str:
    """The ending that says how a file is read, without `.gz`; empty where it says nothing."""
    name = file.name.lower()
    bare = name.removesuffix(".gz")
    ending = Path(bare).suffix
    packed_twice = ending == ".parquet" and bare != name  # Parquet compresses by itself
    return ending if ending in _READERS and not packed_twice else ""


def _stem(file: Path) -> str:
    """`samsum-train` of `samsum-train-00000-of-00004.csv.gz`."""
    shard = _shard(file)
    return shard["stem"] if shard else _bare_name(file)


def _shard(file: Path) -> re.Match[str] | None:
    return _SHARD.fullmatch(_bare_name(file))


def _bare_name(file: Path) -> str:
    return file.name.lower().removesuffix(".gz").removesuffix(_ending(file))


def _split_named(file: Path) -> str:
    """The split that the last word of a file's name says, or `all`."""
    return SPLIT_NAMES.get(re.split(r"[-_. ]", _stem(file))[-1], ALL)


def _check_one_table(folder: Path, split: str, files: tuple[Path, ...]) -> None:
    """One file, or the complete shards of one table."""
    shards = [_shard(file) for file in files]
    listed = ", ".join(file.name for file in files[:8])
    if len(files) > 1 and (None in shards or len({(_stem(file), _ending(file)) for file in files}) > 1):
        claim = "is which split cannot be told" if split == ALL else f"is the split {split!r} cannot be told"
        raise DataError(f"{folder}: which file {claim} among {listed}. Name them {_LAYOUT}, one each, or give one file.")
    if shards[0]:
        present = sorted(int(shard["index"]) for shard in shards if shard)
        totals = {int(shard["total"]) for shard in shards if shard}
        if totals != {len(files)} or present != list(range(len(files))):
            raise DataError(
                f"{folder}: the shards of {split!r} are not complete: there are {len(files)} of {max(totals)} "
                f"({listed}). Fetch the missing ones."
            )


_LAYOUT = "train, validation and test .csv, .tsv, .jsonl or .parquet"
_ACCEPTED = "Read are .csv, .tsv, .jsonl, .json (an object a line), each also with .gz, and .parquet."


# Columns


def _pick(role: str, given: str | None, known: Sequence[str], names: Sequence[str], where: str, taken: str | None) -> str:
    listed = f"Its columns: {', '.join(_shorten(name) for name in names[:20])}."
    if given is not None:
        if given not in names:
            close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise DataError(f"{where}: there is no column {given!r} (columns.{role}).{hint} {listed}")
        return given
    candidates = [name for name in names if _plain(name) in known and name != taken]
    if len(set(candidates)) > 1:
        raise DataError(
            f"{where}: the {role} could be any of {', '.join(map(repr, candidates))}. "
            f"Say which: --set columns.{role}={candidates[0]}. {listed}"
        )
    if not candidates:
        free = [name for name in names if name != taken]
        likest = max(free, key=lambda name: _likeness(name, known), default="")
        suggestion = likest if _likeness(likest, known) >= 0.6 else "NAME"
        apart = " Columns must stand apart by commas." if len(names) == 1 and ";" in names[0] else ""
        raise DataError(
            f"{where}: no column is known to hold the {role}. {listed} Name it: --set columns.{role}={suggestion}. "
            f"(A CSV file must begin with a header such as id,document,summary.{apart})"
        )
    return candidates[0]


def _likeness(name: str, known: Sequence[str]) -> float:
    return max(difflib.SequenceMatcher(None, _plain(name)[:40], usual).ratio() for usual in known)


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().casefold())


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 40 else text[:37] + "..."


# Rows: each reader gives (where, cells in the order wanted)

Row = tuple[str, list[Any]]


def _rows(file: Path, wanted: list[str]) -> Iterator[Row]:
    return _READERS[_ending(file)].rows(file, wanted)


def _lines(file: Path) -> Generator[str, None, None]:
    """The lines of a UTF-8 text file, a byte order mark taken off, gzip undone."""
    offset = 0
    number = 0
    try:
        with gzip.open(file, "rb") if file.name.lower().endswith(".gz") else open(file, "rb") as handle:
            for number in count(1):
                raw = handle.readline(MAX_LINE + 1)
                if not raw:
                    break
                yield _decode(raw, offset, f"{file}, line {number}")
                offset += len(raw)
    except (OSError, EOFError, zlib.error) as error:
        where = f"{file}, line {number}" if number else str(file)
        raise DataError(f"{where}: cannot be read: {error}. Check that it is whole, fetch it again, or unpack it.") from None
    if offset == 0:
        raise DataError(f"{file} is empty. Give a file with documents and summaries.")


def _decode(raw: bytes, offset: int, where: str) -> str:
    if len(raw) > MAX_LINE:
        raise DataError(f"{where}: the line is longer than {MAX_LINE // 2**20} MiB. This does not look like a table.")
    try:
        text = raw.decode("utf-8-sig" if offset == 0 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: not UTF-8: byte 0x{raw[error.start]:02x} at byte offset {offset + error.start}. "
            "Save the file as UTF-8, for example: iconv -f latin1 -t utf-8 OLD > NEW."
        ) from None
    if "\0" in text:
        position = offset + raw.index(0)
        raise DataError(f"{where}: a NUL byte at byte offset {position}. The file is damaged, or not UTF-8: save it as UTF-8.")
    return text


def _csv_records(file: Path) -> Generator[tuple[str, list[str]], None, None]:
    """The records of a CSV or TSV file, the header first, each with the line it begins on."""
    dialect = "excel-tab" if _ending(file) == ".tsv" else "excel"
    csv.field_size_limit(MAX_LINE)  # for the whole process: Python keeps no limit for each reader
    with closing(_lines(file)) as lines:
        reader = csv.reader(lines, dialect, strict=True)
        while True:
            where = f"{file}, line {reader.line_num + 1}"
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise DataError(
                    f"{where}: malformed: {error}. A quote may be missing or not doubled, or the ends of lines are not \\n."
                ) from None
            if record:  # a blank line is no record
                yield where, record


def _csv_names(file: Path) -> list[str]:
    with closing(_csv_records(file)) as records:
        first = next(records, None)
    if first is None:
        raise DataError(f"{file} is empty. Give a file with documents and summaries.")
    return first[1]


def _csv_rows(file: Path, wanted: list[str]) -> Iterator[Row]:
    records = _csv_records(file)
    _, names = next(records)
    positions = [names.index(name) for name in wanted]
    for where, record in records:
        if len(record) != len(names):
            raise DataError(
                f"{where}: {len(record)} columns, but the header has {len(names)}. "
                "A text with a comma, tab, quote or line break in it must stand in quotes."
            )
        yield where, [record[position] for position in positions]


def _json_objects(file: Path) -> Generator[tuple[str, dict[str, Any]], None, None]:
    with closing(_lines(file)) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{file}, line {number}"
            try:
                value = json.loads(line)
                if "\\ud" in line.lower():  # half of a surrogate pair is valid JSON, but no text
                    json.dumps(value, ensure_ascii=False).encode()
            except (ValueError, RecursionError) as error:
                if line.lstrip().startswith("["):
                    raise DataError(f"{where}: {_NO_ARRAY}") from None
                raise DataError(f"{where}: malformed JSON: {error}. Each line must be one whole object.") from None
            if not isinstance(value, dict):
                raise DataError(f"{where}: {_NO_ARRAY}")
            yield where, value


_NO_ARRAY = (
    'an object a line is needed, such as {"document": ..., "summary": ...}. '
    "Turn a JSON array into lines with: jq -c '.[]' OLD.json > NEW.jsonl."
)


def _json_names(file: Path) -> list[str]:
    with closing(_json_objects(file)) as objects:
        first = next(objects, None)
    if first is None:
        raise DataError(f"{file} is empty. Give a file with documents and summaries.")
    return list(first[1])


def _json_rows(file: Path, wanted: list[str]) -> Iterator[Row]:
    for where, value in _json_objects(file):
        missing = [name for name in wanted if name not in value]
        if missing:
            raise DataError(f"{where}: there is no {missing[0]!r}, which the first line has. Write null where there is none.")
        yield where, [value[name] for name in wanted]


def _open_parquet(file: Path) -> pyarrow.parquet.ParquetFile:
    try:
        return pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=2**20)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{file}: cannot be read as Parquet: {error}. Check that it is whole, or fetch it again.") from None


def _parquet_names(file: Path) -> list[str]:
    with _open_parquet(file) as table:
        return list(table.schema_arrow.names)


def _parquet_rows(file: Path, wanted: list[str]) -> Iterator[Row]:
    row = 0
    with _open_parquet(file) as table:
        batches = table.iter_batches(batch_size=256, columns=wanted)
        while True:
            try:
                batch = next(batches, None)
                columns = [] if batch is None else [batch.column(name).to_pylist() for name in wanted]
            except (OSError, ValueError, pyarrow.ArrowException) as error:
                raise DataError(f"{file}, after row {row}: cannot be read: {error}. Fetch the file again.") from None
            if batch is None:
                return
            for cells in zip(*columns, strict=True):
                row += 1
                yield f"{file}, row {row}", list(cells)


@dataclass(frozen=True, slots=True)
class _Reader:
    names: Callable[[Path], list[str]]
    rows: Callable[[Path, list[str]], Iterator[Row]]


_CSV = _Reader(_csv_names, _csv_rows)
_JSON = _Reader(_json_names, _json_rows)
_READERS = {".csv": _CSV, ".tsv": _CSV, ".jsonl": _JSON, ".json": _JSON, ".parquet": _Reader(_parquet_names, _parquet_rows)}
