"""Sentences on quality: scores, test losses, and which rows the paired tests tell apart."""

from collections.abc import Callable
from itertools import combinations, pairwise

from triptych.analysis.loading import Results
from triptych.analysis.pairs import LEVEL
from triptych.analysis.verdict import find_test, separable, turned
from triptych.records import Comparison, PairedTest
from triptych.report import formats, rows
from triptych.report.facts import (
    Claim,
    Fact,
    beyond,
    equals,
    estimate_of,
    extreme,
    extremes,
    figures_of,
    having,
    number,
    of_kind,
    ordered,
    selected,
    tested,
    tuned,
    value_of,
    values_of,
    with_rouge,
)

_MOST_LISTED = 6  # pairs that a sentence names one by one; of more it gives the number


def verdict(results: Results, comparison: Comparison) -> Claim:
    """What the comparison concludes."""
    return Claim("quality", "verdict", comparison.verdict, (equals(comparison.verdict, lambda r, c: c.verdict),))


def best_rouge(results: Results, comparison: Comparison) -> Claim | None:
    """Which rows have the highest and the lowest R-1."""
    among = with_rouge(comparison)
    if len(among) < 2:
        return None
    facts: list[Fact] = [selected(among, with_rouge)]
    best, worst = (extremes(comparison, among, "rouge1.mean", highest) for highest in (True, False))
    if best == worst:
        return Claim(
            "quality",
            "best-rouge",
            "All rows have the same mean test R-1.",
            (*facts, extreme(best, among, "rouge1.mean", True)),
        )
    texts = []
    for labels, highest in ((best, True), (worst, False)):
        shown_as, more = estimate_of(comparison, labels[0], "rouge1")
        texts.append(f"that of {formats.listed(labels)}, {shown_as}")
        facts += [extreme(labels, among, "rouge1.mean", highest), *more]
    text = f"The highest mean test R-1 is {texts[0]}; the lowest is {texts[1]}."
    return Claim("quality", "best-rouge", text, tuple(facts))


def method_order(results: Results, comparison: Comparison) -> Claim | None:
    """The three methods by R-1, where no two are equal."""
    labels = _of_methods(comparison)
    ranking = _rising(results, comparison, labels, "rouge1.mean")
    if ranking is None:
        return None
    _, ranks, facts = ranking
    text = f"By mean test R-1, the rows of the three methods under study rank, from lowest to highest: {ranks}."
    return Claim("quality", "method-order", text, (selected(labels, _of_methods), *facts))


def against_lead(results: Results, comparison: Comparison) -> Claim | None:
    """Which tuned rows score above the leading sentences."""
    baselines, models = of_kind(comparison, "lead-3"), tuned(comparison)
    if not baselines or not models:
        return None
    lead = baselines[0]

    def above(c: Comparison) -> list[str]:
        return beyond(c, "rouge1.mean", lead, higher=True)

    better = above(comparison)
    shown_as, facts = estimate_of(comparison, lead, "rouge1")
    if better:
        text = (
            f"The three leading sentences of the document ({lead}), which cost nothing, score R-1 {shown_as}; "
            f"{formats.listed(better)} {formats.verb(better, 'has', 'have')} a higher mean, "
            f"that is {len(better)} of the {len(models)} tuned rows."
        )
    else:
        text = (
            f"No tuned row has a higher mean R-1 than the three leading sentences of the document ({lead}), which cost "
            f"nothing and score {shown_as}."
        )
    return Claim("quality", "against-lead", text, (selected(models, tuned), selected(better, above), *facts))


