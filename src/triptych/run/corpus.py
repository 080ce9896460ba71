"""The documents of a suite, tokenized with the prompt of each of its methods."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from triptych.config.schema import Suite
from triptych.contracts import Dataset, Method
from triptych.corpus.prepare import Corpus, ask_otherwise, corpus_store, prepare
from triptych.corpus.sequence import Template
from triptych.datasets import open_dataset
from triptych.errors import ConfigError, ModelError
from triptych.models.base import BaseModel
from triptych.models.prompts import Prompt
from triptych.models.tokens import RunningText
from triptych.run.entries import SuiteEntry
from triptych.storage.given_documents import name_in_folder


def open_data(suite: Suite) -> Dataset:
    """Find the data set of a suite without reading it.

    Raises:
        DataError: there is no such folder or name.
    """
    return open_dataset(
        suite.data, data_config=suite.data_config, data_revision=suite.data_revision, columns=suite.columns
    )


def prompt_of(suite: Suite, entry: SuiteEntry | None = None) -> Prompt:
    """The prompt of a suite or of one of its entries; entries that train use the suite's.

    Raises:
        ConfigError: an entry that trains would have a different prompt.
    """
    own = entry.plugin.own_prompt() if entry is not None and isinstance(entry.plugin, Method) else {}
    prompt = Prompt(separator=suite.separator, before=suite.prompt.before, chat=suite.prompt.chat)
    asked = replace(prompt, **own)
    if entry is not None and entry.trains and asked != prompt:
        raise ConfigError(
            f"[method.{entry.label}] All methods that train use the same prompt: set [prompt] or separator."
        )
    return asked


def has_own_prompt(suite: Suite, entry: SuiteEntry) -> bool:
    """Whether an entry's prompt differs from the suite's."""
    return prompt_of(suite, entry) != prompt_of(suite)


def notes_on_prompt(suite: Suite, entry: SuiteEntry) -> dict[str, Any]:
    """Notes for the record of an entry with its own prompt: the prompt and a warning."""
    if not has_own_prompt(suite, entry):
        return {}
    prompt = prompt_of(suite, entry)
    warning = (
        "This method uses a prompt of its own: its summaries can be compared with those of the other methods, its loss "
        "only roughly, since a summary may be tokenized differently after another prompt."
    )
    return {"prompt": asdict(prompt), "warnings": [warning]}


def reserved_positions(entries: Sequence[SuiteEntry]) -> int:
    """The most positions that an entry's virtual tokens take: documents are truncated equally for all entries."""
    methods = [entry.plugin for entry in entries if isinstance(entry.plugin, Method)]
    return max((method.num_virtual_tokens_added() for method in methods), default=0)


def longest_prompt(suite: Suite, entries: Sequence[SuiteEntry], base: BaseModel) -> int:
    """The most tokens around document and summary in any entry: documents are truncated equally for all entries.

    Raises:
        ModelError: the tokenizer cannot be used, or lacks the requested chat template.
    """
    lengths = [_length(prompt_of(suite), base)]
    for entry in entries:
        if has_own_prompt(suite, entry):
            try:
                lengths.append(_length(prompt_of(suite, entry), base))
            except ModelError as error:
                raise ModelError(f"[method.{entry.label}] {error}") from error
    return max(lengths)


def load_corpus(suite: Suite, entries: Sequence[SuiteEntry], base: BaseModel, cache: Path) -> Corpus:
    """Prepare the documents of a suite, or open them if already prepared.

    Args:
        suite: the resolved suite.
        entries: all its entries; truncation depends on all of them.
        base: its base model.
        cache: folder of prepared data.

    Raises:
        InputError: the data cannot be read or used.
    """
    return prepare(
        open_data(suite),
        base.tokenizer,
        source=name_in_folder(suite.data),
        limits=suite.limits,
        split=suite.split,
        prompt=prompt_of(suite),
        window=base.context_length,
        reserved=reserved_positions(entries),
        longest=longest_prompt(suite, entries, base),
        new_tokens=suite.decoding.max_new_tokens,
        vocabulary_size=base.vocabulary_size,
        cache=cache,
        max_cache_bytes=suite.cache.max_bytes,
    )


def corpus_of_entry(suite: Suite, entry: SuiteEntry, base: BaseModel, corpus: Corpus, cache: Path) -> Corpus:
    """The documents of a suite with an entry's prompt; the suite's own documents if the prompt is the same.

    Args:
        suite: the resolved suite.
        entry: one of its entries.
        base: its base model.
        corpus: its documents.
        cache: folder of prepared data.

    Raises:
        InputError: the model does not support this prompt.
    """
    if not has_own_prompt(suite, entry):
        return corpus
    store = corpus_store(cache, suite.cache.max_bytes)
    return ask_otherwise(corpus, prompt_of(suite, entry), base.vocabulary_size, store)


def _length(prompt: Prompt, base: BaseModel) -> int:
    return Template.of(RunningText.of(base.tokenizer, prompt)).length
