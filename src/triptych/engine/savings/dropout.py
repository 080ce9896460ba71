"""Dropout on a CPU at the price of a few integers: torch draws a float for each place, one after another.

It is dropout by construction, with other draws, and so needs no probe; it is used in bf16 alone. Tried with
transformers 5.23.0.
"""

import torch
from torch import Tensor, nn

_BITS = 32


def drop(states: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """Inverted dropout: `states * kept / (1 - rate)`, and the mask of what was kept.

    Each place draws 32 bits from torch's generator, and is dropped where they are below round(rate * 2^32): exact
    to 2^-33.
    """
    drawn = torch.empty((states.numel() + 1) // 2, dtype=torch.int64).random_(-(2**63), None).view(torch.int32)
    kept = (drawn[: states.numel()] >= round(rate * 2**_BITS) - 2 ** (_BITS - 1)).view(states.shape)
    return dropped(states, kept, rate), kept


def dropped(states: Tensor, kept: Tensor, rate: float) -> Tensor:
    """The same places dropped from other states."""
    return torch.ops.aten.native_dropout_backward(states, kept, 1 / (1 - rate))


class QuickDropout(nn.Dropout):
    """`nn.Dropout` by `drop`."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training mode."""
        return drop(input, self.p)[0] if self.training and 0 < self.p < 1 else super().forward(input)


def use_quick_dropout(model: nn.Module) -> None:
    """Let each `nn.Dropout` of a model draw so.

    The modules stay the same objects, of another class: which of them train is known by identity, and a copy of the
    model drops in the same way.
    """
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = QuickDropout
