"""The loss on a split: summed over all targets, then divided once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from triptych.corpus.sequence import Pair
from triptych.engine.batching import Batch, by_length, collate
from triptych.engine.forward import target_losses
from triptych.engine.model import EngineModel
from triptych.engine.within_memory import SHORTER_DOCUMENTS, fitting_batches

_FEWER = "Set training.micro_batch_size lower, or use more ranks."

# (model, batch, indices of its pairs in the split) -> losses of its targets, [N]
LossesOf = Callable[[EngineModel, Batch, Sequence[int]], Tensor]


@dataclass(frozen=True)
class SplitLoss:
    """Losses on a split, per document.

    Attributes:
        nats: summed negative log-likelihood of each document's summary and EOS.
        targets: number of tokens in each sum.
    """

    nats: np.ndarray
    targets: np.ndarray

    @property
    def mean(self) -> float:
        """Nats per target token, over the whole split."""
        return float(self.nats.sum() / self.targets.sum())


@torch.no_grad()
def split_loss(
    model: EngineModel,
    split: Sequence[Pair],
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
    losses_of: LossesOf | None = None,
) -> SplitLoss:
    """Compute the loss of every document in a split with the whole model in eval mode, in constant memory.

    The ranks share the batches. If memory runs out, a rank's batches become smaller. If the model is sharded, a rank
    without a batch joins the others' pass by repeating the last batch, which is not counted again.

    Args:
        model: the model; it is left in eval mode.
        split: the documents with their summaries.
        batch_size: documents per forward pass.
        progress: called with `(documents done, total documents)` of this rank after each of its batches.
        losses_of: computes the losses of a batch, given the indices of its pairs; None: `target_losses`.

    Raises:
        OutOfMemory: a single document, or a batch of a sharded model, does not fit.
    """
    model.eval()
    machine = model.machine
    nats, targets = np.zeros(len(split)), np.zeros(len(split), dtype=np.int64)
    batches = list(by_length(split, batch_size))
    own = [index for number, indices in enumerate(batches) if machine.owns(number) for index in indices]

    def sums_of(indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        batch = collate([split[i] for i in indices], model.template).to(machine.device)
        with machine.autocast():
            losses = losses_of(model, batch, indices) if losses_of else target_losses(model, batch)
        rows, sums = batch.rows.cpu(), torch.zeros(len(indices), dtype=torch.float64)
        sums.index_add_(0, rows, losses.cpu().double())
        return sums.numpy(), np.bincount(rows.numpy(), minlength=len(indices))

    done, remedy = 0, _FEWER if model.is_sharded else SHORTER_DOCUMENTS
    for indices, (sums, counts) in fitting_batches(model, own, batch_size, sums_of, remedy):
        nats[list(indices)], targets[list(indices)] = sums, counts
        done += len(indices)
        if progress:
            progress(done, len(own))
    if model.is_sharded and machine.is_left_out(len(batches)):
        with machine.autocast():
            target_losses(model, collate([split[i] for i in batches[-1]], model.template).to(machine.device))
    total = machine.total(torch.from_numpy(np.stack([nats, targets])))  # each document was computed by one rank
    return SplitLoss(total[0].numpy(), total[1].numpy().astype(np.int64))
