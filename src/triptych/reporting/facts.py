"""Sentences, the facts they may rest on, each checked against a comparison, and what sentences pick their rows with."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

from triptych.analysis.verdict import separable
from triptych.reporting import formats, rows
from triptych.results.reading import Results
from triptych.results.records import Comparison, PairedTest

Fact = Callable[[Results, Comparison], bool]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Claim:
    """A sentence or two on one topic.

    Attributes:
        topic: where it belongs: `setting`, `reductions`, `setting-of-methods`, `architecture`, `training`, `quality`,
            `loss`, `tests`, `cost`, `shape`, `theory`, `limits`.
        name: which claim it is, unique within a report.
        text: the sentence, its numbers as the tables give them.
        facts: what it rests on.
    """

    topic: str
    name: str
    text: str
    facts: tuple[Fact, ...]

    def holds(self, results: Results, comparison: Comparison) -> bool:
        """Every fact is so in this comparison."""
        return all(fact(results, comparison) for fact in self.facts)


Maker = Callable[[Results, Comparison], Claim | None]


def told(
    topic: str, name: str, find: Callable[[Results, Comparison], Found | None], say: Callable[[Found], str]
) -> Maker:
    """Makes the claim that says what `find` finds, and holds wherever that is found; none where nothing is."""

    def make(results: Results, comparison: Comparison) -> Claim | None:
        found = find(results, comparison)
        return Claim(topic, name, say(found), (equals(found, find),)) if found else None

    return make


def cell(comparison: Comparison, label: str, path: str) -> str:
    """A field of a row as the tables show it."""
    value = rows.value(comparison.rows[label], path) if label in comparison.rows else None
    name = path.split(".")[-1]
    if path.startswith("loss."):
        return formats.loss(value)
    if path.startswith("rouge"):
        return formats.score(value)
    if name.endswith("_seconds"):
        return formats.seconds(value)
    if name.endswith("_words"):
        return formats.words(value)
    for suffix, kind in (("_flops", "flops"), ("_bytes", "bytes"), ("_joules", "joules")):
        if name.endswith(suffix):
            return formats.quantity(value, kind)
    return formats.count(value) if name.endswith("_parameters") else formats.share(value)


def number(comparison: Comparison, label: str, path: str) -> Any:
    """A field of a row."""
    return rows.value(comparison.rows[label], path)


# Facts.


def shown(label: str, path: str, text: str) -> Fact:
    """The table's cell of that row is this text."""
    return lambda results, comparison: cell(comparison, label, path) == text


def extreme(labels: Iterable[str], among: Iterable[str], path: str, highest: bool) -> Fact:
    """Of the rows `among`, exactly `labels` have the highest (or the lowest) value."""
    labels, among = set(labels), tuple(among)

    def fact(results: Results, comparison: Comparison) -> bool:
        values = {label: rows.value(comparison.rows[label], path) for label in among if label in comparison.rows}
        if len(values) < len(among) or None in values.values():
            return False
        best = (max if highest else min)(values.values())
        return {label for label, value in values.items() if value == best} == labels

    return fact


def ordered(labels: Iterable[str], path: str) -> Fact:
    """The values of the rows rise strictly in this order."""
    labels = tuple(labels)

    def fact(results: Results, comparison: Comparison) -> bool:
        values = [number(comparison, label, path) for label in labels if label in comparison.rows]
        known = len(values) == len(labels) and None not in values
        return known and all(low < high for low, high in pairwise(values))

    return fact


def selected(labels: Iterable[str], choose: Callable[[Comparison], Iterable[str]]) -> Fact:
    """Exactly these rows are what `choose` picks."""
    labels = tuple(labels)
    return lambda results, comparison: tuple(choose(comparison)) == labels


def tested(test: PairedTest, apart: bool) -> Fact:
    """The comparison has this test, with the figures shown, and the same decision."""
    figures = figures_of(test)
    return lambda results, comparison: any(
        (other.a, other.b, other.metric) == (test.a, test.b, test.metric)
        and figures_of(other) == figures
        and separable(other) == apart
        for other in comparison.tests
    )


def equals(expected: object, of: Callable[[Results, Comparison], object]) -> Fact:
    """What `of` finds is this."""
    return lambda results, comparison: of(results, comparison) == expected


def figures_of(test: PairedTest) -> tuple[str, str, str]:
    """Difference, interval and adjusted p-value as the tables show them."""
    digits = 4 if test.metric == "loss" else 2
    return (
        formats.signed(test.difference, digits),
        formats.interval(test.low, test.high, digits),
        formats.p_value(test.p_value_adjusted),
    )


def value_of(comparison: Comparison, label: str, path: str) -> tuple[str, Fact]:
    """A field of a row as the tables show it, and the fact that it stands there."""
    text = cell(comparison, label, path)
    return text, shown(label, path, text)


def values_of(comparison: Comparison, labels: Iterable[str], path: str) -> tuple[dict[str, str], tuple[Fact, ...]]:
    """That field of each row as the tables show it, by label, and the facts that they stand there."""
    texts = {label: cell(comparison, label, path) for label in labels}
    return texts, tuple(shown(label, path, text) for label, text in texts.items())


def estimate_of(comparison: Comparison, label: str, field: str) -> tuple[str, tuple[Fact, ...]]:
    """A mean with its interval in words, and the facts of both."""
    mean, fact = value_of(comparison, label, "loss.test" if field == "loss" else f"{field}.mean")
    low, low_fact = value_of(comparison, label, f"{field}.low")
    high, high_fact = value_of(comparison, label, f"{field}.high")
    if formats.DASH in (low, high):
        return mean, (fact,)
    return f"{mean} (95% interval {low} to {high})", (fact, low_fact, high_fact)


# What claims pick from.


def with_rouge(comparison: Comparison) -> list[str]:
    """The rows with a test ROUGE."""
    return [label for label, row in comparison.rows.items() if row.rouge1 is not None]


def tuned(comparison: Comparison) -> list[str]:
    """The rows that trained something and finished."""
    return [label for label, row in rows.done(comparison).items() if rows.trained(row) and row.rouge1 is not None]


def of_kind(comparison: Comparison, kind: str) -> list[str]:
    """The finished rows of a kind."""
    return [label for label in with_rouge(comparison) if comparison.rows[label].kind == kind]


def having(comparison: Comparison, path: str, among: Iterable[str]) -> list[str]:
    """Those rows that have this field."""
    return [label for label in among if rows.value(comparison.rows[label], path) is not None]


def beyond(comparison: Comparison, path: str, reference: str, higher: bool) -> list[str]:
    """The tuned rows whose value is above (or below) that of a row; none where that row has no value."""
    limit = rows.value(comparison.rows[reference], path) if reference in comparison.rows else None
    if limit is None:
        return []
    values = {x: rows.value(comparison.rows[x], path) for x in having(comparison, path, tuned(comparison))}
    return [x for x, value in values.items() if (value > limit if higher else value < limit)]


def extremes(comparison: Comparison, among: list[str], path: str, highest: bool) -> list[str]:
    """Those rows that have the highest (or the lowest) value."""
    best = (max if highest else min)(rows.value(comparison.rows[label], path) for label in among)
    return [label for label in among if rows.value(comparison.rows[label], path) == best]
