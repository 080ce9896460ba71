"""Weights laid out as a CPU reads them fastest, while summaries are written: steps of few rows take half as long."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from triptych.runtime import Runtime

ROWS = 32  # what the layout is made for: a batch of documents, or of beams


@contextmanager
def packed(model: nn.Module, runtime: Runtime) -> Iterator[None]:
    """Linear layers multiply by copies of their weights in oneDNN's own layout; the weights themselves stay as they are.

    Where that library does not serve the device or the precision, nothing changes. The copies take the weights' memory again.
    """
    dtype = torch.bfloat16 if runtime.precision == "bf16" else torch.float32
    served = runtime.device.type == "cpu" and _served(dtype)
    layers: list[Any] = [m for m in model.modules() if served and type(m) in (nn.Linear, Conv1D)]
    try:
        for layer in layers:
            layer.forward = _Product(layer, dtype)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


class _Product:
    """A layer's product and bias: [..., K] -> [..., N]."""

    def __init__(self, layer: nn.Linear | Conv1D, dtype: torch.dtype):
        weight: Tensor = layer.weight.detach()
        weight = weight if isinstance(layer, nn.Linear) else weight.t()  # Conv1D's is [K, N]
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype).contiguous(), ROWS)
        self.bias = None if layer.bias is None else layer.bias.detach().to(dtype)
        self.dtype = dtype

    def __call__(self, states: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(states.to(self.dtype), self.weight, self.bias, "none", [], "")


def _served(dtype: torch.dtype) -> bool:
    """Whether torch was built with oneDNN, and the machine multiplies in this precision by itself."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    return dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
