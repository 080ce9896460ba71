"""Find the micro-batch size that fits into memory by running passes over the longest pairs."""

from collections.abc import Sequence
from typing import NamedTuple

import psutil
import torch

from triptych.corpus.sequence import Pair
from triptych.engine.batching import collate, longest_first
from triptych.engine.forward import target_losses
from triptych.engine.model import EngineModel
from triptych.engine.shortage import given_up, recomputing
from triptych.errors import out_of_memory
from triptych.measure.memory import PeakMemory

PROVISIONAL_BATCH_SIZE = 8  # pairs per forward pass until "auto" has found what fits
# share of the free memory that a pass may use: the optimizer, evaluation and other processes need some as well
MEMORY_SHARE = 0.5


class FittingPasses(NamedTuple):
    """Settings with which passes fit into memory on every rank.

    Attributes:
        micro_batch: pairs per forward pass.
        recomputes: whether blocks are recomputed in the backward pass.
    """

    micro_batch: int
    recomputes: bool


def fit_passes(model: EngineModel, split: Sequence[Pair], most: int) -> FittingPasses:
    """Run `fitting_micro_batch` on every rank, with recomputed blocks if a pass over a single pair does not fit.

    Args:
        model: the model; it is left in eval mode.
        split: the training pairs.
        most: pairs per optimizer step, the upper limit of a micro-batch.

    Raises:
        OutOfMemory: a pass does not fit even with recomputed blocks.
    """
    collect = model.machine.collect
    size, refusal = _fitting(model, split, most)
    if least := min(collect([size])):
        return FittingPasses(least, False)
    size, refusal = _fitting(recomputing(model), split, most)
    if least := min(collect([size])):
        return FittingPasses(least, True)
    raise given_up(refusal)


def _fitting(model: EngineModel, split: Sequence[Pair], most: int) -> tuple[int, str]:
    """The micro-batch size that fits; 0 and the allocator's message if not even one pair fits."""
    try:
        return fitting_micro_batch(model, split, most), ""
    except (MemoryError, RuntimeError) as error:
        if (refusal := out_of_memory(error)) is None:
            raise
        return 0, refusal


def fitting_micro_batch(model: EngineModel, split: Sequence[Pair], most: int) -> int:
    """The largest power-of-two number of pairs whose forward and backward pass stays within half of the free memory.

    Runs passes over the longest pairs, doubling their number for as long as the measured growth says the next pass
    fits.

    Args:
        model: the model; it is left in eval mode.
        split: the training pairs.
        most: pairs per optimizer step, the upper limit of a micro-batch.
    """
    longest = longest_first(split)[:most]
    trained = list(model.adapted.trained_parameters().values())
    size, free = 1, _free(model.machine.device) * MEMORY_SHARE
    model.train()
    try:
        while True:
            memory = PeakMemory(model.machine.device)
            try:
                with torch.random.fork_rng(), memory.phase():
                    batch = collate([split[i] for i in longest[:size]], model.template).to(model.machine.device)
                    with model.machine.autocast():
                        losses = target_losses(model, batch)
                    torch.autograd.grad(losses.sum(), trained, allow_unused=True)
            except (MemoryError, RuntimeError) as error:
                if out_of_memory(error) is None or size == 1:
                    raise
                return size // 2
            if 2 * size > len(longest) or 2 * memory.rise_bytes >= free:
                return size
            size *= 2
    finally:
        model.eval()


def _free(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
