"""Sentences about quality: scores, test losses, and which methods differ by the paired tests."""

from itertools import combinations, pairwise

from triptych.analysis.pairs import LEVEL
from triptych.analysis.verdict import (
    decision_of,
    find_test,
    is_significant,
    of_those_with_one_seed,
    oriented,
    with_one_seed,
)
from triptych.reporting import rows
from triptych.reporting.claims.selection import (
    above,
    cell,
    estimate_in_words,
    having,
    highest,
    lowest,
    number,
    of_kind,
    trained,
    trained_of_kind,
    with_rouge,
)
from triptych.results.records import Comparison
from triptych.text import formats, measures

_MOST_LISTED = 6  # maximum pairs that a sentence lists; if there are more, it gives their number


def best_rouge(comparison: Comparison) -> str | None:
    """Which methods have the highest and lowest R-1."""
    path = "rouge1.mean"
    among = with_rouge(comparison)
    if len(among) < 2:
        return None
    best, worst = highest(comparison, path, among), lowest(comparison, path, among)
    if best == worst:
        return f"All {rows.methods_in_words(comparison)} have the same mean test R-1."
    top, bottom = estimate_in_words(comparison, best[0], "rouge1"), estimate_in_words(comparison, worst[0], "rouge1")
    return (
        f"The highest mean test R-1 is that of {formats.listed(best)}, {top}; the lowest is that of "
        f"{formats.listed(worst)}, {bottom}.{_of_models_alone(comparison)}"
    )


def method_order(comparison: Comparison) -> str | None:
    """The three methods ordered by R-1, if no two are equal."""
    order = _rising(comparison, trained_of_kind(comparison, *rows.METHODS), "rouge1.mean")
    if order is None:
        return None
    return (
        f"By mean test R-1, the {formats.count_in_words(len(order)).lower()} methods under study rank, from lowest to "
        "highest: "
        f"{_ranked(comparison, order, 'rouge1.mean')}{_neighbors(comparison, order, 'rouge1')}"
    )


def against_lead(comparison: Comparison) -> str | None:
    """Which trained methods score above the lead baseline."""
    baselines, models = of_kind(comparison, "lead-3"), trained(comparison)
    if not baselines or not models:
        return None
    lead = baselines[0]
    score = estimate_in_words(comparison, lead, "rouge1")
    better = above(comparison, "rouge1.mean", lead)
    if not better:
        return (
            f"No trained method has a higher mean R-1 than the three leading sentences of the document ({lead}), which "
            f"cost nothing and score {score}."
        )
    tests = {label: find_test(comparison.tests, "rouge1", label, lead) for label in better}
    unsure = [label for label, test in tests.items() if test is not None and not is_significant(test)]
    of_all = f" ({len(better)} of the {len(models)} trained methods)" if len(better) < len(models) else ""
    if not unsure:
        doubt = ""
    elif unsure == better:
        doubt = f", but {formats.verb(better, 'not', 'none of them')} significantly"
    else:
        doubt = f", but {formats.listed(unsure)} {formats.verb(unsure, 'does', 'do')} not differ significantly from it"
    return (
        f"The three leading sentences of the document ({lead}), which cost nothing, score R-1 {score}; "
        f"{formats.listed(better)} {formats.verb(better, 'has', 'have')} a higher mean{of_all}{doubt}."
    )


