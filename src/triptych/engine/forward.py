"""From a batch to its loss: virtual tokens put in, the trunk run, logits where the loss is read."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from triptych.contracts import AdaptedModel, ModelParts
from triptych.engine import stages
from triptych.engine.attention import Selection
from triptych.engine.batching import Batch
from triptych.engine.model import EngineModel
from triptych.engine.prefix import prefix_cache
from triptych.engine.probe import same_predictions
from triptych.engine.stages import Entry
from triptych.errors import ModelError
from triptych.measure.meter import WorkShape
from triptych.models.parts import embed

LOGITS_AT_ONCE = 2**26  # 256 MB in fp32; beyond it the head is computed a second time in the backward pass


@dataclass(frozen=True)
class Inputs:
    """What the trunk reads, and where the targets' predictions stand in it.

    Attributes:
        embeddings: [B, P + T, D].
        rows, columns: the N places from which a target is predicted; [N] each.
    """

    embeddings: Tensor
    rows: Tensor
    columns: Tensor


def assemble(adapted: AdaptedModel, batch: Batch) -> Inputs:
    """Put the virtual tokens where the method wants them; positions run on through them."""
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


def target_hidden(model: EngineModel, batch: Batch) -> Tensor:
    """Final hidden states of every target: [N, D]. Where the model can, its last block runs at these places alone."""
    adapted, parts = model.adapted, model.parts
    inputs = assemble(adapted, batch)
    if model.prunes:
        entry = stages.enter(parts, inputs.embeddings, len(parts.blocks) - 1)
        return stages.finish(parts, tail_states(parts, entry, inputs, batch))
    return parts.trunk(**_read(adapted, inputs)).last_hidden_state[inputs.rows, inputs.columns]


def tail_states(parts: ModelParts, entry: Entry, inputs: Inputs, batch: Batch) -> Tensor:
    """The last block at the targets alone, from what enters it: [N, D] before the final norm."""
    columns = torch.zeros(len(batch.ids), batch.most_targets, dtype=torch.long, device=batch.ids.device)
    columns = columns.index_put((inputs.rows, batch.slots), inputs.columns)
    return stages.tail(parts, entry, inputs.rows, inputs.columns, Selection(columns), batch.slots)


def target_logits(model: EngineModel, batch: Batch) -> Tensor:
    """Logits of every target: [N, V].

    On the plain path logits are computed everywhere through the model's own forward, then selected; else only where
    they are read. Right-padded rows need no real mask: a causal model never looks to the right, and nothing is read at
    the padding. A mask of ones says so, and lets attention take its causal path.
    """
    if model.can.logits_at_targets:
        return model.parts.head(target_hidden(model, batch))
    inputs = assemble(model.adapted, batch)
    logits = model.parts.model(**_read(model.adapted, inputs)).logits
    return logits[inputs.rows, inputs.columns]


def _read(adapted: AdaptedModel, inputs: Inputs) -> dict[str, Any]:
    """What the trunk, and the model around it, is called with."""
    rows, length, _ = inputs.embeddings.shape
    seen = torch.ones(rows, adapted.prefix_length + length, dtype=torch.long, device=inputs.embeddings.device)
    return {
        "inputs_embeds": inputs.embeddings,
        "attention_mask": seen,
        "past_key_values": prefix_cache(adapted, rows),
        "use_cache": False,
    }


def target_losses(model: EngineModel, batch: Batch) -> Tensor:
    """Negative log-likelihood of every target in nats, in fp32: [N]."""
    if model.can.logits_at_targets:
        return read_losses(model.parts.head, target_hidden(model, batch), batch.targets)
    return functional.cross_entropy(target_logits(model, batch).float(), batch.targets, reduction="none")


def read_losses(head: nn.Linear, hidden: Tensor, targets: Tensor) -> Tensor:
    """The head and the loss, at most `LOGITS_AT_ONCE` logits at a time: [N, D], [N] -> [N], in fp32."""
    rows = places_at_once(head)
    pieces = list(zip(hidden.split(rows), targets.split(rows), strict=True))
    if len(pieces) == 1:
        return _losses(head, hidden, targets)
    if not torch.is_grad_enabled():
        return torch.cat([_losses(head, *piece) for piece in pieces])
    return torch.cat([checkpoint(_losses, head, *piece, use_reentrant=False) for piece in pieces])


def places_at_once(head: nn.Linear) -> int:
    """Places whose logits are computed together: with more of them, the head runs a second time in the backward
    pass."""
    return max(LOGITS_AT_ONCE // head.out_features, 1)


def _losses(head: nn.Linear, hidden: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(head(hidden).float(), targets, reduction="none")


def executed_shape(adapted: AdaptedModel, batch: Batch) -> WorkShape:
    """`(B, P + T, N, B S)`: what one pass over the batch works on."""
    rows, length = batch.ids.shape
    return WorkShape(rows, length + adapted.num_virtual_tokens, batch.num_targets, rows * batch.most_targets)


@torch.no_grad()
def head_is_plain(adapted: AdaptedModel) -> bool:
    """Whether the head applied to the trunk's output is all there is to this family's logits (no soft cap, no scaling).

    Raises:
        ModelError: the logits are not finite, so that nothing can be said.
    """
    device = adapted.parts.token_embedding.weight.device
    ids = torch.arange(min(8, adapted.parts.vocabulary_size), device=device)[None]
    embeddings = embed(adapted.parts, ids)
    own = adapted.parts.model(inputs_embeds=embeddings, use_cache=False).logits
    if not own.isfinite().all():
        raise ModelError(not_finite(type(adapted.parts.model).__name__, "logits"))
    taken = adapted.parts.head(adapted.parts.trunk(inputs_embeds=embeddings, use_cache=False).last_hidden_state)
    return same_predictions(taken, own) and torch.allclose(own, taken, rtol=1e-5, atol=1e-5)


def not_finite(name: str, what: str) -> str:
    """The message for a model that computes no finite numbers before anything was trained."""
    return (
        f"The {what} of {name} are NaN or infinite before anything is trained: its weights are damaged, or too large "
        "for their precision. Give another copy of the model, or set training.precision=fp32."
    )
