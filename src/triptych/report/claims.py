"""Sentences made from the numbers, each with the facts it rests on, so that none can contradict a table.

A claim holds for a comparison if each of its facts does: a value stands in the table as the sentence gives it, a row is
the highest, a pair differs. `claims` makes only claims that hold; a claim of other numbers fails its own check.
"""

from collections.abc import Callable
from itertools import combinations, pairwise

from triptych.analysis.loading import Results
from triptych.analysis.verdict import separable, turned
from triptych.records import Comparison, PairedTest
from triptych.report import formats, rows, run_claims
from triptych.report.facts import (
    Claim,
    Fact,
    beyond,
    cell,
    equals,
    extreme,
    extremes,
    figures_of,
    having,
    number,
    of_kind,
    ordered,
    selected,
    shown,
    tested,
    tuned,
    with_rouge,
)

LEVEL = "5%"
_MOST_LISTED = 6  # pairs that a sentence names one by one; of more it gives the number


def claims(results: Results, comparison: Comparison) -> list[Claim]:
    """Everything that can be said of a comparison, in the order of the report."""
    made = [maker(results, comparison) for maker in _MAKERS]
    return [claim for claim in made if claim is not None]


# The makers: one claim each, or None where there is nothing to say.


def _value_of(comparison: Comparison, label: str, path: str) -> tuple[str, Fact]:
    text = cell(comparison, label, path)
    return text, shown(label, path, text)


def _estimate_of(comparison: Comparison, label: str, field: str) -> tuple[str, tuple[Fact, ...]]:
    """A mean with its interval in words, and the facts of both."""
    mean, fact = _value_of(comparison, label, "loss.test" if field == "loss" else f"{field}.mean")
    low, low_fact = _value_of(comparison, label, f"{field}.low")
    high, high_fact = _value_of(comparison, label, f"{field}.high")
    if formats.DASH in (low, high):
        return mean, (fact,)
    return f"{mean} (95% interval {low} to {high})", (fact, low_fact, high_fact)


def _verb(labels: list[str], one: str, many: str) -> str:
    return one if len(labels) == 1 else many


def _setting(results: Results, comparison: Comparison) -> Claim:
    labels = list(comparison.rows)
    seeds = comparison.seeds
    text = (
        f"{formats.count_in_words(len(labels))} {_verb(labels, 'row', 'rows')} ({formats.listed(labels)}) "
        f"{_verb(labels, 'was', 'were')} evaluated on the same {comparison.num_documents:,} test documents of "
        f"{comparison.data}, with the model {comparison.model} and "
        f"{'one training seed' if len(seeds) == 1 else f'{len(seeds)} training seeds'}."
    )
    return Claim(
        "setting",
        "setting",
        text,
        (
            selected(labels, lambda c: c.rows),
            equals(
                (comparison.num_documents, comparison.data, comparison.model, len(seeds)),
                lambda r, c: (c.num_documents, c.data, c.model, len(c.seeds)),
            ),
        ),
    )


def _synthetic(results: Results, comparison: Comparison) -> Claim | None:
    notice = rows.synthetic_notice(comparison)
    return (
        Claim("setting", "synthetic", notice, (equals(notice, lambda r, c: rows.synthetic_notice(c)),))
        if notice
        else None
    )


def _verdict(results: Results, comparison: Comparison) -> Claim:
    return Claim("quality", "verdict", comparison.verdict, (equals(comparison.verdict, lambda r, c: c.verdict),))


def _best_rouge(results: Results, comparison: Comparison) -> Claim | None:
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
        shown_as, more = _estimate_of(comparison, labels[0], "rouge1")
        texts.append(f"that of {formats.listed(labels)}, {shown_as}")
        facts += [extreme(labels, among, "rouge1.mean", highest), *more]
    text = f"The highest mean test R-1 is {texts[0]}; the lowest is {texts[1]}."
    return Claim("quality", "best-rouge", text, tuple(facts))


def _method_order(results: Results, comparison: Comparison) -> Claim | None:
    labels = [label for label in tuned(comparison) if comparison.rows[label].kind in rows.METHODS]
    order = sorted(labels, key=lambda label: number(comparison, label, "rouge1.mean"))
    strictly = ordered(order, "rouge1.mean")
    if len(order) < 2 or not strictly(results, comparison):
        return None
    values = [_value_of(comparison, label, "rouge1.mean") for label in order]
    parts = [f"{label} ({text})" for label, (text, _) in zip(order, values, strict=True)]
    text = (
        f"By mean test R-1, the rows of the three methods under study rank, from lowest to highest: {', '.join(parts)}."
    )
    chosen = selected(labels, lambda c: [x for x in tuned(c) if c.rows[x].kind in rows.METHODS])
    return Claim("quality", "method-order", text, (chosen, strictly, *(fact for _, fact in values)))


