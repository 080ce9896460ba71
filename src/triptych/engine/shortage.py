"""What is done when memory runs out with one document a pass: blocks are recomputed, or the run is given up."""

from dataclasses import replace

import torch

from triptych.engine.model import EngineModel
from triptych.engine.savings.ready import probe_recomputation
from triptych.errors import OutOfMemory, shorten

_REMEDY = (
    "Set limits.document_tokens lower, choose a method that trains fewer parameters, or use a machine with more memory."
)


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocator refused: CUDA's, Python's, or torch's on the CPU, which raises a `RuntimeError`."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def recomputing(model: EngineModel) -> EngineModel:
    """The same model, whose blocks are computed again in the backward pass.

    Args:
        model: a model that ran out of memory with one document a pass; it is left in training mode. Where several
            processes work on the run, all of them call this.

    Raises:
        OutOfMemory: a probe shows that this model's blocks cannot be computed again to the same numbers.
    """
    reasons: list[str] = []
    exact = probe_recomputation(model, reasons.append)
    if not all(model.machine.collect([exact])):
        raise OutOfMemory(
            "Out of memory with one document a pass. Its blocks cannot be computed again in the backward pass, which "
            f"would need less: {'; '.join(reasons) or 'another process found other numbers'}. {_REMEDY}"
        )
    return replace(model, recomputes=True)


def shortage_of_ranks(error: BaseException, size: int) -> OutOfMemory:
    """The error with which a sharded run ends that ran out of memory.

    Args:
        error: the allocator's.
        size: documents of the pass that did not fit.
    """
    smaller = f"training.micro_batch_size={size // 2}" if size > 1 else "limits.document_tokens lower"
    reason = shorten(str(error) or type(error).__name__, 300).rstrip(".")
    return OutOfMemory(
        f"Out of memory with {size} documents a pass: {reason}. A "
        f"sharded run cannot begin a pass again with fewer, since its ranks make each pass together: set {smaller}, or "
        "use more ranks."
    )


def given_up(refusal: str) -> OutOfMemory:
    """The error with which a run ends that ran out of memory although its blocks were recomputed.

    Args:
        refusal: what the allocator said; empty where that of another process refused.
    """
    reason = shorten(refusal, 300) or "another process of this run ran out of memory"
    return OutOfMemory(
        "Out of memory with one document a pass, although each block was computed again in the backward pass, so that "
        f"only what enters it was kept: {reason.rstrip('.')}. {_REMEDY}"
    )
