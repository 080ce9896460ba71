"""From generated tokens to scored predictions, and what can be said of them and of a trained prompt."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize
from transformers import PreTrainedTokenizerBase

from triptych.contracts import AdaptedModel, Metric
from triptych.corpus import TokenizedSplit
from triptych.engine.evaluation import SplitLoss
from triptych.errors import RunFailed
from triptych.records import Prediction, Rouge, TextShape
from triptych.registry import find, registered

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def to_text(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """Generated tokens as text, without special tokens and outer white space."""
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


def score(
    split: TokenizedSplit, texts: Sequence[str], lengths: Sequence[int] | None, cap: int, losses: SplitLoss | None
) -> list[Prediction]:
    """Every registered metric on every prediction, in file order of the split.

    Args:
        split: the test split.
        texts: a prediction for each of its documents.
        lengths: tokens generated for each; None for a row without a model.
        cap: tokens that a summary may have at most.
        losses: loss of each document; None for a row without a model.
    """
    metrics = {name: metric() for name, metric in registered(Metric).items()}
    predictions = []
    for i, text in enumerate(texts):
        reference, document = split.reference(i), split.document(i)
        scores: dict[str, float] = {}
        for name, metric in metrics.items():
            found = metric.score(text, reference, document)
            if twice := scores.keys() & found.keys():
                raise RunFailed(f"The metric {name!r} scores {min(twice)!r}, and so does another metric: rename one of them.")
            scores |= found
        if losses is not None:
            scores |= {"loss": float(losses.nats[i] / losses.targets[i]), "targets": float(losses.targets[i])}
        count = lengths[i] if lengths is not None else None
        predictions.append(
            Prediction(
                id=split[i].id, prediction=text, reference=reference, scores=scores, num_tokens=count,
                at_cap=count is not None and count >= cap,
            )
        )  # fmt: skip
    return predictions


def rouge(predictions: Sequence[Prediction]) -> Rouge:
    """Mean ROUGE over the split."""
    means = {name: _mean(predictions, name) for name in ROUGE_TYPES}
    return Rouge(**means, signature=find(Metric, "rouge")().signature())


def text_shape(predictions: Sequence[Prediction]) -> TextShape:
    """Means over the split of what the predictions look like."""
    names = ("prediction_words", "reference_words", "novel_bigrams", "longest_copied_words", "repeated_trigrams")
    return TextShape(
        **{name: _mean(predictions, name) for name in names},
        share_empty=_mean(predictions, "empty"),
        share_at_cap=float(np.mean([p.at_cap for p in predictions])),
    )


def further_scores(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Means over the split of what metrics beside ROUGE and the text's shape score."""
    known = {*ROUGE_TYPES, *TextShape.model_fields, "empty", "loss", "targets"}
    return {name: _mean(predictions, name) for name in predictions[0].scores if name not in known} if predictions else {}


def signatures() -> dict[str, str]:
    """The signature of every registered metric."""
    return {name: metric().signature() for name, metric in registered(Metric).items()}


def describe_prompt(adapted: AdaptedModel, before: torch.Tensor, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """How far virtual tokens moved, and the vocabulary entries they now lie nearest to (by cosine).

    Args:
        before: the virtual tokens before training, [P, D].
    """
    assert adapted.virtual_tokens is not None
    after = adapted.virtual_tokens.weight.detach().float()
    table = adapted.parts.token_embedding.weight.detach().float()
    nearest = (normalize(after, dim=1) @ normalize(table, dim=1).T).argmax(dim=1).tolist()
    return {
        "distance_moved": float((after - before.float()).norm(dim=1).mean()),
        "initial_norm": float(before.float().norm(dim=1).mean()),
        "nearest_tokens": [tokenizer.decode([token]) for token in nearest],
    }


def _mean(predictions: Sequence[Prediction], name: str) -> float:
    return float(np.mean([p.scores[name] for p in predictions]))
