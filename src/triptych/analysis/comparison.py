"""Turn a results folder into a `Comparison` of means, intervals and paired tests, deterministically."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from triptych.analysis.checks import output_checks
from triptych.analysis.costs import on_shared_device
from triptych.analysis.coverage import subset
from triptych.analysis.fairness import refuse_unfair, refuse_unlike_seeds
from triptych.analysis.flags import comparison_flags, row_flags, synthetic_parts_of
from triptych.analysis.inference import Array, Sample, ratio_values, t_interval
from triptych.analysis.pairs import inference_of, mean_estimate, paired_tests, samples
from triptych.analysis.verdict import pareto_front, verdict, verdict_of_files
from triptych.errors import ResultsError
from triptych.results.consistency import LOSS_TOLERANCE
from triptych.results.reading import Results, SavedRun
from triptych.results.records import (
    NUMERIC_COSTS,
    ROUGE_PARTS,
    ROUGE_TYPES,
    SEARCH_COSTS,
    Comparison,
    PairedTest,
    RowLoss,
    RowSummary,
    ScalingPoint,
    TextShape,
)
from triptych.storage.given_documents import name_in_folder


def compare_results(results: Results) -> Comparison:
    """Compare the methods of a results folder.

    Args:
        results: from `read_results` or `join_results`.

    Raises:
        ResultsError: the runs cannot go into one table, or none finished.
    """
    refuse_incomparable(results)
    finished = [run for run in results.runs if run.done]
    if not finished:
        raise ResultsError(none_finished(results))
    analysis, synthetic = results.suite.analysis, synthetic_parts_of(finished)
    scores = _scores(results)
    rows = {label: _row(label, results, scores) for label in results.labels}
    tests = paired_tests(scores, analysis, _num_seeds(results))
    points, absent = _scaling(results, rows, scores)
    flags = [*comparison_flags(results), *absent]
    if not tests and len(scores) > 1:
        flags.append("There is only one test document, so there are no tests and no intervals.")
    return Comparison(
        source="runs" if results.files is None else "files",
        suite=results.suite.name,
        model=results.suite.model,
        data=name_in_folder(results.suite.data),
        synthetic=bool(synthetic),
        synthetic_parts=synthetic,
        num_documents=len(finished[0].predictions),
        subset=subset(finished[0].record.data),
        seeds=list(results.suite.seeds),
        rows=rows,
        tests=tests,
        pareto=pareto_front(
            {
                label: (row.rouge1.mean, row.cost["train_seconds"])
                for label, row in rows.items()
                if row.rouge1 is not None and not row.shared_device
            }
        ),
        pareto_parameters=pareto_front(
            {
                label: (row.rouge1.mean, row.num_trainable_parameters)
                for label, row in rows.items()
                if row.rouge1 is not None
            }
        ),
        verdict=(verdict if results.files is None else verdict_of_files)(rows, tests, analysis),
        flags=flags,
        signature=finished[0].record.rouge.signature if finished[0].record.rouge is not None else None,
        inference=inference_of(tests, analysis) if tests else None,
        scaling=points,
        checks=output_checks(results) if results.has_texts else results.kept_checks,
        design=results.suite.design.model_dump() if results.suite.design is not None else None,
    )


def join_results(several: Sequence[Results]) -> Results:
    """Join several results folders for one table; `compare_results` refuses them if what must be equal differs.

    A label that several suites use gets the suite's name as a suffix, or the folder's if those names are equal too.
    An untrained method with the same summaries in several suites is kept once, under its own label.

    Raises:
        ResultsError: no folder was given, one was given twice, or their runs cannot go into one table.
    """
    if not several:
        raise ResultsError("No results folder was given. Give at least one that `triptych compare --out` wrote.")
    if len(several) == 1:
        return several[0]
    refuse_repeated(several)
    _refuse_unlike_analysis(several)
    refuse_unfair([_named_with(results.out, run) for results in several for run in results.runs])
    several = _without_repeated_baselines(several)
    suffixes = _suffixes(several)
    owners: dict[str, int] = {}
    for results in several:
        for label in _planned(results):
            owners[label] = owners.get(label, 0) + 1
    runs: list[SavedRun] = []
    missing: list[tuple[str, int]] = []
    methods: list[str] = []
    for results, suffix in zip(several, suffixes, strict=True):
        names = {label: label if owners[label] == 1 else f"{label}@{suffix}" for label in _planned(results)}
        methods.extend(names.values())
        missing.extend((names[label], seed) for label, seed in results.missing)
        runs.extend(
            replace(run, record=run.record.model_copy(update={"label": names[run.record.label]}))
            for run in results.runs
        )
    suite = several[0].suite.model_copy(
        update={
            "name": " + ".join(dict.fromkeys(suffixes)),
            "methods": tuple(methods),
            "seeds": tuple(dict.fromkeys(seed for results in several for seed in results.suite.seeds)),
        }
    )
    return Results(several[0].out, suite, tuple(runs), tuple(missing))


def refuse_repeated(several: Sequence[Results]) -> None:
    """Raise if a results folder was given twice: its runs would count as further ones."""
    folders = [results.out.resolve() for results in several]
    if len(set(folders)) < len(folders):
        twice = next(str(folder) for folder in folders if folders.count(folder) > 1)
        raise ResultsError(f"The results folder {twice!r} was given twice. Give each once.")


def refuse_incomparable(results: Results) -> None:
    """Raise unless the runs of a folder may be compared in one table.

    Raises:
        ResultsError: two runs differ in what must be equal, or two seeds of a method in their options.
    """
    refuse_unfair(results.runs)
    if results.files is None:  # the options of a scored run are its file, which differs
        refuse_unlike_seeds(results.runs)


def _named_with(out: Path, run: SavedRun) -> SavedRun:
    """The run with its folder in its name, for error messages."""
    return replace(run, record=run.record.model_copy(update={"label": f"{run.record.label} in {str(out)!r}"}))


def _refuse_unlike_analysis(several: Sequence[Results]) -> None:
    """Raise unless all folders have the same primary measure and margins: only the user can choose between them."""
    first = several[0]
    for other in several[1:]:
        for name in type(first.suite.analysis).model_fields:
            here, there = getattr(first.suite.analysis, name), getattr(other.suite.analysis, name)
            if here != there:
                raise ResultsError(
                    f"These folders cannot be compared in one table: analysis.{name} is {here!r} in {str(first.out)!r} "
                    f"and {there!r} in {str(other.out)!r}. It changes no run: use the same value in [analysis] of both "
                    "suite.json files."
                )


def _scores(results: Results) -> dict[str, dict[str, Sample]]:
    """The mean of every finished method on every measure, with its spread."""
    return samples({label: matrices(runs) for label in results.labels if (runs := results.of(label))})


def _num_seeds(results: Results) -> dict[str, int]:
    """The number of seeds of each trained method; systems whose files were scored count as trained."""
    may_be = results.files is not None
    return {label: len(runs) for label in results.labels if (runs := results.of(label)) and (runs[0].trained or may_be)}


def matrices(runs: Sequence[SavedRun]) -> dict[str, Array]:
    """The scores of a method's documents, [S, N], by measure: ROUGE and, if every prediction has one, the loss.

    Losses are returned as values whose mean is the loss of the split.

    Raises:
        ResultsError: the losses of the documents do not match the record.
    """
    columns = {metric: _matrix(runs, metric) for metric in ROUGE_TYPES}
    if not all({"loss", "targets"} <= prediction.scores.keys() for run in runs for prediction in run.predictions):
        return columns
    targets = _matrix(runs, "targets")
    nats = _matrix(runs, "loss") * targets
    for run, ratio in zip(runs, nats.sum(axis=1) / targets.sum(axis=1), strict=True):
        recorded = run.record.loss.test
        if recorded is None or not math.isclose(ratio, recorded, rel_tol=LOSS_TOLERANCE):
            raise ResultsError(
                f"The losses in predictions.jsonl of {run.name} give {ratio:.6f} nats per target, but its record "
                f"says {recorded}. Delete this run's folder and resume the suite."
            )
    return columns | {"loss": ratio_values(nats, targets)}


def _matrix(runs: Sequence[SavedRun], metric: str) -> Array:
    """[S, N] scores of a method."""
    return np.array([[prediction.scores[metric] for prediction in run.predictions] for run in runs], dtype=np.float64)


def _scaling(
    results: Results, rows: Mapping[str, RowSummary], scores: Mapping[str, Mapping[str, Sample]]
) -> tuple[list[ScalingPoint], list[str]]:
    """The points of the data-size curves, ending with the suite itself, and sentences on what is missing."""
    parts = {size: part for size, part in results.scaled.items() if any(run.done for run in part.runs)}
    flags = [
        f"[scaling] asks for {size:,} training documents, but this comparison has no finished run on them."
        for size in results.suite.scaling.train_documents
        if size not in parts
    ]
    for size, part in parts.items():
        failed = [run.name for run in part.runs if not run.done]
        lacking = ", ".join([*failed, *(f"{label} (seed {seed})" for label, seed in part.missing)])
        if lacking:
            flags.append(f"Missing from this comparison, on {size:,} training documents: {lacking}.")
    tuned = [run for run in results.runs if run.done and run.trained]
    used = next((run.record.data.splits["train"].used for run in tuned if run.record.data is not None), None)
    if not parts or used is None:
        return [], flags
    sizes: dict[int, Sequence[SavedRun]] = {size: part.runs for size, part in parts.items()} | {used: tuned}
    refuse_unfair([run for runs in sizes.values() for run in runs], sizes_differ=True)
    gains = _gains(results, sizes)
    own = {label: row for label, row in rows.items() if row.trained}
    trained = {label: values for label, values in scores.items() if label in own}
    among = paired_tests(trained, results.suite.analysis, _num_seeds(results))  # corrected like the smaller sizes
    smaller = {size: compare_results(part) for size, part in parts.items()}
    judged = {size: (part.rows, part.tests, part.verdict) for size, part in smaller.items()}
    judged[used] = own, among, verdict(own, among, results.suite.analysis)
    points = [
        ScalingPoint(
            train_documents=size,
            rows=inner,
            tests=between,
            verdict=ahead,
            gains=[test for test in gains if test.a.endswith(f"@{size}")],
        )
        for size, (inner, between, ahead) in judged.items()
    ]
    return points, flags


def _gains(results: Results, sizes: Mapping[int, Sequence[SavedRun]]) -> list[PairedTest]:
    """Test each method against itself at the next smaller training size, on the same test documents."""
    runs = [
        replace(run, record=run.record.model_copy(update={"label": f"{run.record.label}@{size}"}))
        for size, part in sizes.items()
        for run in part
    ]
    joined = replace(results, runs=tuple(runs), scaled={})
    scores = _scores(joined)
    labels = dict.fromkeys(run.record.label for part in sizes.values() for run in part)
    pairs = [
        (f"{label}@{larger}", f"{label}@{smaller}") for label in labels for smaller, larger in pairwise(sorted(sizes))
    ]
    there = [(a, b) for a, b in pairs if a in scores and b in scores]
    return paired_tests(scores, results.suite.analysis, _num_seeds(joined), there)


def _row(label: str, results: Results, scores: Mapping[str, Mapping[str, Sample]]) -> RowSummary:
    runs = [run for run in results.runs if run.record.label == label]
    done = [run for run in runs if run.done]
    return RowSummary(
        label=label,
        kind=runs[0].record.kind,
        seeds=[run.record.seed for run in done],
        failed_seeds=[run.record.seed for run in runs if not run.done],
        **{metric: mean_estimate(scores[label][metric]) if done else None for metric in ROUGE_TYPES},
        loss=_loss(done, scores.get(label, {}).get("loss")),
        cost={
            field: (_total if field in SEARCH_COSTS else _mean)([getattr(run.record.cost, field) for run in done])
            for field in NUMERIC_COSTS
        },
        parameters=done[0].record.parameters if done else None,
        text_shape=_text_shape(done),
        further_scores=_further_scores(done),
        **{f"rouge_{part}": _rouge_part(done, part) for part in ROUGE_PARTS},
        seed_sd=_seed_sd(done),
        shared_device=any(map(on_shared_device, done)),
        flags=row_flags(runs, "seed" if results.files is None else "set"),
    )


def _further_scores(done: Sequence[SavedRun]) -> dict[str, float | None]:
    names = dict.fromkeys(name for run in done for name in run.record.further_scores)
    return {name: _mean([run.record.further_scores.get(name) for run in done]) for name in names}


def _rouge_part(done: Sequence[SavedRun], part: str) -> dict[str, float | None]:
    """Means over seeds of ROUGE's precision or recall by type; None if a run from before they were kept lacks them."""
    kept = [getattr(run.record.rouge, part) for run in done]
    return {name: _mean([each.get(name) for each in kept]) for name in ROUGE_TYPES} if any(kept) else {}


