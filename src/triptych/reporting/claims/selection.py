"""Select the methods a sentence is about, and format their fields as in the tables."""

from collections.abc import Iterable
from typing import Any

from triptych.reporting import rows
from triptych.results.records import Comparison
from triptych.text import formats


def with_rouge(comparison: Comparison) -> list[str]:
    """The methods with a test ROUGE score."""
    return [label for label, row in comparison.rows.items() if row.rouge1 is not None]


def trained(comparison: Comparison) -> list[str]:
    """The methods that trained something and finished."""
    return [label for label, row in rows.done(comparison).items() if row.trained and row.rouge1 is not None]


def of_kind(comparison: Comparison, *kinds: str) -> list[str]:
    """The methods of these kinds with a test ROUGE score."""
    return [label for label in with_rouge(comparison) if comparison.rows[label].kind in kinds]


def trained_of_kind(comparison: Comparison, *kinds: str) -> list[str]:
    """The methods of these kinds that trained something and finished."""
    return [label for label in trained(comparison) if comparison.rows[label].kind in kinds]


def having(comparison: Comparison, path: str, among: Iterable[str]) -> list[str]:
    """The methods among these that have this field."""
    return [label for label in among if number(comparison, label, path) is not None]


def above(comparison: Comparison, path: str, reference: str) -> list[str]:
    """The trained methods whose value is above that of a reference method."""
    limit = number(comparison, reference, path)
    values = {label: number(comparison, label, path) for label in having(comparison, path, trained(comparison))}
    return [label for label, value in values.items() if value > limit]


def lowest(comparison: Comparison, path: str, among: list[str]) -> list[str]:
    """Among methods that have this field, those with the lowest value."""
    best = min(number(comparison, label, path) for label in among)
    return [label for label in among if number(comparison, label, path) == best]


def highest(comparison: Comparison, path: str, among: list[str]) -> list[str]:
    """Among methods that have this field, those with the highest value."""
    best = max(number(comparison, label, path) for label in among)
    return [label for label in among if number(comparison, label, path) == best]


def number(comparison: Comparison, label: str, path: str) -> Any:
    """A field of a method by its dotted path; None if it is missing."""
    return rows.value(comparison.rows[label], path)


def cell(comparison: Comparison, label: str, path: str) -> str:
    """A field of a method, formatted as in the tables."""
    value = number(comparison, label, path)
    name = path.split(".")[-1]
    if path.startswith("loss."):
        return formats.loss(value)
    if path.startswith("rouge"):
        return formats.rouge_score(value)
    if name.endswith("_seconds"):
        return formats.seconds(value)
    if name.endswith("_words"):
        return formats.word_count(value)
    for suffix, kind in (("_flops", "flops"), ("_bytes", "bytes"), ("_joules", "joules")):
        if name.endswith(suffix):
            return formats.quantity(value, kind)
    return formats.count(value) if name.endswith("_parameters") else formats.share(value)


def listed_cells(comparison: Comparison, labels: Iterable[str], path: str) -> str:
    """`full 18.2 s, lora 18.0 s`: a field of each method after its label."""
    return ", ".join(f"{label} {cell(comparison, label, path)}" for label in labels)


def estimate_in_words(comparison: Comparison, label: str, field: str) -> str:
    """The mean of `loss` or of a ROUGE score with its interval, in words."""
    mean = cell(comparison, label, "loss.test" if field == "loss" else f"{field}.mean")
    low, high = cell(comparison, label, f"{field}.low"), cell(comparison, label, f"{field}.high")
    return mean if formats.DASH in (low, high) else f"{mean} (95% interval {low} to {high})"
