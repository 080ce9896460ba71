"""Find contradictions between the files of a run, and between its record and its suite."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from triptych.config.schema import Suite
from triptych.errors import shorten
from triptych.results.records import ROUGE_PARTS, ROUGE_TYPES, Prediction, Record, TextShape

MEAN_TOLERANCE = 1e-6  # on a scale of 100; another summation order differs by 1e-12, another file by far more
LOSS_TOLERANCE = 1e-4  # relative; another summation order of bf16 losses differs by less

# Left out because they change no result: engine.*, cache.*, training.micro_batch_size, decoding.batch_size.
# Model and data may have been moved to another folder, so only the last part of their path is compared.
PATHS = ("model", "data")
EQUAL_SETTINGS = (
    "model_revision",
    "model_quantization",
    "data_config",
    "data_revision",
    "separator",
    "prompt",
    "columns",
    "split",
    "limits",
    "training.max_epochs",
    "training.eval_every",
    "training.patience",
    "training.global_batch_size",
    "training.max_grad_norm",
    "training.warmup_fraction",
    "training.schedule",
    "training.optimizer",
    "training.dropout",
    "decoding.num_beams",
    "decoding.max_new_tokens",
    "decoding.no_repeat_ngram_size",
    "decoding.length_penalty",
    "decoding.min_new_tokens",
    "search",
)

# Settings that records of earlier versions lack: their runs used what are now the defaults.
_ADDED = ("model_quantization", "prompt", "decoding.min_new_tokens", "training.dropout", "engine.sharding")
_DEFAULTS = Suite().model_dump(mode="json")

Problem = tuple[str, str]  # the file's name, and what is wrong with it


def problems(
    record: Record, history: Sequence[Mapping[str, Any]], predictions: Sequence[Prediction]
) -> Iterator[Problem]:
    """Yield every contradiction between the files of a finished run, the most informative first."""
    yield from _predictions(record, predictions)
    yield from _history(record, history)
    yield from _figures(record, predictions)


def other_settings(record: Record, suite: Suite) -> Iterator[str]:
    """Yield the settings, kind and options in which a record differs from the suite, in words."""
    yield from _settings(record, suite)
    yield from _row(record, suite)


def setting(config: Mapping[str, Any], field: str) -> Any:
    """A value of a record's config by its dotted name; None if it is absent and was not added by a later version."""
    value = _at(config, field)
    added = any(field == name or field.startswith(f"{name}.") for name in _ADDED)
    return _at(_DEFAULTS, field) if value is None and config and added else value


def _at(config: Mapping[str, Any], field: str) -> Any:
    value: Any = config
    for key in field.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _predictions(record: Record, predictions: Sequence[Prediction]) -> Iterator[Problem]:
    """Check that the file contains the whole test split and its scores have the means in the record."""
    assert record.rouge is not None
    planned = record.data.splits["test"].used if record.data is not None and "test" in record.data.splits else None
    if not predictions or (planned is not None and planned != len(predictions)):
        yield "predictions.jsonl", f"holds {len(predictions)} documents, record.json says {planned}: it is truncated"
        return
    for metric in ROUGE_TYPES:
        mean, recorded = _mean([line.scores[metric] for line in predictions]), getattr(record.rouge, metric)
        if abs(mean - recorded) > MEAN_TOLERANCE:
            yield (
                "predictions.jsonl",
                f"has the mean {metric} {mean:.6f}, record.json says {recorded:.6f}: they are from different runs",
            )


def _settings(record: Record, suite: Suite) -> Iterator[str]:
    """Check the settings that affect results; a record of scored files has none."""
    settings = suite.model_dump(mode="json")
    for key in PATHS:
        mine, planned = setting(record.config, key), settings[key]
        if isinstance(mine, str) and PurePath(mine).name != PurePath(planned).name:
            yield _unlike(record, f"config.{key}", mine, planned)
    for key in EQUAL_SETTINGS:
        mine, planned = setting(record.config, key), setting(settings, key)
        if mine is None and (key not in _ADDED or "training" not in record.config):
            continue
        pairs = [(key, mine, planned)]
        if isinstance(mine, dict) and isinstance(planned, dict):  # an earlier version may have had fewer keys
            pairs = [(f"{key}.{name}", mine[name], planned[name]) for name in planned if name in mine]
        for field, value, expected in pairs:
            if value != expected:
                yield _unlike(record, f"config.{field}", value, expected)


