"""The verdict on a table: which methods differ, which is the best if any, and which are on the Pareto front."""

from collections.abc import Mapping, Sequence
from typing import Any

from triptych.analysis.pairs import LEVEL
from triptych.config.schema import Analysis
from triptych.results.records import PairedTest, RowSummary
from triptych.text import formats
from triptych.text.measures import lower_is_better, name_of, second_measure, short_unit_of

_MOST_LISTED = 6  # pairs named one by one; beyond it, only their number is given


def pareto_front(points: Mapping[str, tuple[float, float | None]]) -> list[str]:
    """The labels whose (quality, cost) no other method dominates: at least as good in both and better in one.

    Args:
        points: quality (more is better) and cost (less is better) by label; methods with unknown cost are left out.
    """
    known = {label: (quality, cost) for label, (quality, cost) in points.items() if cost is not None}
    return [
        label
        for label, (quality, cost) in known.items()
        if not any(q >= quality and c <= cost and (q > quality or c < cost) for q, c in known.values())
    ]


def is_significant(test: PairedTest) -> bool:
    """Whether the two methods differ, that is, the corrected test rejects.

    In files written before `decision` was recorded, the interval follows another rule and must exclude zero as well.
    """
    if test.decision is not None:
        return test.decision == "different"
    return test.p_value_adjusted < LEVEL and not (test.low or 0.0) <= 0 <= (test.high or 0.0)


def decision_of(test: PairedTest) -> str:
    """`different`, `equivalent` or `undecided`; files written before decisions were recorded merge the last two."""
    return test.decision or ("different" if is_significant(test) else "undecided")


def find_test(tests: Sequence[PairedTest], metric: str, a: str, b: str) -> PairedTest | None:
    """The test of these two methods on that score, in either order; None if there is none."""
    return next((test for test in tests if test.metric == metric and {test.a, test.b} == {a, b}), None)


def shown_to_differ(tests: Sequence[PairedTest], metric: str, a: str, b: str) -> bool:
    """Whether these two methods were tested on that score and differ."""
    test = find_test(tests, metric, a, b)
    return test is not None and is_significant(test)


def oriented(test: PairedTest, first: str) -> PairedTest:
    """The same test with `first` as its `a`."""
    if test.a == first:
        return test
    ends = {"low": test.high, "high": test.low, "single_low": test.single_high, "single_high": test.single_low}
    update: dict[str, Any] = {name: None if value is None else -value for name, value in ends.items()}
    update |= {"a": test.b, "b": test.a, "difference": -test.difference}
    update |= {"p_not_worse": test.p_not_better, "p_not_better": test.p_not_worse, "seeds": test.seeds[::-1]}
    return test.model_copy(update=update)


def verdict(rows: Mapping[str, RowSummary], tests: Sequence[PairedTest], analysis: Analysis) -> str:
    """What the comparison concludes, in a few sentences: on the primary measure, then on the second.

    A method is the best if it is shown to differ from every other method. If an untrained method leads, the trained
    methods are also judged among themselves. If a trained method has one seed, no method is ranked: the sentences
    are about the trained models alone.
    """
    primary, second = analysis.primary, second_measure(analysis.primary)
    if len(ranking(rows)) < 2:
        few = "fewer than two methods finished" if len(rows) > 1 else "there is only one method"
        return f"There is nothing to compare: {few}."
    if not tests:
        return "Nothing could be tested."
    single = with_one_seed(rows)
    judge = _of_models if single else _of_methods
    tested = [measure for measure in (primary, second) if any(test.metric == measure for test in tests)]
    sentences = [judge(rows, tests, measure) for measure in tested]
    if primary not in tested:
        sentences.insert(0, f"No two methods could be tested on the {name_of(primary)}, the primary measure.")
    if single:
        about = formats.verb(
            seed_counts(rows),
            "this trained model: judging the method itself",
            "these trained models: comparing the methods themselves",
        )
        sentences.append(f"That is about {about} requires more training seeds{of_those_with_one_seed(rows)}.")
    elif min(seed_counts(rows).values(), default=3) == 2:
        sentences.append(
            "Two training seeds show little of how much training varies, so the intervals are wide: a third seed would "
            "narrow them most."
        )
    return " ".join(sentences)


def verdict_of_files(rows: Mapping[str, RowSummary], tests: Sequence[PairedTest], analysis: Analysis) -> str:
    """What a comparison of scored files concludes, on the primary measure.

    Systems are ranked if each has several sets of predictions; otherwise the verdict is about the outputs alone.
    """
    primary = analysis.primary
    ranked = ranking(rows, primary)
    if len(ranked) < 2:
        return "There is nothing to compare: one system was scored."
    if not tests:
        return "Nothing could be tested."
    single = [label for label in ranked if len(rows[label].seeds) == 1]
    if not single:
        return f"{_leader(ranked, rows, tests, primary, 'systems')}."
    about = [test for test in tests if test.metric == primary]
    name, named = name_of(primary), _significant_pairs(rows, about, primary, "pairs of systems")
    found = f"{named or 'no two of these outputs differ significantly'} on these documents"
    whose = "each system" if len(single) == len(ranked) else formats.listed(single)
    return (
        f"By {name}, {found}. Comparing the systems themselves, trained or sampled again, requires more than one set "
        f"of predictions of {whose}."
    )


def ranking(rows: Mapping[str, RowSummary], measure: str = "rouge1") -> list[str]:
    """The labels of the methods that have the measure, best mean first."""
    means = {label: mean for label, row in rows.items() if (mean := mean_of(row, measure)) is not None}
    return sorted(means, key=lambda label: means[label] if lower_is_better(measure) else -means[label])


