"""Attention for transformers' interface: at selected positions, in blocks of queries, or over shared documents.

`ready.probe_pruning` and `own_loop.own_loop_agrees` compare it with the model's own attention. Tested with transformers
5.23.0.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from triptych.engine.savings.dropout import drop, dropped
from triptych.engine.savings.probe import Unsupported

NAME = "triptych"
# queries at a time: small enough to skip nearly half of the scores, large enough for efficient matrix products
BLOCK = 128


@dataclass(frozen=True)
class Places:
    """The positions in each row at which a block's output is needed: [B, S], possibly with repeats."""

    columns: Tensor


class Selected(Exception):  # not an error: it carries the result out of the calling module
    """The output of attention at the positions of a `Places`: [B, S, H, D / H]."""

    def __init__(self, heads: Tensor):
        super().__init__("attention at chosen places")
        self.heads = heads


class AttendingCache(Protocol):
    """A cache that computes attention itself."""

    def attend(self, layer: int, query: Tensor, scaling: float) -> Tensor:
        """Attend with queries [rows, H, 1, D / H] to all keys so far: [rows, 1, H, D / H]."""


def install_attention(model: PreTrainedModel) -> None:
    """Make a model's blocks call `attend`, with the masks that transformers creates for its own fused attention."""
    register_attention()
    model.set_attn_implementation(NAME)


def register_attention() -> None:
    """Register `attend` with transformers; calling it again has no effect."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attention function for transformers' interface: queries [B, H, T, D / H] give [B, T, H, D / H].

    Args:
        module: the calling attention module.
        query: [B, H, T, D / H].
        key: [B, H, T, D / H]; there may be fewer heads.
        value: like `key`.
        attention_mask: as passed to transformers' own fused attention.
        options: `dropout` and `scaling`; `selection`, the positions needed; `attending`, a cache that computes
            attention; and anything else that the family passes.

    Raises:
        Selected: a selection is given; the exception carries the result.
        Unsupported: a cache computes attention, but the module does not know its layer index; or, with a selection or
            such a cache, the scores are not plain products of queries and keys.
    """
    selection: Places | None = options.pop("selection", None)
    attending: AttendingCache | None = options.pop("attending", None)
    dropout, scaling = options.pop("dropout", 0.0), options.pop("scaling", None)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if selection is not None or attending is not None:
        _refuse(options)
    if attending is not None:
        layer: Any = getattr(module, "layer_idx", None)
        if layer is None:
            raise Unsupported("its attention does not know which layer it is in")
        return attending.attend(layer, query, scale), None
    if selection is not None:
        columns = selection.columns[:, None, :, None].expand(-1, query.shape[1], -1, query.shape[3])
        chosen = query.gather(2, columns) * scale
        seen = _seen_from(selection.columns, attention_mask, query.shape[2], key.shape[2])
        raise Selected(_at_places(chosen, key, value, seen, dropout))
    plain = all(
        options.get(name) is None for name in ("position_bias", "softcap", "s_aux", "sliding_window", "is_causal")
    )
    causal = attention_mask is None and query.shape[2] == key.shape[2] and query.shape[2] > 1
    if causal and plain and query.dtype == torch.bfloat16 and query.device.type == "cpu":
        return blockwise(query, key, value, scale, dropout), None
    options |= {"dropout": dropout, "scaling": scaling}
    return sdpa_attention_forward(module, query, key, value, attention_mask, **options)


def _refuse(options: dict[str, Any]) -> None:
    """Refuse options that change scores: a cap affects only large scores, so a probe might miss it."""
    asked = [name for name in ("position_bias", "softcap", "s_aux") if options.get(name) is not None]
    if asked:
        raise Unsupported(f"its attention changes scores ({', '.join(asked)})")


def _seen_from(columns: Tensor, mask: Tensor | None, queries: int, keys: int) -> Tensor:
    """The mask of each selected position, [B, 1 or H, S, keys]: boolean, or a number to add to the scores."""
    if mask is None:
        last = columns + keys - queries
        return torch.arange(keys, device=columns.device) <= last[:, None, :, None]
    places = columns[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3])
    return mask.expand(len(columns), -1, -1, -1).gather(2, places)


