"""Sentences on what training cost: time, parameters, operations, memory, energy, and what the search took."""

from triptych.reporting import formats
from triptych.reporting.facts import (
    Claim,
    Maker,
    equals,
    extreme,
    extremes,
    having,
    number,
    selected,
    told,
    tuned,
    value_of,
    values_of,
)
from triptych.results.reading import Results
from triptych.results.records import Comparison


def cheapest(name: str, path: str, what: str) -> Maker:
    """A claim on the lowest and highest of a cost among the tuned rows that were measured."""

    def measured(c: Comparison) -> list[str]:
        return having(c, path, tuned(c))

    def make(results: Results, comparison: Comparison) -> Claim | None:
        among = measured(comparison)
        if len(among) < 2 or (name == "memory" and not _one_kind_of_memory(results)):
            return None
        low, high = (extremes(comparison, among, path, highest) for highest in (False, True))
        low_text, low_fact = value_of(comparison, low[0], path)
        high_text, high_fact = value_of(comparison, high[0], path)
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
            f"Among the tuned rows, {formats.listed(low)} {formats.verb(low, 'has', 'have')} the lowest {what} "
            f"({low_text}) and {formats.listed(high)} the highest ({high_text}).",
            facts,
        )

    return make


def _one_kind_of_memory(results: Results) -> bool:
    """Whether all peaks were measured in one way: an older version counted the pages of mapped files as well."""
    kinds = {run.record.cost.peak_memory_kind for run in results.runs if run.done}
    return len(kinds - {None}) < 2


def parameters_and_compute(results: Results, comparison: Comparison) -> Claim | None:
    """Whether the row that trains the fewest parameters takes the least compute."""
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
            f"{formats.verb(fewest, 'trains', 'train')} the fewest, and {formats.listed(least)} took the least."
        )
    else:
        compute, fact = value_of(comparison, fewest[0], by_compute)
        other, other_fact = value_of(comparison, least[0], by_compute)
        text = (
            f"Fewest parameters is not least compute: {formats.listed(fewest)} "
            f"{formats.verb(fewest, 'trains', 'train')} the "
            f"fewest parameters and took {compute}, {formats.listed(least)} took the least, {other}."
        )
        facts += [fact, other_fact]
    return Claim("cost", "parameters-and-compute", text, tuple(facts))


def _shares_executed(results: Results, comparison: Comparison) -> list[str]:
    """The share of operations that the exact savings left."""
    found = []
    for label in tuned(comparison):
        executed, plain = (number(comparison, label, f"cost.{name}_flops") for name in ("train", "plain"))
        if executed and plain:
            found.append(f"{label} {formats.share(executed / plain)}")
    return found


saved = told(
    "cost",
    "saved",
    _shares_executed,
    lambda parts: (
        "Of the operations that the plain path would have needed for the same training, "
        f"the share executed is: {', '.join(parts)}."
    ),
)


def search_cost(results: Results, comparison: Comparison) -> Claim | None:
    """What the search for a learning rate took."""

    def searched(c: Comparison) -> list[str]:
        return [label for label in tuned(c) if c.rows[label].cost.get("search_seconds")]

    labels = searched(comparison)
    if not labels:
        return (
            Claim(
                "cost",
                "search",
                "No learning rate was searched for: each row was trained at one rate, set beforehand.",
                (selected(labels, searched),),
            )
            if tuned(comparison)
            else None
        )
    texts, facts = values_of(comparison, labels, "cost.search_seconds")
    parts = [f"{label} {text}" for label, text in texts.items()]
    return Claim(
        "cost",
        "search",
        "The search for a learning rate is made once for all seeds and is not in these figures; it took, in all: "
        f"{', '.join(parts)}.",
        (selected(labels, searched), *facts),
    )


def pareto(results: Results, comparison: Comparison) -> Claim | None:
    """The rows that none beats in both R-1 and training time."""
    front = [label for label in comparison.pareto if label in tuned(comparison)]
    if not tuned(comparison) or not comparison.pareto:
        return None
    others = [label for label in comparison.pareto if label not in front]
    text = f"On mean R-1 against training time, no row beats {formats.listed(comparison.pareto)} on both" + (
        f"; {formats.listed(others)} {formats.verb(others, 'needs', 'need')} no training." if others else "."
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


def _missing(results: Results, comparison: Comparison) -> list[str]:
    """What was not measured, and of which rows."""
    names = {"train_flops": "training compute", "peak_memory_bytes": "peak memory", "energy_joules": "energy"}
    return [
        f"{names[name]} ({formats.listed(labels)})"
        for name in names
        if (labels := [label for label in tuned(comparison) if comparison.rows[label].cost.get(name) is None])
    ]


missing_meters = told(
    "limits",
    "missing-meters",
    _missing,
    lambda parts: f"Not measured, and therefore shown as such: {'; '.join(parts)}.",
)