def _row(record: Record, suite: Suite) -> Iterator[str]:
    """Check that kind and options are those of the method's section in the suite."""
    section = suite.method.get(record.label, {})
    if section.get("kind", record.kind) != record.kind:
        yield _unlike(record, "kind", record.kind, section["kind"])
    for name, value in record.options.items():
        if name in section and section[name] != value:
            yield _unlike(record, f"options.{name}", value, section[name])


def _unlike(record: Record, field: str, value: Any, planned: Any) -> str:
    return (
        f"does not belong to suite.json: {field} is {shorten(repr(value))} for {record.label} (seed {record.seed}) and "
        f"{shorten(repr(planned))} in suite.json"
    )


def _history(record: Record, history: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """Check that the history ends where training did and its best evaluation is the loss in the record."""
    training = record.training
    if training is None:
        return
    evaluations = [event for event in history if event["event"] == "evaluation"]
    steps = [step for event in history if isinstance(step := event.get("step"), int)]
    expected = training.evaluations if training.evaluations is not None else training.epochs
    if max(steps, default=0) != training.steps or len(evaluations) != expected:
        yield (
            "history.jsonl",
            f"ends at step {max(steps, default=0)} after {len(evaluations)} evaluations, record.json says "
            f"{training.steps} steps and {expected} evaluations: it is truncated or from another run",
        )
        return
    recorded, best = record.loss.validation, _best(record, evaluations)
    if recorded is None:
        return
    if isinstance(best, int | float) and not math.isclose(best, recorded, rel_tol=LOSS_TOLERANCE):
        yield (
            "history.jsonl",
            f"has the validation loss {best:.6f} at the best step, record.json says {recorded:.6f}: they are from "
            "different runs",
        )


def _best(record: Record, evaluations: Sequence[Mapping[str, Any]]) -> Any:
    """The validation loss of the kept weights according to the history; None if it is not there."""
    training = record.training
    assert training is not None
    if training.best_step is None:
        index = int(training.best_epoch) - 1
        return evaluations[index].get("validation_loss") if 0 <= index < len(evaluations) else None
    if training.best_step == 0:
        return record.loss.initial
    found = [line for line in evaluations if line.get("step") == training.best_step]
    return found[0].get("validation_loss") if found else math.inf


def _figures(record: Record, predictions: Sequence[Prediction]) -> Iterator[Problem]:
    """Check the figures of the record that can be derived from others."""
    for name, recorded, derived in _derived(record, predictions):
        if recorded is None or not math.isclose(recorded, derived, rel_tol=1e-6, abs_tol=1e-9):
            yield "record.json", f"has {name} {recorded!r}, but the rest of the run's files give {derived!r}"


def _derived(record: Record, predictions: Sequence[Prediction]) -> Iterator[tuple[str, float | None, float]]:
    """Yield figures by name, as recorded and as derived."""
    shape = record.text_shape
    if shape is not None:
        if shape.share_at_cap is not None:  # scored files do not say which summaries were cut
            yield "text_shape.share_at_cap", shape.share_at_cap, _mean([line.at_cap for line in predictions])
        scored = {
            name: "empty" if name == "share_empty" else name
            for name in TextShape.model_fields
            if name != "share_at_cap"
        }
        for name, score in scored.items():
            if all(score in line.scores for line in predictions):
                yield f"text_shape.{name}", getattr(shape, name), _mean([line.scores[score] for line in predictions])
    for name, value in record.further_scores.items():
        if all(name in line.scores for line in predictions):
            yield f"further_scores.{name}", value, _mean([line.scores[name] for line in predictions])
    for part in ROUGE_PARTS if record.rouge is not None else ():
        for name, value in getattr(record.rouge, part).items():
            if all(f"{name}_{part}" in line.scores for line in predictions):
                derived = _mean([line.scores[f"{name}_{part}"] for line in predictions])
                yield f"rouge.{part}.{name}", value, derived
    search, training, parameters = record.search, record.training, record.parameters
    if search is not None:
        losses = {trial.learning_rate: trial.validation_loss for trial in search.last_round}
        reached = [loss for loss in losses.values() if loss is not None]
        if reached:
            yield "the validation loss of search.chosen", losses.get(search.chosen), min(reached)
            yield "search.at_edge", search.at_edge, search.chosen in search.ends
    limit = setting(record.config, "training.max_epochs")
    if training is not None and isinstance(limit, int):
        yield "training.stopped_early", training.stopped_early, training.epochs < limit
    if parameters is not None:
        total = parameters.num_base_parameters + parameters.num_added_parameters
        yield "parameters.num_total_parameters", parameters.num_total_parameters, total


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
