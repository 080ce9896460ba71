"""From a results folder to `records.Comparison`: means, intervals, paired tests. Deterministic."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from triptych.analysis.coverage import subset
from triptych.analysis.fairness import refuse_unfair
from triptych.analysis.flags import comparison_flags, row_flags
from triptych.analysis.loading import ROUGE_METRICS, Results, Run
from triptych.analysis.statistics import (
    PERMUTATIONS,
    RESAMPLES,
    Array,
    holm,
    percentile_interval,
    resample_documents,
    resample_seeds,
    sign_flip_p_values,
    t_interval,
)
from triptych.analysis.verdict import num_trainable, pareto_front, separable, verdict
from triptych.errors import ResultsError
from triptych.records import (
    NUMERIC_COSTS,
    Comparison,
    Estimate,
    PairedTest,
    Row,
    RowLoss,
    ScalingPoint,
    TextShape,
)

__all__ = ["compare", "join", "separable"]

SEED = 0  # of every resampling: the same results give the same comparison
LOSS_TOLERANCE = 1e-4  # relative; sums of bf16 losses in another order differ by less


@dataclass(frozen=True)
class _Scores:
    """A row's scores of one metric: [S, N], and the bootstrap replicates of their mean: [B].

    A document's score of the metric `loss` is its share of nats over targets, N nats[n] / sum targets: the mean is the loss.
    """

    values: Array
    replicates: Array


def compare(results: Results, resamples: int = RESAMPLES) -> Comparison:
    """Compare the rows of a results folder.

    Args:
        results: from `loading.load` or `join`.
        resamples: bootstrap samples. The permutations of a test are as many, and more where many pairs are tested.

    Raises:
        ResultsError: the runs may not go into one table, or none finished.
    """
    refuse_unfair(results.runs)
    finished = [run for run in results.runs if run.done]
    if not finished:
        raise ResultsError(f"No run in {str(results.out)!r} finished. {_first_error(results)}")
    scores = _resample(results, resamples)
    rows = {label: _row(label, results, scores) for label in results.labels}
    tests = _paired_tests(scores)
    points, absent = _scaling(results, rows, tests, resamples)
    flags = [*comparison_flags(results), *absent]
    if not tests and len(scores) > 1:
        flags.append("There is one test document: nothing can be tested, and no interval given.")
    return Comparison(
        suite=results.suite.name,
        model=results.suite.model,
        data=results.suite.data,
        synthetic=_synthetic(finished),
        num_documents=len(finished[0].predictions),
        subset=subset(finished[0].record.data),
        seeds=list(results.suite.seeds),
        rows=rows,
        tests=tests,
        pareto=pareto_front(
            {
                label: (row.rouge1.mean, row.cost["train_seconds"])
                for label, row in rows.items()
                if row.rouge1 is not None
            }
        ),
        pareto_parameters=pareto_front(
            {label: (row.rouge1.mean, num_trainable(row)) for label, row in rows.items() if row.rouge1 is not None}
        ),
        verdict=verdict(rows, tests),
        flags=flags,
        signature=finished[0].record.rouge.signature if finished[0].record.rouge is not None else None,
        scaling=points,
    )


def join(several: Sequence[Results]) -> Results:
    """Several results folders as one, for one table; `compare` refuses it where they differ in what must be equal.

    A label that several suites have gets the suite's name as a suffix (the folder's where the names are equal too).
    An untrained row with the same summaries in several suites is kept once, under its own label.

    Raises:
        ResultsError: no folder was given, one was given twice, or their runs may not go into one table.
    """
    if not several:
        raise ResultsError("No results folder was given. Give at least one that `triptych compare --out` wrote.")
    if len(several) == 1:
        return several[0]
    folders = [results.out.resolve() for results in several]
    if len(set(folders)) < len(folders):
        twice = next(str(folder) for folder in folders if folders.count(folder) > 1)
        raise ResultsError(f"The results folder {twice!r} was given twice. Give each once.")
    refuse_unfair([run for results in several for run in results.runs])
    several = _without_repeated_baselines(several)
    suffixes = _suffixes(several)
    owners: dict[str, int] = {}
    for results in several:
        for label in _planned(results):
            owners[label] = owners.get(label, 0) + 1
    runs: list[Run] = []
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


def _resample(results: Results, resamples: int) -> dict[str, dict[str, _Scores]]:
    """Scores and replicates by label and metric: one draw of documents for all, one of seeds for each row."""
    matrices = {label: _matrices(runs) for label in results.labels if (runs := results.of(label))}
    stacked = np.concatenate([values for columns in matrices.values() for values in columns.values()]).T
    means = resample_documents(stacked, resamples, np.random.default_rng(SEED))
    scores: dict[str, dict[str, _Scores]] = {}
    start = 0
    for label, columns in matrices.items():
        drawn = {}
        for name, values in columns.items():
            drawn[name] = means[:, start : start + len(values)]
            start += len(values)
        scores[label] = {
            metric: _Scores(columns[metric], resample_seeds(drawn[metric], _row_generator(label)))
            for metric in ROUGE_METRICS
        }
        if "nats" in columns:
            shares = columns["nats"] / columns["targets"].mean(axis=1, keepdims=True)
            ratios = drawn["nats"] / drawn["targets"]
            scores[label]["loss"] = _Scores(shares, resample_seeds(ratios, _row_generator(label)))
    return scores


def _row_generator(label: str) -> np.random.Generator:
    """Chance of a row's own, so that its interval does not depend on which other rows are in the table."""
    return np.random.default_rng([SEED, *label.encode()])


