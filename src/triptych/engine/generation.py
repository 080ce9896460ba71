"""Summaries, generated freely: one decoding for every row, from the document and separator alone."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import GenerationConfig

from triptych.contracts import AdaptedModel
from triptych.corpus import Template
from triptych.engine.beam_cache import make_cache
from triptych.engine.forward import insert
from triptych.engine.prefix import begin_with_prefix
from triptych.models.parts import embed
from triptych.runtime import Runtime


@dataclass(frozen=True)
class DecodingPlan:
    """How summaries are decoded."""

    num_beams: int
    max_new_tokens: int
    no_repeat_ngram_size: int
    length_penalty: float
    batch_size: int


@torch.no_grad()
def generate(
    adapted: AdaptedModel,
    documents: Sequence[np.ndarray],
    template: Template,
    runtime: Runtime,
    decoding: DecodingPlan,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[int]]:
    """New tokens for each document, without the EOS that ended them.

    Rows are left-padded, with a mask from which transformers counts explicit positions, so that a summary does not depend on
    what else is in its batch. The document goes in as embeddings: its n-grams are not "repeats" of the summary.

    Args:
        documents: token ids of each document.
        progress: told `(documents done, documents in all)`.

    Returns:
        Token ids in the order of `documents`.
    """
    config = GenerationConfig(
        do_sample=False,
        num_beams=decoding.num_beams,
        max_new_tokens=decoding.max_new_tokens,
        no_repeat_ngram_size=decoding.no_repeat_ngram_size,
        length_penalty=decoding.length_penalty,
        early_stopping=False,
        eos_token_id=template.eos_id,
        pad_token_id=template.eos_id,
    )
    results: list[list[int]] = [[] for _ in documents]
    order = sorted(range(len(documents)), key=lambda i: (-len(documents[i]), i))
    for start in range(0, len(order), decoding.batch_size):
        indices = order[start : start + decoding.batch_size]
        embeddings, mask = left_padded(adapted, [documents[i] for i in indices], template, runtime)
        room = decoding.max_new_tokens + (embeddings.shape[1] if adapted.prefix is not None else 0)
        cache = make_cache(adapted.parts.model.config, room)
        embeddings, mask, cache = begin_with_prefix(adapted, embeddings, mask, cache, decoding.num_beams)
        with runtime.autocast(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*no_repeat_ngram_size.*inputs_embeds.*")  # it is meant so, see above
            new = adapted.parts.model.generate(  # type: ignore[operator]
                inputs_embeds=embeddings, attention_mask=mask, generation_config=config, past_key_values=cache,
            )
        for index, row in zip(indices, new.tolist(), strict=True):
            results[index] = row[: row.index(template.eos_id)] if template.eos_id in row else row
        if progress:
            progress(start + len(indices), len(order))
    return results


def left_padded(
    adapted: AdaptedModel, documents: Sequence[np.ndarray], template: Template, runtime: Runtime
) -> tuple[torch.Tensor, torch.Tensor]:
    """Prefix, document and separator with the virtual tokens in place, padded on the left: [B, P + T, D], mask [B, P + T]."""
    device, cue = runtime.device, list(template.separator_ids)
    rows = []
    for document in documents:
        sequence = np.concatenate([template.prefix_ids, document, cue]).astype(np.int64)
        tokens = embed(adapted.parts, torch.from_numpy(sequence).to(device)[None])
        if adapted.virtual_tokens is not None:
            at = len(sequence) - len(cue) if adapted.placement == "after" else 0
            tokens = insert(tokens, adapted.virtual_tokens.weight, torch.tensor([at], device=device))
        rows.append(tokens[0])
    longest = max(len(row) for row in rows)
    embeddings = rows[0].new_zeros(len(rows), longest, rows[0].shape[-1])
    mask = torch.zeros(len(rows), longest, dtype=torch.long, device=device)
    for i, row in enumerate(rows):
        embeddings[i, longest - len(row) :] = row
        mask[i, longest - len(row) :] = 1
    return embeddings, mask