def _at_places(chosen: Tensor, key: Tensor, value: Tensor, seen: Tensor, dropout: float) -> Tensor:
    """Attend with scaled queries [B, H, S, D / H] to all keys: [B, S, H, D / H]."""
    groups = chosen.shape[1] // key.shape[1]
    scores = chosen @ repeat_kv(key, groups).transpose(-1, -2)
    scores = scores.masked_fill(~seen, float("-inf")) if seen.dtype == torch.bool else scores + seen
    weights = functional.dropout(scores.softmax(-1), dropout) if dropout else scores.softmax(-1)
    return (weights.to(value.dtype) @ repeat_kv(value, groups)).transpose(1, 2)


def blockwise(query: Tensor, key: Tensor, value: Tensor, scale: float, dropout: float = 0.0) -> Tensor:
    """Causal attention by plain matrix products over blocks of queries, each with the keys up to its end.

    Query heads that share a key head form the rows of one product, so no key is repeated. In bf16 on the machines
    tested, torch's fused CPU kernel is about as fast in the forward pass and half as fast in the backward pass; with
    dropout, torch has no fused kernel and computes the upper triangle too.
    """
    return _Blockwise.apply(query, key, value, scale, dropout)


class _Blockwise(torch.autograd.Function):
    """dropout(softmax(scale Q K^T)) V, lower triangle only; with P the softmax, dS = P (dP - rowsum(P dP))."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float, dropout: float) -> Tensor:
        rows, heads, length, width = query.shape
        shared = key.shape[1]  # key heads, each shared by `heads // shared` query heads
        q = (query * scale).reshape(rows * shared, heads // shared, length, width)
        k, v = (states.reshape(rows * shared, length, width) for states in (key, value))
        out = torch.empty(rows, length, heads, width, dtype=query.dtype)
        future = torch.full((BLOCK, BLOCK), float("-inf"), dtype=query.dtype).triu(1)
        weights, masks = [], []
        for start in range(0, length, BLOCK):
            end = min(start + BLOCK, length)
            scores = torch.bmm(_folded(q, start, end), k[:, :end].transpose(1, 2))
            scores.view(len(q), -1, end - start, end)[..., start:] += future[: end - start, : end - start]
            weight = scores.softmax(-1)
            used = weight
            if dropout:
                used, mask = drop(weight, dropout)
                masks.append(mask)
            block = torch.bmm(used, v[:, :end])
            out[:, start:end] = block.view(rows, heads, end - start, width).transpose(1, 2)
            if ctx.needs_input_grad[0]:
                weights.append(weight)
        ctx.save_for_backward(q, k, v, *weights, *masks)
        ctx.scale, ctx.dropout = scale, dropout
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # type: ignore[override]
        q, k, v, *saved = ctx.saved_tensors
        rows, length, heads, width = gradient.shape
        g = gradient.transpose(1, 2).reshape(q.shape)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        starts = range(0, length, BLOCK)
        masks = saved[len(starts) :] or [None] * len(starts)
        for weight, mask, start in zip(saved, masks, starts, strict=False):
            end = min(start + BLOCK, length)
            came = _folded(g, start, end)
            used = weight if mask is None else dropped(weight, mask, ctx.dropout)
            dv[:, :end] += torch.bmm(used.transpose(1, 2), came)
            inner = torch.bmm(came, v[:, :end].transpose(1, 2))
            if mask is not None:
                inner = dropped(inner, mask, ctx.dropout)
            inner = torch.ops.aten._softmax_backward_data(inner, weight, -1, weight.dtype)
            dq[:, :, start:end] = torch.bmm(inner, k[:, :end]).view(len(q), -1, end - start, width)
            dk[:, :end] += torch.bmm(inner.transpose(1, 2), _folded(q, start, end))
        keys = (rows, -1, length, width)
        return dq.mul_(ctx.scale).view(rows, heads, length, width), dk.view(keys), dv.view(keys), None, None


def _folded(states: Tensor, start: int, end: int) -> Tensor:
    """A block of positions of the heads that share a key head: [N, heads, T, D / H] -> [N, heads * block, D / H]."""
    return states[:, :, start:end].reshape(len(states), -1, states.shape[3])
