"""Refuse to compare runs in one table if something that must be equal differs."""

from collections.abc import Callable, Sequence
from functools import partial
from operator import methodcaller
from typing import Any

from triptych.errors import ResultsError, shorten
from triptych.results.consistency import EQUAL_SETTINGS
from triptych.results.reading import SavedRun


def refuse_unfair(runs: Sequence[SavedRun], sizes_differ: bool = False) -> None:
    """Raise unless the finished runs may be compared in one table.

    Args:
        runs: the runs of a results folder, or of several.
        sizes_differ: whether the runs may differ in the number of training documents, and in nothing else.

    Raises:
        ResultsError: two runs differ in what must be equal (the message names the field, both values and both runs),
            or two tuned methods have a bit-equal test loss under one seed.
    """
    done = [run for run in runs if run.done]
    if not sizes_differ and len({_data_fingerprint(run) for run in done}) > 1:
        _refuse("config.data", done, methodcaller("setting", "data"))  # report different data first
    for setting in EQUAL_SETTINGS:
        for field in _leaves(setting, done):
            if sizes_differ and field == "limits.train_documents":
                continue
            _refuse(f"config.{field}", done, methodcaller("setting", field))
    with_model = [run for run in done if run.record.parameters is not None]
    fingerprint = [run for run in with_model if _model_fingerprint(run) is not None]
    _refuse("provenance.model_fingerprint", fingerprint, _model_fingerprint)
    if len(fingerprint) < len(with_model) or not with_model:
        _refuse("config.model", done, methodcaller("setting", "model"))
        _refuse("config.model_revision", done, methodcaller("setting", "model_revision"))
    _refuse("provenance.precision", with_model, lambda run: run.record.provenance and run.record.provenance.precision)
    if not sizes_differ:
        _refuse("data.fingerprint", done, _data_fingerprint)
        tokenized = [run for run in with_model if run.record.data and run.record.data.token_fingerprint is not None]
        _refuse("data.token_fingerprint", tokenized, lambda run: run.record.data and run.record.data.token_fingerprint)
    _refuse_splits(done, ("validation", "test") if sizes_differ else ("train", "validation", "test"))
    _refuse("rouge.signature", done, lambda run: run.record.rouge and run.record.rouge.signature)
    _refuse("the number of test documents", done, lambda run: len(run.predictions))
    _refuse_documents(done)
    _refuse_equal_losses(done)


def refuse_unlike_seeds(runs: Sequence[SavedRun]) -> None:
    """Raise unless the finished runs of each method are of one kind with the same options.

    Raises:
        ResultsError: two seeds of a method differ; the message names the option, both values and both runs.
    """
    rows: dict[str, list[SavedRun]] = {}
    for run in runs:
        if run.done:
            rows.setdefault(run.record.label, []).append(run)
    for row in rows.values():
        _refuse("kind", row, lambda run: run.record.kind)
        noted = [run for run in row if "target_modules" in run.record.notes]
        _refuse("notes.target_modules", noted, lambda run: run.record.notes["target_modules"])
        for name in dict.fromkeys(name for run in row for name in run.record.options):
            _refuse(f"options.{name}", row, lambda run, name=name: run.record.options.get(name))  # type: ignore[misc]


def _refuse(field: str, runs: Sequence[SavedRun], value: Callable[[SavedRun], Any]) -> None:
    """Raise if `value` is not the same for all runs."""
    for run in runs[1:]:
        first, second = value(runs[0]), value(run)
        if first != second:
            raise ResultsError(
                f"These runs cannot be compared in one table: {shorten(field)} is {shorten(repr(first))} for "
                f"{runs[0].name} and {shorten(repr(second))} for {run.name}. Run both in one suite, or report them "
                "separately."
            )


def _refuse_splits(done: Sequence[SavedRun], splits: Sequence[str]) -> None:
    """Raise unless all runs that have a split used the same number of its pairs."""
    for split in splits:
        having = [run for run in done if _num_used(run, split) is not None]
        _refuse(f"data.splits.{split}.used", having, partial(_num_used, split=split))


def _num_used(run: SavedRun, split: str) -> int | None:
    data = run.record.data
    return data.splits[split].used if data is not None and split in data.splits else None


def _refuse_documents(done: Sequence[SavedRun]) -> None:
    """Raise unless all runs have the same test documents with the same references, in the same order."""
    for run in done[1:]:
        for number, (first, second) in enumerate(zip(done[0].predictions, run.predictions, strict=True), 1):
            for field in ("id", "reference"):
                if getattr(first, field) != getattr(second, field):
                    mine, theirs = (shorten(getattr(line, field), 60) for line in (first, second))
                    raise ResultsError(
                        f"These runs cannot be compared in one table: predictions.jsonl, line {number}, {field} is "
                        f"{mine!r} for {done[0].name} and {theirs!r} for {run.name}. Only the same test documents in "
                        "the same order can be compared."
                    )


def _refuse_equal_losses(done: Sequence[SavedRun]) -> None:
    """Raise if two tuned methods have a bit-equal test loss under one seed: the same run twice, or a bug.

    Methods that never beat the untouched weights are exempt: they are those weights, as their flags say.
    """
    seen: dict[tuple[int, float], SavedRun] = {}
    for run in done:
        untouched = run.record.training is not None and run.record.training.best_step == 0
        if not run.trained or untouched or run.record.loss.test is None:
            continue
        first = seen.setdefault((run.record.seed, run.record.loss.test), run)
        if first.record.label != run.record.label:
            raise ResultsError(
                f"loss.test of {first.name} and of {run.name} is bit-equal ({run.record.loss.test!r}). Two "
                "different methods cannot have that: they are the same run twice (give it once), or one did "
                "not train what its name says."
            )


def _data_fingerprint(run: SavedRun) -> str | None:
    return run.record.data.fingerprint if run.record.data is not None else None


def _model_fingerprint(run: SavedRun) -> str | None:
    return run.record.provenance.model_fingerprint if run.record.provenance is not None else None


def _leaves(setting: str, runs: Sequence[SavedRun]) -> list[str]:
    """The dotted names below a setting in any run, so that an error names the key rather than its section."""
    keys = dict.fromkeys(key for run in runs if isinstance(section := run.setting(setting), dict) for key in section)
    return [f"{setting}.{key}" for key in keys] or [setting]
