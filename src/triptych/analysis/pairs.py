"""Compute intervals, paired tests and decisions from scores, deterministically and without reading files."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal

import numpy as np

from triptych.analysis.correction import corrected_by_holm, corrected_pairs, holm
from triptych.analysis.inference import Array, Sample, difference, sample_of
from triptych.analysis.power import POWER, detectable
from triptych.config.schema import Analysis
from triptych.results.records import Estimate, Inference, PairedTest
from triptych.text.measures import lower_is_better, units_of

LEVEL = 0.05
ROUGE_BOUNDS = (0.0, 100.0)

Scores = Mapping[str, Mapping[str, Array]]  # by label, then by measure: [S, N], a document's score under each seed
Samples = Mapping[str, Mapping[str, Sample]]


def samples(scores: Scores) -> dict[str, dict[str, Sample]]:
    """The mean of every method on every measure, with what its interval and tests need.

    Args:
        scores: [S, N] by label and measure; all methods have the same N documents in the same order. A method that is
            not trained has S = 1. Measures whose name begins with `rouge` are in 0-100; values of `loss` come from
            `inference.ratio_values`.
    """
    return {
        label: {measure: sample_of(values, bounds_of(measure)) for measure, values in measures.items()}
        for label, measures in scores.items()
    }


def bounds_of(measure: str) -> tuple[float, float] | None:
    """The lowest and highest value that a document can have on a measure; None if they are unknown."""
    return ROUGE_BOUNDS if measure.startswith("rouge") else None


def mean_estimate(one: Sample) -> Estimate:
    """A method's mean with its 95% interval."""
    low, high = one.interval(LEVEL)
    return Estimate(mean=one.mean, low=low, high=high)


def paired_tests(
    scores: Samples,
    analysis: Analysis,
    trained: Mapping[str, int],
    pairs: Sequence[tuple[str, str]] | None = None,
    power: bool = True,
) -> list[PairedTest]:
    """Test every pair of methods on every measure that both have, corrected over the pairs of each measure.

    Args:
        scores: from `samples`.
        analysis: the primary measure and the margins.
        trained: the number of seeds of each trained method; the others are untrained.
        pairs: labels to test against each other, corrected by Holm; None: all pairs of methods, corrected by
            `corrected_pairs`.
        power: also compute the difference that each test could have detected, and whether methods are equivalent;
            False: only whether they differ.

    Returns:
        The tests, pair by pair; none if there is only one document.
    """
    chosen = list(combinations(scores, 2)) if pairs is None else list(pairs)
    measures = dict.fromkeys(measure for label in scores for measure in scores[label])
    complete = pairs is None
    by_measure = {
        measure: _of_measure(measure, scores, analysis, trained, chosen, complete, power) for measure in measures
    }
    found = {(test.a, test.b, test.metric): test for tests in by_measure.values() for test in tests}
    return [found[a, b, measure] for a, b in chosen for measure in scores[a] if (a, b, measure) in found]


def inference_of(tests: Sequence[PairedTest], analysis: Analysis) -> Inference:
    """Describe how the tests of a comparison were made, for its record."""
    measures = dict.fromkeys(test.metric for test in tests)
    most: dict[str, float | None] = {}
    for measure in measures:
        known = [test.detectable for test in tests if test.metric == measure and test.detectable is not None]
        most[measure] = max(known, default=None)
    return Inference(
        primary=analysis.primary,
        margins={measure: analysis.margin_of(measure) for measure in measures},
        units={measure: units_of(measure) for measure in measures},
        confidence=1 - LEVEL,
        level=LEVEL,
        intervals="documents and training seeds as two sources of chance, variances estimated for each method; "
        "Student's t with degrees of freedom from both, corrected for the skewness of documents (Hall 1992)",
        correction="on each measure over all pairs of methods, step down over the pairs that can still be equal "
        "(Shaffer 1986)",
        power=POWER,
        detectable=most,
    )


def _of_measure(
    measure: str,
    scores: Samples,
    analysis: Analysis,
    trained: Mapping[str, int],
    pairs: Sequence[tuple[str, str]],
    all_pairs: bool,
    power: bool,
) -> list[PairedTest]:
    """The tests of all pairs on one measure."""
    cases = [
        (a, b, difference(scores[a][measure], scores[b][measure]))
        for a, b in pairs
        if measure in scores[a] and measure in scores[b]
    ]
    cases = [case for case in cases if len(case[2].profile) > 1]
    if not cases:
        return []
    margin = analysis.margin_of(measure)
    sign = -1 if lower_is_better(measure) else 1  # a lower loss is better
    p_values = np.array([one.p_value() for *_, one in cases])
    rows = len({label for a, b, _ in cases for label in (a, b)})
    found = corrected_pairs(p_values, rows, LEVEL) if all_pairs else corrected_by_holm(p_values, LEVEL)
    not_worse = _corrected_one_sided([one for *_, one in cases], margin, sign) if power else np.ones((len(cases), 2))
    tests = []
    for (a, b, one), p, adjusted, level, margins in zip(
        cases, p_values, found.adjusted, found.levels, not_worse, strict=True
    ):
        low, high = one.interval(level)
        single = one.interval(LEVEL)
        seeds = [trained.get(a, 0), trained.get(b, 0)]
        tests.append(
            PairedTest(
                a=a,
                b=b,
                metric=measure,
                difference=one.mean,
                low=low,
                high=high,
                p_value=float(p),
                p_value_adjusted=float(adjusted),
                decision=_decision(adjusted, margins),
                role="primary" if measure == analysis.primary else "second" if measure == "loss" else "secondary",
                units=units_of(measure),
                confidence=1 - float(level),
                single_low=single[0],
                single_high=single[1],
                margin=margin if power else None,
                p_not_worse=float(margins[0]) if power else None,
                p_not_better=float(margins[1]) if power else None,
                detectable=detectable(one, LEVEL / len(cases)) if power else None,
                seeds=seeds,
                inference="trained models" if 1 in seeds else "methods",
            )
        )
    return tests


def _corrected_one_sided(differences: Sequence[Sample], margin: float, sign: int) -> Array:
    """Corrected p-values of each pair against "a is worse by the margin" and "b is"; at most one can be true."""
    one_sided = [[_not_worse(one, margin, sign), _not_worse(one, margin, -sign)] for one in differences]
    return holm(np.array(one_sided).ravel(), len(differences)).reshape(-1, 2)


def _not_worse(one: Sample, margin: float, sign: int) -> float:
    """One-sided p-value against the hypothesis that a is worse than b by the margin or more."""
    return one.p_above(-margin) if sign > 0 else 1 - one.p_above(margin)


def _decision(adjusted: float, margins: Array) -> Literal["different", "equivalent", "undecided"]:
    """The decision of a pair, from its corrected p-value and those of its two one-sided tests."""
    if adjusted < LEVEL:
        return "different"
    return "equivalent" if max(margins) < LEVEL else "undecided"
