"""Trained keys and values for every layer as a module."""

from typing import Any

import torch
from torch import Tensor, nn


class LearnedPrefix(nn.Module):
    """Trained keys and values for every layer, stored by peft's `PrefixEncoder` as [P, L x 2 x D].

    Args:
        config: peft's `PrefixTuningConfig`: number of tokens and layers, key-value heads, and D over all heads.
        start: initial keys and values, [L, 2, H, P, D / H].
    """

    def __init__(self, config: Any, start: Tensor):
        from peft import PrefixEncoder

        super().__init__()
        layers, _, heads, count, width = start.shape
        self._shape = (count, layers, 2, heads, width)
        with start.device:
            self.encoder = PrefixEncoder(config)
        with torch.no_grad():
            self.encoder.embedding.weight.copy_(start.permute(3, 0, 1, 2, 4).reshape(count, -1))

    def forward(self) -> Tensor:
        """Keys and values, [L, 2, H, P, D / H]."""
        return self.encoder.embedding.weight.view(self._shape).permute(1, 2, 3, 0, 4)