def mean_of(row: RowSummary, measure: str) -> float | None:
    """A method's mean on a measure; None if it has none."""
    if measure == "loss":
        return row.loss.mean
    estimate = getattr(row, measure)
    return None if estimate is None else estimate.mean


def leaders(ranked: Sequence[str], rows: Mapping[str, RowSummary], measure: str) -> list[str]:
    """Of methods in order of their means, those with the best mean: several only if their means are equal."""
    best = mean_of(rows[ranked[0]], measure)
    return [label for label in ranked if mean_of(rows[label], measure) == best]


def seed_counts(rows: Mapping[str, RowSummary]) -> dict[str, int]:
    """The number of finished seeds of each trained method that has any."""
    return {label: len(row.seeds) for label, row in rows.items() if row.trained and row.seeds}


def with_one_seed(rows: Mapping[str, RowSummary]) -> list[str]:
    """The methods that were trained once: a table with one of them compares trained models, not methods."""
    return [label for label, count in seed_counts(rows).items() if count == 1]


def of_those_with_one_seed(rows: Mapping[str, RowSummary]) -> str:
    """` of lora and full`: the methods that were trained once, if others have more seeds; else empty."""
    single = with_one_seed(rows)
    return f" of {formats.listed(single)}" if len(single) < len(seed_counts(rows)) else ""


def _of_methods(rows: Mapping[str, RowSummary], tests: Sequence[PairedTest], measure: str) -> str:
    tested = {label for test in tests if test.metric == measure for label in (test.a, test.b)}
    ranked = [label for label in ranking(rows, measure) if label in tested]
    sentence = _leader(ranked, rows, tests, measure, "methods")
    trained = [label for label in ranked if rows[label].trained]
    if ranked[0] not in trained and len(trained) > 1:
        inner = _leader(trained, rows, tests, measure, "trained methods")
        sentence = f"{sentence}; among the trained methods, {inner[0].lower()}{inner[1:]}"
    return f"{sentence}."


def _leader(
    ranked: Sequence[str], rows: Mapping[str, RowSummary], tests: Sequence[PairedTest], measure: str, which: str
) -> str:
    best = ranked[0]
    if len(first := leaders(ranked, rows, measure)) > 1:
        name = name_of(measure)
        return f"No clear winner: {formats.listed(first)} have the same best mean {name}, {_mean(rows[best], measure)}"
    found = {label: find_test(tests, measure, best, label) for label in ranked[1:]}
    equal = [label for label, test in found.items() if test is not None and test.decision == "equivalent"]
    open_ = [
        label for label, test in found.items() if label not in equal and not (test is not None and is_significant(test))
    ]
    leader = f"{best} ({_value(rows[best], measure)})"
    if not equal and not open_:
        others = ranked[1] if len(ranked) == 2 else f"each of the {len(ranked) - 1} other {which}"
        if measure == "loss":
            return f"The lowest test loss is that of {leader}, significantly lower than that of {others}"
        return f"The best is {leader}, significantly better than {others}"
    parts = []
    if open_:
        parts.append(f"does not differ significantly from {formats.listed_or_counted(open_, 'others')}")
    if equal:
        margin = next(test.margin for test in found.values() if test is not None and test.decision == "equivalent")
        others = formats.listed_or_counted(equal, "others")
        parts.append(f"is equivalent to {others} within {_amount(margin, measure)}")
    winner = "No clear winner by test loss:" if measure == "loss" else "No clear winner:"
    leads = "has the lowest" if measure == "loss" else "leads"
    return f"{winner} {leader} {leads}, but {' and '.join(parts)}"


def _of_models(rows: Mapping[str, RowSummary], tests: Sequence[PairedTest], measure: str) -> str:
    """Which trained models differ on these documents, without a rank among methods."""
    trained = {label for label, row in rows.items() if row.trained}
    about = [test for test in tests if test.metric == measure and {test.a, test.b} & trained]
    name, named = name_of(measure), _significant_pairs(rows, about, measure, "pairs with a trained model")
    if not named:
        which = formats.verb(trained, "the trained model does not differ", "no trained model differs")
        return f"By {name}, {which} significantly from another method on these documents."
    return f"By {name}, {named} on these documents."


def _significant_pairs(rows: Mapping[str, RowSummary], about: Sequence[PairedTest], measure: str, what: str) -> str:
    """The pairs that differ, better method first, or their number if there are many; empty if none do."""
    apart = [oriented(test, _ahead(test, measure)) for test in about if is_significant(test)]
    if len(apart) > _MOST_LISTED:
        number = f"all {len(apart)}" if len(apart) == len(about) else f"{len(apart)} of {len(about)}"
        return f"{number} {what} differ"
    word = "below" if measure == "loss" else "above"
    behind: dict[str, list[str]] = {}
    for test in apart:
        behind.setdefault(test.a, []).append(test.b)
    return "; ".join(
        f"{label} ({_value(rows[label], measure)}) is {word} {formats.listed(others)}"
        for label, others in behind.items()
    )


def _ahead(test: PairedTest, measure: str) -> str:
    return test.a if (test.difference < 0) == lower_is_better(measure) else test.b


def _value(row: RowSummary, measure: str) -> str:
    if measure == "loss":
        return f"{formats.with_interval(row.loss, 4)} nats per token"
    estimate = formats.with_interval(getattr(row, measure), missing=formats.NOT_MEASURED)
    return f"{estimate} {name_of(measure)}"


def _mean(row: RowSummary, measure: str) -> str:
    mean = mean_of(row, measure)
    return formats.loss(mean) if measure == "loss" else formats.rouge_score(mean)


def _amount(value: float | None, measure: str) -> str:
    return f"{value:g} {short_unit_of(measure, value)}"