def against_untuned(results: Results, comparison: Comparison) -> Claim | None:
    """Which tuned rows have a lower test loss than the base, and by how much."""
    bases, models = of_kind(comparison, "untuned"), tuned(comparison)
    bases = having(comparison, "loss.test", bases)
    models = having(comparison, "loss.test", models)
    if not bases or not models:
        return None
    base = bases[0]

    def below(c: Comparison) -> list[str]:
        return beyond(c, "loss.test", base, higher=False)

    lower = below(comparison)
    text_of_base, fact = value_of(comparison, base, "loss.test")
    others = [label for label in models if label not in lower]

    def differences(c: Comparison) -> list[str]:
        found = [(label, turned(test, label)) for label in lower if (test := find_test(c.tests, "loss", label, base))]
        return [
            f"{label} {figures_of(test)[0]} {figures_of(test)[1]}{'' if separable(test) else ' (not told apart)'}"
            for label, test in found
        ]

    parts = differences(comparison)
    text = (
        f"Tuning brought the test loss below that of the untouched model ({base}, {text_of_base} nats a target token) "
        f"in {len(lower)} of {len(models)} tuned rows" + (f"; not in {formats.listed(others)}." if others else ".")
    ) + (f" The differences, with 95% intervals: {'; '.join(parts)}." if parts else "")
    return Claim(
        "loss",
        "against-untuned",
        text,
        (
            fact, selected(lower, below), selected(models, lambda c: having(c, "loss.test", tuned(c))),
            selected(parts, differences),
        ),
    )  # fmt: skip


def loss_order(results: Results, comparison: Comparison) -> Claim | None:
    """The tuned rows by test loss, and which neighbours are not told apart."""
    ranking = _rising(results, comparison, having(comparison, "loss.test", tuned(comparison)), "loss.test")
    if ranking is None:
        return None
    order, ranks, facts = ranking

    def close(c: Comparison) -> list[str]:
        tests = {pair: find_test(c.tests, "loss", *pair) for pair in pairwise(order)}
        return [f"{a} and {b}" for (a, b), test in tests.items() if test is None or not separable(test)]

    together = close(comparison)
    text = f"By test loss the tuned rows rank, from the lowest: {ranks}; " + (
        f"of neighbours, these are not told apart: {formats.listed(together)}."
        if together
        else "each is told apart from the next."
    )
    chosen = selected(sorted(order), lambda c: sorted(having(c, "loss.test", tuned(c))))
    return Claim("loss", "loss-order", text, (chosen, selected(together, close), *facts))


def best_loss(results: Results, comparison: Comparison) -> Claim | None:
    """The lowest test loss, and the rows that cannot be told from it."""
    among = having(comparison, "loss.test", with_rouge(comparison))
    if len(among) < 2:
        return None
    best = extremes(comparison, among, "loss.test", False)
    shown_as, facts = estimate_of(comparison, best[0], "loss")

    def beside(c: Comparison) -> list[str]:
        tests = {label: find_test(c.tests, "loss", best[0], label) for label in among if label not in best}
        return [label for label, test in tests.items() if test is not None and not separable(test)]

    near = beside(comparison)
    text = f"The lowest test loss, in nats per target token, is that of {formats.listed(best)}: {shown_as}" + (
        f"; {formats.listed(near)} {formats.verb(near, 'is', 'are')} not told apart from it." if near else "."
    )
    return Claim(
        "loss",
        "best-loss",
        text,
        (
            selected(among, lambda c: having(c, "loss.test", with_rouge(c))),
            extreme(best, among, "loss.test", False),
            selected(near, beside),
            *facts,
        ),
    )


def loss_and_rouge(results: Results, comparison: Comparison) -> Claim | None:
    """Whether test loss and R-1 rank the tuned rows alike."""
    among = having(comparison, "loss.test", tuned(comparison))
    if len(among) < 2:
        return None

    def disagreements(c: Comparison) -> list[str]:
        found = []
        for a, b in combinations(having(c, "loss.test", tuned(c)), 2):
            loss, score = (number(c, a, path) - number(c, b, path) for path in ("loss.test", "rouge1.mean"))
            if loss * score > 0:
                test = find_test(c.tests, "loss", a, b)
                found.append(f"{a} and {b}" if test is None or separable(test) else f"{a} and {b}, not told apart by loss")
        return found

    pairs = disagreements(comparison)
    total = len(among) * (len(among) - 1) // 2
    if pairs:
        named = f" ({'; '.join(pairs)})" if len(pairs) <= _MOST_LISTED else ""
        text = (
            f"Loss and ROUGE do not rank the tuned rows alike: in {len(pairs)} of {total} pairs{named} the "
            "row with the lower test loss has the lower mean R-1."
        )
    else:
        text = "Loss and ROUGE agree on the tuned rows: no row with a lower test loss than another has a lower mean R-1."
    return Claim(
        "loss",
        "loss-and-rouge",
        text,
        (selected(pairs, disagreements), selected(among, lambda c: having(c, "loss.test", tuned(c)))),
    )