def _matrices(runs: Sequence[Run]) -> dict[str, Array]:
    """ROUGE of every document of a row, and nats and targets where every prediction has them: [S, N] each.

    Raises:
        ResultsError: losses of documents that are not those of the record.
    """
    columns = {metric: _matrix(runs, metric) for metric in ROUGE_METRICS}
    if not all({"loss", "targets"} <= prediction.scores.keys() for run in runs for prediction in run.predictions):
        return columns
    targets = _matrix(runs, "targets")
    nats = _matrix(runs, "loss") * targets
    for run, ratio in zip(runs, nats.sum(axis=1) / targets.sum(axis=1), strict=True):
        recorded = run.record.loss.test
        if recorded is None or not math.isclose(ratio, recorded, rel_tol=LOSS_TOLERANCE):
            raise ResultsError(
                f"The losses in predictions.jsonl of {run.name} give {ratio:.6f} nats a target, its record "
                f"says {recorded}. Delete this run's folder and resume the suite."
            )
    return columns | {"nats": nats, "targets": targets}


def _matrix(runs: Sequence[Run], metric: str) -> Array:
    """[S, N] scores of a row."""
    return np.array([[prediction.scores[metric] for prediction in run.predictions] for run in runs], dtype=np.float64)


def _paired_tests(scores: Mapping[str, Mapping[str, _Scores]]) -> list[PairedTest]:
    """Every pair of rows on every metric that both have; a row run once stands beside each seed of the other."""
    return _tests(scores, list(combinations(scores, 2)))


def _tests(scores: Mapping[str, Mapping[str, _Scores]], pairs: Sequence[tuple[str, str]]) -> list[PairedTest]:
    """These pairs on every metric that both rows have, Holm over all of them."""
    cases = [(a, b, metric) for a, b in pairs for metric in scores[a] if metric in scores[b]]
    documents = next(iter(next(iter(scores.values())).values())).values.shape[1]
    if not cases or documents < 2:
        return []
    differences = np.stack(
        [scores[a][metric].values.mean(axis=0) - scores[b][metric].values.mean(axis=0) for a, b, metric in cases],
        axis=1,
    )
    # The least p is 1 / (B + 1): with at least 100 permutations a test, Holm's correction can still reject.
    permutations = max(PERMUTATIONS, 100 * len(cases))
    p_values = sign_flip_p_values(differences, np.random.default_rng([SEED, 1]), permutations)
    adjusted = holm(p_values)
    tests = []
    for column, (a, b, metric) in enumerate(cases):
        low, high = percentile_interval(scores[a][metric].replicates - scores[b][metric].replicates)
        tests.append(
            PairedTest(
                a=a,
                b=b,
                metric=metric,
                difference=float(differences[:, column].mean()),
                low=low,
                high=high,
                p_value=float(p_values[column]),
                p_value_adjusted=float(adjusted[column]),
            )
        )
    return tests


def _scaling(
    results: Results, rows: Mapping[str, Row], tests: Sequence[PairedTest], resamples: int
) -> tuple[list[ScalingPoint], list[str]]:
    """The points of the data-size curves, the suite itself the last, and sentences on what is not there."""
    parts = {size: part for size, part in results.scaled.items() if any(run.done for run in part.runs)}
    flags = [
        f"[scaling] asks for {size:,} training documents; no finished run on them is in this comparison."
        for size in results.suite.scaling.train_documents
        if size not in parts
    ]
    for size, part in parts.items():
        failed = [run.name for run in part.runs if not run.done]
        lacking = ", ".join([*failed, *(f"{label} (seed {seed})" for label, seed in part.missing)])
        if lacking:
            flags.append(f"On {size:,} training documents, not in this comparison: {lacking}.")
    tuned = [run for run in results.runs if run.done and run.tuned]
    used = next((run.record.data.splits["train"].used for run in tuned if run.record.data is not None), None)
    if not parts or used is None:
        return [], flags
    sizes: dict[int, Sequence[Run]] = {size: part.runs for size, part in parts.items()} | {used: tuned}
    refuse_unfair([run for runs in sizes.values() for run in runs], sizes_differ=True)
    gains = _gains(results, sizes, resamples)
    own = {label: row for label, row in rows.items() if num_trainable(row)}
    among = [test for test in tests if {test.a, test.b} <= own.keys()]
    smaller = {size: compare(part, resamples) for size, part in parts.items()}
    judged = {size: (part.rows, part.tests, part.verdict) for size, part in smaller.items()}
    judged[used] = own, among, verdict(own, among)
    points = [
        ScalingPoint(
            train_documents=size, rows=inner, tests=between, verdict=ahead,
            gains=[test for test in gains if test.a.endswith(f"@{size}")],
        )
        for size, (inner, between, ahead) in judged.items()
    ]  # fmt: skip
    return points, flags


