"""Fast CPU dropout from random integers, where torch draws one float per element.

It is dropout by construction, only with different draws, so it needs no probe; it is used only in bf16. Tested with
transformers 5.23.0.
"""

import torch
from torch import Tensor, nn

_BITS = 32


def drop(states: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """Inverted dropout: `states * kept / (1 - rate)`, and the mask of what was kept.

    Each element draws 32 bits from torch's generator and is dropped if they are below round(rate * 2^32): exact to
    2^-33.
    """
    drawn = torch.empty((states.numel() + 1) // 2, dtype=torch.int64).random_(-(2**63), None).view(torch.int32)
    kept = (drawn[: states.numel()] >= round(rate * 2**_BITS) - 2 ** (_BITS - 1)).view(states.shape)
    return dropped(states, kept, rate), kept


def dropped(states: Tensor, kept: Tensor, rate: float) -> Tensor:
    """Apply the same dropout mask to other states."""
    return torch.ops.aten.native_dropout_backward(states, kept, 1 / (1 - rate))


class QuickDropout(nn.Dropout):
    """`nn.Dropout` computed by `drop`."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply dropout in training mode."""
        return drop(input, self.p)[0] if self.training and 0 < self.p < 1 else super().forward(input)


def use_quick_dropout(model: nn.Module) -> None:
    """Make each `nn.Dropout` of a model a `QuickDropout`.

    The modules stay the same objects with a different class, because training modes are tracked by identity and a copy
    of the model must use the same dropout.
    """
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = QuickDropout
