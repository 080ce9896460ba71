"""Documents and summaries as token ids: cleaned, counted, sampled, truncated, and kept in an Arrow cache.

One sequence for every method: prefix, document, separator, summary, EOS. Two passes over the source, both a batch at a
time: the first hashes documents and measures summaries, then it is decided what becomes of every row, the second
tokenises what was chosen. What is chosen depends on the texts alone, never on their order, the method or its seed.
"""

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from hashlib import blake2b, sha256
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow
from transformers import PreTrainedTokenizerBase

from triptych.config.schema import Limits, Split
from triptych.contracts import Dataset, Example
from triptych.errors import ConfigError, DataError, ModelError, ResultsError
from triptych.models.tokens import RunningText, encode, native_failures
from triptych.results.records import Data, SplitCounts
from triptych.storage.disk_cache import DiskCache
from triptych.storage.files import digest
from triptych.storage.locks import FileLock

CORPUS_VERSION = 2  # a change of what is prepared, or how it is kept, makes older caches stale
SPLITS = ("train", "validation", "test")
_SAMPLE_SEED = b"triptych sample 0"
_BATCH_ROWS, _BATCH_CHARACTERS = 512, 2**21
_MANIFEST = "manifest.json"
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


@dataclass(frozen=True, slots=True)
class Template:
    """How a sequence is laid out: prefix, document, separator, summary, EOS; the same for every method.

    Attributes:
        prefix_ids: what the tokenizer puts before a text by itself: BOS for Llama types, nothing for GPT-2.
        separator_ids: the cue between document and summary.
        eos_id: ends a summary.
    """

    prefix_ids: tuple[int, ...]
    separator_ids: tuple[int, ...]
    eos_id: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, separator: str) -> "Template":
        """Read the layout off a tokenizer.

        Raises:
            ModelError: the tokenizer has no EOS token, or changes a text that it puts special tokens around.
        """
        if tokenizer.eos_token_id is None:
            raise ModelError(
                "The tokenizer has no EOS token, so a summary could never end. Set eos_token in its config."
            )
        # Around a text rather than around "": OPT's BOS has the id of its EOS, and only the place tells them apart.
        with native_failures():
            bare = tokenizer("a", add_special_tokens=False)["input_ids"]
            dressed = tokenizer("a", add_special_tokens=True)["input_ids"]
        starts = [at for at in range(len(dressed)) if dressed[at : at + len(bare)] == bare]
        if not bare or not starts:
            raise ModelError("The tokenizer changes a text that it puts special tokens around: it cannot be used here.")
        separator_ids = RunningText(tokenizer, separator).separator_ids
        return cls(tuple(dressed[: starts[0]]), separator_ids, tokenizer.eos_token_id)

    def check_vocabulary(self, vocabulary_size: int) -> None:
        """Prefix, separator and EOS have a token embedding each.

        Raises:
            ModelError: one has none.
        """
        check_ids(self.prefix_ids, vocabulary_size, "for what it puts before a text")
        check_ids(self.separator_ids, vocabulary_size, "for the separator")
        check_ids([self.eos_id], vocabulary_size, "for its EOS token")

    @property
    def length(self) -> int:
        """Tokens of a sequence beside document and summary: prefix, separator and EOS."""
        return len(self.prefix_ids) + len(self.separator_ids) + 1


def check_ids(ids: Iterable[int], vocabulary_size: int, where: str) -> None:
    """Token ids are below the number of the model's token embeddings.

    Args:
        ids: the token ids.
        vocabulary_size: V.
        where: what they are of, for the message.

    Raises:
        ModelError: one is not.
    """
    largest = max(ids, default=-1)
    if largest >= vocabulary_size:
        raise ModelError(
            f"The tokenizer makes the id {largest} {where}, but the model has {vocabulary_size} token embeddings. "
            "Model and tokenizer do not belong together: give a folder in which they do, or resize the embeddings "
            "(model.resize_token_embeddings) and save the model again."
        )