def _gains(results: Results, sizes: Mapping[int, Sequence[Run]], resamples: int) -> list[PairedTest]:
    """Each row against itself on the next fewer training documents, on the same test documents."""
    runs = [
        replace(run, record=run.record.model_copy(update={"label": f"{run.record.label}@{size}"}))
        for size, part in sizes.items()
        for run in part
    ]
    scores = _resample(replace(results, runs=tuple(runs), scaled={}), resamples)
    labels = dict.fromkeys(run.record.label for part in sizes.values() for run in part)
    pairs = [
        (f"{label}@{larger}", f"{label}@{smaller}") for label in labels for smaller, larger in pairwise(sorted(sizes))
    ]
    return _tests(scores, [(a, b) for a, b in pairs if a in scores and b in scores])


def _row(label: str, results: Results, scores: Mapping[str, Mapping[str, _Scores]]) -> Row:
    runs = [run for run in results.runs if run.record.label == label]
    done = [run for run in runs if run.done]
    return Row(
        label=label,
        kind=runs[0].record.kind,
        seeds=[run.record.seed for run in done],
        failed_seeds=[run.record.seed for run in runs if not run.done],
        **{metric: _estimate(scores[label][metric]) if done else None for metric in ROUGE_METRICS},
        loss=_loss(done, scores.get(label, {}).get("loss")),
        cost={field: _mean([getattr(run.record.cost, field) for run in done]) for field in NUMERIC_COSTS},
        parameters=done[0].record.parameters if done else None,
        text_shape=_text_shape(done),
        further_scores=_further_scores(done),
        flags=row_flags(runs),
    )


def _further_scores(done: Sequence[Run]) -> dict[str, float | None]:
    names = dict.fromkeys(name for run in done for name in run.record.further_scores)
    return {name: _mean([run.record.further_scores.get(name) for run in done]) for name in names}


def _estimate(scores: _Scores) -> Estimate:
    mean = float(scores.values.mean())
    if scores.values.shape[1] < 2:
        return Estimate(mean=mean, low=None, high=None)
    low, high = percentile_interval(scores.replicates)
    return Estimate(mean=mean, low=low, high=high)


def _loss(done: Sequence[Run], scores: _Scores | None) -> RowLoss:
    """Means over seeds; the test loss with its interval: over documents and seeds where documents have losses,
    else over seeds alone."""
    test = [run.record.loss.test for run in done]
    there = [loss for loss in test if loss is not None]
    low = high = None
    if scores is not None and scores.values.shape[1] > 1:
        low, high = percentile_interval(scores.replicates)
    elif there and len(there) == len(test):
        interval = t_interval(np.array(there))
        low, high = interval.low, interval.high
    return RowLoss(
        initial=_mean([run.record.loss.initial for run in done]),
        validation=_mean([run.record.loss.validation for run in done]),
        test=_mean(test),
        mean=_mean(test),
        low=low,
        high=high,
    )


def _text_shape(done: Sequence[Run]) -> TextShape | None:
    shapes = [run.record.text_shape for run in done]
    if not shapes or None in shapes:
        return None
    means = {name: _mean([getattr(shape, name) for shape in shapes]) for name in TextShape.model_fields}
    return TextShape.model_validate(means)


def _mean(values: Sequence[Any]) -> float | None:
    """The mean, or None if a value is missing: a mean over some of the seeds is of another thing."""
    return math.fsum(values) / len(values) if values and None not in values else None


def _synthetic(finished: Sequence[Run]) -> bool:
    return any(
        (run.record.data is not None and run.record.data.synthetic)
        or (run.record.provenance is not None and run.record.provenance.synthetic_model)
        for run in finished
    )


def _first_error(results: Results) -> str:
    failed = results.runs[0].record
    reason = (failed.error or "no reason was recorded").strip().splitlines()[-1]
    return f"The first, {results.runs[0].name}, failed: {reason}"


def _planned(results: Results) -> tuple[str, ...]:
    """The rows with a run there or missing, in the suite's order."""
    missing = {label for label, _ in results.missing}
    return tuple(label for label in results.suite.methods if label in missing or label in results.labels)


def _suffixes(several: Sequence[Results]) -> list[str]:
    """A name for each folder that no other has: the suite's, else the folder's, else its whole path."""
    for names in ([results.suite.name for results in several], [results.out.name for results in several]):
        if len(set(names)) == len(names):
            return names
    return [str(results.out) for results in several]


def _without_repeated_baselines(several: Sequence[Results]) -> list[Results]:
    """Untrained rows that an earlier folder has with the same kind and summaries, taken out of the later ones."""
    seen: set[tuple[Any, ...]] = set()
    kept = []
    for results in several:
        runs = []
        for run in results.runs:
            key = (run.record.label, run.record.kind, tuple((line.id, line.prediction) for line in run.predictions))
            if run.tuned or not run.done or key not in seen:
                runs.append(run)
            seen.add(key)
        kept.append(replace(results, runs=tuple(runs)))
    return kept
