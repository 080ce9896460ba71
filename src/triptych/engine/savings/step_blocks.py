"""Run one new token per beam through a block, with fewer calls than the family's own forward.

Calling small operations takes most of the time of a step. It supports pre-norm blocks whose attention gets queries,
keys and values from one product or three, with or without rotary positions and norms of each head's queries and keys
(Qwen3). `own_loop.step_blocks_agree` compares it with the blocks' own forward. Tested with transformers 5.23.0.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from triptych.contracts import ModelParts
from triptych.engine.savings.attention import AttendingCache
from triptych.engine.savings.gated import as_function
from triptych.engine.savings.partial_forward import anatomy
from triptych.engine.savings.probe import Unsupported
from triptych.engine.savings.replacement import replaced


class StepCache(AttendingCache, Protocol):
    """A cache that keeps a step's keys and values and answers its queries."""

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int) -> tuple[Tensor, Tensor]:
        """Keep keys and values, [rows, H_kv, 1, D / H] each."""


class Rotation:
    """Rotary positions (Su et al. 2021): x cos + rotated(x) sin, with the signs folded into the sine once per step."""

    def __init__(self) -> None:
        self._sine, self._signed = torch.empty(0), torch.empty(0)

    def __call__(self, states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Rotate the heads of new tokens: [R, H, D / H], with angles [R, 1, D / H]."""
        half = states.shape[-1] // 2
        if sine is not self._sine:
            self._sine, self._signed = sine, torch.cat((-sine[..., :half], sine[..., half:]), -1)
        return torch.addcmul(states * cosine, states.roll(half, -1), self._signed)


@dataclass(frozen=True)
class StepBlock:
    """A block's forward; in a step of the own loop, h = x + attention(first(x)), then h + mlp(second(h))."""

    own: Callable[..., Tensor]  # used for whole documents
    first: Callable[[Tensor], Tensor]
    projections: tuple[nn.Module, ...]  # one for queries, keys and values together, or one for each
    norms: tuple[Callable[[Tensor], Tensor], ...]  # for each head's queries and keys, or empty
    output: nn.Module
    second: Callable[[Tensor], Tensor]
    mlp: nn.Module
    layer: int
    heads: int  # H
    size: int  # D / H
    scaling: float
    rotation: Rotation  # shared by all blocks

    def __call__(self, states: Tensor, *rest: Any, **named: Any) -> Tensor:
        """Hidden states of new tokens, [R, 1, D], if a cache attends; otherwise the block's own output."""
        cache: StepCache | None = named.get("attending")
        if cache is None:
            return self.own(states, *rest, **named)
        query, keys, values = self._heads(self.first(states), named.get("position_embeddings"))
        cache.update(keys, values, self.layer)
        heads = cache.attend(self.layer, query, self.scaling)
        states = states + self.output(heads.flatten(2))
        return states + self.mlp(self.second(states))

    def _heads(self, states: Tensor, angles: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of new tokens: [R, 1, D] -> [R, H, 1, D / H], keys and values with H_kv."""
        made = [projection(states) for projection in self.projections]
        joined = (made[0] if len(made) == 1 else torch.cat(made, -1)).view(len(states), -1, self.size)
        groups = (joined.shape[1] - self.heads) // 2
        turned, values = joined.split((self.heads + groups, groups), 1)
        if self.norms:
            several = turned.split((self.heads, groups), 1)
            turned = torch.cat([norm(states) for norm, states in zip(self.norms, several, strict=True)], 1)
        if angles is not None:
            if not isinstance(angles, tuple) or len(angles) != 2:
                raise Unsupported("its rotary positions are not a cosine and a sine")
            turned = self.rotation(turned, *angles)
        query, keys = turned.split((self.heads, groups), 1)
        return query[:, :, None], keys[:, :, None], values[:, :, None]


@contextmanager
def step_blocks(parts: ModelParts) -> Iterator[bool]:
    """A context in which blocks run the own loop's steps as `StepBlock`s, if all can be; gives whether they do."""
    rotation = Rotation()
    found = [_step_block(parts, block, rotation) for block in parts.blocks]
    steps = [step for step in found if step is not None]
    taken_apart = len(steps) == len(found)
    with ExitStack() as stack:
        if taken_apart:
            for block, step in zip(parts.blocks, steps, strict=True):
                stack.enter_context(replaced(block, step))
        yield taken_apart


def _step_block(parts: ModelParts, block: nn.Module, rotation: Rotation) -> StepBlock | None:
    """The `StepBlock` of a block; None if its structure is not supported."""
    inside = anatomy(block, parts.hidden_size)
    if inside is None:
        return None
    projections: list[Any] = [getattr(inside.attention, name, None) for name in parts.attention_projections]
    about: list[Any] = [getattr(inside.attention, name, None) for name in ("layer_idx", "head_dim", "scaling")]
    if len(projections) not in (1, 3) or any(each is None for each in (*projections, *about)):
        return None
    layer, size, scaling = about
    norms = [getattr(inside.attention, name) for name in ("q_norm", "k_norm") if hasattr(inside.attention, name)]
    return StepBlock(
        own=block.forward,
        first=as_function(inside.first),
        projections=tuple(projections),
        norms=tuple(as_function(norm) for norm in norms),
        output=inside.output,
        second=as_function(inside.second),
        mlp=inside.mlp,
        layer=layer,
        heads=parts.model.config.get_text_config().num_attention_heads,
        size=size,
        scaling=scaling,
        rotation=rotation,
    )
