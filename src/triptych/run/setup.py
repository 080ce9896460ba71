"""What a suite's settings ask for: its documents, tokenised, and its base model, adapted by a method."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from triptych.config.schema import Suite
from triptych.contracts import AdaptedModel, Context, Dataset, Method, ModelParts
from triptych.corpus.prepare import Corpus, ask_otherwise, corpus_store, prepare
from triptych.corpus.sequence import Template
from triptych.datasets import open_dataset
from triptych.engine import sharding
from triptych.engine.model import EngineModel, adapt_model
from triptych.engine.modes import dropout_rates
from triptych.errors import ConfigError, ModelError
from triptych.machine import Machine, seed_everything
from triptych.measure.parameters import count_parameters
from triptych.models import quantization
from triptych.models.base import BaseModel
from triptych.models.parts import embed, is_recurrent
from triptych.models.prompts import Prompt
from triptych.models.tokens import RunningText
from triptych.results.records import Parameters
from triptych.run.entries import SuiteEntry
from triptych.storage.cache_place import cache_place
from triptych.storage.given_documents import name_in_folder

# Advice for a method that makes parameters
ON_DEVICE = "Create new tensors on the model's device: device=parts.device; a plan uses a model on `meta`."
_SHARDING = 'engine.sharding = "full"'


def cache_folder() -> Path:
    """Where prepared data is kept: see `storage.cache_place`."""
    return cache_place().folder


def reserved_positions(entries: Sequence[SuiteEntry]) -> int:
    """The most positions that virtual tokens of an entry take: documents are cut the same for all entries."""
    methods = [entry.plugin for entry in entries if isinstance(entry.plugin, Method)]
    return max((method.num_virtual_tokens_added() for method in methods), default=0)


def prompt_of(suite: Suite, entry: SuiteEntry | None = None) -> Prompt:
    """The prompt of a suite, or of one of its entries that trains nothing.

    Raises:
        ConfigError: an entry that trains would have another prompt than the others.
    """
    own = entry.plugin.own_prompt() if entry is not None and isinstance(entry.plugin, Method) else {}
    prompt = Prompt(separator=suite.separator, before=suite.prompt.before, chat=suite.prompt.chat)
    asked = replace(prompt, **own)
    if entry is not None and entry.trains and asked != prompt:
        raise ConfigError(
            f"[method.{entry.label}] All methods that train use the same prompt: set [prompt] or separator."
        )
    return asked


def is_asked_otherwise(suite: Suite, entry: SuiteEntry) -> bool:
    """Whether an entry has another prompt than the suite."""
    return prompt_of(suite, entry) != prompt_of(suite)


def notes_on_prompt(suite: Suite, entry: SuiteEntry) -> dict[str, Any]:
    """What a record's notes say of an entry with a prompt of its own: the prompt, and a warning."""
    if not is_asked_otherwise(suite, entry):
        return {}
    prompt = prompt_of(suite, entry)
    warning = (
        "This method uses a prompt of its own: its summaries can be compared with those of the other methods, its loss "
        "only roughly, since a summary may be tokenized differently after another prompt."
    )
    return {"prompt": asdict(prompt), "warnings": [warning]}


def notes_on_training(model: EngineModel) -> dict[str, Any]:
    """What a record's notes say of how a method computes while it trains: dropout rates at work, and the stream's type.

    Args:
        model: in eval mode, as it is afterwards.
    """
    parts = model.parts
    model.train()
    rates = dropout_rates(parts.model)
    model.eval()
    with torch.no_grad(), model.machine.autocast():
        first = torch.zeros(1, dtype=torch.long, device=model.machine.device)
        stream = model.run(lambda: embed(parts, first)).dtype
    return {"dropout": rates, "residual_stream": str(stream).removeprefix("torch.")}


def notes_on_sharding(model: EngineModel) -> dict[str, Any]:
    """What a record's notes say of a sharded model: over how many ranks, and the most bytes that one of them holds."""
    if not model.is_sharded:
        return {}
    adapted, machine = model.adapted, model.machine
    held = sharding.held_bytes(*adapted.modules())
    most = max(machine.collect([held.here]))
    return {"sharding": {"ranks": machine.num_processes, "bytes_of_a_rank": most, "bytes": held.whole}}


