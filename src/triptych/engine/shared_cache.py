"""Keys and values for generation: a document's are computed once and shared by its beams, a beam's own stand in a buffer."""

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer


class SharedCache(DynamicCache):
    """Keys and values of B documents with K beams each.

    In the first pass, over right-padded documents, `update` keeps what it is given. After `open`, it writes each new token into
    a buffer, and `attend` answers a query from both parts under one softmax, so that no document is ever copied to its beams.
    Which beam a beam's earlier tokens came from is kept as indices; the tokens themselves stay where they were written.

    Args:
        config: the model's.
        room: tokens that may be generated.
        prefix: learned keys and values that stand before every layer's own, [L, 2, H_kv, P, D / H], or None.
    """

    def __init__(self, config: PreTrainedConfig, room: int, prefix: Tensor | None = None):
        super().__init__(config=config)
        self._room, self._used, self._beams = room, 0, 0
        self._prefix = prefix
        self._documents: list[tuple[Tensor, Tensor]] = []  # [B, H_kv, P + T, D / H] each
        self._own: list[tuple[Tensor, Tensor]] = []  # [H_kv, B K, room, D / H] each
        self._sources = torch.empty(0, dtype=torch.long)  # [B K, tokens so far]: the row that wrote a row's token
        self._mask = torch.empty(0)

    @property
    def prefix_length(self) -> int:
        """P."""
        return self._prefix.shape[3] if self._prefix is not None else 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions that a new token follows; the padding of shorter documents counts, so positions are given explicitly."""
        return self._documents[0][0].shape[2] + self._used if self._beams else self.prefix_length

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """Keys that a pass sees, and where they begin."""
        return self.get_seq_length() + query_length, 0

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Where the queries of a pass begin."""
        return self.get_seq_length()

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Keep new keys and values; before `open` all are returned, after it the new ones alone."""
        if not self._beams:
            if self._prefix is not None:
                before = self._prefix[layer_idx].to(key_states.dtype)[:, None].expand(-1, len(key_states), -1, -1, -1)
                key_states, value_states = (torch.cat(p, 2) for p in zip(before, (key_states, value_states), strict=True))
            key_states, value_states = key_states.contiguous(), value_states.contiguous()
            self._documents.append((key_states, value_states))
            return key_states, value_states
        at = self._used
        for buffer, states in zip(self._own[layer_idx], (key_states, value_states), strict=True):
            buffer[:, :, at] = states[:, :, 0].transpose(0, 1)
        return key_states, value_states

    def open(self, lengths: Tensor, beams: int) -> None:
        """The documents are read: from now on one token a beam follows at a time.

        Args:
            lengths: positions of each document, [B], without the prefix.
            beams: K.
        """
        longest, width = self._documents[0][0].shape[2], self.prefix_length
        padding = torch.arange(longest, device=lengths.device) >= lengths[:, None] + width
        hidden = self._documents[0][0].new_zeros(padding.shape).masked_fill(padding, float("-inf"))
        self._mask = hidden[:, None, None]
        for pair in self._documents:
            rows, heads, _, size = pair[0].shape
            keys, values = (p.new_empty(heads, rows * beams, self._room, size) for p in pair)
            self._own.append((keys, values))
        self._beams = beams
        self._sources = self._themselves(rows * beams)

    def step(self) -> None:
        """All layers have seen the new token."""
        self._used += 1
        self._sources = torch.cat([self._sources, self._themselves(len(self._sources))], 1)

    def attend(self, layer: int, query: Tensor, scaling: float) -> Tensor:
        """Queries [B K, H, 1, D / H] over their document and their own tokens: [B K, 1, H, D / H]."""
        (keys, values), (own_keys, own_values) = self._documents[layer], map(self._followed, self._own[layer])
        count, beams = self._used + 1, self._beams
        documents, groups, length, size = keys.shape
        shared = query.shape[1] // groups
        query = (query * scaling).view(documents, beams, groups, shared, size)
        to_document = query.transpose(1, 2).reshape(documents, groups, beams * shared, size)
        far = (to_document @ keys.transpose(-1, -2) + self._mask).view(documents, groups, beams, shared, length)
        to_own = query.flatten(0, 1).transpose(0, 1)
        near = (to_own @ own_keys.transpose(-1, -2)).view(groups, documents, beams, shared, count).transpose(0, 1)
        weights = torch.cat([far, near], -1).softmax(-1)
        far = weights[..., :length].reshape(documents, groups, beams * shared, length) @ values
        near = weights[..., length:].transpose(0, 1).reshape(groups, documents * beams, shared, count) @ own_values
        near = near.view(groups, documents, beams, shared, size).transpose(0, 1)
        out = far.view(documents, groups, beams, shared, size) + near
        return out.transpose(1, 2).reshape(documents * beams, 1, groups * shared, size)

    def _followed(self, buffer: Tensor) -> Tensor:
        """Every beam's own tokens, those it took over among them: [H_kv, B K, tokens so far, D / H]."""
        if self._beams == 1:
            return buffer[:, :, : self._used + 1]
        heads, rows, room, size = buffer.shape
        places = self._sources * room + torch.arange(self._used + 1, device=buffer.device)
        return buffer.view(heads, rows * room, size).index_select(1, places.flatten()).view(heads, rows, -1, size)

    def _themselves(self, rows: int) -> Tensor:
        return torch.arange(rows, device=self._mask.device)[:, None]

    def follow(self, rows: Tensor) -> None:
        """Give every beam the tokens of the beam it goes on from: rows [B K], within a document's beams."""
        self._sources = torch.cat([self._sources[rows, : self._used], self._themselves(len(rows))], 1)

    def keep(self, documents: Tensor) -> None:
        """Go on with some of the documents: their indices."""
        beams = (documents[:, None] * self._beams + torch.arange(self._beams, device=documents.device)).flatten()
        self._mask = self._mask[documents]
        renumbered = self._sources.new_empty(len(self._sources)).index_put((beams,), self._themselves(len(beams))[:, 0])
        self._sources = renumbered[self._sources[beams]]
        for layer in range(len(self._documents)):  # layer by layer: no second copy of all at once
            keys, values = self._documents[layer]
            self._documents[layer] = (keys[documents], values[documents])
            keys, values = self._own[layer]
            self._own[layer] = (keys[:, beams], values[:, beams])


def make_cache(config: PreTrainedConfig, room: int, prefix: Tensor | None = None) -> SharedCache | None:
    """A cache for a family whose layers keep plain keys and values; None where they keep something else (windows, states)."""
    layers = DynamicCache(config=config).layers
    if not layers or any(type(layer) is not DynamicLayer for layer in layers):
        return None
    return SharedCache(config, room, prefix)
