"""What happens if one document per training pass does not fit into memory: recomputed blocks, or the end of the run."""

from dataclasses import replace

from triptych.engine.model import EngineModel
from triptych.engine.savings.ready import probe_recomputation
from triptych.errors import OutOfMemory

_REMEDY = (
    "Set limits.document_tokens lower, choose a method that trains fewer parameters, or use a machine with more memory."
)


def recomputing(model: EngineModel) -> EngineModel:
    """The same model with blocks recomputed in the backward pass.

    Args:
        model: a model that ran out of memory with one document per pass; it is left in training mode. If several
            processes work on the run, all of them call this.

    Raises:
        OutOfMemory: a probe shows that recomputing this model's blocks does not give the same numbers.
    """
    reasons: list[str] = []
    exact = probe_recomputation(model, reasons.append)
    if not all(model.machine.collect([exact])):
        raise OutOfMemory(
            "Out of memory with one document a pass. Its blocks cannot be computed again in the backward pass, which "
            f"would need less memory: {'; '.join(reasons) or 'another process found different numbers'}. {_REMEDY}"
        )
    return replace(model, recomputes=True)


def shortage_of_ranks(refusal: str, size: int) -> OutOfMemory:
    """The error for a sharded run that ran out of memory.

    Args:
        refusal: the allocator's message.
        size: number of documents in the pass that did not fit.
    """
    smaller = f"training.micro_batch_size={size // 2}" if size > 1 else "limits.document_tokens lower"
    return OutOfMemory(
        f"Out of memory with {size} documents a pass: {refusal}. A "
        f"sharded run cannot begin a pass again with fewer, since its ranks make each pass together: set {smaller}, or "
        "use more ranks."
    )


def given_up(refusal: str | None) -> OutOfMemory:
    """The error for a run that ran out of memory even with recomputed blocks.

    Args:
        refusal: the allocator's message; none if another process ran out of memory.
    """
    reason = refusal or "another process of this run ran out of memory"
    return OutOfMemory(
        "Out of memory with one document a pass, although each block was computed again in the backward pass and "
        f"only its inputs were kept: {reason}. {_REMEDY}"
    )
