"""What follows from a table: which rows differ, which is the best if any, which none dominates."""

from collections.abc import Mapping, Sequence

from triptych.records import Estimate, PairedTest, Row

LEVEL = 0.05


def pareto_front(points: Mapping[str, tuple[float, float | None]]) -> list[str]:
    """The labels whose (quality, cost) no other row dominates: at least as good in both and better in one.

    Args:
        points: quality (more is better) and cost (less is better) by label; a row of unknown cost is on no front.
    """
    known = {label: (quality, cost) for label, (quality, cost) in points.items() if cost is not None}
    return [
        label
        for label, (quality, cost) in known.items()
        if not any(q >= quality and c <= cost and (q > quality or c < cost) for q, c in known.values())
    ]


def separable(test: PairedTest) -> bool:
    """The two rows differ: the corrected test rejects, and the interval, which counts the seeds too, leaves out zero.

    The test speaks of the trained models at hand on other documents; the interval also of training again.
    """
    return test.p_value_adjusted < LEVEL and not test.low <= 0 <= test.high


def find_test(tests: Sequence[PairedTest], metric: str, a: str, b: str) -> PairedTest | None:
    """The test of these two rows on that score, whichever of them is its row `a`; None where there is none."""
    return next((test for test in tests if test.metric == metric and {test.a, test.b} == {a, b}), None)


def turned(test: PairedTest, first: str) -> PairedTest:
    """The same test with `first` as its row `a`."""
    if test.a == first:
        return test
    update = {"a": test.b, "b": test.a, "difference": -test.difference, "low": -test.high, "high": -test.low}
    return test.model_copy(update=update)


def verdict(rows: Mapping[str, Row], tests: Sequence[PairedTest]) -> str:
    """One sentence on test ROUGE-1: which row is ahead of all others, or that none is.

    A row wins if it is `separable` from every other row. If an untrained row leads, the trained rows are judged
    among themselves as well.
    """
    ranked = ranking(rows)
    if len(ranked) < 2:
        return "There is nothing to compare: fewer than two rows finished."
    apart = {frozenset((test.a, test.b)) for test in tests if test.metric == "rouge1" and separable(test)}
    sentence = _leader(ranked, rows, apart, "rows")
    trained = [label for label in ranked if num_trainable(rows[label])]
    if ranked[0] not in trained and len(trained) > 1:
        inner = _leader(trained, rows, apart, "trained rows")
        sentence = f"{sentence}; among the trained rows, {inner[0].lower()}{inner[1:]}"
    one_seed = trained and max(len(rows[label].seeds) for label in trained) == 1
    return f"{sentence} (one training seed)." if one_seed else f"{sentence}."


def ranking(rows: Mapping[str, Row]) -> list[str]:
    """The labels of the rows that finished, the highest mean test ROUGE-1 first."""
    means = {label: row.rouge1.mean for label, row in rows.items() if row.rouge1 is not None}
    return sorted(means, key=lambda label: -means[label])


def num_trainable(row: Row) -> int:
    """Parameters the row trained; 0 for a row without a model."""
    return row.parameters.num_trainable_parameters if row.parameters is not None else 0


def shown(estimate: Estimate | None) -> str:
    """A mean with its interval, to two places; what is not there is said."""
    if estimate is None:
        return "not measured"
    if estimate.low is None:
        return f"{estimate.mean:.2f}"
    return f"{estimate.mean:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _leader(ranked: Sequence[str], rows: Mapping[str, Row], apart: set[frozenset[str]], which: str) -> str:
    best = ranked[0]
    tied = [label for label in ranked[1:] if frozenset((best, label)) not in apart]
    leader = f"{best} ({shown(rows[best].rouge1)} ROUGE-1)"
    if not tied:
        others = "the other" if len(ranked) == 2 else f"each of the {len(ranked) - 1} other {which}"
        return f"The best is {leader}, better than {others} beyond chance"
    return f"No clear winner: {leader} leads, but cannot be told from {', '.join(tied)}"
