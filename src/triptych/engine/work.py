"""How much arithmetic a training pass is: counted by dispatch on a copy of the model that has no weights."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from triptych import meter
from triptych.contracts import AdaptedModel
from triptych.engine.batching import Batch
from triptych.engine.forward import executed_shape, target_losses

SHAPES = ((24, 2), (48, 2), (24, 16), (96, 9), (64, 30))  # (tokens, targets): four would do, the rest check


def training_flops(sketch: AdaptedModel, *, plain: bool) -> meter.FlopModel:
    """FLOPs of a forward and backward pass by its shape.

    Args:
        sketch: the adapted model on the `meta` device, with plain ("eager") attention: not all fused kernels are counted.
        plain: on the path that computes every logit.

    Raises:
        ArithmeticError: the passes do not follow the formula of `meter.FlopModel`.
    """
    passes = []
    for length, targets in SHAPES:
        batch = _blank(length, targets)
        with FlopCounterMode(display=False) as counter:
            target_losses(sketch, batch, plain=plain).sum().backward()
        passes.append((work_shape(sketch, batch, plain=plain), counter.get_total_flops()))
    return meter.fit_flops(passes)


def work_shape(adapted: AdaptedModel, batch: Batch, *, plain: bool) -> tuple[int, int, int]:
    """`(rows, positions, logits)` of a pass over a batch."""
    rows, positions, targets = executed_shape(adapted, batch)
    return rows, positions, rows * positions if plain else targets


def _blank(length: int, targets: int) -> Batch:
    def nothing(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.long, device="meta")

    return Batch(
        ids=nothing(1, length), starts=0, document_ends=nothing(1), lengths=nothing(1), rows=nothing(targets),
        columns=nothing(targets), targets=nothing(targets),
    )  # fmt: skip
