"""What a run finds out before it trains: FLOPs of a pass, the micro-batch that fits, and the trunk cache."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from triptych.contracts import Method
from triptych.corpus.sequence import Pair
from triptych.engine.batch_size import fitting_micro_batch
from triptych.engine.flops import entering_flops, training_flops
from triptych.engine.model import EngineModel
from triptych.engine.savings.trunk_cache import TrunkCache, making_flops, open_cache, trunk_store, usable_from
from triptych.engine.training import CountFlops
from triptych.measure.flops import FlopModel
from triptych.results.records import Part
from triptych.run import setup
from triptych.run.kept import find_kept, keep
from triptych.run.workbench import Workbench


class MicroBatch(Part):
    """`micro_batch.json`: documents of a forward pass that the first run found to fit."""

    micro_batch_size: Annotated[int, Field(ge=1, strict=True)]


def find_micro_batch(bench: Workbench, model: EngineModel) -> None:
    """With "auto", set the bench's micro-batch to what the first run found to fit on every rank.

    The other runs of the same method read it. With a number in the suite nothing is done.
    """
    t, file = bench.suite.training, bench.folder.parent / "micro_batch.json"
    if t.micro_batch_size != "auto":
        return
    made_with = {**bench.identity, "memory": bench.machine.memory()}
    known = find_kept(file, MicroBatch, "micro-batch size", made_with, bench.note)
    on_every_rank = min(bench.machine.collect([known.micro_batch_size if known else 0]))
    if on_every_rank:
        bench.micro_batch = on_every_rank
        return
    found = fitting_micro_batch(model, bench.corpus.train, t.global_batch_size)
    bench.micro_batch = min(bench.machine.collect([found]))
    if bench.machine.is_main:
        keep(file, MicroBatch(micro_batch_size=bench.micro_batch), made_with)


@dataclass(frozen=True)
class FlopModels:
    """FLOPs of a training pass by its shape.

    Attributes:
        plain: on the plain path.
        executed: on the path that is taken; None: it is the plain one.
    """

    plain: FlopModel
    executed: FlopModel | None

    def count(self, rows: int, positions: int, targets: int, chosen: int) -> tuple[float, float]:
        """FLOPs of a pass on the path that is taken, and on the plain one, by the numbers of its `WorkShape`."""
        plain = self.plain.count(rows, positions, rows * positions)
        return self.executed.count(rows, positions, targets, chosen) if self.executed else plain, plain


def fit_flop_models(bench: Workbench, method: Method, model: EngineModel) -> FlopModels | None:
    """FLOPs of a training pass from the embeddings; None, with a note, where they cannot be counted."""
    sketch = sketch_of(bench, method, model)
    try:
        executed = training_flops(sketch) if model.can.logits_at_targets else None
        return FlopModels(training_flops(sketch.on_plain_path()), executed)
    # a family that looks at values, or whose work follows no formula
    except (ArithmeticError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}"
        bench.note(f"FLOPs are not measured: they cannot be counted without weights ({reason})")
        return None


def sketch_of(bench: Workbench, method: Method, model: EngineModel) -> EngineModel:
    """The same model without weights, for counting what a pass computes."""
    return model.as_sketch(setup.sketch(bench.base, method))


@dataclass(frozen=True)
class Trunk:
    """The trunk cache of a split, the FLOPs of a training pass from it and of making it; or none."""

    cache: TrunkCache | None = None
    step: FlopModel | None = None
    flops: float = 0.0

    def counter(self, flops: FlopModels | None) -> CountFlops:
        """What counts the FLOPs of the loop's passes: zeros where they cannot be counted."""
        if flops is None:
            return lambda *shape: (0.0, 0.0)
        return replace(flops, executed=self.step or flops.executed).count


def open_trunk(bench: Workbench, method: Method, model: EngineModel, split: Sequence[Pair]) -> Trunk:
    """The trunk cache of a split where the model can use one; its FLOPs are charged to the run, whoever made it."""
    first = usable_from(model)
    if first is None:
        return Trunk()
    sketch = sketch_of(bench, method, model)
    entering = entering_flops(sketch, first)
    store = trunk_store(setup.cache_folder() / "trunk", int(bench.suite.cache.max_gigabytes * 1e9))
    size = bench.micro_batch
    cache = open_cache(model, split, bench.base.fingerprint, store, size, bench.show_progress)
    if cache is None:
        bench.note("no trunk cache: it is larger than cache.max_gigabytes, or not exact here")
        return Trunk()
    return Trunk(cache, training_flops(sketch, first), making_flops(split, model.template, size, entering))
