"""Correct p-values for multiple tests: Holm's correction, or a more powerful one for all pairs of methods."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from triptych.analysis.inference import Array


@dataclass(frozen=True)
class Corrected:
    """The result of a step-down correction of p-values.

    Attributes:
        adjusted: [m] p-values to compare with the level of the whole family.
        levels: [m] level of each test alone: a p-value is below it exactly when its adjusted value is below the level
            of the family. Tests that are not rejected all have the level of the first of them.
    """

    adjusted: Array
    levels: Array


def corrected_pairs(p_values: Array, rows: int, level: float) -> Corrected:
    """Correct the tests of all pairs of methods, so that the probability of any false rejection is at most `level`.

    This holds under any dependence. It steps down from the smallest p-value like Holm's (1979) correction, and also
    uses a property of pairs: if a and b differ, c differs from one of them, so fewer pairs can be equal than are left
    (Shaffer 1986). With p(1) <= ... <= p(m):

        adjusted(j) = max over i <= j of min(1, t(i) p(i))

    where t(i) is the largest number of pairs, up to m - i + 1, that can be equal at once. For four methods,
    t = 6, 3, 3, 3, 2, 1, where Holm's factors are 6, 5, 4, 3, 2, 1.

    Args:
        p_values: [m] of all m = rows (rows - 1) / 2 pairs, in any order.
        rows: number of methods.
        level: level of the family.
    """
    return _stepped(p_values, np.array(equal_pairs(rows), dtype=np.float64), level)


def corrected_by_holm(p_values: Array, level: float) -> Corrected:
    """Correct any tests by Holm's step-down procedure (1979), which holds under any dependence.

    With p sorted, p(1) <= ... <= p(m):  adjusted(i) = max over j <= i of min(1, (m - j + 1) p(j)).

    Args:
        p_values: [m], in any order.
        level: level of the family.
    """
    return _stepped(p_values, np.arange(len(p_values), 0.0, -1.0), level)


def holm(p_values: Array, most: int | None = None) -> Array:
    """Return only Holm's adjusted p-values.

    Args:
        p_values: [m], in any order.
        most: how many of the hypotheses can be true at once, if fewer than m (Shaffer 1986).
    """
    return _stepped(p_values, np.minimum(np.arange(len(p_values), 0.0, -1.0), most or len(p_values)), 1.0).adjusted


@lru_cache
def equal_pairs(rows: int) -> tuple[int, ...]:
    """For each step of `corrected_pairs`, the largest number of pairs that can still be equal at once.

    Equal methods form groups, and a group of n has n (n - 1) / 2 equal pairs.
    """
    sums = [{0}]  # by number of methods: the possible numbers of equal pairs
    for count in range(1, rows + 1):
        sums.append({rest + size * (size - 1) // 2 for size in range(1, count + 1) for rest in sums[count - size]})
    pairs = rows * (rows - 1) // 2
    return tuple(max(number for number in sums[rows] if number <= pairs - step) for step in range(pairs))


def _stepped(p_values: Array, factors: Array, level: float) -> Corrected:
    """Apply the factor of each step, in the order of the sorted p-values."""
    order = np.argsort(p_values, kind="stable")
    sorted_up = np.minimum(1.0, np.maximum.accumulate(p_values[order] * factors))
    rejected = int((sorted_up < level).sum())
    levels = level / np.where(np.arange(len(order)) < rejected, factors, factors[min(rejected, len(order) - 1)])
    adjusted, own = np.empty(len(order)), np.empty(len(order))
    adjusted[order], own[order] = sorted_up, levels
    return Corrected(adjusted, own)
