"""Turn generated tokens into scored predictions, and average their scores for the record."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, SupportsFloat

import numpy as np

from triptych.config.schema import Suite
from triptych.contracts import Metric
from triptych.errors import ConfigError
from triptych.metrics.rouge import RougeScore
from triptych.metrics.text_shape import TextShapeMetric
from triptych.registry import find, registered
from triptych.results.records import ROUGE_PARTS, ROUGE_SCORES, ROUGE_TYPES, Prediction, Rouge, TextShape
from triptych.text import languages

if TYPE_CHECKING:  # predictions from other tools are scored without torch
    from transformers import PreTrainedTokenizerBase

    from triptych.corpus.arrow import TokenizedSplit
    from triptych.corpus.prepare import Corpus
    from triptych.engine.evaluation import SplitLoss

ALWAYS = ("rouge", "text-shape")  # the metrics in every record
RESERVED = {*ROUGE_SCORES, *TextShape.model_fields, "empty", "loss", "targets"}  # names no further score may have
MOST_REFERENCES = 2000  # references, evenly spaced over a split, from which its language is recognized


def to_text(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> str:
    """Decode generated tokens, without special tokens and surrounding white space."""
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


def choose_language(suite: Suite, corpus: "Corpus") -> languages.Language:
    """The language of the suite's summaries, from its setting and the validation and test references.

    Training references do not count, so the scores do not change with fewer training documents.

    Raises:
        ConfigError: the chosen language would leave much of the references uncounted.
    """
    references = [split.reference(i) for split in (corpus.validation, corpus.test) for i in evenly_chosen(len(split))]
    return languages.choose(suite.rouge.language, references, suite.data)


def evenly_chosen(count: int) -> list[int]:
    """At most `MOST_REFERENCES` evenly spaced indices below `count`."""
    most = min(count, MOST_REFERENCES)
    return [i * count // most for i in range(most)]


def metrics(language: str, names: Sequence[str] | None = None) -> dict[str, Metric]:
    """Metrics by name; those with a field `language` are given the scoring language.

    Args:
        language: one of `languages.LANGUAGES`.
        names: the metrics to return; None: all registered ones.

    Raises:
        ConfigError: a name is not registered.
    """
    wanted = registered(Metric) if names is None else {name: find(Metric, name) for name in names}
    given = {"language": language}
    return {name: metric(**(given if "language" in metric.model_fields else {})) for name, metric in wanted.items()}


def score_predictions(
    split: "TokenizedSplit",
    texts: Sequence[str],
    lengths: Sequence[int] | None,
    cap: int,
    losses: "SplitLoss | None",
    language: str,
) -> list[Prediction]:
    """Score predictions with every registered metric, in the split's file order.

    Args:
        split: the test split.
        texts: one prediction per document.
        lengths: number of tokens generated for each; None for a method without a model.
        cap: maximum number of tokens in a summary.
        losses: the documents' losses; None for a method without a model.
        language: the language used for scoring, one of `languages.LANGUAGES`.
    """
    known = metrics(language)
    predictions = []
    for i, text in enumerate(texts):
        reference, document = split.reference(i), split.document(i)
        scores = score_text(known, text, reference, document)
        if losses is not None:
            scores |= {"loss": float(losses.nats[i] / losses.targets[i]), "targets": float(losses.targets[i])}
        count = lengths[i] if lengths is not None else None
        predictions.append(
            Prediction(
                id=split[i].id,
                prediction=text,
                reference=reference,
                scores=scores,
                num_tokens=count,
                at_cap=count is not None and count >= cap,
            )
        )
    return predictions


def score_text(metrics: Mapping[str, Metric], prediction: str, reference: str, document: str) -> dict[str, float]:
    """Every score of one prediction.

    Args:
        metrics: metrics by registered name.
        prediction: the generated summary.
        reference: the reference summary.
        document: the document; empty if unknown: scores that need it are left out.

    Raises:
        ConfigError: two metrics give scores of the same name, or a score has a name in `RESERVED` or is not a finite
            number.
    """
    scores: dict[str, float] = {}
    for name, metric in metrics.items():
        if isinstance(metric, RougeScore):
            found = metric.scores(prediction, reference)
        else:
            found = metric.score(prediction, reference, document)
        if twice := scores.keys() & found.keys():
            raise ConfigError(
                f"The metric {name!r} scores {min(twice)!r}, and so does another metric: rename one of them."
            )
        for key, value in found.items():
            if not isinstance(value, SupportsFloat) or not math.isfinite(value):
                raise ConfigError(f"The metric {name!r} gives {value!r} as {key!r}: a finite number is needed.")
        if name not in ALWAYS and (taken := RESERVED & found.keys()):
            raise ConfigError(
                f"The metric {name!r} gives a score the name {min(taken)!r}, which is a field of ROUGE, the text's "
                "shape or the loss: rename it."
            )
        scores |= found if document else {key: value for key, value in found.items() if key not in metric.of_document}
    return scores


def rouge(predictions: Sequence[Prediction], language: languages.Language) -> Rouge:
    """Mean ROUGE over the split."""
    means = {name: _mean(predictions, name) for name in ROUGE_TYPES}
    parts = {part: {name: _mean(predictions, f"{name}_{part}") for name in ROUGE_TYPES} for part in ROUGE_PARTS}
    signature = metrics(language.name, ["rouge"])["rouge"].signature()
    return Rouge(**means, **parts, signature=signature, language=language.name, counted=language.reason)


def text_shape(predictions: Sequence[Prediction]) -> TextShape:
    """Mean text-shape measures over the split."""
    scored = predictions[0].scores
    return TextShape(
        **{name: _mean(predictions, name) for name in ("prediction_words", "reference_words", "repeated_trigrams")},
        **{name: _mean(predictions, name) if name in scored else None for name in TextShapeMetric.of_document},
        share_empty=_mean(predictions, "empty"),
        share_at_cap=float(np.mean([p.at_cap for p in predictions])),
    )


def further_scores(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Mean scores over the split from metrics other than ROUGE and text shape.

    Raises:
        ConfigError: a document lacks a score that others have.
    """
    if not predictions:
        return {}
    refuse_missing_scores({line.id: line.scores for line in predictions})
    return {name: _mean(predictions, name) for name in predictions[0].scores if name not in RESERVED}


def refuse_missing_scores(scores: Mapping[str, Mapping[str, float]]) -> None:
    """Make sure that every document has the same scores.

    Args:
        scores: the scores of each document by name, by document id.

    Raises:
        ConfigError: a document lacks a score that others have.
    """
    names = {name for found in scores.values() for name in found}
    for document, found in scores.items():
        if missing := names - found.keys():
            raise ConfigError(
                f"The document {document!r} has no score {min(missing)!r}, which others have: a metric has to give the "
                "same scores for every document."
            )


def signatures(language: str) -> dict[str, str]:
    """The signature of every registered metric for a language."""
    return {name: metric.signature() for name, metric in metrics(language).items()}


def _mean(predictions: Sequence[Prediction], name: str) -> float:
    return float(np.mean([p.scores[name] for p in predictions]))
