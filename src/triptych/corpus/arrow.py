"""The tokenized pairs of a split in an Arrow file, written in batches and read through a memory map."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow

from triptych.corpus.sequence import Pair

_SCHEMA = pyarrow.schema(
    [
        ("id", pyarrow.string()),
        ("document", pyarrow.string()),
        ("summary", pyarrow.string()),
        ("document_ids", pyarrow.list_(pyarrow.int32())),
        ("summary_ids", pyarrow.list_(pyarrow.int32())),
        ("read_tokens", pyarrow.int32()),
        ("loss_tokens", pyarrow.int32()),
    ]
)

_Ragged = tuple[np.ndarray, np.ndarray]  # lists of numbers: all values concatenated, and the offset of each list


@dataclass(frozen=True, slots=True)
class _Batch:
    """Some rows of a split as columns that point into the mapped file."""

    ids: pyarrow.StringArray
    documents: pyarrow.StringArray
    summaries: pyarrow.StringArray
    document_ids: _Ragged
    summary_ids: _Ragged
    read_tokens: np.ndarray
    loss_tokens: np.ndarray


class TokenizedSplit(Sequence[Pair]):
    """The pairs of a split in file order, memory-mapped, so only what is accessed is loaded.

    Args:
        path: an Arrow IPC file written by `SplitWriter`.

    Raises:
        ValueError: the file has a different schema.
    """

    def __init__(self, path: Path):
        with pyarrow.memory_map(str(path)) as source:
            self._table = pyarrow.ipc.open_file(source).read_all()
        if self._table.schema != _SCHEMA:
            raise ValueError(f"{path} has another schema")
        batches = self._table.to_batches()
        self._starts = np.cumsum([0] + [batch.num_rows for batch in batches])
        self._batches = [
            _Batch(
                *batch.columns[:3],
                *map(_ragged, batch.columns[3:5]),
                *(column.to_numpy() for column in batch.columns[5:]),
            )
            for batch in batches
        ]

    def __len__(self) -> int:
        return self._table.num_rows

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        batch, row = self._locate(index)
        read = _list_at(batch.document_ids, row)[: batch.loss_tokens[row]]
        return Pair(batch.ids[row].as_py(), read, _list_at(batch.summary_ids, row))

    def document_ids(self, index: int) -> np.ndarray:
        """The document tokens from which a summary is generated: int32, independent of the reference.

        The pair may have fewer document tokens, because the loss needs the whole reference in the window.
        """
        batch, row = self._locate(index)
        return _list_at(batch.document_ids, row)[: batch.read_tokens[row]]

    def document(self, index: int) -> str:
        """The text of the whole document, not truncated."""
        batch, row = self._locate(index)
        return batch.documents[row].as_py()

    def reference(self, index: int) -> str:
        """The text of the whole reference summary."""
        batch, row = self._locate(index)
        return batch.summaries[row].as_py()

    @property
    def ids(self) -> list[str]:
        """The ids of all pairs, in order."""
        return self._table.column("id").to_pylist()

    def document_token_counts(self, vocabulary_size: int) -> np.ndarray:
        """How often each token id occurs in the documents: int64 [V]. All ids must be below V."""
        counts = np.zeros(vocabulary_size, dtype=np.int64)
        for batch in self._batches:
            values, offsets = batch.document_ids
            counts += np.bincount(values[offsets[0] : offsets[-1]], minlength=vocabulary_size)
        return counts

    def largest_id(self) -> int:
        """The largest token id of any document or summary; -1 if there are no tokens."""
        columns = [column for batch in self._batches for column in (batch.document_ids, batch.summary_ids)]
        return max((int(values.max()) for values, _ in columns if len(values)), default=-1)

    def _locate(self, index: int) -> "tuple[_Batch, int]":
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        batch = int(np.searchsorted(self._starts, position, side="right")) - 1
        return self._batches[batch], position - int(self._starts[batch])


def _ragged(column: pyarrow.ListArray) -> _Ragged:
    return column.values.to_numpy(zero_copy_only=True), column.offsets.to_numpy(zero_copy_only=True)


def _list_at(ragged: _Ragged, row: int) -> np.ndarray:
    values, offsets = ragged
    return values[offsets[row] : offsets[row + 1]]


PairRow = tuple[str, str, str, list[int], list[int], int, int]  # in column order


class SplitWriter:
    """Write the Arrow file of a split and hash its texts and tokens.

    Args:
        path: the file to write.

    Attributes:
        content: hash of the ids, documents and summaries.
        tokens: hash of the token ids and lengths.
        truncated: number of documents that are only partly read.
        shortened: number of documents cut further for the loss, to fit the whole reference into the window.
    """

    def __init__(self, path: Path):
        self._file = pyarrow.ipc.new_file(str(path), _SCHEMA)
        self.content, self.tokens = sha256(), sha256()
        self.truncated = self.shortened = 0

    def write(self, rows: list[PairRow]) -> None:
        """Append some pairs as one batch."""
        for row in rows:
            self.content.update("".join(f"{len(text)}:{text}" for text in row[:3]).encode())
            self.tokens.update(json.dumps(row[3:]).encode())
        columns = [
            pyarrow.array(column, field.type) for column, field in zip(zip(*rows, strict=True), _SCHEMA, strict=True)
        ]
        self._file.write_batch(pyarrow.record_batch(columns, schema=_SCHEMA))

    def close(self) -> None:
        """Finish the file."""
        self._file.close()
