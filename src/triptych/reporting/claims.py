"""Sentences made from the numbers, each with the facts it rests on, so that none can contradict a table.

A claim holds for a comparison if each of its facts does: a value stands in the table as the sentence gives it, a row is
the highest, a pair differs. `claims` makes only claims that hold; a claim of other numbers fails its own check.
"""

from triptych.reporting import cost_claims, formats, quality_claims, rows, run_claims
from triptych.reporting.facts import (
    Claim,
    Maker,
    cell,
    equals,
    estimate_of,
    extreme,
    extremes,
    having,
    number,
    of_kind,
    selected,
    told,
    tuned,
    value_of,
    values_of,
    with_rouge,
)
from triptych.results.reading import Results
from triptych.results.records import Comparison


def claims(results: Results, comparison: Comparison) -> list[Claim]:
    """Everything that can be said of a comparison, in the order of the report."""
    made = [maker(results, comparison) for maker in _MAKERS]
    return [claim for claim in made if claim is not None]


# The makers: one claim each, or None where there is nothing to say.


def _setting(results: Results, comparison: Comparison) -> Claim:
    labels = list(comparison.rows)
    if rows.of_files(comparison):
        return _setting_of_files(labels, comparison)
    seeds = comparison.seeds
    size = _size(comparison)
    text = (
        f"{formats.count_in_words(len(labels))} {formats.verb(labels, 'row', 'rows')} ({formats.listed(labels)}) "
        f"{formats.verb(labels, 'was', 'were')} evaluated on the same {comparison.num_documents:,} test documents of "
        f"{comparison.data}, with the model {comparison.model}{size} and "
        f"{'one training seed' if len(seeds) == 1 else f'{len(seeds)} training seeds'}."
    )
    return Claim(
        "setting",
        "setting",
        text,
        (
            selected(labels, lambda c: c.rows),
            equals(
                (comparison.num_documents, comparison.data, comparison.model, size, len(seeds)),
                lambda r, c: (c.num_documents, c.data, c.model, _size(c), len(c.seeds)),
            ),
        ),
    )


def _setting_of_files(labels: list[str], comparison: Comparison) -> Claim:
    """What files were scored, against what."""

    def counted(r: Results, c: Comparison) -> tuple[int, int, str]:
        return sum(len(row.seeds) for row in c.rows.values()), c.num_documents, c.data

    sets = sum(len(row.seeds) for row in comparison.rows.values())
    whole = f"; together they gave {sets} sets of predictions" if sets > len(labels) else ""
    text = (
        f"The outputs of {formats.count_in_words(len(labels)).lower()} {formats.verb(labels, 'system', 'systems')} "
        f"({formats.listed(labels)}) on the same {comparison.num_documents:,} documents were scored against "
        f"{comparison.data}{whole}."
    )
    expected = (sets, comparison.num_documents, comparison.data)
    return Claim("setting", "setting", text, (selected(labels, lambda c: c.rows), equals(expected, counted)))


def _size(comparison: Comparison) -> str:
    """How many parameters the untouched model has, in brackets."""
    counts = {row.parameters.num_base_parameters for row in comparison.rows.values() if row.parameters is not None}
    return f" ({formats.count(counts.pop())} parameters)" if len(counts) == 1 else ""


_synthetic = told("setting", "synthetic", lambda r, c: rows.synthetic_notice(c), str)


def _failed(results: Results, comparison: Comparison) -> list[str]:
    return [f"{label} ({rows.failure_note(row)})" for label, row in comparison.rows.items() if row.failed_seeds]


_failures = told(
    "limits", "failures", _failed, lambda parts: f"Runs that did not finish stand in no figure: {', '.join(parts)}."
)


def _length(results: Results, comparison: Comparison) -> Claim | None:
    among = having(comparison, "text_shape", with_rouge(comparison))
    if not among:
        return None
    reference, fact = value_of(comparison, among[0], "text_shape.reference_words")
    texts, facts = values_of(comparison, among, "text_shape.prediction_words")
    parts = [f"{label} {text}" for label, text in texts.items()]
    return Claim(
        "shape",
        "length",
        f"References have {reference} words on average; summaries have: {', '.join(parts)}. "
        "Length alone moves ROUGE, so a difference in score between rows of different length is partly that.",
        (fact, selected(among, lambda c: having(c, "text_shape", with_rouge(c))), *facts),
    )