def _against_lead(results: Results, comparison: Comparison) -> Claim | None:
    baselines, models = of_kind(comparison, "lead-3"), tuned(comparison)
    if not baselines or not models:
        return None
    lead = baselines[0]

    def above(c: Comparison) -> list[str]:
        return beyond(c, "rouge1.mean", lead, higher=True)

    better = above(comparison)
    shown_as, facts = _estimate_of(comparison, lead, "rouge1")
    if better:
        text = (
            f"The three leading sentences of the document ({lead}), which cost nothing, score R-1 {shown_as}; "
            f"{formats.listed(better)} {_verb(better, 'has', 'have')} a higher mean, "
            f"that is {len(better)} of the {len(models)} tuned rows."
        )
    else:
        text = (
            f"No tuned row has a higher mean R-1 than the three leading sentences of the document ({lead}), which cost "
            f"nothing and score {shown_as}."
        )
    return Claim("quality", "against-lead", text, (selected(models, tuned), selected(better, above), *facts))


def _against_untuned(results: Results, comparison: Comparison) -> Claim | None:
    bases, models = of_kind(comparison, "untuned"), tuned(comparison)
    bases = having(comparison, "loss.test", bases)
    models = having(comparison, "loss.test", models)
    if not bases or not models:
        return None
    base = bases[0]

    def below(c: Comparison) -> list[str]:
        return beyond(c, "loss.test", base, higher=False)

    lower = below(comparison)
    text_of_base, fact = _value_of(comparison, base, "loss.test")
    others = [label for label in models if label not in lower]

    def differences(c: Comparison) -> list[str]:
        found = [(label, turned(test, label)) for label in lower if (test := _loss_test(c, label, base))]
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


def _loss_test(comparison: Comparison, a: str, b: str) -> PairedTest | None:
    return next((test for test in comparison.tests if test.metric == "loss" and {test.a, test.b} == {a, b}), None)


def _loss_order(results: Results, comparison: Comparison) -> Claim | None:
    order = sorted(having(comparison, "loss.test", tuned(comparison)), key=lambda x: number(comparison, x, "loss.test"))
    strictly = ordered(order, "loss.test")
    if len(order) < 2 or not strictly(results, comparison):
        return None

    def close(c: Comparison) -> list[str]:
        tests = {pair: _loss_test(c, *pair) for pair in pairwise(order)}
        return [f"{a} and {b}" for (a, b), test in tests.items() if test is None or not separable(test)]

    values = [_value_of(comparison, label, "loss.test") for label in order]
    ranks = ", ".join(f"{label} ({text})" for label, (text, _) in zip(order, values, strict=True))
    together = close(comparison)
    text = f"By test loss the tuned rows rank, from the lowest: {ranks}; " + (
        f"of neighbours, these are not told apart: {formats.listed(together)}."
        if together
        else "each is told apart from the next."
    )
    chosen = selected(sorted(order), lambda c: sorted(having(c, "loss.test", tuned(c))))
    return Claim("loss", "loss-order", text, (chosen, strictly, selected(together, close), *(fact for _, fact in values)))


