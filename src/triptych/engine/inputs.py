"""Inputs of the trunk: a batch as embeddings, with the virtual tokens inserted."""

from dataclasses import dataclass

import torch
from torch import Tensor

from triptych.contracts import AdaptedModel
from triptych.engine.batching import Batch
from triptych.measure.flops import WorkShape
from triptych.models.parts import embed


@dataclass(frozen=True)
class Inputs:
    """Inputs of the trunk, and the positions from which the targets are predicted.

    Attributes:
        embeddings: [B, P + T, D].
        rows, columns: the N positions from which a target is predicted; [N] each.
    """

    embeddings: Tensor
    rows: Tensor
    columns: Tensor


def assemble(adapted: AdaptedModel, batch: Batch) -> Inputs:
    """Embed a batch and insert the method's virtual tokens; positions include them."""
    tokens = embed(adapted.parts, batch.ids)
    if adapted.virtual_tokens is None:
        return Inputs(tokens, batch.rows, batch.columns)
    at = batch.document_ends if adapted.placement == "after" else torch.zeros_like(batch.document_ends)
    count = adapted.num_virtual_tokens
    columns = batch.columns + count * (batch.columns >= at[batch.rows])
    return Inputs(insert(tokens, adapted.virtual_tokens.weight, at), batch.rows, columns)


def insert(tokens: Tensor, virtual: Tensor, at: Tensor) -> Tensor:
    """Insert P vectors into every row before position `at`: [B, T, D], [P, D], [B] -> [B, P + T, D]."""
    rows, length, width = tokens.shape
    count = virtual.shape[0]
    both = torch.cat([tokens, virtual.to(tokens.dtype).expand(rows, -1, -1)], dim=1)
    place = torch.arange(length + count, device=tokens.device).expand(rows, -1)
    start = at[:, None]
    source = torch.where(
        place < start, place, torch.where(place < start + count, length + place - start, place - count)
    )
    return both.gather(1, source[:, :, None].expand(-1, -1, width))


def executed_shape(adapted: AdaptedModel, batch: Batch) -> WorkShape:
    """The shape of one pass over the batch: `(B, P + T, N, B S)`."""
    rows, length = batch.ids.shape
    return WorkShape(rows, length + adapted.num_virtual_tokens, batch.num_targets, rows * batch.most_targets)
