"""Clean, select and tokenize the documents of a suite in two passes over the source, and cache the result.

The first pass hashes the documents and counts the tokens of the summaries. Then every row is assigned to a split or
dropped. The second pass tokenizes the selected rows. Both passes read in batches. The selection depends only on the
texts, never on their order, the method or its seed.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow
from transformers import PreTrainedTokenizerBase

from triptych.config.schema import Limits, Split
from triptych.contracts import SPLITS, Dataset, Example
from triptych.corpus.arrow import SplitWriter, TokenizedSplit
from triptych.corpus.cutting import check_training
from triptych.corpus.layout import PairLayout
from triptych.corpus.selection import SelectedRows, select
from triptych.corpus.sequence import Template, check_ids
from triptych.corpus.survey import in_batches, survey
from triptych.errors import DataError, ResultsError
from triptych.models.prompts import Prompt
from triptych.models.tokens import RunningText
from triptych.results.json_files import read_object, write_json
from triptych.results.records import Data
from triptych.storage.disk_cache import DiskCache
from triptych.storage.files import digest
from triptych.storage.locks import FileLock

CORPUS_VERSION = 2  # increment when the prepared data or its format changes, to invalidate older caches
_MANIFEST = "manifest.json"
_EVALUATION = SPLITS[1:]


@dataclass(frozen=True)
class Corpus:
    """The data of a suite, the same for every method and seed."""

    train: TokenizedSplit
    validation: TokenizedSplit
    test: TokenizedSplit
    layout: PairLayout
    data: Data
    holds: tuple[FileLock, ...] = field(default=(), repr=False, compare=False)  # keep the cache entry in place

    @property
    def template(self) -> Template:
        """How a document and its summary are joined into one sequence."""
        return self.layout.template

    def token_frequencies(self, vocabulary_size: int) -> np.ndarray:
        """How often each token id occurs in the training documents: int64 [V]."""
        return self.train.document_token_counts(vocabulary_size)

    def check_vocabulary(self, vocabulary_size: int) -> None:
        """Check that every token id of every split has a token embedding.

        Args:
            vocabulary_size: V, the number of token embeddings of the model.

        Raises:
            ModelError: an id has no embedding.
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
    prompt: Prompt,
    window: int | None,
    reserved: int,
    longest: int = 0,
    new_tokens: int,
    vocabulary_size: int,
    cache: Path,
    max_cache_bytes: int,
) -> Corpus:
    """Clean, split, sample and tokenize a data set, or load the result from the cache.

    Args:
        dataset: where the examples come from.
        tokenizer: the model's tokenizer.
        source: the data set's name in the record.
        limits: how many documents and tokens are used.
        split: how data without splits is cut.
        prompt: the text around each document.
        window: the model's context length; None: no fixed limit.
        reserved: the most positions that virtual tokens take in any method.
        longest: the most tokens around document and summary in any method; 0: those of this prompt.
        new_tokens: the most tokens of a generated summary.
        vocabulary_size: number of token embeddings of the model.
        cache: folder of prepared data; created if it is missing.
        max_cache_bytes: above this size the oldest entries are removed, never the one in use.

    Raises:
        ConfigError: the window has no room for a sequence.
        DataError: the data cannot be read, or a split has no pair left; the message gives the counts.
        ModelError: the tokenizer cannot be used, or produces ids for which the model has no embedding.
    """
    sizes = {"limits": limits, "window": window, "reserved": reserved, "longest": longest, "new_tokens": new_tokens}
    layout = PairLayout.of(RunningText.of(tokenizer, prompt), **sizes)
    layout.check(vocabulary_size)
    job = _Job(dataset, tokenizer, layout, source, limits, split)
    state = dataset.fingerprint()
    opened, hold = _entry(
        corpus_store(cache, max_cache_bytes),
        job.key(state),
        lambda folder: _build(folder, job, state),
        lambda folder: _open(folder, layout),
    )
    # describe the source as it is now, so they are not part of the entry
    opened.data.notes, opened.data.commit = list(dataset.notes()), dataset.commit_read()
    opened.check_vocabulary(vocabulary_size)
    return replace(opened, holds=(hold,))


def ask_otherwise(corpus: Corpus, prompt: Prompt, vocabulary_size: int, store: DiskCache) -> Corpus:
    """The same validation and test documents, equally truncated, for an untrained method with another prompt.

    Args:
        corpus: the suite's corpus.
        prompt: the method's prompt.
        vocabulary_size: number of token embeddings of the model.
        store: see `corpus_store`.

    Raises:
        DataError: the store cannot be written.
        ModelError: the tokenizer cannot be used with this prompt, or produces ids for which the model has no embedding.
    """
    layout = corpus.layout.asked(prompt)
    layout.check(vocabulary_size)

    def build(folder: Path) -> None:
        for name in _EVALUATION:
            with closing(SplitWriter(folder / f"{name}.arrow")) as writer:
                split: TokenizedSplit = getattr(corpus, name)
                examples = (Example(id_, split.document(i), split.reference(i)) for i, id_ in enumerate(split.ids))
                for batch in in_batches(examples):
                    layout.write(batch, writer)
        _seal(folder, _EVALUATION, corpus.data)

    own = [*layout.key(), *layout.further_key(), layout.limits.document_tokens]
    key = [CORPUS_VERSION, "asked", corpus.data.fingerprint, own, _tokenizer_state(layout.text.tokenizer)]
    opened, hold = _entry(
        store,
        sha256(json.dumps(key, sort_keys=True).encode()).hexdigest(),
        build,
        lambda folder: _open(folder, layout, corpus.train),
    )
    asked = replace(opened, data=corpus.data, holds=(*corpus.holds, hold))
    asked.check_vocabulary(vocabulary_size)
    return asked