def against_untuned(comparison: Comparison) -> str | None:
    """Which trained methods are shown to have a lower test loss than the base, and by how much."""
    path = "loss.test"
    bases = having(comparison, path, of_kind(comparison, "untuned"))
    models = having(comparison, path, trained(comparison))
    if not bases or not models:
        return None
    base = bases[0]
    found = {label: find_test(comparison.tests, "loss", label, base) for label in models}
    tests = {label: oriented(test, label) for label, test in found.items() if test is not None}
    if not tests:
        return None
    apart = [label for label, test in tests.items() if is_significant(test)]
    lower = [label for label in apart if number(comparison, label, path) < number(comparison, base, path)]
    higher = [label for label in apart if label not in lower]
    others = [label for label in tests if label not in apart]
    parts = []
    for label, test in tests.items():
        difference, interval, _ = rows.test_figures(test)
        parts.append(f"{label} {difference} {interval}{f' ({decision_of(test)})' if label in others else ''}")
    clauses = [
        f"; {formats.listed(labels)} {formats.verb(labels, one, many)}"
        for labels, one, many in (
            (higher, "has a significantly higher one", "have a significantly higher one"),
            (others, "does not differ significantly", "do not differ significantly"),
        )
        if labels
    ]
    return (
        f"{_how_many(lower, models)} a significantly lower test loss than the untouched model ({base}, "
        f"{cell(comparison, base, path)} nats per target token){''.join(clauses)}. Differences, with corrected 95% "
        f"intervals: {'; '.join(parts)}."
    )


def loss_order(comparison: Comparison) -> str | None:
    """The trained methods ordered by test loss, and which neighbors are not shown to differ."""
    order = _rising(comparison, having(comparison, "loss.test", trained(comparison)), "loss.test")
    if order is None:
        return None
    return (
        f"The trained methods by test loss, lowest first: {_ranked(comparison, order, 'loss.test')}"
        f"{_neighbors(comparison, order, 'loss')}"
    )


def best_loss(comparison: Comparison) -> str | None:
    """The lowest test loss, and the methods that are not shown to differ from it."""
    among = having(comparison, "loss.test", with_rouge(comparison))
    if len(among) < 2:
        return None
    best = lowest(comparison, "loss.test", among)
    tests = {label: find_test(comparison.tests, "loss", best[0], label) for label in among if label not in best}
    near = [label for label, test in tests.items() if test is not None and not is_significant(test)]
    others = formats.listed_or_counted(near, "others")
    return (
        f"The lowest test loss, in nats per target token, is that of {formats.listed(best)}: "
        f"{estimate_in_words(comparison, best[0], 'loss')}"
        + (f"; {others} {formats.verb(near, 'does', 'do')} not differ significantly." if near else ".")
        + _of_models_alone(comparison)
    )


def loss_and_rouge(comparison: Comparison) -> str | None:
    """Whether test loss and R-1 rank the trained methods in the same order."""
    among = having(comparison, "loss.test", trained(comparison))
    if len(among) < 2:
        return None
    pairs = []
    for a, b in combinations(among, 2):
        loss, score = (
            number(comparison, a, path) - number(comparison, b, path) for path in ("loss.test", "rouge1.mean")
        )
        if loss * score > 0:
            test = find_test(comparison.tests, "loss", a, b)
            sure = test is None or is_significant(test)
            pairs.append(f"{a} and {b}" if sure else f"{a} and {b}, whose losses do not differ significantly")
    if not pairs:
        return (
            "Loss and ROUGE agree on the trained methods: no method with a lower test loss than another has a lower "
            "mean R-1."
        )
    total = len(among) * (len(among) - 1) // 2
    named = f" ({'; '.join(pairs)})" if len(pairs) <= _MOST_LISTED else ""
    return (
        f"Loss and ROUGE do not rank the trained methods alike: in {len(pairs)} of {total} pairs{named} the method "
        "with the lower test loss has the lower mean R-1."
    )


def test_counts(comparison: Comparison) -> str | None:
    """The number of method pairs that differ on each measure."""
    parts = []
    for metric, name in {**measures.ROUGE, "loss": "the test loss"}.items():
        tests = [test for test in comparison.tests if test.metric == metric]
        if tests:
            parts.append(f"{sum(map(is_significant, tests))} of {len(tests)} on {name}")
    if not parts:
        return None
    methods = rows.methods_in_words(comparison)
    return (
        f"Two {methods} are called different if the paired test rejects at {LEVEL:.0%} after correction over the pairs "
        "of one measure, that is, if the printed interval excludes zero; equivalent if their difference is shown to be "
        f"smaller than the margin; otherwise undecided. Pairs that differ: {formats.listed(parts)}."
    )