def _best_loss(results: Results, comparison: Comparison) -> Claim | None:
    among = having(comparison, "loss.test", with_rouge(comparison))
    if len(among) < 2:
        return None
    best = extremes(comparison, among, "loss.test", False)
    shown_as, facts = _estimate_of(comparison, best[0], "loss")

    def beside(c: Comparison) -> list[str]:
        tests = {label: _loss_test(c, best[0], label) for label in among if label not in best}
        return [label for label, test in tests.items() if test is not None and not separable(test)]

    near = beside(comparison)
    text = f"The lowest test loss, in nats per target token, is that of {formats.listed(best)}: {shown_as}" + (
        f"; {formats.listed(near)} {_verb(near, 'is', 'are')} not told apart from it." if near else "."
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


def _loss_and_rouge(results: Results, comparison: Comparison) -> Claim | None:
    among = having(comparison, "loss.test", tuned(comparison))
    if len(among) < 2:
        return None

    def disagreements(c: Comparison) -> list[str]:
        found = []
        for a, b in combinations(having(c, "loss.test", tuned(c)), 2):
            loss, score = (number(c, a, path) - number(c, b, path) for path in ("loss.test", "rouge1.mean"))
            if loss * score > 0:
                found.append(f"{a} and {b}")
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


def _test_counts(results: Results, comparison: Comparison) -> Claim | None:
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
        f"A pair of rows is called different if the paired test rejects at {LEVEL} after Holm's correction over all "
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


def _method_tests(results: Results, comparison: Comparison) -> Claim | None:
    labels = {label for label in tuned(comparison) if comparison.rows[label].kind in rows.METHODS}
    tests = [test for test in comparison.tests if test.metric == "rouge1" and {test.a, test.b} <= labels]
    if not tests:
        return None
    if len(tests) > _MOST_LISTED:
        return _method_test_count(labels, tests)
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


def _method_test_count(labels: set[str], tests: list[PairedTest]) -> Claim:
    counts = sum(map(separable, tests)), len(tests)

    def counted(results: Results, comparison: Comparison) -> tuple[int, int]:
        found = [x for x in comparison.tests if x.metric == "rouge1" and {x.a, x.b} <= labels]
        return sum(map(separable, found)), len(found)

    text = f"Of the {counts[1]} pairs of rows of the methods under study, {counts[0]} differ in R-1."
    return Claim("tests", "method-tests", text, (equals(counts, counted),))


def _cheapest(name: str, path: str, what: str) -> Callable[[Results, Comparison], Claim | None]:
    """A claim on the lowest and highest of a cost among the tuned rows that were measured."""

    def measured(c: Comparison) -> list[str]:
        return having(c, path, tuned(c))

    def make(results: Results, comparison: Comparison) -> Claim | None:
        among = measured(comparison)
        if len(among) < 2:
            return None
        low, high = (extremes(comparison, among, path, highest) for highest in (False, True))
        low_text, low_fact = _value_of(comparison, low[0], path)
        high_text, high_fact = _value_of(comparison, high[0], path)
        facts = (
            selected(among, measured),
            extreme(low, among, path, False),
            extreme(high, among, path, True),
            low_fact,
            high_fact,
        )
        if low == high:
            return Claim("cost", name, f"All tuned rows have the same {what}, {low_text}.", facts)
        return Claim(
            "cost",
            name,
            f"Among the tuned rows, {formats.listed(low)} {_verb(low, 'has', 'have')} the lowest {what} "
            f"({low_text}) and {formats.listed(high)} the highest ({high_text}).",
            facts,
        )

    return make


def _parameters_and_compute(results: Results, comparison: Comparison) -> Claim | None:
    by_parameters, by_compute = "parameters.num_trainable_parameters", "cost.train_flops"

    def measured(c: Comparison) -> list[str]:
        return having(c, by_compute, tuned(c))

    among = measured(comparison)
    if len(among) < 2:
        return None
    fewest, least = (extremes(comparison, among, path, False) for path in (by_parameters, by_compute))
    facts = [
        selected(among, measured),
        extreme(fewest, among, by_parameters, False),
        extreme(least, among, by_compute, False),
    ]
    if set(fewest) & set(least):
        text = (
            f"Here the fewest parameters go with the least compute: {formats.listed(fewest)} "
            f"{_verb(fewest, 'trains', 'train')} the fewest, and {formats.listed(least)} took the least."
        )
    else:
        compute, fact = _value_of(comparison, fewest[0], by_compute)
        other, other_fact = _value_of(comparison, least[0], by_compute)
        text = (
            f"Fewest parameters is not least compute: {formats.listed(fewest)} {_verb(fewest, 'trains', 'train')} the "
            f"fewest parameters and took {compute}, {formats.listed(least)} took the least, {other}."
        )
        facts += [fact, other_fact]
    return Claim("cost", "parameters-and-compute", text, tuple(facts))


def _saved(results: Results, comparison: Comparison) -> Claim | None:
    def ratios(c: Comparison) -> list[str]:
        return [
            f"{label} {formats.share(number(c, label, 'cost.train_flops') / number(c, label, 'cost.plain_flops'))}"
            for label in tuned(c)
            if number(c, label, "cost.train_flops") and number(c, label, "cost.plain_flops")
        ]

    parts = ratios(comparison)
    if not parts:
        return None
    return Claim(
        "cost",
        "saved",
        "Of the operations that the plain path would have needed for the same training, "
        f"the share executed is: {', '.join(parts)}.",
        (selected(parts, ratios),),
    )


def _search_cost(results: Results, comparison: Comparison) -> Claim | None:
    def searched(c: Comparison) -> list[str]:
        return [label for label in tuned(c) if c.rows[label].cost.get("search_seconds")]

    labels = searched(comparison)
    if not labels:
        return (
            Claim(
                "cost",
                "search",
                "No learning rate was searched for: each row used its own default.",
                (selected(labels, searched),),
            )
            if tuned(comparison)
            else None
        )
    values = [_value_of(comparison, label, "cost.search_seconds") for label in labels]
    parts = [f"{label} {text}" for label, (text, _) in zip(labels, values, strict=True)]
    return Claim(
        "cost",
        "search",
        f"The search for a learning rate is not in these figures; it took, as a mean over seeds: {', '.join(parts)}.",
        (selected(labels, searched), *(fact for _, fact in values)),
    )


def _pareto(results: Results, comparison: Comparison) -> Claim | None:
    front = [label for label in comparison.pareto if label in tuned(comparison)]
    if not tuned(comparison) or not comparison.pareto:
        return None
    others = [label for label in comparison.pareto if label not in front]
    text = f"On mean R-1 against training time, no row beats {formats.listed(comparison.pareto)} on both" + (
        f"; {formats.listed(others)} {_verb(others, 'needs', 'need')} no training." if others else "."
    )
    return Claim(
        "cost",
        "pareto",
        text,
        (
            equals(comparison.pareto, lambda r, c: c.pareto),
            selected(front, lambda c: [x for x in c.pareto if x in tuned(c)]),
        ),
    )


def _missing_meters(results: Results, comparison: Comparison) -> Claim | None:
    names = {"train_flops": "training compute", "peak_memory_bytes": "peak memory", "energy_joules": "energy"}

    def missing(c: Comparison) -> list[str]:
        return [
            f"{names[name]} ({formats.listed(labels)})"
            for name in names
            if (labels := [x for x in tuned(c) if c.rows[x].cost.get(name) is None])
        ]

    parts = missing(comparison)
    return (
        Claim(
            "limits",
            "missing-meters",
            f"Not measured, and therefore shown as such: {'; '.join(parts)}.",
            (selected(parts, missing),),
        )
        if parts
        else None
    )


def _failures(results: Results, comparison: Comparison) -> Claim | None:
    def failures(c: Comparison) -> list[str]:
        return [f"{label} ({rows.failure_note(row)})" for label, row in c.rows.items() if row.failed_seeds]

    parts = failures(comparison)
    return (
        Claim(
            "limits",
            "failures",
            f"Runs that did not finish stand in no figure: {', '.join(parts)}.",
            (selected(parts, failures),),
        )
        if parts
        else None
    )


def _length(results: Results, comparison: Comparison) -> Claim | None:
    among = having(comparison, "text_shape", with_rouge(comparison))
    if not among:
        return None
    reference, fact = _value_of(comparison, among[0], "text_shape.reference_words")
    values = [_value_of(comparison, label, "text_shape.prediction_words") for label in among]
    parts = [f"{label} {text}" for label, (text, _) in zip(among, values, strict=True)]
    return Claim(
        "shape",
        "length",
        f"References have {reference} words on average; summaries have: {', '.join(parts)}. "
        "Length alone moves ROUGE, so a difference in score between rows of different length is partly that.",
        (fact, selected(among, lambda c: having(c, "text_shape", with_rouge(c))), *(f for _, f in values)),
    )


def _copying(results: Results, comparison: Comparison) -> Claim | None:
    among = having(comparison, "text_shape", with_rouge(comparison))
    if len(among) < 2:
        return None
    parts, facts = [], [selected(among, lambda c: having(c, "text_shape", with_rouge(c)))]
    for path, most in (
        ("text_shape.novel_bigrams", "the largest share of word pairs that are not in the document"),
        ("text_shape.repeated_trigrams", "the largest share of repeated word triples"),
    ):
        labels = extremes(comparison, among, path, True)
        text, fact = _value_of(comparison, labels[0], path)
        parts.append(f"{formats.listed(labels)} {_verb(labels, 'has', 'have')} {most} ({text})")
        facts += [extreme(labels, among, path, True), fact]
    return Claim("shape", "copying", f"Of all rows, {'; '.join(parts)}.", tuple(facts))


def _at_cap(results: Results, comparison: Comparison) -> Claim | None:
    def capped(c: Comparison) -> list[str]:
        return [
            f"{label} {cell(c, label, 'text_shape.share_at_cap')}"
            for label in having(c, "text_shape", with_rouge(c))
            if number(c, label, "text_shape.share_at_cap") > 0
        ]

    parts = capped(comparison)
    return (
        Claim(
            "shape",
            "at-cap",
            f"Summaries that ran into the limit of new tokens: {', '.join(parts)}.",
            (selected(parts, capped),),
        )
        if parts
        else None
    )


def _certainty(results: Results, comparison: Comparison) -> Claim | None:
    def widest(r: Results, c: Comparison) -> tuple[str, str] | None:
        halves = {
            label: (number(c, label, "rouge1.high") - number(c, label, "rouge1.low")) / 2
            for label in with_rouge(c)
            if None not in (number(c, label, "rouge1.low"), number(c, label, "rouge1.high"))
        }
        label = max(halves, key=lambda x: halves[x], default=None)
        return (label, formats.score(halves[label])) if label is not None else None

    found = widest(results, comparison)
    if found is None:
        return None
    return Claim(
        "limits",
        "certainty",
        f"The widest 95% interval of a mean R-1 is that of {found[0]}: half of it is {found[1]} "
        "points. Smaller differences than the intervals of differences allow are not results.",
        (equals(found, widest),),
    )


def _evidence(question: str, kind: str) -> Callable[[Results, Comparison], Claim | None]:
    """A pointer from a theory answer to this run's own table: trainable parameters, loss and R-1 of rows of a kind."""

    def make(results: Results, comparison: Comparison) -> Claim | None:
        labels = [label for label in tuned(comparison) if comparison.rows[label].kind == kind]
        if not labels:
            return None
        parts, facts = [], []
        for label in labels:
            trainable, trainable_fact = _value_of(comparison, label, "parameters.num_trainable_parameters")
            loss, loss_fact = _value_of(comparison, label, "loss.test")
            score, score_facts = _estimate_of(comparison, label, "rouge1")
            parts.append(f"{label} trains {trainable} parameters and reaches a test loss of {loss} and R-1 {score}")
            facts += [trainable_fact, loss_fact, *score_facts]
        chosen = selected(labels, lambda c: [x for x in tuned(c) if c.rows[x].kind == kind])
        return Claim("theory", question, f"{'; '.join(parts)}.", (chosen, *facts))

    return make


def _gap_to_full(question: str, kinds: tuple[str, ...]) -> Callable[[Results, Comparison], Claim | None]:
    """How far rows of these kinds stand from full fine-tuning on R-1, in this run."""

    def make(results: Results, comparison: Comparison) -> Claim | None:
        fulls = of_kind(comparison, "full")
        labels = [label for label in tuned(comparison) if comparison.rows[label].kind in kinds]
        if not fulls or not labels:
            return None
        full = fulls[0]

        def gaps(c: Comparison) -> list[str]:
            return [
                f"{x} {formats.signed(number(c, x, 'rouge1.mean') - number(c, full, 'rouge1.mean'))}"
                for x in tuned(c)
                if c.rows[x].kind in kinds and full in with_rouge(c)
            ]

        parts = gaps(comparison)
        return Claim(
            "theory",
            question,
            f"R-1 less that of full fine-tuning ({full}): {', '.join(parts)}.",
            (selected(parts, gaps),),
        )

    return make


_MAKERS: tuple[Callable[[Results, Comparison], Claim | None], ...] = (
    _setting,
    _synthetic,
    _verdict,
    _best_rouge,
    _method_order,
    _against_lead,
    _best_loss,
    _against_untuned,
    _loss_order,
    _loss_and_rouge,
    _test_counts,
    _method_tests,
    _cheapest("time", "cost.train_seconds", "training time"),
    _cheapest("trainable", "parameters.num_trainable_parameters", "number of trainable parameters"),
    _cheapest("compute", "cost.train_flops", "training compute"),
    _cheapest("memory", "cost.peak_memory_bytes", "peak memory while training"),
    _cheapest("energy", "cost.energy_joules", "energy"),
    _parameters_and_compute,
    _saved,
    _search_cost,
    _pareto,
    _length,
    _copying,
    _at_cap,
    run_claims.whole_job,
    *(run_claims.shapes(kind) for kind in rows.METHODS),
    run_claims.epochs,
    _certainty,
    _failures,
    _missing_meters,
    _evidence("theory-soft-prompts", "prompt-tuning"),
    _gap_to_full("theory-scale", ("prompt-tuning",)),
    run_claims.share_and_compute,
    _evidence("theory-lora", "lora"),
    run_claims.first_loss,
    _gap_to_full("theory-low-rank", ("lora", "last-layers")),
)
