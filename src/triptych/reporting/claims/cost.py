"""Sentences about the cost of training: time, parameters, operations, memory, energy and learning-rate search."""

from triptych.reporting.claims.selection import cell, having, highest, listed_cells, lowest, number, trained
from triptych.results.reading import Results
from triptych.results.records import Comparison
from triptych.text import formats


def extremes(comparison: Comparison, path: str, what: str) -> str | None:
    """The lowest and highest value of a cost among the trained methods for which it was measured."""
    labels = trained(comparison)
    among = having(comparison, path, labels)
    if len(among) < 2:
        return None
    methods = "trained methods" if among == labels else "trained methods with a measurement"
    low, high = lowest(comparison, path, among), highest(comparison, path, among)
    least, most = cell(comparison, low[0], path), cell(comparison, high[0], path)
    if low == high:
        return f"{'Both' if len(low) == 2 else 'All'} {methods} have the same {what}, {least}."
    return (
        f"Among the {methods}, {formats.listed(low)} {formats.verb(low, 'has', 'have')} the lowest {what} "
        f"({least}) and {formats.listed(high)} the highest ({most})."
    )


def memory(results: Results, comparison: Comparison) -> str | None:
    """The lowest and highest peak memory; None if peaks were measured in several ways."""
    kinds = {run.record.cost.peak_memory_kind for run in results.runs if run.done} - {None}
    if len(kinds) > 1:  # an older version also counted the pages of mapped files
        return None
    return extremes(comparison, "cost.peak_memory_bytes", "peak memory during training")


def parameters_and_compute(comparison: Comparison) -> str | None:
    """Whether the method with the fewest trainable parameters takes the least compute.

    None if the compute of a method is not known, or if all have the same parameters or compute.
    """
    compute, labels = "cost.train_flops", trained(comparison)
    if len(labels) < 2 or having(comparison, compute, labels) != labels:
        return None
    fewest = lowest(comparison, "parameters.num_trainable_parameters", labels)
    least = lowest(comparison, compute, labels)
    if labels in (fewest, least):
        return None
    trains = f"{formats.listed(fewest)} {formats.verb(fewest, 'trains', 'train')} the fewest"
    if fewest == least:
        return f"Here the fewest parameters go with the least compute: {trains} and took the least."
    if set(fewest) & set(least):
        return (
            f"Here the fewest parameters go with the least compute: {trains}, and {formats.listed(least)} took the "
            "least."
        )
    return (
        f"The fewest parameters do not mean the least compute: {trains} parameters and took "
        f"{cell(comparison, fewest[0], compute)}; "
        f"{formats.listed(least)} took the least, {cell(comparison, least[0], compute)}."
    )


def saved(comparison: Comparison) -> str | None:
    """The share of operations that remained after the exact savings."""
    parts = []
    for label in trained(comparison):
        executed, plain = (number(comparison, label, f"cost.{name}_flops") for name in ("train", "plain"))
        if executed and plain:
            parts.append(f"{label} {formats.share(executed / plain)}")
    if not parts:
        return None
    return (
        "Executed FLOPs, as a share of those that the same training would need without the exact speed-ups: "
        f"{', '.join(parts)}."
    )


def search_cost(comparison: Comparison) -> str | None:
    """The cost of the learning-rate search."""
    if not trained(comparison):
        return None
    path = "cost.search_seconds"
    searched = [label for label in trained(comparison) if number(comparison, label, path)]
    if not searched:
        return "There was no learning-rate search: each method was trained with one rate set in advance."
    return (
        "The learning-rate search is run once for all seeds and is not included in these figures; it took: "
        f"{listed_cells(comparison, searched, path)}."
    )


def missing_meters(comparison: Comparison) -> str | None:
    """What was not measured, and for which methods."""
    parts = []
    for name, what in (
        ("train_flops", "training compute"),
        ("peak_memory_bytes", "peak memory"),
        ("energy_joules", "energy"),
    ):
        labels = [label for label in trained(comparison) if number(comparison, label, f"cost.{name}") is None]
        if labels:
            parts.append(f"{what} ({formats.listed(labels)})")
    return f"Not measured: {'; '.join(parts)}." if parts else None