def method_tests(comparison: Comparison) -> str | None:
    """The paired R-1 tests between the three methods."""
    labels = set(trained_of_kind(comparison, *rows.METHODS))
    tests = [test for test in comparison.tests if test.metric == "rouge1" and {test.a, test.b} <= labels]
    if not tests:
        return None
    if len(tests) > _MOST_LISTED:
        return f"Of the {len(tests)} pairs of the methods under study, {sum(map(is_significant, tests))} differ in R-1."
    parts = []
    for test in tests:
        difference, interval, p_value = rows.test_figures(test)
        p_text = formats.p_equation(p_value)
        parts.append(f"{test.a} minus {test.b}: {difference} {interval}, adjusted p {p_text}, {decision_of(test)}")
    return f"Differences in R-1 between the methods under study: {'; '.join(parts)}."


def power(comparison: Comparison) -> str | None:
    """Which differences this comparison could have detected and which not."""
    detectable = comparison.inference.detectable if comparison.inference is not None else {}
    parts = [
        measures.difference_of(size, measure)
        for measure in ("rouge1", "loss")
        if (size := detectable.get(measure)) is not None
    ]
    if not parts:
        return None
    methods, note = rows.methods_in_words(comparison), rows.power_note(comparison)
    return (
        f"Minimum detectable difference between the two {methods} that are hardest to compare, after the correction "
        f"({note}): {formats.listed(parts)}; smaller ones may have been missed."
    )


def _how_many(some: list[str], labels: list[str]) -> str:
    """`All 3 trained methods have`, `1 of the 3 trained methods has`, `lora has`: how many of these methods have."""
    if len(labels) == 1:
        return f"{labels[0]} {'has' if some else 'does not have'}"
    if some == labels:
        return f"{'Both' if len(labels) == 2 else f'All {len(labels)}'} trained methods have"
    return f"{len(some) or 'None'} of the {len(labels)} trained methods {'has' if len(some) < 2 else 'have'}"


def _rising(comparison: Comparison, labels: list[str], path: str) -> list[str] | None:
    """The methods ordered from lowest to highest value; None if there are fewer than two or two are equal."""
    order = sorted(labels, key=lambda label: number(comparison, label, path))
    strictly = all(number(comparison, low, path) < number(comparison, high, path) for low, high in pairwise(order))
    return order if len(order) > 1 and strictly else None


def _ranked(comparison: Comparison, order: list[str], path: str) -> str:
    return ", ".join(f"{label} ({cell(comparison, label, path)})" for label in order)


def _neighbors(comparison: Comparison, order: list[str], metric: str) -> str:
    """The rest of a sentence on an order: which neighbors are not shown to differ, if they were tested.

    With one seed, it adds that this says nothing about methods.
    """
    tests = [find_test(comparison.tests, metric, a, b) for a, b in pairwise(order)]
    close = [
        f"{a} and {b}"
        for (a, b), test in zip(pairwise(order), tests, strict=True)
        if test is None or not is_significant(test)
    ]
    if tests.count(None) == len(tests):
        found = "."
    elif len(order) == 2:
        found = f"; the two {'do not ' if close else ''}differ significantly."
    elif close:
        found = f"; these neighbors do not differ significantly: {'; '.join(close)}."
    else:
        found = "; each differs significantly from the next."
    return found + _of_models_alone(comparison)


def _of_models_alone(comparison: Comparison) -> str:
    """With one training seed, that the previous sentence says nothing about the methods; empty with more seeds."""
    if not with_one_seed(comparison.rows):
        return ""
    of_whom = of_those_with_one_seed(comparison.rows)
    return f" With one training seed{of_whom}, this is about the trained models, not the methods."