def test_counts(results: Results, comparison: Comparison) -> Claim | None:
    """How many pairs of rows differ on each score."""
    if not comparison.tests:
        return None

    def counted(metric: str) -> Callable[[Results, Comparison], tuple[int, int]]:
        def count(r: Results, c: Comparison) -> tuple[int, int]:
            tests = [test for test in c.tests if test.metric == metric]
            return sum(separable(test) for test in tests), len(tests)

        return count

    counts = {metric: counted(metric)(results, comparison) for metric in rows.TESTED}
    names = {**rows.ROUGE, "loss": "the test loss"}
    parts = [f"{apart} of {total} on {names[metric]}" for metric, (apart, total) in counts.items() if total]
    text = (
        f"A pair of rows is called different if the paired test rejects at {LEVEL:.0%} after Holm's correction over all "
        f"{len(comparison.tests)} tests and the interval of the difference leaves out zero. So judged, the pairs that "
        f"differ are {formats.listed(parts)}."
    )
    return Claim(
        "tests",
        "test-counts",
        text,
        (
            equals(len(comparison.tests), lambda r, c: len(c.tests)),
            *(equals(count, counted(metric)) for metric, count in counts.items()),
        ),
    )


def method_tests(results: Results, comparison: Comparison) -> Claim | None:
    """The paired tests of R-1 between the three methods."""
    labels = set(_of_methods(comparison))

    def tests_of(c: Comparison) -> list[PairedTest]:
        return [test for test in c.tests if test.metric == "rouge1" and {test.a, test.b} <= labels]

    def counted(r: Results, c: Comparison) -> tuple[int, int]:
        found = tests_of(c)
        return sum(map(separable, found)), len(found)

    tests = tests_of(comparison)
    if not tests:
        return None
    if len(tests) > _MOST_LISTED:
        apart, total = counted(results, comparison)
        text = f"Of the {total} pairs of rows of the methods under study, {apart} differ in R-1."
        return Claim("tests", "method-tests", text, (equals((apart, total), counted),))
    parts = []
    for test in tests:
        difference, interval, p_value = figures_of(test)
        p_text = p_value if p_value.startswith("<") else f"= {p_value}"
        verdict = "different" if separable(test) else "not told apart"
        parts.append(f"{test.a} less {test.b}: {difference} {interval}, adjusted p {p_text}, {verdict}")
    return Claim(
        "tests",
        "method-tests",
        f"Differences in R-1 between the methods under study: {'; '.join(parts)}.",
        tuple(tested(test, separable(test)) for test in tests),
    )


def _of_methods(comparison: Comparison) -> list[str]:
    return [label for label in tuned(comparison) if comparison.rows[label].kind in rows.METHODS]


def _rising(
    results: Results, comparison: Comparison, labels: list[str], path: str
) -> tuple[list[str], str, tuple[Fact, ...]] | None:
    """Those rows from the lowest value to the highest, the same in words, and its facts; None where two are equal."""
    order = sorted(labels, key=lambda label: number(comparison, label, path))
    strictly = ordered(order, path)
    if len(order) < 2 or not strictly(results, comparison):
        return None
    texts, facts = values_of(comparison, order, path)
    return order, ", ".join(f"{label} ({text})" for label, text in texts.items()), (strictly, *facts)