def notes_on_base(model: EngineModel, base: BaseModel) -> dict[str, Any]:
    """What a record's notes say of how the base model is stored; nothing where it is not quantised."""
    if base.quantization == quantization.NONE:
        return {}
    return {"quantization": quantization.describe(base.quantization, model.parts.model)}


def refuse_trained_weights(base: BaseModel, adapted: Mapping[str, AdaptedModel]) -> None:
    """Make sure that no method trains weights of a base model that is quantised.

    Args:
        base: the base model.
        adapted: by label, the models without weights as the methods change them.

    Raises:
        ConfigError: some do; the message names all of them.
    """
    if base.quantization == quantization.NONE:
        return
    own = {name for name, _ in base.structure().named_parameters(remove_duplicate=False)}
    refused = [label for label, each in adapted.items() if own & each.trained_parameters().keys()]
    if refused:
        names = ", ".join(refused)
        raise ConfigError(
            f'model_quantization = "{base.quantization}" stores the base model in 4 bits, which cannot be trained, and '
            f"{names} would train the model's own weights. All methods of a comparison have the same base model: leave "
            f'{names} out of methods, or set model_quantization = "none".'
        )


def refuse_sharding(suite: Suite, precision: str) -> None:
    """Make sure that a suite's settings fit a model that is sharded, if it is to be.

    Args:
        suite: its settings.
        precision: of forward passes, chosen for the device.

    Raises:
        ConfigError: they do not.
    """
    if suite.engine.sharding == "none":
        return
    if not sharding.SUPPORTED:
        raise ConfigError(f"{_SHARDING} needs a newer torch than {torch.__version__}; it was tried with 2.13.")
    if suite.model_quantization != quantization.NONE:
        raise ConfigError(
            f'{_SHARDING} cannot cut weights in 4 bits: set model_quantization = "none", or engine.sharding = "none".'
        )
    if precision not in ("fp32", "bf16"):
        raise ConfigError(
            f"{_SHARDING} works in fp32 and bf16, and this run would be in {precision}: set training.precision."
        )
    if suite.training.optimizer != "adamw":
        raise ConfigError(
            f'{_SHARDING} works with training.optimizer = "adamw" alone: what {suite.training.optimizer} keeps of a '
            "matrix cannot be cut as the matrix is."
        )
    if suite.training.micro_batch_size == "auto":
        raise ConfigError(
            f'{_SHARDING} needs a number as training.micro_batch_size: "auto" tries passes until one does not fit, and '
            "a sharded pass that fails on one process leaves the others waiting."
        )


def refuse_to_cut(suite: Suite, adapted: Mapping[str, AdaptedModel]) -> None:
    """Make sure that the models of a suite can be cut into their blocks, if they are to be sharded.

    Args:
        suite: its settings.
        adapted: by label, the models without weights as the methods change them.

    Raises:
        ConfigError: some cannot; the message names their methods.
    """
    if suite.engine.sharding == "none":
        return
    refused = [
        label
        for label, each in adapted.items()
        if is_recurrent(each.parts.model) or sharding.shares_weights(each.parts)
    ]
    if refused:
        raise ConfigError(
            f"{_SHARDING} cannot cut the model of {', '.join(refused)} into its blocks: it is recurrent, or its blocks "
            'share weights. Set engine.sharding = "none".'
        )


def longest_prompt(suite: Suite, entries: Sequence[SuiteEntry], base: BaseModel) -> int:
    """The most tokens around document and summary over the entries: documents are cut the same for all of them.

    Raises:
        ModelError: the tokenizer cannot be used, or lacks a chat template that is asked for.
    """
    lengths = [_length(prompt_of(suite), base)]
    for entry in entries:
        if is_asked_otherwise(suite, entry):
            try:
                lengths.append(_length(prompt_of(suite, entry), base))
            except ModelError as error:
                raise ModelError(f"[method.{entry.label}] {error}") from error
    return max(lengths)


