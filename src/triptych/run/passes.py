"""What a run determines before training: FLOPs of a pass, the micro-batch that fits, and the trunk cache."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated

from pydantic import Field

from triptych.config.schedule import num_evaluations
from triptych.contracts import Method
from triptych.corpus.sequence import Pair
from triptych.engine.batch_size import fit_passes
from triptych.engine.flops import entering_flops, training_flops
from triptych.engine.model import EngineModel
from triptych.engine.savings.trunk_cache import TrunkCache, making_flops, open_cache, trunk_store, usable_from
from triptych.engine.training import CountFlops
from triptych.measure.flops import FlopModel
from triptych.results.records import Part
from triptych.run.kept import find_kept, keep
from triptych.run.models import ON_DEVICE, sketch_model
from triptych.run.run_context import RunContext
from triptych.run.search import planned_trials
from triptych.storage.cache_place import cache_folder

RECOMPUTED = "memory ran out with one document a pass: each block is computed again in the backward pass"


class MicroBatch(Part):
    """`micro_batch.json`: documents per forward pass that the first run found to fit, and whether blocks recompute."""

    micro_batch_size: Annotated[int, Field(ge=1, strict=True)]
    recomputes: bool = False


def find_micro_batch(context: RunContext, model: EngineModel) -> None:
    """With "auto", set the context's micro-batch to the size that the first run found to fit on every rank.

    Blocks are recomputed in the backward pass if not even one document fits otherwise. Other runs of the same method
    read both values. If the suite sets a number, nothing is done.

    Raises:
        OutOfMemory: a pass over one document does not fit.
    """
    t, file = context.suite.training, context.folder.parent / "micro_batch.json"
    if t.micro_batch_size != "auto":
        return
    made_with = {**context.identity, "memory": context.machine.memory()}
    known = find_kept(file, MicroBatch, "micro-batch size", made_with, context.note)
    everywhere = all(context.machine.collect([known is not None]))
    if known is None or not everywhere:
        fit = fit_passes(model, context.corpus.train, t.global_batch_size)
        known = MicroBatch(micro_batch_size=fit.micro_batch, recomputes=fit.recomputes)
        if context.machine.is_main:
            keep(file, known, made_with)
    context.micro_batch, context.recomputes = known.micro_batch_size, known.recomputes
    if context.recomputes:
        context.note(RECOMPUTED)


@dataclass(frozen=True)
class FlopModels:
    """FLOPs of a training pass by its shape.

    Attributes:
        sketch: the model without weights.
        plain: FLOPs on the plain path.
        executed: FLOPs on the executed path; None: it is the plain path.
        first: with a trunk cache, the block from which a pass starts; None: from the embeddings.
    """

    sketch: EngineModel
    plain: FlopModel
    executed: FlopModel | None
    first: int | None = None

    @cached_property
    def recomputing(self) -> FlopModel:
        """FLOPs on the executed path with blocks recomputed in the backward pass; counted on first use."""
        return training_flops(replace(self.sketch, recomputes=True), self.first)

    def count(
        self, rows: int, positions: int, targets: int, chosen: int, recomputes: bool = False
    ) -> tuple[float, float]:
        """FLOPs of a pass on the executed path and on the plain one, given the numbers of its `WorkShape`.

        Args:
            rows: number of sequences.
            positions: positions in each sequence.
            targets: number of targets.
            chosen: positions at which the last block is computed, if it is pruned.
            recomputes: whether blocks are recomputed in the backward pass.
        """
        everywhere = (rows, positions, rows * positions)  # the plain path computes logits at every position
        plain = self.plain.count(*everywhere)
        taken = self.recomputing if recomputes else self.executed
        if taken is None:
            return plain, plain
        return taken.count(*((rows, positions, targets, chosen) if self.executed else everywhere)), plain


def fit_flop_models(context: RunContext, method: Method, model: EngineModel) -> FlopModels | None:
    """FLOPs of a training pass from the embeddings; None, with a note, if they cannot be counted."""
    sketch = sketch_of(context, method, model)
    try:
        executed = training_flops(sketch) if model.can.logits_at_targets else None
        return FlopModels(sketch, training_flops(sketch.on_plain_path()), executed)
    # a family that uses tensor values, or whose FLOPs do not follow the formula
    except (ArithmeticError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}"
        advice = f" {ON_DEVICE}" if "expected device meta" in reason else ""
        context.note(f"FLOPs are not measured: they cannot be counted without weights ({reason}).{advice}")
        return None


def sketch_of(context: RunContext, method: Method, model: EngineModel) -> EngineModel:
    """The same model without weights, for counting the FLOPs of a pass."""
    return model.as_sketch(sketch_model(context.base, method))


@dataclass(frozen=True)
class Trunk:
    """The trunk cache of the training split, if any, with the FLOPs of a training pass from it and of making it.

    Attributes:
        cache: the cache.
        step: FLOPs of a pass from it; None: there is no cache, or FLOPs cannot be counted.
        flops: FLOPs of making it.
        validation: the cache of the validation split; None: the whole model computes its loss.
    """

    cache: TrunkCache | None = None
    step: FlopModel | None = None
    flops: float = 0.0
    validation: TrunkCache | None = None

    def counter(self, flops: FlopModels | None) -> CountFlops:
        """A function that counts the FLOPs of the loop's passes; returns zeros if they cannot be counted."""
        if flops is None:
            return lambda *shape: (0.0, 0.0)
        return replace(flops, executed=self.step, first=self.cache.first).count if self.cache else flops.count


def open_trunk(context: RunContext, method: Method, model: EngineModel, flops: FlopModels | None) -> Trunk:
    """Open a run's trunk caches if the model can use them; their FLOPs are charged to the run, whoever made them.

    Args:
        context: the run.
        method: the method to train.
        model: the model it adapted.
        flops: the result of `fit_flop_models`; None: FLOPs of the cache cannot be counted either.
    """
    first = usable_from(model)
    if first is None:
        return Trunk()
    split = context.corpus.train
    cache = open_states(context, model, split)
    if cache is None:
        context.note(
            "trunk cache disabled: it would exceed cache.max_gigabytes, or its states are not exact for this model"
        )
        return Trunk()
    both = Trunk(cache, validation=validation_states(context, method, model, cache))
    if flops is None:
        return both
    entering = entering_flops(flops.sketch, first)
    making = making_flops(split, model.template, context.micro_batch, entering)
    return replace(both, step=training_flops(flops.sketch, first), flops=making)


def validation_states(context: RunContext, method: Method, model: EngineModel, train: TrunkCache) -> TrunkCache | None:
    """The states of the validation split, if they are read more than once and fit next to the training states."""
    suite, split = context.suite, context.corpus.validation
    evaluations = num_evaluations(suite.training.max_epochs, suite.training.eval_every)
    evaluations += len(planned_trials(suite, method, len(context.corpus.train)))
    if evaluations < 2 or train.num_bytes + train.bytes_for(model, split) > suite.cache.max_bytes:
        return None
    return open_states(context, model, split)


def open_states(context: RunContext, model: EngineModel, split: Sequence[Pair]) -> TrunkCache | None:
    """The states of a split in the run's trunk store, computed if missing; see `open_cache`."""
    store = trunk_store(cache_folder() / "trunk", context.suite.cache.max_bytes)
    return open_cache(model, split, context.base.fingerprint, store, context.micro_batch, context.show_progress)
