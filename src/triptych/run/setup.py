"""What a run begins from: the suite's corpus, and the model as a method changes it."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from triptych.config.schema import Suite
from triptych.contracts import AdaptedModel, Context, Dataset, Method, ModelParts
from triptych.corpus.prepare import Corpus, prepare
from triptych.datasets import open_dataset
from triptych.engine.model import EngineModel, adapt_model
from triptych.machine import Machine, seed_everything
from triptych.measure import meter
from triptych.models.base import BaseModel
from triptych.results.records import Parameters
from triptych.run.entries import Row


def cache_folder() -> Path:
    """Where prepared data is kept: `$TRIPTYCH_CACHE`, else `~/.cache/triptych`."""
    return Path(os.environ.get("TRIPTYCH_CACHE") or Path.home() / ".cache" / "triptych")


def reserved_positions(rows: Sequence[Row]) -> int:
    """Positions that virtual tokens take in the row that has most: documents are cut the same for all."""
    return max((row.plugin.num_virtual_tokens_added() for row in rows if isinstance(row.plugin, Method)), default=0)


def open_data(suite: Suite) -> Dataset:
    """Where the suite's documents come from.

    Raises:
        DataError: there is no such folder or name.
    """
    return open_dataset(
        suite.data, data_config=suite.data_config, data_revision=suite.data_revision, columns=suite.columns
    )


def load_corpus(suite: Suite, rows: Sequence[Row], base: BaseModel, cache: Path) -> Corpus:
    """The suite's documents, tokenised, from the cache where they are in it.

    Raises:
        InputError: the data cannot be read or used.
    """
    return prepare(
        open_data(suite),
        base.tokenizer,
        source=suite.data,
        limits=suite.limits,
        split=suite.split,
        separator=suite.separator,
        window=base.context_length,
        reserved=reserved_positions(rows),
        new_tokens=suite.decoding.max_new_tokens,
        vocabulary_size=base.vocabulary_size,
        cache=cache,
        max_cache_bytes=int(suite.cache.max_gigabytes * 1e9),
    )


def frequent_tokens(corpus: Corpus, vocabulary_size: int) -> torch.Tensor:
    """Token ids that stand in the training documents, by falling frequency; ties by id."""
    counts = corpus.token_frequencies(vocabulary_size)
    order = np.argsort(-counts, kind="stable")
    return torch.from_numpy(order[counts[order] > 0])


def prepare_model(base: BaseModel, method: Method, corpus: Corpus, seed: int, machine: Machine) -> EngineModel:
    """Seed every source of chance, load the untouched model, and let the method change it."""
    generator = seed_everything(seed)
    untouched = base.load()
    untouched.to(machine.device)  # type: ignore[arg-type]

    def change(parts: ModelParts) -> AdaptedModel:
        tokens = frequent_tokens(corpus, parts.vocabulary_size)
        return method.adapt(parts, Context(base.tokenizer, generator, tokens))

    return EngineModel.assemble(untouched, change, corpus.template, machine)


def sketch(base: BaseModel, method: Method) -> AdaptedModel:
    """The adapted model on the `meta` device, with plain attention: every shape, no weights.

    Raises:
        ConfigError: the method's options do not fit the model.
        ModelError: the model cannot be found or taken apart.
    """
    model = base.structure()
    model.set_attn_implementation("eager")

    def change(parts: ModelParts) -> AdaptedModel:
        generator = torch.Generator().manual_seed(0)
        return method.adapt(parts, Context(base.tokenizer, generator, torch.arange(parts.vocabulary_size)))

    return adapt_model(model, change)[0]


def endings(names: Iterable[str]) -> tuple[str, ...]:
    """The last parts of modules' names, each once, sorted."""
    return tuple(sorted({name.rsplit(".", 1)[-1] for name in names}))


def count_parameters(adapted: AdaptedModel, base: int) -> Parameters:
    """Parameters by unique storage, after freezing; `base` is the count of the untouched model."""
    counts = meter.count_parameters(adapted.parts.model, adapted.virtual_tokens, adapted.prefix)
    return Parameters(
        num_base_parameters=base,
        num_added_parameters=counts.total - base,
        num_trainable_parameters=counts.trainable,
        num_total_parameters=counts.total,
        stored_bytes=0,
    )