def _seed_sd(done: Sequence[SavedRun]) -> dict[str, float]:
    """Standard deviation over seeds on each measure that every seed has; empty with one seed."""
    means: dict[str, list[float | None]] = {"loss": [run.record.loss.test for run in done]}
    means |= {name: [getattr(run.record.rouge, name) for run in done] for name in ROUGE_TYPES}
    there = {name: [value for value in values if value is not None] for name, values in means.items()}
    return {name: float(np.std(values, ddof=1)) for name, values in there.items() if len(values) == len(done) > 1}


def _loss(done: Sequence[SavedRun], scores: Sample | None) -> RowLoss:
    """Means over seeds, with the interval of the test loss.

    The interval is over documents and seeds if documents have losses, else over seeds alone.
    """
    test = [run.record.loss.test for run in done]
    there = [loss for loss in test if loss is not None]
    low = high = None
    if scores is not None:
        low, high = scores.interval()
    elif there and len(there) == len(test):
        low, high = t_interval(np.array(there))
    return RowLoss(
        initial=_mean([run.record.loss.initial for run in done]),
        validation=_mean([run.record.loss.validation for run in done]),
        test=_mean(test),
        mean=_mean(test),
        low=low,
        high=high,
    )


def _text_shape(done: Sequence[SavedRun]) -> TextShape | None:
    shapes = [run.record.text_shape for run in done]
    if not shapes or None in shapes:
        return None
    means = {name: _mean([getattr(shape, name) for shape in shapes]) for name in TextShape.model_fields}
    return TextShape.model_validate(means)


