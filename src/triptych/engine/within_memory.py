"""Work on batches of documents without gradients: if memory runs out, on smaller batches."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from triptych.engine.model import EngineModel
from triptych.errors import OutOfMemory, TriptychWarning, out_of_memory
from triptych.measure.memory import release_free_memory

Result = TypeVar("Result")
SHORTER_DOCUMENTS = "Set limits.document_tokens lower, or use a machine with more memory."


def fitting_batches(
    model: EngineModel,
    indices: Sequence[int],
    size: int,
    work: Callable[[Sequence[int]], Result],
    remedy: str = SHORTER_DOCUMENTS,
) -> Iterator[tuple[Sequence[int], Result]]:
    """Work on documents batch by batch; if memory runs out, on half as many at a time from then on.

    A sharded model cannot do that: its other ranks are waiting in the middle of the pass.

    Args:
        model: the model that works on them.
        indices: the documents, best the longest first.
        size: documents per batch.
        work: does the work on a batch, whose result does not depend on how documents are batched.
        remedy: what the user can do if a single document does not fit, as a sentence.

    Warns:
        TriptychWarning: memory ran out, and the work continues with fewer documents at a time.

    Yields:
        The documents of each batch, with the result.

    Raises:
        OutOfMemory: a single document, or any batch of a sharded model, does not fit.
    """
    start = 0
    while start < len(indices):
        batch = indices[start : start + size]
        try:
            found = work(batch)
        except (MemoryError, RuntimeError) as error:
            if (refusal := out_of_memory(error)) is None:
                raise
        else:
            yield batch, found
            start += len(batch)
            continue
        number = "one document" if len(batch) == 1 else f"{len(batch)} documents"
        if len(batch) == 1 or model.is_sharded:
            raise OutOfMemory(f"Out of memory with {number} at a time: {refusal}. {remedy}")
        size = len(batch) // 2
        warnings.warn(f"out of memory with {number} at a time; continuing with {size}", TriptychWarning, stacklevel=2)
        release_free_memory(model.machine.device)
