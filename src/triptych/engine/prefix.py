"""A learned prefix of keys and values as a transformers cache."""

import torch
from torch import Tensor
from transformers import DynamicCache

from triptych.contracts import AdaptedModel


def prefix_cache(adapted: AdaptedModel, rows: int) -> DynamicCache | None:
    """A cache that contains the prefix for each of `rows` rows; None if there is no prefix.

    Gradients flow through it. Its layers keep all keys and values, also those that a sliding window has passed; the
    attention mask excludes them.
    """
    if adapted.prefix is None:
        return None
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(adapted.prefix().to(adapted.parts.token_embedding.weight.dtype)):
        cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), layer)
    return cache


def padding_moves_prefix(adapted: AdaptedModel) -> bool:
    """Whether padding between prefix and document changes how far the prefix is from the document's tokens.

    A row of a batch is prefix, padding, document. Positions do not count the padding, but sliding windows and MPT's
    ALiBi measure distances in the cache, where it lies between.
    """
    if adapted.prefix is None:
        return False
    config = adapted.parts.model.config.get_text_config()
    other_layers = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    return bool(other_layers or getattr(config, "sliding_window", None) or config.model_type == "mpt")


def begin_with_prefix(
    adapted: AdaptedModel, embeddings: Tensor, mask: Tensor, beams: int
) -> tuple[Tensor, Tensor, DynamicCache | None]:
    """Inputs for `generate` that continue the prefix; unchanged if there is none.

    `generate` takes the whole sequence and skips as many positions as the cache contains: P empty ones stand for the
    prefix.

    Args:
        adapted: the adapted model.
        embeddings: left-padded, [B, T, D].
        mask: [B, T].
        beams: number of rows that each row is expanded to.

    Returns:
        Embeddings [B, P + T, D], mask [B, P + T], and a cache with the prefix for B x beams rows, or None.
    """
    if adapted.prefix is None:
        return embeddings, mask, None
    rows, count = len(embeddings), adapted.prefix_length
    cache = prefix_cache(adapted, rows * beams)
    empty = embeddings.new_zeros(rows, count, embeddings.shape[-1])
    return torch.cat([empty, embeddings], dim=1), torch.cat([mask.new_ones(rows, count), mask], dim=1), cache
