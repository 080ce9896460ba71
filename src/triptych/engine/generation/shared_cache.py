"""Key-value cache for generation: a document's keys and values are computed once and shared by its beams.

`own_loop.own_loop_agrees` compares its results with the model's own forward. Tested with transformers 5.23.0.
"""

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

STEPS = 16  # steps by which a buffer grows; positions not yet written are masked


class SharedCache(DynamicCache):
    """Keys and values of B documents with K beams each, in one buffer per layer.

    A buffer contains those of the document, followed by K positions for each step.

    In the first pass, over right-padded documents, `update` keeps what it is given. After `open`, it writes each beam's
    new token to its position, and `attend` answers a document's beams together, with each beam seeing only its own
    history: documents are not copied for their beams, and if a beam continues another one, only the mask changes.
    Buffers are used as a whole, because a product of a slice would copy it first.

    Args:
        config: the model's configuration.
        beams: K.
        prefix: learned keys and values that come before every layer's own, [L, 2, H_kv, P, D / H], or None.
    """

    def __init__(self, config: PreTrainedConfig, beams: int, prefix: Tensor | None = None):
        super().__init__(config=config)
        self._beams, self._used = beams, 0
        self._prefix = prefix
        self._length = 0  # P + T, after the documents are read
        self._states: list[tuple[Tensor, Tensor]] = []  # [B, H_kv, P + T + K steps, D / H] each
        self._mask = torch.empty(0)  # 0 where a beam may attend, else minus infinity: [B, K, P + T + K steps]
        self._spread = torch.empty(0)  # a step's mask for all heads, made when the first layer asks for it

    @property
    def prefix_length(self) -> int:
        """P."""
        return self._prefix.shape[3] if self._prefix is not None else 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions before a new token, including the padding of shorter documents: positions are given explicitly."""
        return self._length + self._used if self._length else self.prefix_length

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """The number of keys that a pass sees, and their offset."""
        return self.get_seq_length() + query_length, 0

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """The offset of the queries of a pass."""
        return self.get_seq_length()

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args, **kwargs
    ) -> tuple[Tensor, Tensor]:
        """Keep new keys and values; return all of them before `open`, only the new ones after it."""
        if not self._length:
            keys, values = (
                self._begin(states, layer_idx, part) for part, states in enumerate((key_states, value_states))
            )
            self._states.append((keys, values))
            read = self.prefix_length + key_states.shape[2]
            return keys[:, :, :read], values[:, :, :read]
        at = self._length + self._used * self._beams
        for buffer, states in zip(self._states[layer_idx], (key_states, value_states), strict=True):
            documents, heads, _, size = buffer.shape
            buffer[:, :, at : at + self._beams] = states.view(documents, self._beams, heads, size).transpose(1, 2)
        return key_states, value_states

    def _begin(self, states: Tensor, layer: int, part: int) -> Tensor:
        """A buffer that starts with the prefix and a document's keys or values."""
        rows, heads, length, size = states.shape
        buffer = states.new_zeros(rows, heads, self.prefix_length + length + self._beams * STEPS, size)
        if self._prefix is not None:
            buffer[:, :, : self.prefix_length] = self._prefix[layer, part].to(states.dtype)
        buffer[:, :, self.prefix_length : self.prefix_length + length] = states
        return buffer

    def open(self, lengths: Tensor) -> None:
        """Mark the documents as read: from now on, one token per beam follows at a time.

        Args:
            lengths: number of positions in each document, without the prefix, [B].

        Raises:
            ValueError: the model kept its state elsewhere.
        """
        if not self._states:
            raise ValueError("no layer kept keys and values here")
        keys = self._states[0][0]
        self._length = keys.shape[2] - self._beams * STEPS
        hidden = torch.arange(keys.shape[2], device=lengths.device) >= lengths[:, None] + self.prefix_length
        mask = keys.new_zeros(hidden.shape).masked_fill(hidden, float("-inf"))
        self._mask = mask[:, None].expand(-1, self._beams, -1)

    def follow(self, rows: Tensor) -> None:
        """Start a step: every beam sees what the beam that it continues saw, and its own new token.

        Args:
            rows: the row of the beam that each one continues, in the same document, [B K].
        """
        beams, at = self._beams, self._length + self._used * self._beams
        if at == self._mask.shape[2]:
            self._grow()
        source = (rows % beams).view(-1, beams, 1)
        self._mask = self._mask.gather(1, source.expand(-1, -1, self._mask.shape[2]))
        self._mask[:, :, at : at + beams].diagonal(dim1=1, dim2=2).zero_()
        self._spread = torch.empty(0)

    def _grow(self) -> None:
        more = self._beams * STEPS
        self._mask = functional.pad(self._mask, (0, more), value=float("-inf"))
        for layer, (keys, values) in enumerate(self._states):  # layer by layer, so that not all are copied at once
            self._states[layer] = (functional.pad(keys, (0, 0, 0, more)), functional.pad(values, (0, 0, 0, more)))

    def attend(self, layer: int, query: Tensor, scaling: float) -> Tensor:
        """Attend with queries [B K, H, 1, D / H] to their document and their own tokens: [B K, 1, H, D / H]."""
        keys, values = (states.flatten(0, 1) for states in self._states[layer])
        documents, beams = len(self._mask), self._beams
        groups, size = len(keys) // documents, keys.shape[2]
        query = query.view(documents, beams, groups, -1, size).transpose(1, 2)
        shared = query.shape[3]
        mask = self._mask_for(groups, shared)
        scores = torch.baddbmm(mask, query.reshape(len(keys), -1, size), keys.transpose(1, 2), alpha=scaling)
        out = torch.bmm(scores.softmax(-1), values).view(documents, groups, beams, shared, size)
        return out.transpose(1, 2).reshape(documents * beams, 1, groups * shared, size)

    def _mask_for(self, groups: int, shared: int) -> Tensor:
        """A step's mask for key heads shared by query heads: [B H_kv, K H / H_kv, P + T + K steps]."""
        if self._spread.shape[0] != len(self._mask) * groups:
            spread = self._mask[:, None, :, None].expand(-1, groups, -1, shared, -1)
            self._spread = spread.flatten(2, 3).flatten(0, 1)
        return self._spread

    def step(self) -> None:
        """End a step, after all layers have seen the new token."""
        self._used += 1

    def keep(self, documents: Tensor) -> None:
        """Continue with a subset of the documents, given by their indices."""
        self._mask = self._mask[documents]
        for layer, (keys, values) in enumerate(self._states):
            self._states[layer] = (keys[documents], values[documents])


def make_cache(config: PreTrainedConfig, beams: int, prefix: Tensor | None = None) -> SharedCache | None:
    """A cache for a model whose layers keep plain keys and values; None if they keep windows or states."""
    layers = DynamicCache(config=config).layers
    if not layers or any(type(layer) is not DynamicLayer for layer in layers):
        return None
    return SharedCache(config, beams, prefix)
