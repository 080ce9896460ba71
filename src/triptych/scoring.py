"""Turn generated tokens into scored predictions, and scores into what a record holds of them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from triptych.contracts import Metric
from triptych.errors import RunFailed
from triptych.metrics.text_shape import TextShapeMetric
from triptych.records import Prediction, Rouge, TextShape
from triptych.registry import find, registered

if TYPE_CHECKING:  # predictions of other tools are scored without torch
    from transformers import PreTrainedTokenizerBase

    from triptych.corpus import TokenizedSplit
    from triptych.engine.evaluation import SplitLoss

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def to_text(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> str:
    """Generated tokens as text, without special tokens and outer white space."""
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


def score(
    split: "TokenizedSplit", texts: Sequence[str], lengths: Sequence[int] | None, cap: int, losses: "SplitLoss | None"
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
        scores = score_text(metrics, text, reference, document)
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


def score_text(metrics: Mapping[str, Metric], prediction: str, reference: str, document: str) -> dict[str, float]:
    """Every score of one prediction.

    Args:
        metrics: by their registered names.
        document: empty where it is not known: scores that need it are left out.

    Raises:
        RunFailed: two metrics give a score of the same name.
    """
    scores: dict[str, float] = {}
    for name, metric in metrics.items():
        found = metric.score(prediction, reference, document)
        if twice := scores.keys() & found.keys():
            raise RunFailed(f"The metric {name!r} scores {min(twice)!r}, and so does another metric: rename one of them.")
        scores |= found if document else {key: value for key, value in found.items() if key not in metric.of_document}
    return scores


def rouge(predictions: Sequence[Prediction]) -> Rouge:
    """Mean ROUGE over the split."""
    means = {name: _mean(predictions, name) for name in ROUGE_TYPES}
    return Rouge(**means, signature=find(Metric, "rouge")().signature())


def text_shape(predictions: Sequence[Prediction]) -> TextShape:
    """Means over the split of what the predictions look like."""
    scored = predictions[0].scores
    return TextShape(
        **{name: _mean(predictions, name) for name in ("prediction_words", "reference_words", "repeated_trigrams")},
        **{name: _mean(predictions, name) if name in scored else None for name in TextShapeMetric.of_document},
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


def _mean(predictions: Sequence[Prediction], name: str) -> float:
    return float(np.mean([p.scores[name] for p in predictions]))