def _total(values: Sequence[float | None]) -> float | None:
    """The sum of the known values; None if there are none."""
    there = [value for value in values if value is not None]
    return sum(there) if there else None


def _mean(values: Sequence[Any]) -> float | None:
    """The mean, or None if a value is missing: a mean over only some seeds would not be comparable."""
    return math.fsum(values) / len(values) if values and None not in values else None


def none_finished(results: Results) -> str:
    """The error message for a suite in which every run failed, with the first reason."""
    failed = results.runs[0].record
    reason = (failed.error or "no reason was recorded").strip().splitlines()[-1]
    return f"No run in {str(results.out)!r} finished. The first, {results.runs[0].name}, failed: {reason}"


def _planned(results: Results) -> tuple[str, ...]:
    """The methods with a run, present or missing, in the suite's order."""
    missing = {label for label, _ in results.missing}
    return tuple(label for label in results.suite.methods if label in missing or label in results.labels)


def _suffixes(several: Sequence[Results]) -> list[str]:
    """A unique name for each folder: the suite's, else the folder's, else its full path."""
    for names in ([results.suite.name for results in several], [results.out.name for results in several]):
        if len(set(names)) == len(names):
            return names
    return [str(results.out) for results in several]


def _without_repeated_baselines(several: Sequence[Results]) -> list[Results]:
    """Drop untrained methods that an earlier folder has with the same kind and summaries."""
    seen: set[tuple[Any, ...]] = set()
    kept = []
    for results in several:
        runs = []
        for run in results.runs:
            key = (run.record.label, run.record.kind, tuple((line.id, line.prediction) for line in run.predictions))
            if run.trained or not run.done or key not in seen:
                runs.append(run)
            seen.add(key)
        kept.append(replace(results, runs=tuple(runs)))
    return kept