def _length(prompt: Prompt, base: BaseModel) -> int:
    return Template.of(RunningText.of(base.tokenizer, prompt)).length


def open_data(suite: Suite) -> Dataset:
    """Find the data set of a suite; nothing is read yet.

    Raises:
        DataError: there is no such folder or name.
    """
    return open_dataset(
        suite.data, data_config=suite.data_config, data_revision=suite.data_revision, columns=suite.columns
    )


def load_corpus(suite: Suite, entries: Sequence[SuiteEntry], base: BaseModel, cache: Path) -> Corpus:
    """Prepare the documents of a suite, or open them where they were prepared before.

    Args:
        suite: the resolved suite.
        entries: all its entries; how documents are cut depends on all of them.
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


def corpus_as_asked(suite: Suite, entry: SuiteEntry, base: BaseModel, corpus: Corpus, cache: Path) -> Corpus:
    """The documents of a suite with the prompt of one of its entries; the suite's own where the prompt is the same.

    Args:
        suite: the resolved suite.
        entry: one of its entries.
        base: its base model.
        corpus: its documents.
        cache: folder of prepared data.

    Raises:
        InputError: the model cannot be asked so.
    """
    if not is_asked_otherwise(suite, entry):
        return corpus
    store = corpus_store(cache, suite.cache.max_bytes)
    return ask_otherwise(corpus, prompt_of(suite, entry), base.vocabulary_size, store)


def frequent_tokens(corpus: Corpus, vocabulary_size: int) -> torch.Tensor:
    """Token ids of the training documents by falling frequency, ties by id: [at most vocabulary_size]."""
    counts = corpus.token_frequencies(vocabulary_size)
    order = np.argsort(-counts, kind="stable")
    return torch.from_numpy(order[counts[order] > 0])


def prepare_model(
    base: BaseModel,
    method: Method,
    corpus: Corpus,
    seed: int,
    machine: Machine,
    dropout: float | None = None,
) -> EngineModel:
    """Seed every source of chance, load the untouched model, and let the method change it.

    The model is left in the CPU's memory, so that its weights may be narrowed or cut before they are moved to the
    machine's device; one that is quantised is there already.

    Args:
        base: the base model.
        method: changes it.
        corpus: gives the method its token frequencies, and the engine the sequence to read.
        seed: of all chance.
        machine: where the model runs.
        dropout: the suite's `training.dropout`.

    Raises:
        ConfigError: the method's options do not fit the model.
        ModelError: the model cannot be loaded or taken apart.
    """
    generator = seed_everything(seed)
    untouched = base.load(dropout, machine.device)

    def change(parts: ModelParts) -> AdaptedModel:
        tokens = frequent_tokens(corpus, parts.vocabulary_size)
        return method.adapt(parts, Context(base.tokenizer, generator, tokens))

    return EngineModel.assemble(untouched, change, corpus.template, machine, dropout_everywhere=bool(dropout))


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


def target_matrices(adapted: AdaptedModel) -> tuple[str, ...]:
    """Name endings of the matrices that the method put something next to, sorted; `()` where there are none."""
    return tuple(sorted({name.rsplit(".", 1)[-1] for name in adapted.notes.get("target_modules") or ()}))


def misplaced_parameters(adapted: AdaptedModel) -> tuple[str, ...]:
    """Names of parameters that the method makes on a device of its own choice, whatever the model's is.

    Args:
        adapted: the model without weights as the method changes it, see `sketch`.
    """
    return tuple(name for name, each in adapted.trained_parameters().items() if not each.is_meta)


def describe_parameters(adapted: AdaptedModel, num_base: int) -> Parameters:
    """Count parameters by unique storage; `num_base` is the count of the untouched model."""
    counts = count_parameters(*adapted.modules())
    return Parameters(
        num_base_parameters=num_base,
        num_added_parameters=counts.total - num_base,
        num_trainable_parameters=counts.trainable,
        num_total_parameters=counts.total,
        stored_bytes=0,
    )
