"""The base model of a suite adapted by a method: with weights, or as a sketch without them."""

import numpy as np
import torch

from triptych.config.schema import Suite
from triptych.contracts import AdaptedModel, Context, Method, ModelParts
from triptych.corpus.prepare import Corpus
from triptych.engine.model import EngineModel, adapt_model
from triptych.engine.reading import check_reading
from triptych.engine.savings.ready import make_ready, make_ready_to_shard
from triptych.machine import Machine, seed_everything
from triptych.measure.parameters import count_parameters
from triptych.models.base import BaseModel
from triptych.results.records import Parameters

# Advice for a method that creates parameters
ON_DEVICE = "Create new tensors on the model's device: device=parts.device; a plan uses a model on `meta`."


def prepare_model(
    base: BaseModel,
    method: Method,
    corpus: Corpus,
    seed: int,
    machine: Machine,
    dropout: float | None = None,
) -> EngineModel:
    """Seed all random generators, load the untouched model and let the method change it.

    The model stays in CPU memory, so that its weights can be narrowed or sharded before they are moved to the machine's
    device; a quantized model is already on the device.

    Args:
        base: the base model.
        method: the method that changes it.
        corpus: provides token frequencies for the method and the sequence template for the engine.
        seed: the seed of all random generators.
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


def ready_model(
    suite: Suite, base: BaseModel, method: Method, corpus: Corpus, seed: int, machine: Machine, shard: bool = False
) -> EngineModel:
    """A fresh model, changed by the method, on the machine's device, with the abilities that the engine finds.

    Args:
        suite: the settings; `engine.plain` leaves the model on the plain path.
        base: its base model.
        method: the method that changes it.
        corpus: as for `prepare_model`.
        seed: the seed of all random generators.
        machine: where the model runs.
        shard: shard the model over the machine's ranks.

    Raises:
        ConfigError: as for `prepare_model`.
        ModelError: as for `prepare_model`, or the model does not work with the engine's inputs.
    """
    model = prepare_model(base, method, corpus, seed, machine, suite.training.dropout)
    if suite.engine.plain:
        check_reading(model.parts)
    else:
        model = make_ready_to_shard(model) if shard else make_ready(model)
    return model.shard() if shard else model.to_machine()


def sketch_model(base: BaseModel, method: Method) -> AdaptedModel:
    """The adapted model on the `meta` device with plain attention: all shapes, no weights.

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


def frequent_tokens(corpus: Corpus, vocabulary_size: int) -> torch.Tensor:
    """Token ids of the training documents by descending frequency, ties by id: [at most vocabulary_size]."""
    counts = corpus.token_frequencies(vocabulary_size)
    order = np.argsort(-counts, kind="stable")
    return torch.from_numpy(order[counts[order] > 0])


def target_matrices(adapted: AdaptedModel) -> tuple[str, ...]:
    """The last parts of the names of the matrices that the method adapts, sorted; `()` if there are none."""
    return tuple(sorted({name.rsplit(".", 1)[-1] for name in adapted.notes.get("target_modules") or ()}))


def misplaced_parameters(adapted: AdaptedModel) -> tuple[str, ...]:
    """Names of parameters that the method creates on a fixed device instead of the model's.

    Args:
        adapted: the adapted model without weights, see `sketch_model`.
    """
    return tuple(name for name, each in adapted.trained_parameters().items() if not each.is_meta)


def describe_parameters(adapted: AdaptedModel, num_base: int) -> Parameters:
    """Count parameters by unique storage; `num_base` is the number of parameters of the untouched model."""
    counts = count_parameters(*adapted.modules())
    return Parameters(
        num_base_parameters=num_base,
        num_added_parameters=counts.total - num_base,
        num_trainable_parameters=counts.trainable,
        num_total_parameters=counts.total,
        stored_bytes=0,
    )
