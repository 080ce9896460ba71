"""Check that a model works with the engine's inputs: embeddings instead of token ids, and no looking ahead."""

import torch
from torch import Tensor

from triptych.contracts import ModelParts
from triptych.engine.savings.probe import ROUNDING, attempt
from triptych.errors import ModelError
from triptych.models.parts import embed

TOKENS = 8  # in the probe


@torch.no_grad()
def check_reading(parts: ModelParts) -> None:
    """Refuse a model that looks ahead, or whose output for token embeddings differs from its output for token ids.

    Runs two passes over two rows of a few tokens: one over their ids, one over their embeddings, where the last vector
    of the second row does not belong to any token, as with virtual tokens. Both passes multiply matrices of the same
    shapes, so a difference larger than rounding means a different function. Outputs that are not finite are refused
    elsewhere.

    Args:
        parts: the model in fp32 and eval mode, untouched or adapted.

    Raises:
        ModelError: the model cannot be used; the message says why.
    """
    name, count = type(parts.model).__name__, min(TOKENS, parts.vocabulary_size)
    # from the middle of the vocabulary, because special tokens are at its ends
    ids = torch.arange(count, device=parts.device) + (parts.vocabulary_size - count) // 2
    by_ids, vectors = _logits(parts, input_ids=ids.expand(2, -1)), embed(parts, ids)
    other = torch.cat([vectors[:-1], vectors[:2].mean(0, keepdim=True)])
    reasons: list[str] = []
    by_vectors = attempt(lambda: _logits(parts, inputs_embeds=torch.stack([vectors, other])), reasons.append)
    if by_vectors is None:
        raise ModelError(_other_function(name, f" On vectors that belong to no token, it fails: {reasons[0]}"))
    if not (by_ids.isfinite().all() and by_vectors.isfinite().all()):
        return
    if not _same(by_vectors[1, :-1], by_vectors[0, :-1]):
        raise ModelError(
            f"{name} looks ahead: a token changes the predictions before it, as in an encoder (BERT, RoBERTa), so a "
            "loss would read its own targets. Triptych compares causal language models: give one, such as GPT-2 or "
            "Llama."
        )
    if not _same(by_vectors[0], by_ids[0]):
        raise ModelError(_other_function(name, ""))


def _logits(parts: ModelParts, **read: Tensor) -> Tensor:
    """Logits at every position, [B, T, V]."""
    return parts.model(**read, use_cache=False).logits


def _same(found: Tensor, expected: Tensor) -> bool:
    """Whether logits differ by no more than rounding."""
    return torch.allclose(found, expected, rtol=0.0, atol=ROUNDING * float(expected.abs().max()))


def _other_function(name: str, reason: str) -> str:
    """The error message for a model that needs the token ids themselves."""
    return (
        f"{name} needs the ids of its tokens: from embeddings alone it computes something else, like models that look "
        "tokens up in every block (Gemma 3n, Gemma 4 E2B and E4B). Triptych passes embeddings to every model, so that "
        f"virtual tokens can be inserted: give another model.{reason}"
    )
