"""Weights laid out as a CPU reads them fastest, while summaries are written: a step of few rows takes less time.

The products are oneDNN's own, used where torch says that it serves the machine. Tried with transformers 5.23.0.
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
LEAST = 2**18  # elements of a matrix: for smaller ones the call costs more than the layout saves
ROWS = 32  # what the layout is made for: a batch of documents, or of beams


@contextmanager
def packed(model: PreTrainedModel, machine: Machine) -> Iterator[None]:
    """On a CPU let linear layers multiply by copies of their weights in oneDNN's own layout: in fp32 the head alone.

    The weights stay as they are. Copies of all layers take as much memory as the model, in fp32 twice as much as in
    bf16; there the head's copy alone saves most of the time. Small matrices keep their own product, and nothing changes
    where oneDNN does not serve the machine.
    """
    dtype = TYPES.get(machine.precision)
    with ExitStack() as stack:
        if dtype is not None and machine.device.type == "cpu" and served(dtype):
            for layer in model.modules() if dtype == torch.bfloat16 else [model.get_output_embeddings()]:
                if _is_plain(layer) and layer.weight.numel() >= LEAST:
                    stack.enter_context(replaced(layer, _Product(layer, dtype)))
        yield


def _is_plain(layer: nn.Module | None) -> TypeGuard[nn.Linear | Conv1D]:
    """Whether a layer is a product of its matrix alone: a subclass may do more."""
    return type(layer) in (nn.Linear, Conv1D)


class _Product:
    """A layer's product and bias: [..., K] -> [..., N]."""

    def __init__(self, layer: nn.Linear | Conv1D, dtype: torch.dtype):
        weight: Tensor = layer.weight.detach()
        weight = weight if isinstance(layer, nn.Linear) else weight.t()  # Conv1D's is [K, N]
        self.dtype = dtype
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype).contiguous(), ROWS)
        self.bias = None if layer.bias is None else layer.bias.detach().to(dtype)

    def __call__(self, states: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(states.to(self.dtype), self.weight, self.bias, "none", [], "")


def served(dtype: torch.dtype) -> bool:
    """Whether torch offers oneDNN's product, and the machine multiplies the type by itself."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if dtype == torch.bfloat16:
        return cpu_multiplies_bf16()
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX")
