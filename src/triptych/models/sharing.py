"""A model that is there once and is used as several."""

import copy
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from triptych.contracts import AdaptedModel


def share_tensors(model: PreTrainedModel) -> PreTrainedModel:
    """A model of the same structure whose tensors are the very tensors of `model`; tied ones stay tied.

    A method may put layers into it, and a parameter of it may be given another tensor: `model` does not change. Nothing
    may write into its tensors in place before `own_trained_tensors` has replaced them.
    """
    memo: dict[int, Any] = {id(buffer): buffer for buffer in model.buffers()}
    memo |= {id(parameter): nn.Parameter(parameter.detach(), requires_grad=False) for parameter in model.parameters()}
    return copy.deepcopy(model, memo)


def own_trained_tensors(adapted: AdaptedModel) -> None:
    """Give what is trained memory of its own, in fp32, so that loading it leaves the shared tensors as they are."""
    for parameter in adapted.parts.model.parameters():
        if parameter.requires_grad:
            parameter.data = torch.empty_like(parameter.data, dtype=torch.float32)
