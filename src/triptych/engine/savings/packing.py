"""Weights laid out as a CPU reads them fastest, while summaries are written: steps of few rows take half as long.

The products are oneDNN's own, used where torch says that it serves the machine. Tried with transformers 5.23.0.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from triptych.engine.savings.replacement import replaced
from triptych.machine import Machine, cpu_multiplies_bf16

ROWS = 32  # what the layout is made for: a batch of documents, or of beams


@contextmanager
def packed(model: nn.Module, machine: Machine) -> Iterator[None]:
    """In bf16 on a CPU let linear layers multiply by copies of their weights in oneDNN's own layout.

    The weights stay as they are. Nothing changes in fp32, where the copies would take as much memory as the model, and
    where oneDNN does not serve the machine.
    """
    served = machine.device.type == "cpu" and machine.precision == "bf16" and _served()
    layers: list[Any] = [m for m in model.modules() if served and type(m) in (nn.Linear, Conv1D)]
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(replaced(layer, _Product(layer)))
        yield


class _Product:
    """A layer's product and bias: [..., K] -> [..., N] in bf16."""

    def __init__(self, layer: nn.Linear | Conv1D):
        weight: Tensor = layer.weight.detach()
        weight = weight if isinstance(layer, nn.Linear) else weight.t()  # Conv1D's is [K, N]
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16().contiguous(), ROWS)
        self.bias = None if layer.bias is None else layer.bias.detach().bfloat16()

    def __call__(self, states: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(states.bfloat16(), self.weight, self.bias, "none", [], "")


def _served() -> bool:
    """Whether the machine multiplies bf16 by itself, and torch offers oneDNN's product."""
    return cpu_multiplies_bf16() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
