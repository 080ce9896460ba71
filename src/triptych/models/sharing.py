"""Models that share the tensors of another model."""

import copy
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from triptych.contracts import AdaptedModel
from triptych.models.quantization import quantized_layers


def share_tensors(model: PreTrainedModel) -> PreTrainedModel:
    """A model of the same structure that shares the tensors of `model`; tied ones stay tied.

    Inserting layers or assigning a parameter another tensor does not change `model`. Nothing may write to the tensors
    in place before `own_trained_tensors` has replaced the trained ones.
    """
    memo: dict[int, Any] = {id(buffer): buffer for buffer in model.buffers()}
    memo |= {id(parameter): _shared(parameter) for parameter in model.parameters()}
    states = [layer.weight.quant_state for _, layer in quantized_layers(model)]  # the scales of 4-bit weights
    memo |= {id(state): state for state in states}
    return copy.deepcopy(model, memo)


def _shared(parameter: nn.Parameter) -> nn.Parameter:
    """A frozen parameter with the same tensor; a quantized one keeps its scales."""
    if hasattr(parameter, "quant_state"):
        return copy.copy(parameter)
    return nn.Parameter(parameter.detach(), requires_grad=False)


def own_trained_tensors(adapted: AdaptedModel) -> None:
    """Give trained parameters separate fp32 memory, so that loading them leaves the shared tensors unchanged."""
    for parameter in adapted.parts.model.parameters():
        if parameter.requires_grad:
            parameter.data = torch.empty_like(parameter.data, dtype=torch.float32)