def corpus_store(cache: Path, max_bytes: int) -> DiskCache:
    """The cache of prepared data.

    Args:
        cache: the folder; created if it is missing.
        max_bytes: above this size the oldest entries are removed, never one in use.
    """
    return DiskCache(cache.expanduser(), max_bytes, _MANIFEST)


def _entry(
    store: DiskCache, key: str, build: Callable[[Path], None], read: Callable[[Path], Corpus | None]
) -> tuple[Corpus, FileLock]:
    try:
        return store.entry(key, build, read)
    except OSError as error:
        raise DataError(
            f"Prepared data cannot be kept in {str(store.folder)!r}: {error}. Make room, allow writing, or "
            "set TRIPTYCH_CACHE to another folder."
        ) from error


@dataclass(frozen=True, slots=True)
class _Job:
    """The arguments of `prepare`."""

    dataset: Dataset
    tokenizer: PreTrainedTokenizerBase
    layout: PairLayout
    source: str
    limits: Limits
    split: Split

    def key(self, state: str) -> str:
        """A hash of everything the prepared data depends on; `state` is the data set's fingerprint."""
        parts = [CORPUS_VERSION, state, self.source, self.limits.model_dump(), self.split.model_dump()]
        cut, further = self.layout.key(), self.layout.further_key()
        parts += [*cut, _tokenizer_state(self.tokenizer), *further]
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _build(folder: Path, job: _Job, state: str) -> None:
    """Write a prepared data set to an empty folder, the manifest last."""
    names = _source_splits(job)
    surveys = {name: survey(job.dataset.examples(name), job.layout.text) for name in names}
    selection = select(surveys, job.limits, job.split, job.layout.room(0))
    _check_filled(selection, job)
    with ExitStack() as stack:
        writers = {name: stack.enter_context(closing(SplitWriter(folder / f"{name}.arrow"))) for name in SPLITS}
        for name in names:
            for batch, targets in _chosen(job, name, selection):
                _write(batch, targets, writers, job.layout)
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
    if job.dataset.fingerprint() != state:
        raise _changed(job)
    _seal(folder, SPLITS, data)


def _seal(folder: Path, names: Sequence[str], data: Data) -> None:
    """Write the manifest of an entry with the digests of its splits."""
    written = {name: digest(folder / f"{name}.arrow") for name in names}
    write_json(folder / _MANIFEST, {"files": written, "data": data.model_dump()})


def _source_splits(job: _Job) -> list[str]:
    """The splits to read, train first."""
    check_training(job.dataset, job.source)
    there = job.dataset.splits()
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
    """Yield the selected examples of a source split in batches, each with the split it belongs to."""
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


def _write(batch: list[Example], targets: list[str], writers: Mapping[str, SplitWriter], layout: PairLayout) -> None:
    """Tokenize a batch and write each pair to its split."""
    rows: dict[str, list[Example]] = {name: [] for name in SPLITS}
    for example, name in zip(batch, targets, strict=True):
        rows[name].append(example)
    for name, own in rows.items():
        if own:
            layout.write(own, writers[name])


def _tokenizer_state(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of everything that token ids depend on.

    It leaves out padding and truncation: `Template.of` has just used the tokenizer, which turns both off.
    """
    if tokenizer.is_fast:
        state = tokenizer.backend_tokenizer.to_str()
    else:
        state = json.dumps(
            [type(tokenizer).__name__, tokenizer.get_vocab(), str(tokenizer.init_kwargs)], sort_keys=True
        )
    return sha256(state.encode()).hexdigest()


def _open(entry: Path, layout: PairLayout, train: TokenizedSplit | None = None) -> Corpus | None:
    """The corpus in an entry's folder, which has no training split if `train` is given; None if it is damaged."""
    try:
        manifest = read_object(entry / _MANIFEST)
        for name, expected in manifest["files"].items():
            if digest(entry / f"{name}.arrow") != expected:
                raise ValueError(f"{name} is damaged")
        train = train or TokenizedSplit(entry / "train.arrow")
        validation, test = (TokenizedSplit(entry / f"{name}.arrow") for name in _EVALUATION)
        data = Data.model_validate(manifest["data"])
    except (ResultsError, OSError, ValueError, KeyError, TypeError, AttributeError, pyarrow.ArrowException):
        return None
    return Corpus(train, validation, test, layout, data)
