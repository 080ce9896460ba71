"""Time training, the loss and a summary of a document with a method, on a few documents of typical length."""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from triptych.config.schema import Suite
from triptych.contracts import Method
from triptych.corpus.sequence import Pair
from triptych.engine.batching import sequence_length
from triptych.engine.evaluation import split_loss
from triptych.engine.generation.decoding import DecodingPlan
from triptych.engine.generation.generate import generate
from triptych.engine.model import EngineModel
from triptych.engine.savings.trunk_cache import TrunkCache, open_cache, trunk_store
from triptych.engine.training import Loop, Progress, TrainingState
from triptych.machine import Machine
from triptych.run.recipe import training_plan
from triptych.run.scoring import evenly_chosen

TIMED_SECONDS = 1.5  # timings are repeated with twice as many documents for as long as they take less than this
PATIENCE_SECONDS = 20.0  # wall-clock time after which a timing is not repeated, as on a busy machine
READING_SECONDS = 4.0  # approximate time for reading documents that are summarized together
CACHED_PAIRS = 4  # pairs whose states are computed for the trunk cache
TIMED_TOKENS = 6  # tokens timed per summary


@dataclass(frozen=True)
class Usual:
    """The pairs of a split whose length is closest to the mean.

    Attributes:
        pairs: the pairs.
        tokens: mean number of document and summary tokens over the split.
    """

    pairs: list[Pair]
    tokens: float

    @classmethod
    def of(cls, split: Sequence[Pair], most: int) -> "Usual":
        """Choose at most `most` pairs of a split; in a large split, only evenly spaced pairs are considered."""
        looked_at = [split[i] for i in evenly_chosen(len(split))]
        mean = statistics.fmean(map(sequence_length, looked_at))
        return cls(sorted(looked_at, key=lambda pair: abs(sequence_length(pair) - mean))[:most], mean)

    def each(self, seconds: float, count: int) -> float:
        """Seconds per document of mean length, if the first `count` documents took `seconds` together."""
        return seconds * self.tokens / sum(map(sequence_length, self.pairs[:count]))


@dataclass(frozen=True)
class TrainingTimes:
    """Training times in seconds.

    Attributes:
        document: a forward and backward pass over a document.
        update: the optimizer's update, once per step.
        keeping: computing a document's states for the trunk cache, once; 0 without a cache.
        judging: computing the loss of a validation document from the cache; 0 if that split has none.
    """

    document: float = 0.0
    update: float = 0.0
    keeping: float = 0.0
    judging: float = 0.0


@dataclass(frozen=True)
class SummaryTimes:
    """Times for a batch of summaries in seconds.

    Attributes:
        reading: time to the first token.
        step: time for each further token.
    """

    reading: float
    step: float


def time_training(
    suite: Suite, method: Method, model: EngineModel, train: Sequence[Pair], judged: int
) -> TrainingTimes:
    """Time a micro-batch in the engine's own loop, at a learning rate of 0, which leaves the weights unchanged.

    Args:
        suite: the suite with recipe and limits.
        method: the method to train.
        model: the model it adapted.
        train: the training pairs.
        judged: number of validation pairs.
    """
    asked = suite.training.micro_batch_size
    most = min(suite.training.global_batch_size, 8 if asked == "auto" else asked)
    usual = Usual.of(train, most)
    recipe = replace(training_plan(suite, method, 0.0, 0, most), max_epochs=1, warmup_fraction=0.0, schedule="constant")
    begun = TrainingState.begin(model.adapted, recipe, model.machine.loss_scaler())
    cache, making = small_cache(suite, model, usual.pairs[:CACHED_PAIRS], len(train))
    most = len(usual.pairs) if cache is None else min(CACHED_PAIRS, len(usual.pairs))

    def step(size: int) -> float:
        plan = replace(recipe, global_batch_size=size, micro_batch_size=size)
        state = replace(begun, progress=Progress())
        loop = Loop(model, usual.pairs[:size], plan, state, cache=cache)
        return seconds_of(model.machine, loop.step)

    size, seconds = growing(step, most)
    update = _update_seconds(model.machine, begun, suite.training.max_grad_norm)
    judging = 0.0
    if cache is not None and fits(suite, cache, most, len(train) + judged):
        judging = seconds_of(model.machine, lambda: split_loss(model, usual.pairs[:most], most, losses_of=cache.losses))
    model.eval()
    document = usual.each(max(seconds - update, 0.0), size)
    return TrainingTimes(document, update, usual.each(making, most), usual.each(judging, most))