@dataclass(frozen=True, slots=True)
class Pair:
    """A tokenised document with its summary; the arrays are read-only views of the cache.

    Attributes:
        id: the example's id.
        document_ids: int32, truncated to what limits and window allow beside this summary.
        summary_ids: int32, of " " + summary as it follows the separator in running text, without EOS.
    """

    id: str
    document_ids: np.ndarray
    summary_ids: np.ndarray


_Ragged = tuple[np.ndarray, np.ndarray]  # lists of numbers: all values in a row, and where each list begins


@dataclass(frozen=True, slots=True)
class _Batch:
    """Some rows of a split, column by column, in the file's own memory."""

    ids: pyarrow.StringArray
    documents: pyarrow.StringArray
    summaries: pyarrow.StringArray
    document_ids: _Ragged
    summary_ids: _Ragged
    read_tokens: np.ndarray
    loss_tokens: np.ndarray


class TokenizedSplit(Sequence[Pair]):
    """The pairs of a split in file order, memory-mapped: only what is read comes into memory.

    Args:
        path: an Arrow IPC file that `prepare` wrote.
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
        """What is read of a document to write its summary: int32. It does not depend on the reference.

        A pair may hold fewer of these tokens: the loss needs the whole reference within the window.
        """
        batch, row = self._locate(index)
        return _list_at(batch.document_ids, row)[: batch.read_tokens[row]]

    def document(self, index: int) -> str:
        """The whole document as text, not truncated."""
        batch, row = self._locate(index)
        return batch.documents[row].as_py()

    def reference(self, index: int) -> str:
        """The whole summary as text."""
        batch, row = self._locate(index)
        return batch.summaries[row].as_py()

    @property
    def ids(self) -> list[str]:
        """The ids of all pairs, in order."""
        return self._table.column("id").to_pylist()

    def document_token_counts(self, vocabulary_size: int) -> np.ndarray:
        """How often each token id stands in the documents: int64 [V]; the ids are below V."""
        counts = np.zeros(vocabulary_size, dtype=np.int64)
        for batch in self._batches:
            values, offsets = batch.document_ids
            counts += np.bincount(values[offsets[0] : offsets[-1]], minlength=vocabulary_size)
        return counts

    def largest_id(self) -> int:
        """The largest token id of any document or summary; -1 where there is none."""
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


@dataclass(frozen=True)
class Corpus:
    """The data of a suite, the same for every method and seed."""

    train: TokenizedSplit
    validation: TokenizedSplit
    test: TokenizedSplit
    template: Template
    data: Data
    hold: FileLock | None = field(default=None, repr=False, compare=False)  # keeps the cache from removing it

    def token_frequencies(self, vocabulary_size: int) -> np.ndarray:
        """How often each token id stands in the training documents: int64 [V]."""
        return self.train.document_token_counts(vocabulary_size)

    def check_vocabulary(self, vocabulary_size: int) -> None:
        """Every id of every split, of documents and summaries, has a token embedding.

        Raises:
            ModelError: one has none.
        """
        for name in SPLITS:
            check_ids([getattr(self, name).largest_id()], vocabulary_size, f"in the {name} split")


def prepare(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    source: str,
    limits: Limits,
    split: Split,
    separator: str,
    window: int | None,
    reserved: int,
    new_tokens: int,
    vocabulary_size: int,
    cache: Path,
    max_cache_bytes: int,
) -> Corpus:
    """Clean, cut, sample and tokenise a data set, or take all that from the cache.

    Args:
        dataset: where the examples come from.
        tokenizer: the model's.
        source: the data set's name in the record.
        limits: how many documents and tokens are used.
        split: how data without splits is cut.
        separator: stands between document and summary.
        window: positions the model has; None: no fixed limit.
        reserved: positions that virtual tokens take, at most, over all methods.
        new_tokens: tokens that a summary may have when it is generated.
        vocabulary_size: token embeddings of the model.
        cache: folder of prepared data; made where it is missing.
        max_cache_bytes: the oldest entries beyond this size are removed, never the one in use.

    Raises:
        ConfigError: the window has no room for a sequence.
        DataError: the data cannot be read, or a split has no pair left; the counts say why.
        ModelError: the tokenizer cannot be used, or makes ids for which the model has no embedding.
    """
    template = Template.of(tokenizer, separator)
    template.check_vocabulary(vocabulary_size)
    text = RunningText(tokenizer, separator)
    job = _Job(dataset, tokenizer, template, text, source, limits, split, window, reserved, new_tokens)
    job.check_window()
    state = dataset.fingerprint()
    cache = cache.expanduser()
    try:
        opened, hold = DiskCache(cache, max_cache_bytes, _MANIFEST).entry(
            job.key(state), lambda folder: _build(folder, job, state), lambda folder: _open(folder, template)
        )
    except OSError as error:
        raise DataError(
            f"Prepared data cannot be kept in {str(cache)!r}: {error}. Make room or allow writing."
        ) from error
    opened.data.notes = list(dataset.notes())  # of the folder as it is now: what is not read is no part of the entry
    opened.check_vocabulary(vocabulary_size)
    return replace(opened, hold=hold)


@dataclass(frozen=True, slots=True)
class _Job:
    """What `prepare` was asked for."""

    dataset: Dataset
    tokenizer: PreTrainedTokenizerBase
    template: Template
    text: RunningText
    source: str
    limits: Limits
    split: Split
    window: int | None
    reserved: int
    new_tokens: int

    def room(self, summary_tokens: int) -> int | None:
        """Tokens left to a document beside a summary of that length; None: no window."""
        if self.window is None:
            return None
        return self.window - self.reserved - self.template.length - summary_tokens

    @property
    def read_tokens(self) -> int:
        """Tokens of a document that are read to write its summary, whatever its reference is."""
        room = self.room(self.new_tokens)
        return self.limits.document_tokens if room is None else min(self.limits.document_tokens, room)

    def check_window(self) -> None:
        summary = max(self.limits.summary_tokens, self.new_tokens)
        needed = self.template.length + self.reserved + summary + 1
        if self.window is not None and self.window < needed:
            prefix, separator = len(self.template.prefix_ids), len(self.template.separator_ids)
            raise ConfigError(
                f"The model has {self.window} positions, but prefix {prefix} + virtual tokens {self.reserved} + "
                f"document 1 + separator {separator} + summary {summary} + EOS 1 = {needed} are needed at least. "
                "Lower limits.summary_tokens, decoding.max_new_tokens or the number of virtual tokens, or take a "
                "model with a longer window."
            )

    def key(self, state: str) -> str:
        """A name for all that the prepared data depends on; `state`: the data set's fingerprint."""
        parts = [CORPUS_VERSION, state, self.source, self.limits.model_dump(), self.split.model_dump(), self.window]
        template = [self.template.prefix_ids, self.template.separator_ids, self.template.eos_id]
        parts += [self.reserved, self.read_tokens, template, self.text.summary_lead, _tokenizer_state(self.tokenizer)]
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


