"""From a batch to its loss: run the trunk and compute logits only at the targets."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from triptych.contracts import AdaptedModel
from triptych.engine.batching import Batch
from triptych.engine.inputs import Inputs, assemble
from triptych.engine.model import EngineModel
from triptych.engine.prefix import prefix_cache
from triptych.engine.savings import partial_forward

LOGITS_AT_ONCE = 2**26  # 256 MB in fp32; with more, the head runs a second time in the backward pass


def target_hidden(model: EngineModel, batch: Batch) -> Tensor:
    """Final hidden states at every target: [N, D]. If the model can be pruned, its last block runs only there."""
    adapted, parts = model.adapted, model.parts
    inputs = assemble(adapted, batch)
    if model.prunes:
        return partial_forward.hidden_at_targets(parts, inputs, batch, model.recomputes)
    return parts.trunk(**_read(adapted, inputs)).last_hidden_state[inputs.rows, inputs.columns]


def target_logits(model: EngineModel, batch: Batch) -> Tensor:
    """Logits at every target: [N, V].

    On the plain path, the model's own forward computes logits at all positions, and the targets' are selected;
    otherwise they are computed only at the targets. Right-padded rows need no real mask: a causal model never attends
    to the right, and outputs at padding are not used. A mask of ones lets attention take its causal path.
    """
    if model.can.logits_at_targets:
        return model.parts.head(target_hidden(model, batch))
    inputs = assemble(model.adapted, batch)
    logits = model.parts.model(**_read(model.adapted, inputs)).logits
    return logits[inputs.rows, inputs.columns]


def _read(adapted: AdaptedModel, inputs: Inputs) -> dict[str, Any]:
    """Keyword arguments for the trunk or the model around it."""
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

    def losses() -> Tensor:
        if model.can.logits_at_targets:
            return read_losses(model.parts.head, target_hidden(model, batch), batch.targets)
        return functional.cross_entropy(target_logits(model, batch).float(), batch.targets, reduction="none")

    with model.computing():
        return model.run(losses)


def read_losses(head: nn.Linear, hidden: Tensor, targets: Tensor) -> Tensor:
    """Apply the head and the loss, at most `LOGITS_AT_ONCE` logits at a time: [N, D], [N] -> [N], in fp32."""
    rows = places_at_once(head)
    pieces = list(zip(hidden.split(rows), targets.split(rows), strict=True))
    if len(pieces) == 1:
        return _losses(head, hidden, targets)
    if not torch.is_grad_enabled():
        return torch.cat([_losses(head, *piece) for piece in pieces])
    return torch.cat([checkpoint(_losses, head, *piece, use_reentrant=False) for piece in pieces])


def places_at_once(head: nn.Linear) -> int:
    """Number of positions whose logits are computed together; with more, the head runs again in the backward pass."""
    return max(LOGITS_AT_ONCE // head.out_features, 1)


def _losses(head: nn.Linear, hidden: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(head(hidden).float(), targets, reduction="none")


def not_finite(name: str, what: str) -> str:
    """The error message for a model whose outputs are not finite before training."""
    return (
        f"The {what} of {name} are NaN or infinite before training: its weights are damaged or too large for their "
        "precision. Give another copy of the model, or set training.precision=fp32."
    )
