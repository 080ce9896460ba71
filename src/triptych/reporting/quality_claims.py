"""Sentences on quality: scores, test losses, and which rows the paired tests tell apart."""

from collections.abc import Callable
from itertools import combinations, pairwise

from triptych.analysis.pairs import LEVEL
from triptych.analysis.verdict import find_test, separable, turned
from triptych.reporting import formats, rows
from triptych.reporting.facts import (
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
from triptych.results.reading import Results
from triptych.results.records import Comparison, PairedTest

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
    text = f"The highest mean test R-1 is {texts[0]}; the lowest is {texts[1]}.{_of_models_alone(comparison)}"
    return Claim("quality", "best-rouge", text, (*facts, equals(_one_seed(comparison), _seeds_of)))


def method_order(results: Results, comparison: Comparison) -> Claim | None:
    """The three methods by R-1, where no two are equal."""
    labels = _of_methods(comparison)
    ranking = _rising(results, comparison, labels, "rouge1.mean")
    if ranking is None:
        return None
    order, ranks, facts = ranking

    def close(c: Comparison) -> list[str]:
        return _not_shown_to_differ(c, order, "rouge1")

    text = (
        f"By mean test R-1, the rows of the three methods under study, from lowest to highest: {ranks}; "
        + _neighbours(comparison, close(comparison))
    )
    return Claim(
        "quality",
        "method-order",
        text,
        (
            selected(labels, _of_methods),
            selected(close(comparison), close),
            equals(_one_seed(comparison), _seeds_of),
            *facts,
        ),
    )


def against_lead(results: Results, comparison: Comparison) -> Claim | None:
    """Which tuned rows score above the leading sentences."""
    baselines, models = of_kind(comparison, "lead-3"), tuned(comparison)
    if not baselines or not models:
        return None
    lead = baselines[0]

    def above(c: Comparison) -> list[str]:
        return beyond(c, "rouge1.mean", lead, higher=True)

    def unsure(c: Comparison) -> list[str]:
        tests = {label: find_test(c.tests, "rouge1", label, lead) for label in above(c)}
        return [label for label, test in tests.items() if test is None or not separable(test)]

    better, open_ = above(comparison), unsure(comparison)
    shown_as, facts = estimate_of(comparison, lead, "rouge1")
    if better:
        text = (
            f"The three leading sentences of the document ({lead}), which cost nothing, score R-1 {shown_as}; "
            f"{formats.listed(better)} {formats.verb(better, 'has', 'have')} a higher mean, "
            f"that is {len(better)} of the {len(models)} tuned rows"
            + (
                f"; {formats.listed(open_)} {formats.verb(open_, 'is', 'are')} not shown to differ from it."
                if open_
                else "."
            )
        )
    else:
        text = (
            f"No tuned row has a higher mean R-1 than the three leading sentences of the document ({lead}), which cost "
            f"nothing and score {shown_as}."
        )
    chosen = (selected(models, tuned), selected(better, above), selected(open_, unsure))
    return Claim("quality", "against-lead", text, (*chosen, *facts))


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
            " ".join(
                [label, *figures_of(test)[:2], *([] if separable(test) else [f"({test.decision or 'undecided'})"])]
            )
            for label, test in found
        ]

    parts = differences(comparison)
    text = (
        f"Tuning brought the test loss below that of the untouched model ({base}, {text_of_base} nats a target token) "
        f"in {len(lower)} of {len(models)} tuned rows" + (f"; not in {formats.listed(others)}." if others else ".")
    ) + (f" The differences, with corrected 95% intervals: {'; '.join(parts)}." if parts else "")
    return Claim(
        "loss",
        "against-untuned",
        text,
        (
            fact,
            selected(lower, below),
            selected(models, lambda c: having(c, "loss.test", tuned(c))),
            selected(parts, differences),
        ),
    )


