"""Turn generated tokens into scored predictions, and their scores into the means that a record holds."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from triptych.config.schema import Suite
from triptych.contracts import Metric
from triptych.errors import ConfigError
from triptych.metrics.rouge import RougeScore
from triptych.metrics.text_shape import TextShapeMetric
from triptych.registry import find, registered
from triptych.results.records import ROUGE_PARTS, ROUGE_SCORES, ROUGE_TYPES, Prediction, Rouge, TextShape
from triptych.text import languages

if TYPE_CHECKING:  # predictions of other tools are scored without torch
    from transformers import PreTrainedTokenizerBase

    from triptych.corpus.arrow import TokenizedSplit
    from triptych.corpus.prepare import Corpus
    from triptych.engine.evaluation import SplitLoss

ALWAYS = ("rouge", "text-shape")  # the metrics that every record holds
RESERVED = {*ROUGE_SCORES, *TextShape.model_fields, "empty", "loss", "targets"}  # names that no further score has
MOST_REFERENCES = 2000  # of a split, evenly over it, that a language is recognised from


def to_text(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> str:
    """Generated tokens as text, without special tokens and outer white space."""
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


def choose_language(suite: Suite, corpus: "Corpus") -> languages.Language:
    """The language of the suite's summaries, by its setting and the references of validation and test.

    Training references do not count: with fewer training documents the scores stay what they are.

    Raises:
        ConfigError: the language asked for would leave much of the references uncounted.
    """
    references = [split.reference(i) for split in (corpus.validation, corpus.test) for i in evenly_chosen(len(split))]
    return languages.choose(suite.rouge.language, references, suite.data)


def evenly_chosen(count: int) -> list[int]:
    """At most `MOST_REFERENCES` indexes below `count`, evenly spaced."""
    most = min(count, MOST_REFERENCES)
    return [i * count // most for i in range(most)]


def metrics(language: str, names: Sequence[str] | None = None) -> dict[str, Metric]:
    """Metrics by their names; one with a field `language` is given the language that is counted.

    Args:
        language: one of `languages.LANGUAGES`.
        names: those that are wanted; None: all that are registered.

    Raises:
        ConfigError: nothing is registered under a name.
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
    """Score predictions with every registered metric, in file order of the split.

    Args:
        split: the test split.
        texts: a prediction for each of its documents.
        lengths: tokens generated for each; None for a method without a model.
        cap: the most tokens that a summary may have.
        losses: loss of each document; None for a method without a model.
        language: what is counted, one of `languages.LANGUAGES`.
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
        metrics: by their registered names.
        prediction: the generated summary.
        reference: the reference summary.
        document: empty if it is not known; scores that need it are left out.

    Raises:
        ConfigError: two metrics give a score of the same name, or one gives a score a name in `RESERVED`.
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
    """Means over the split of what the predictions look like."""
    scored = predictions[0].scores
    return TextShape(
        **{name: _mean(predictions, name) for name in ("prediction_words", "reference_words", "repeated_trigrams")},
        **{name: _mean(predictions, name) if name in scored else None for name in TextShapeMetric.of_document},
        share_empty=_mean(predictions, "empty"),
        share_at_cap=float(np.mean([p.at_cap for p in predictions])),
    )


def further_scores(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Means over the split of what metrics other than ROUGE and the text's shape score."""
    if not predictions:
        return {}
    return {name: _mean(predictions, name) for name in predictions[0].scores if name not in RESERVED}


def signatures(language: str) -> dict[str, str]:
    """The signature of every registered metric, counting in that language."""
    return {name: metric.signature() for name, metric in metrics(language).items()}


def _mean(predictions: Sequence[Prediction], name: str) -> float:
    return float(np.mean([p.scores[name] for p in predictions]))
