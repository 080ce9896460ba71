"""Blocks computed again in the backward pass: until then only what enters each block is kept, not what it computes.

It is the same arithmetic, done twice: losses and gradients have the same bits, dropout included. It takes more time and
is used only where memory ran out, after a probe (`ready.probe_recomputation`). Tried with transformers 5.23.0.
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
    """Inside, blocks are called through `recomputed`; the backward pass may come later.

    The gradient checkpointing of transformers does not serve here: it works on modules in training mode alone, and
    frozen blocks are in eval mode.
    """
    with ExitStack() as stack:
        for block in parts.blocks:
            stack.enter_context(replaced(block, partial(recomputed, block, block.forward)))
        yield


def recomputed(block: nn.Module, forward: Callable, *inputs: Any, **named: Any) -> Any:
    """`forward(*inputs, **named)`, of which the inputs alone are kept for the backward pass, which calls it again.

    Without gradients, or where neither the block nor an input takes part in the backward pass, nothing would be kept
    anyway, and it is only called.

    Args:
        block: the module whose parameters it uses.
        forward: what is computed; a cache among its inputs is as it was before in each call, and stays so.
        inputs: its arguments.
        named: those by name.
    """
    values = (*inputs, *named.values())
    if not torch.is_grad_enabled() or not (
        any(parameter.requires_grad for parameter in block.parameters()) or any(map(_may_need_gradient, values))
    ):
        return forward(*inputs, **named)

    def call(*values: Any) -> Any:
        fresh = [_copied(value) if isinstance(value, Cache) else value for value in values]
        return forward(*fresh[: len(inputs)], **dict(zip(named, fresh[len(inputs) :], strict=True)))

    # all by position: tensors among these say on which device random states are kept
    return checkpoint(call, *values, use_reentrant=False)


def _may_need_gradient(value: Any) -> bool:
    """Whether an input is a tensor that requires a gradient, or a cache, which may hold a trained prefix."""
    return isinstance(value, Cache) or (isinstance(value, Tensor) and value.requires_grad)


def _copied(cache: Cache) -> Cache:
    """A cache with the same keys and values, which may grow by itself: growing makes new tensors."""
    own = copy.copy(cache)
    own.layers = [copy.copy(layer) for layer in cache.layers]
    return own
