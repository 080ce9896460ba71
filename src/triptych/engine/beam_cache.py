"""Keys and values for generation, in buffers with room to grow, the document's never copied between its beams."""

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer


class BeamLayer(DynamicLayer):
    """A layer's keys and values, [rows, H, T, D / H] each.

    transformers' own layer copies the whole cache at every step, once to append a token and once more to reorder beams. Here a
    token is written into a buffer, and reordering moves only what was generated: a document's beams all share what came first.

    Args:
        room: tokens that may be generated.
    """

    def __init__(self, room: int):
        super().__init__()
        self._room = room
        self._first = 0  # tokens of the first forward pass, the same for every beam of a document
        self._used = 0
        self._buffers: tuple[Tensor, ...] = ()

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Append the new tokens; returns all keys and values so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._first = key_states.shape[-2]
            self._buffers = tuple(_with_room(states, self._first + self._room) for states in (key_states, value_states))
        end = self._used + key_states.shape[-2]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, self._used : end] = states
        self._used = end
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Give every row the generated tokens of the beam it goes on from; `beam_idx` stays within a document's beams."""
        for buffer in self._buffers:
            generated = buffer[:, :, self._first : self._used]
            generated.copy_(generated.index_select(0, beam_idx.to(buffer.device)))


def _with_room(states: Tensor, length: int) -> Tensor:
    rows, heads, _, width = states.shape
    return torch.empty(rows, heads, length, width, dtype=states.dtype, device=states.device)


def make_cache(config: PreTrainedConfig, room: int) -> DynamicCache | None:
    """A cache of `BeamLayer`s, or None for a family whose layers keep something else (sliding windows, states)."""
    cache = DynamicCache(config=config)
    if not cache.layers or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    cache.layers = [BeamLayer(room) for _ in cache.layers]
    return cache