def small_cache(
    suite: Suite, model: EngineModel, pairs: Sequence[Pair], documents: int
) -> tuple[TrunkCache | None, float]:
    """The trunk cache of a few pairs, if training on `documents` documents will use one, and the seconds to make it."""
    wall, began = time.perf_counter(), now(model.machine)
    with tempfile.TemporaryDirectory(prefix="triptych-") as folder:
        cache = open_cache(model, pairs, "", trunk_store(Path(folder), sys.maxsize), len(pairs))
    if cache is None or not fits(suite, cache, len(pairs), documents):
        return None, 0.0
    undisturbed = (now(model.machine) - began) / (time.perf_counter() - wall)
    return cache, cache.seconds * undisturbed


def fits(suite: Suite, cache: TrunkCache, pairs: int, documents: int) -> bool:
    """Whether the states of `documents` documents fit into the cache, estimated from those of a few pairs."""
    return cache.num_bytes / pairs * documents <= suite.cache.max_bytes


def _update_seconds(machine: Machine, state: TrainingState, max_norm: float) -> float:
    """Seconds for clipping and the optimizer's step, with zero gradients."""
    for parameter in state.trained.values():
        parameter.grad = torch.zeros_like(parameter)

    def update() -> None:
        nn.utils.clip_grad_norm_(state.trained.values(), max_norm)
        state.optimizer.step()

    seconds = seconds_of(machine, update)
    state.optimizer.zero_grad(set_to_none=True)
    return seconds


def time_loss(model: EngineModel, split: Sequence[Pair], most: int) -> float:
    """Seconds for computing the loss of a document, in batches of at most `most`."""
    usual = Usual.of(split, most)
    size, seconds = growing(
        lambda size: seconds_of(model.machine, lambda: split_loss(model, usual.pairs[:size], size)), len(usual.pairs)
    )
    return usual.each(seconds, size)


def time_summaries(model: EngineModel, documents: Sequence[np.ndarray], decoding: DecodingPlan) -> SummaryTimes:
    """Time a batch of summaries up to the first token, and a few more tokens.

    Args:
        model: the model, in eval mode.
        documents: token ids of the batch's documents.
        decoding: how summaries are decoded.
    """
    plan = replace(decoding.shortened(TIMED_TOKENS), batch_size=len(documents))
    with stamps_of(model) as stamps:
        generate(model, documents, plan)
        stamps.append(now(model.machine))
    passes = np.diff(stamps).tolist()
    return SummaryTimes(passes[0], statistics.median(passes[1:]) if len(passes) > 1 else 0.0)


@contextmanager
def stamps_of(model: EngineModel):
    """A context that records when the first block starts each pass; yields the list of times."""
    stamps: list[float] = []

    def note(*_: object) -> None:
        stamps.append(now(model.machine))

    handle = model.parts.blocks[0].register_forward_pre_hook(note)
    try:
        yield stamps
    finally:
        handle.remove()


def growing(measure: Callable[[int], float], most: int) -> tuple[int, float]:
    """Time work of growing size; the first measurement is a warm-up and does not count.

    Fast work is repeated and the shortest time taken, since other programs may have disturbed the others. After
    `PATIENCE_SECONDS`, nothing is measured again; if the warm-up alone took longer, it counts.

    Args:
        measure: does the work at a size of at least 1 and returns the seconds it took.
        most: the largest size.

    Returns:
        The last size, and its seconds.
    """
    ends = time.monotonic() + PATIENCE_SECONDS
    size, seconds = 1, measure(1)
    if time.monotonic() < ends:
        seconds = measure(1)
    while size < most and 2 * seconds < TIMED_SECONDS and time.monotonic() < ends:
        size = min(2 * size, most)
        seconds = measure(size)
    spent = seconds
    while spent + seconds < TIMED_SECONDS / 2 and time.monotonic() < ends:
        spent += (again := measure(size))
        seconds = min(seconds, again)
    return size, seconds


def seconds_of(machine: Machine, work: Callable[[], object]) -> float:
    """The seconds that a piece of work takes on an idle machine."""
    start = now(machine)
    work()
    return now(machine) - start


def now(machine: Machine) -> float:
    """The time in seconds after synchronizing with the device, for measuring work on it.

    On a CPU, it is this thread's CPU time, which equals elapsed time on an idle machine because the thread takes part
    in all work. Time taken by other programs is not counted.
    """
    machine.synchronize()
    return time.thread_time() if machine.device.type == "cpu" else time.perf_counter()
