"""Clean, select and tokenise the documents of a suite, in two passes over the source, and keep them in a cache.

The first pass hashes documents and measures summaries; then every row is selected for a split or dropped; the second
tokenises what was selected. Both read a batch at a time. What is selected depends only on the texts, never on their
order, the method or its seed.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow
from transformers import PreTrainedTokenizerBase

from triptych.config.schema import Limits, Split
from triptych.contracts import SPLITS, Dataset, Example
from triptych.corpus.arrow import PairRow, SplitWriter, TokenizedSplit
from triptych.corpus.selection import SelectedRows, select
from triptych.corpus.sequence import Template, check_ids, encode_documents
from triptych.corpus.survey import in_batches, survey
from triptych.errors import ConfigError, DataError, ResultsError
from triptych.models.tokens import RunningText
from triptych.results.json_files import read_object, write_json
from triptych.results.records import Data
from triptych.storage.disk_cache import DiskCache
from triptych.storage.files import digest
from triptych.storage.locks import FileLock

CORPUS_VERSION = 2  # a change of what is prepared, or how it is kept, makes older caches stale
_MANIFEST = "manifest.json"


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
        """How often each token id occurs in the training documents: int64 [V]."""
        return self.train.document_token_counts(vocabulary_size)

    def check_vocabulary(self, vocabulary_size: int) -> None:
        """Make sure that every token id of every split has a token embedding.

        Args:
            vocabulary_size: V, token embeddings of the model.

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
        separator: the text between document and summary.
        window: positions the model has; None: no fixed limit.
        reserved: positions that virtual tokens take, at most, over all methods.
        new_tokens: tokens that a summary may have when it is generated.
        vocabulary_size: token embeddings of the model.
        cache: folder of prepared data; created if it is missing.
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
    opened.data.notes = list(dataset.notes())  # of the folder as it is now; they are not part of the entry
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
        """Tokens left for a document next to a summary of that length; None: no window."""
        if self.window is None:
            return None
        return self.window - self.reserved - self.template.length - summary_tokens

    @property
    def read_tokens(self) -> int:
        """Tokens of a document from which its summary is generated, whatever its reference is."""
        room = self.room(self.new_tokens)
        return self.limits.document_tokens if room is None else min(self.limits.document_tokens, room)

    def check_window(self) -> None:
        """Make sure that the window has room for a sequence with one token of a document."""
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


def _build(folder: Path, job: _Job, state: str) -> None:
    """Prepare a data set into an empty folder, the manifest last."""
    names = _source_splits(job)
    surveys = {name: survey(job.dataset.examples(name), job.text) for name in names}
    selection = select(surveys, job.limits, job.split, job.room(0))
    _check_filled(selection, job)
    with ExitStack() as stack:
        writers = {name: stack.enter_context(closing(SplitWriter(folder / f"{name}.arrow"))) for name in SPLITS}
        for name in names:
            for batch, targets in _chosen(job, name, selection):
                _write(batch, targets, writers, job)
    for name, writer in writers.items():
        counts = selection.counts[name]
        counts.truncated, counts.shortened_for_loss = writer.truncated, writer.shortened
    content, tokens = (
        sha256("\n".join(one.hexdigest() for one in hashes).encode()).hexdigest()
        for hashes in ([w.content for w in writers.values()], [w.tokens for w in writers.values()])
    )
    data = Data(
        source=job.source,
        synthetic=job.dataset.synthetic,
        fingerprint=content,
        token_fingerprint=tokens,
        splits=selection.counts,
        cut=selection.cut,
    )
    written = {name: digest(folder / f"{name}.arrow") for name in SPLITS}
    if job.dataset.fingerprint() != state:
        raise _changed(job)
    write_json(folder / _MANIFEST, {"files": written, "data": data.model_dump()})


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


def _check_filled(selection: SelectedRows, job: _Job) -> None:
    for name, counts in selection.counts.items():
        if not counts.used:
            raise DataError(
                f"{job.source}: no pair is left in the {name} split: {counts.read} read, {counts.dropped_empty} empty, "
                f"{counts.dropped_duplicate} duplicates of another split, {counts.dropped_long_summary} with a summary "
                f"that is too long (limits.summary_tokens is {job.limits.summary_tokens}). Add data, or change [limits]"
                + (" or [split]." if selection.cut else ".")
            )


def _chosen(job: _Job, source: str, selection: SelectedRows) -> Iterator[tuple[list[Example], list[str]]]:
    """The chosen examples of a source split in batches, each with the split that it is used in."""
    rows, expected = 0, selection.num_rows(source)

    def picked() -> Iterator[Example]:
        nonlocal rows
        for example in job.dataset.examples(source):
            if rows < expected and selection.is_used(source, rows):
                yield example
            rows += 1

    targets = iter(selection.splits_of_used(source))
    for batch in in_batches(picked()):
        yield batch, [next(targets) for _ in batch]
    if rows != expected:
        raise _changed(job)


def _changed(job: _Job) -> DataError:
    return DataError(f"{job.source} changed while it was read. Start again when it is complete.")


def _write(batch: list[Example], targets: list[str], writers: Mapping[str, SplitWriter], job: _Job) -> None:
    """Tokenise a batch and write each pair into its split."""
    documents = encode_documents((example.document for example in batch), job.tokenizer)
    summaries = job.text.summary_ids([example.summary for example in batch])
    rows: dict[str, list[PairRow]] = {name: [] for name in SPLITS}
    for example, name, document, summary in zip(batch, targets, documents, summaries, strict=True):
        room = job.room(len(summary))
        most = job.limits.document_tokens if room is None else min(job.limits.document_tokens, room)
        read, in_loss = min(len(document), job.read_tokens), min(len(document), most)
        writers[name].truncated += len(document) > read
        writers[name].shortened += in_loss < read
        texts = (example.id, example.document.strip(), example.summary.strip())
        rows[name].append((*texts, document[: max(read, in_loss)], summary, read, in_loss))
    for name, own in rows.items():
        if own:
            writers[name].write(own)


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


def _open(entry: Path, template: Template) -> Corpus | None:
    """The corpus kept in an entry's folder; None if it is damaged."""
    try:
        manifest = read_object(entry / _MANIFEST)
        for name, expected in manifest["files"].items():
            if digest(entry / f"{name}.arrow") != expected:
                raise ValueError(f"{name} is damaged")
        splits = {name: TokenizedSplit(entry / f"{name}.arrow") for name in SPLITS}
        data = Data.model_validate(manifest["data"])
    except (ResultsError, OSError, ValueError, KeyError, TypeError, AttributeError, pyarrow.ArrowException):
        return None
    return Corpus(splits["train"], splits["validation"], splits["test"], template, data)