def loss_order(results: Results, comparison: Comparison) -> Claim | None:
    """The tuned rows by test loss, and which neighbours are not shown to differ."""
    ranking = _rising(results, comparison, having(comparison, "loss.test", tuned(comparison)), "loss.test")
    if ranking is None:
        return None
    order, ranks, facts = ranking

    def close(c: Comparison) -> list[str]:
        return _not_shown_to_differ(c, order, "loss")

    together = close(comparison)
    text = f"By test loss the tuned rows, from the lowest: {ranks}; " + _neighbours(comparison, together)
    chosen = selected(sorted(order), lambda c: sorted(having(c, "loss.test", tuned(c))))
    seeds = equals(_one_seed(comparison), _seeds_of)
    return Claim("loss", "loss-order", text, (chosen, selected(together, close), seeds, *facts))


def best_loss(results: Results, comparison: Comparison) -> Claim | None:
    """The lowest test loss, and the rows that are not shown to differ from it."""
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
        f"; {formats.listed(near)} {formats.verb(near, 'is', 'are')} not shown to differ from it." if near else "."
    )
    text += _of_models_alone(comparison)
    return Claim(
        "loss",
        "best-loss",
        text,
        (
            equals(_one_seed(comparison), _seeds_of),
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
                found.append(
                    f"{a} and {b}" if test is None or separable(test) else f"{a} and {b}, not shown to differ by loss"
                )
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
        text = (
            "Loss and ROUGE agree on the tuned rows: no row with a lower test loss than another has a lower mean R-1."
        )
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
        f"Two rows are called different if the paired test rejects at {LEVEL:.0%} after correction over the pairs of "
        "one measure, which is so exactly where the printed interval leaves out zero; equivalent if their difference "
        f"is shown to be smaller than the margin; else undecided. Pairs that differ: {formats.listed(parts)}."
    )
    return Claim(
        "tests",
        "test-counts",
        text,
        (*(equals(count, counted(metric)) for metric, count in counts.items()),),
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
        decision = test.decision or ("different" if separable(test) else "undecided")
        parts.append(f"{test.a} minus {test.b}: {difference} {interval}, adjusted p {p_text}, {decision}")
    return Claim(
        "tests",
        "method-tests",
        f"Differences in R-1 between the methods under study: {'; '.join(parts)}.",
        tuple(tested(test, separable(test)) for test in tests),
    )


def power(results: Results, comparison: Comparison) -> Claim | None:
    """Which differences this comparison would have found, and which it would not."""

    def sizes(c: Comparison) -> list[str]:
        found = c.inference.detectable if c.inference is not None else {}
        return [
            formats.difference(size, measure, rows.TESTED[measure])
            for measure in ("rouge1", "loss")
            if (size := found.get(measure)) is not None
        ]

    parts = sizes(comparison)
    if not parts:
        return None
    text = (
        "Between the two rows hardest to compare, a true difference would have been found four times in five, after "
        f"the correction, had it been {formats.listed(parts)}; smaller ones may well have gone unseen."
    )
    return Claim("limits", "power", text, (selected(parts, sizes),))


def _not_shown_to_differ(comparison: Comparison, order: list[str], metric: str) -> list[str]:
    """Neighbours in this order whose test on that measure finds no difference, or that have no test."""
    tests = {pair: find_test(comparison.tests, metric, *pair) for pair in pairwise(order)}
    return [f"{a} and {b}" for (a, b), test in tests.items() if test is None or not separable(test)]


def _neighbours(comparison: Comparison, close: list[str]) -> str:
    """Which neighbours of an order are not shown to differ, and that one seed speaks of models alone."""
    said = (
        f"of neighbours, these are not shown to differ: {formats.listed(close)}."
        if close
        else "each is shown to differ from the next."
    )
    return said + _of_models_alone(comparison)


def _of_models_alone(comparison: Comparison) -> str:
    """With one training seed: the sentence before says nothing of the methods. Empty with more seeds."""
    return (
        " With one training seed this speaks of the trained models, not of the methods."
        if _one_seed(comparison)
        else ""
    )


def _one_seed(comparison: Comparison) -> bool:
    """There are tuned rows, and each has one seed."""
    counts = [len(comparison.rows[label].seeds) for label in tuned(comparison)]
    return bool(counts) and max(counts) == 1


def _seeds_of(results: Results, comparison: Comparison) -> bool:
    return _one_seed(comparison)


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
