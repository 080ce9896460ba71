"""Recompute blocks in the backward pass (activation checkpointing): only the inputs of each block are kept.

The same arithmetic is done twice: losses and gradients are bit-identical, including dropout. It takes more time and is
used only if memory ran out, after a probe (`ready.probe_recomputation`). Tested with transformers 5.23.0.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Cache

from triptych.contracts import ModelParts
from triptych.engine.savings.replacement import replaced


@contextmanager
def recomputing_blocks(parts: ModelParts) -> Iterator[None]:
    """A context in which blocks are called through `recomputed`; the backward pass may come later.

    transformers' gradient checkpointing does not work here: it applies only to modules in training mode, and frozen
    blocks are in eval mode.
    """
    with ExitStack() as stack:
        for block in parts.blocks:
            stack.enter_context(replaced(block, partial(recomputed, block, block.forward)))
        yield


def recomputed(block: nn.Module, forward: Callable, *inputs: Any, **named: Any) -> Any:
    """Call `forward(*inputs, **named)`, keeping only its inputs for the backward pass, which calls it again.

    Without gradients, or if neither the block nor an input takes part in the backward pass, nothing would be kept
    anyway, so it is simply called.

    Args:
        block: the module whose parameters `forward` uses.
        forward: the function to compute; each call gets a copy of any cache among its inputs, which stays unchanged.
        inputs: its positional arguments.
        named: its keyword arguments.
    """
    values = (*inputs, *named.values())
    if not torch.is_grad_enabled() or not (
        any(parameter.requires_grad for parameter in block.parameters()) or any(map(_may_need_gradient, values))
    ):
        return forward(*inputs, **named)

    def call(*values: Any) -> Any:
        fresh = [_copied(value) if isinstance(value, Cache) else value for value in values]
        return forward(*fresh[: len(inputs)], **dict(zip(named, fresh[len(inputs) :], strict=True)))

    # all positional: checkpoint takes the device of random states from tensors among these
    return checkpoint(call, *values, use_reentrant=False)


def _may_need_gradient(value: Any) -> bool:
    """Whether an input is a tensor that requires a gradient, or a cache, which may contain a trained prefix."""
    return isinstance(value, Cache) or (isinstance(value, Tensor) and value.requires_grad)


def _copied(cache: Cache) -> Cache:
    """A cache with the same keys and values that can grow independently, because growing creates new tensors."""
    own = copy.copy(cache)
    own.layers = [copy.copy(layer) for layer in cache.layers]
    return own
