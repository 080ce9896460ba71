"""Random choices that are the same in every version of Python.

They use only `Random.random()`, the one method whose sequence Python guarantees across versions.
"""

from collections.abc import Sequence
from random import Random
from typing import TypeVar

Item = TypeVar("Item")


def pick(rng: Random, items: Sequence[Item]) -> Item:
    """One of the items, all equally likely."""
    return items[int(rng.random() * len(items))]


def between(rng: Random, low: int, high: int) -> int:
    """An integer from low to high, inclusive."""
    return low + int(rng.random() * (high - low + 1))


def shuffled(rng: Random, items: Sequence[Item]) -> list[Item]:
    """The items in a random order."""
    return [item for _, item in sorted(((rng.random(), item) for item in items), key=lambda pair: pair[0])]