# First pass: what is there


@dataclass(frozen=True, slots=True)
class _Survey:
    """What is known of every row of a source split, in file order: four arrays [rows]."""

    documents: np.ndarray  # uint64, hash of the document's words
    ranks: np.ndarray  # uint64, keyed hash of document and summary: the sample takes the lowest
    empty: np.ndarray  # bool
    summary_tokens: np.ndarray  # int32

    def __len__(self) -> int:
        return len(self.documents)


def _survey(examples: Iterable[Example], text: RunningText) -> _Survey:
    # 64 bits: among ten million documents two different ones share a hash with probability 3e-6.
    documents, ranks, empty, lengths = array("Q"), array("Q"), array("B"), array("i")
    for batch in _batches(examples):
        for example in batch:
            document, summary = example.document.strip(), example.summary.strip()
            documents.append(_hash64(" ".join(document.casefold().split())))
            ranks.append(_hash64(f"{document}\0{summary}", _SAMPLE_SEED))
            empty.append(not (document and summary))
        lengths.extend(len(ids) for ids in text.summary_ids([example.summary for example in batch]))
    return _Survey(
        np.array(documents, np.uint64), np.array(ranks, np.uint64), np.array(empty, bool), np.array(lengths, np.int32)
    )


def _batches(examples: Iterable[Example]) -> Iterator[list[Example]]:
    batch: list[Example] = []
    characters = 0
    for example in examples:
        batch.append(example)
        characters += len(example.document) + len(example.summary)
        if len(batch) == _BATCH_ROWS or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _hash64(text: str, key: bytes = b"") -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8, key=key).digest(), "little")


