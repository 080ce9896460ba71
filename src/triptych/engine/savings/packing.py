"""Reorder weights into the fastest CPU layout during generation, where steps have few rows.

The products are oneDNN's, used if torch reports that it supports the machine. Tested with transformers 5.23.0.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeGuard

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from triptych.engine.savings.replacement import replaced
from triptych.machine import Machine, cpu_multiplies_bf16

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LEAST = 2**18  # elements of a matrix: for smaller ones, the call costs more than the layout saves
ROWS = 32  # rows that the layout is optimized for: a batch of documents or beams


@contextmanager
def packed(model: PreTrainedModel, machine: Machine) -> Iterator[None]:
    """On a CPU, make linear layers use copies of their weights in oneDNN's layout; in fp32, only the head.

    The weights are unchanged. Copies of all layers take as much memory as the model, twice as much in fp32 as in bf16;
    in fp32, the head's copy alone saves most of the time. Small matrices keep their own product, and nothing changes if
    oneDNN does not support the machine.
    """
    dtype = TYPES.get(machine.precision)
    with ExitStack() as stack:
        if dtype is not None and machine.device.type == "cpu" and served(dtype):
            for layer in model.modules() if dtype == torch.bfloat16 else [model.get_output_embeddings()]:
                if _is_plain(layer) and layer.weight.numel() >= LEAST:
                    stack.enter_context(replaced(layer, _Product(layer, dtype)))
        yield


def _is_plain(layer: nn.Module | None) -> TypeGuard[nn.Linear | Conv1D]:
    """Whether a layer only multiplies by its matrix: a subclass may do more."""
    return type(layer) in (nn.Linear, Conv1D)


class _Product:
    """A layer's product plus bias: [..., K] -> [..., N]."""

    def __init__(self, layer: nn.Linear | Conv1D, dtype: torch.dtype):
        weight: Tensor = layer.weight.detach()
        weight = weight if isinstance(layer, nn.Linear) else weight.t()  # Conv1D's is [K, N]
        self.dtype = dtype
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype).contiguous(), ROWS)
        self.bias = None if layer.bias is None else layer.bias.detach().to(dtype)

    def __call__(self, states: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(states.to(self.dtype), self.weight, self.bias, "none", [], "")


def served(dtype: torch.dtype) -> bool:
    """Whether torch offers oneDNN's product and the machine multiplies this type natively."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if dtype == torch.bfloat16:
        return cpu_multiplies_bf16()
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX")