def _copying(results: Results, comparison: Comparison) -> Claim | None:
    among = having(comparison, "text_shape.novel_bigrams", with_rouge(comparison))
    if len(among) < 2:
        return None
    parts, facts = [], [selected(among, lambda c: having(c, "text_shape.novel_bigrams", with_rouge(c)))]
    for path, most in (
        ("text_shape.novel_bigrams", "the largest share of word pairs that are not in the document"),
        ("text_shape.repeated_trigrams", "the largest share of repeated word triples"),
    ):
        labels = extremes(comparison, among, path, True)
        text, fact = value_of(comparison, labels[0], path)
        parts.append(f"{formats.listed(labels)} {formats.verb(labels, 'has', 'have')} {most} ({text})")
        facts += [extreme(labels, among, path, True), fact]
    return Claim("shape", "copying", f"Of all rows, {'; '.join(parts)}.", tuple(facts))


def _capped(results: Results, comparison: Comparison) -> list[str]:
    return [
        f"{label} {cell(comparison, label, 'text_shape.share_at_cap')}"
        for label in having(comparison, "text_shape.share_at_cap", with_rouge(comparison))
        if number(comparison, label, "text_shape.share_at_cap") > 0
    ]


_at_cap = told(
    "shape", "at-cap", _capped, lambda parts: f"Summaries that ran into the limit of new tokens: {', '.join(parts)}."
)


def _evidence(question: str, kind: str) -> Maker:
    """A pointer from a theory answer to this run's own table: trainable parameters, loss and R-1 of rows of a kind."""

    def make(results: Results, comparison: Comparison) -> Claim | None:
        labels = [label for label in tuned(comparison) if comparison.rows[label].kind == kind]
        if not labels:
            return None
        parts, facts = [], []
        for label in labels:
            trainable, trainable_fact = value_of(comparison, label, "parameters.num_trainable_parameters")
            loss, loss_fact = value_of(comparison, label, "loss.test")
            score, score_facts = estimate_of(comparison, label, "rouge1")
            parts.append(f"{label} trains {trainable} parameters and reaches a test loss of {loss} and R-1 {score}")
            facts += [trainable_fact, loss_fact, *score_facts]
        chosen = selected(labels, lambda c: [x for x in tuned(c) if c.rows[x].kind == kind])
        return Claim("theory", question, f"{'; '.join(parts)}.", (chosen, *facts))

    return make


def _gap_to_full(question: str, kinds: tuple[str, ...]) -> Maker:
    """How far rows of these kinds stand from full fine-tuning on R-1, in this run."""

    def gaps(results: Results, comparison: Comparison) -> tuple[str, list[str]] | None:
        fulls = of_kind(comparison, "full")
        labels = [label for label in tuned(comparison) if comparison.rows[label].kind in kinds]
        if not fulls or not labels:
            return None
        scores = {label: number(comparison, label, "rouge1.mean") for label in (fulls[0], *labels)}
        return fulls[0], [f"{label} {formats.signed(scores[label] - scores[fulls[0]])}" for label in labels]

    def said(found: tuple[str, list[str]]) -> str:
        full, parts = found
        return f"R-1 minus that of full fine-tuning ({full}): {', '.join(parts)}."

    return told("theory", question, gaps, said)


_MAKERS: tuple[Maker, ...] = (
    _setting,
    _synthetic,
    quality_claims.verdict,
    quality_claims.best_rouge,
    quality_claims.method_order,
    quality_claims.against_lead,
    quality_claims.best_loss,
    quality_claims.against_untuned,
    quality_claims.loss_order,
    quality_claims.loss_and_rouge,
    quality_claims.test_counts,
    quality_claims.method_tests,
    cost_claims.cheapest("time", "cost.train_seconds", "training time"),
    cost_claims.cheapest("trainable", "parameters.num_trainable_parameters", "number of trainable parameters"),
    cost_claims.cheapest("compute", "cost.train_flops", "training compute"),
    cost_claims.cheapest("memory", "cost.peak_memory_bytes", "peak memory while training"),
    cost_claims.cheapest("energy", "cost.energy_joules", "energy"),
    cost_claims.parameters_and_compute,
    cost_claims.saved,
    run_claims.trunk_caches,
    cost_claims.search_cost,
    cost_claims.pareto,
    _length,
    _copying,
    _at_cap,
    run_claims.whole_job,
    run_claims.differences,
    *(run_claims.shapes(kind) for kind in rows.METHODS),
    run_claims.epochs,
    quality_claims.power,
    _failures,
    cost_claims.missing_meters,
    _evidence("theory-soft-prompts", "prompt-tuning"),
    _gap_to_full("theory-scale", ("prompt-tuning",)),
    run_claims.share_and_compute,
    _evidence("theory-lora", "lora"),
    run_claims.first_loss,
    _gap_to_full("theory-low-rank", ("lora", "last-layers")),
)