def encode_documents(documents: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Documents as the corpus tokenises them, not truncated; a special token spelled out in a text is only text."""
    return encode([document.strip() for document in documents], tokenizer)


# In between: what becomes of every row


@dataclass(frozen=True, slots=True)
class _Plan:
    """For each source split and row: the split (index into `SPLITS`) that it is used in, or -1; and the counts."""

    target: dict[str, np.ndarray]
    counts: dict[str, SplitCounts]
    cut: str | None


def _plan(surveys: Mapping[str, _Survey], limits: Limits, split: Split, room: int | None) -> _Plan:
    """Decide about every row. `room`: tokens that document and summary share in the window; None: no window."""
    membership, cut = _cut(surveys, split)
    documents = [_gather(surveys, membership, s, "documents") for s in range(3)]
    empty = [_gather(surveys, membership, s, "empty") for s in range(3)]
    filled = [documents[s][~empty[s]] for s in range(3)]
    elsewhere = [np.concatenate([filled[1], filled[2]]), filled[2], filled[2][:0]]  # where a duplicate counts
    longest = [limits.summary_tokens, None, None]
    requested = [limits.train_documents, limits.validation_documents, limits.test_documents]
    target = {name: np.full(len(survey), -1, np.int8) for name, survey in surveys.items()}
    counts = {}
    for s, name in enumerate(SPLITS):
        lengths = _gather(surveys, membership, s, "summary_tokens")
        duplicate = ~empty[s] & np.isin(documents[s], elsewhere[s])
        too_long = np.zeros(len(lengths), bool)
        if longest[s] is not None:
            too_long |= lengths > longest[s]
        if room is not None:
            too_long |= lengths >= room
        too_long &= ~empty[s] & ~duplicate
        eligible = np.flatnonzero(~empty[s] & ~duplicate & ~too_long)
        ranks = _gather(surveys, membership, s, "ranks")[eligible]
        size = min(requested[s] or len(eligible), len(eligible))
        chosen = eligible[np.argsort(ranks, kind="stable")[:size]]
        counts[name] = SplitCounts(
            read=len(lengths),
            dropped_empty=int(empty[s].sum()),
            dropped_duplicate=int(duplicate.sum()),
            dropped_long_summary=int(too_long.sum()),
            not_sampled=len(eligible) - size,
            used=size,
            requested=requested[s],
        )
        _mark(target, membership, s, chosen)
    return _Plan(target, counts, cut)


def _cut(surveys: Mapping[str, _Survey], split: Split) -> tuple[dict[str, np.ndarray], str | None]:
    """The split that each row belongs to, by source split, and a sentence on what was cut, if anything was.

    Splits that the source lacks are cut from its training split (or from all there is), document by document, so that
    all copies of a document fall into one split. Rows without text stay in training, where they are counted.
    """
    pool = "train" if "train" in surveys else "all"
    missing = [s for s in (1, 2) if SPLITS[s] not in surveys]
    membership = {
        name: np.full(len(survey), SPLITS.index(name) if name in SPLITS else 0, np.int8)
        for name, survey in surveys.items()
    }
    if not missing:
        return membership, None
    shares = [split.fractions[s] for s in (0, *missing)]
    survey = surveys[pool]
    unique, of_row = np.unique(survey.documents[~survey.empty], return_inverse=True)
    key = f"triptych split {split.seed}".encode()
    order = np.argsort([_hash64(str(value), key) for value in unique.tolist()], kind="stable")
    assigned = np.zeros(len(unique), np.int8)
    start = 0
    for s, share in zip(missing, shares[1:], strict=True):
        size = max(1, round(len(unique) * share / sum(shares)))
        assigned[order[start : start + size]] = s
        start += size
    membership[pool][~survey.empty] = assigned[of_row]
    parts = " / ".join(f"{SPLITS[s]} {share / sum(shares):.4g}" for s, share in zip((0, *missing), shares, strict=True))
    named = " and no ".join(SPLITS[s] for s in missing)
    return membership, (
        f"The source has no {named} split: {'its training split' if pool == 'train' else 'all of it'} was cut by "
        f"document into {parts} (split.seed {split.seed})."
    )


def _gather(surveys: Mapping[str, _Survey], membership: Mapping[str, np.ndarray], s: int, field: str) -> np.ndarray:
    """One array of the survey for the rows of split `s`, over the source splits in order."""
    return np.concatenate([getattr(survey, field)[membership[name] == s] for name, survey in surveys.items()])


def _mark(target: dict[str, np.ndarray], membership: Mapping[str, np.ndarray], s: int, chosen: np.ndarray) -> None:
    """Give the rows `chosen`, numbered as `_gather` does, to split `s`."""
    start = 0
    for name, members in membership.items():
        rows = np.flatnonzero(members == s)
        here = chosen[(chosen >= start) & (chosen < start + len(rows))] - start
        target[name][rows[here]] = s
        start += len(rows)


# Second pass: what was chosen, into Arrow files


def _build(folder: Path, job: _Job, state: str) -> None:
    """Prepare a data set into an empty folder, the manifest last."""
    names = _source_splits(job)
    surveys = {name: _survey(job.dataset.examples(name), job.text) for name in names}
    plan = _plan(surveys, job.limits, job.split, job.room(0))
    _check_filled(plan, job)
    with ExitStack() as stack:
        writers = [stack.enter_context(closing(_Writer(folder / f"{name}.arrow"))) for name in SPLITS]
        for name in names:
            for batch, targets in _chosen(job, name, plan.target[name]):
                _write(batch, targets, writers, job)
    for name, writer in zip(SPLITS, writers, strict=True):
        plan.counts[name].truncated, plan.counts[name].shortened_for_loss = writer.truncated, writer.shortened
    content, tokens = (
        sha256("\n".join(one.hexdigest() for one in hashes).encode()).hexdigest()
        for hashes in ([writer.content for writer in writers], [writer.tokens for writer in writers])
    )
    data = Data(
        source=job.source,
        synthetic=job.dataset.synthetic,
        fingerprint=content,
        token_fingerprint=tokens,
        splits=plan.counts,
        cut=plan.cut,
    )
    written = {name: digest(folder / f"{name}.arrow") for name in SPLITS}
    if job.dataset.fingerprint() != state:
        raise _changed(job)
    (folder / _MANIFEST).write_text(json.dumps({"files": written, "data": data.model_dump()}, indent=2))


def _source_splits(job: _Job) -> list[str]:
    """The splits to read, train first."""
    there = job.dataset.splits()
    if "train" not in there and "all" not in there:
        raise DataError(
            " ".join(
                [
                    f"{job.source} has no training split, only {', '.join(there)}. Add one, or give a single file to "
                    "be cut.",
                    *job.dataset.notes(),
                ]
            )
        )
    return [name for name in SPLITS if name in there] if "train" in there else ["all"]


def _check_filled(plan: _Plan, job: _Job) -> None:
    for name, counts in plan.counts.items():
        if not counts.used:
            raise DataError(
                f"{job.source}: no pair is left in the {name} split: {counts.read} read, {counts.dropped_empty} empty, "
                f"{counts.dropped_duplicate} duplicates of another split, {counts.dropped_long_summary} with a summary "
                f"that is too long (limits.summary_tokens is {job.limits.summary_tokens}). Add data, or change [limits]"
                + (" or [split]." if plan.cut else ".")
            )


def _chosen(job: _Job, split: str, target: np.ndarray) -> Iterator[tuple[list[Example], list[int]]]:
    """The chosen examples of a source split in batches, each with the index of the split that it is used in."""
    rows = 0

    def picked() -> Iterator[Example]:
        nonlocal rows
        for example in job.dataset.examples(split):
            if rows < len(target) and target[rows] >= 0:
                yield example
            rows += 1

    targets = iter(target[target >= 0].tolist())
    for batch in _batches(picked()):
        yield batch, [next(targets) for _ in batch]
    if rows != len(target):
        raise _changed(job)


def _changed(job: _Job) -> DataError:
    return DataError(f"{job.source} changed while it was read. Start again when it is complete.")


_Row = tuple[str, str, str, list[int], list[int], int, int]  # in the order of `_SCHEMA`


class _Writer:
    """One split's Arrow file in the making, with hashes of its texts and of their tokens.

    Attributes:
        truncated: documents that are read in part alone.
        shortened: documents of which the loss reads less than that, to have the whole reference in the window.
    """

    def __init__(self, path: Path):
        self._file = pyarrow.ipc.new_file(str(path), _SCHEMA)
        self.content, self.tokens = sha256(), sha256()
        self.truncated = self.shortened = 0

    def write(self, rows: list[_Row]) -> None:
        for row in rows:
            self.content.update("".join(f"{len(text)}:{text}" for text in row[:3]).encode())
            self.tokens.update(json.dumps(row[3:]).encode())
        columns = [
            pyarrow.array(column, field.type) for column, field in zip(zip(*rows, strict=True), _SCHEMA, strict=True)
        ]
        self._file.write_batch(pyarrow.record_batch(columns, schema=_SCHEMA))

    def close(self) -> None:
        self._file.close()


def _write(batch: list[Example], targets: list[int], writers: list[_Writer], job: _Job) -> None:
    documents = encode_documents((example.document for example in batch), job.tokenizer)
    summaries = job.text.summary_ids([example.summary for example in batch])
    rows: list[list[_Row]] = [[] for _ in SPLITS]
    for example, s, document, summary in zip(batch, targets, documents, summaries, strict=True):
        room = job.room(len(summary))
        most = job.limits.document_tokens if room is None else min(job.limits.document_tokens, room)
        read, in_loss = min(len(document), job.read_tokens), min(len(document), most)
        writers[s].truncated += len(document) > read
        writers[s].shortened += in_loss < read
        texts = (example.id, example.document.strip(), example.summary.strip())
        rows[s].append((*texts, document[: max(read, in_loss)], summary, read, in_loss))
    for writer, own in zip(writers, rows, strict=True):
        if own:
            writer.write(own)


# The cache


def _tokenizer_state(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of everything that token ids depend on.

    Padding and truncation would be part of it, but `Template.of` has just used the tokenizer, which leaves both off.
    """
    if tokenizer.is_fast:
        state = tokenizer.backend_tokenizer.to_str()
    else:
        state = json.dumps(
            [type(tokenizer).__name__, tokenizer.get_vocab(), str(tokenizer.init_kwargs)], sort_keys=True
        )
    return sha256(state.encode()).hexdigest()


_DAMAGED = (  # what reading files with unexpected content raises
    ResultsError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
    pyarrow.ArrowException,
)


def _open(entry: Path, template: Template) -> Corpus | None:
    """The corpus kept in an entry's folder; None where it is damaged."""
    try:
        manifest = json.loads((entry / _MANIFEST).read_text())
        for name, expected in manifest["files"].items():
            if digest(entry / f"{name}.arrow") != expected:
                raise ValueError(f"{name} is damaged")
        splits = {name: TokenizedSplit(entry / f"{name}.arrow") for name in SPLITS}
        data = Data.model_validate(manifest["data"])
    except (
        ResultsError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        pyarrow.ArrowException,
    ):
        return None
    return Corpus(splits["train"], splits["validation"], splits["test"], template, data)
