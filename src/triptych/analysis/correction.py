"""P-values corrected for testing several pairs of rows: Holm's way, and a sharper one for all pairs of a table."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

Array = NDArray[np.float64]

MOST_ROWS = 10  # the ways in which rows may be equal are listed one by one; of more rows Holm's correction is taken
_NODES = np.linspace(-8.5, 8.5, 361)
_DENSITY = np.exp(-(_NODES**2) / 2) / math.sqrt(2 * math.pi) * (_NODES[1] - _NODES[0])


@dataclass(frozen=True)
class Corrected:
    """What a step-down correction makes of p-values.

    Attributes:
        adjusted: [m] the p-values to compare with the level of the whole family.
        levels: [m] the level of each test alone, which a p-value is below exactly where its adjusted value is below the level
            of the family. Tests that are not rejected have the level of the first of them.
    """

    adjusted: Array
    levels: Array


def corrected_pairs(p_values: Array, rows: int, level: float) -> Corrected:
    """Correct the tests of all pairs of rows: the chance of any false rejection is at most `level`.

    Step down from the least p-value as Holm's (1979) correction does, with two facts of pairs that Holm's does not use. If a
    and b differ, c differs from one of them, so that few sets of pairs can all be equal at once: groups of equal rows
    (Shaffer 1986). And within a group of n equal rows the least p-value of its n (n - 1) / 2 pairs follows the range of n
    normal values, since pairs share rows (Tukey; unequal variances: Kramer 1956, Hayter 1984). With p(1) <= ... <= p(m):

        adjusted(j) = max over i <= j, and over groups with at most m - i + 1 equal pairs, of min(1, sum over groups R[n](p(i)))

    where R[n](p) is the chance that the range of n standard normal values is above sqrt(2) z(1 - p / 2); R[2](p) = p.

    Args:
        p_values: [m] of all m = rows (rows - 1) / 2 pairs, in any order, none of them zero.
        rows: how many rows; of more than `MOST_ROWS` the correction is Holm's.
        level: of the family.
    """
    if rows > MOST_ROWS:
        return corrected_by_holm(p_values, level)
    order = np.argsort(p_values, kind="stable")
    ranged = _ranges(p_values[order], rows)
    steps = np.array([_most(ranged[:, [step]], rows, len(order) - step)[0] for step in range(len(order))])
    return _stepped(order, steps, np.array(_levels(rows, level)), level)


def corrected_by_holm(p_values: Array, level: float) -> Corrected:
    """Correct any tests by Holm's step-down procedure (1979): the chance of a false rejection is kept under any dependence.

    With p sorted, p(1) <= ... <= p(m):  adjusted(i) = max over j <= i of min(1, (m - j + 1) p(j)).

    Args:
        p_values: [m], in any order.
        level: of the family.
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(order), 0, -1)
    return _stepped(order, p_values[order] * factors, level / factors, level)


def holm(p_values: Array, most: int | None = None) -> Array:
    """Holm's adjusted p-values alone.

    Args:
        p_values: [m], in any order.
        most: how many of the hypotheses can be true at once, where that is fewer than m (Shaffer 1986).
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.minimum(np.arange(len(order), 0, -1), most or len(order))
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * steps))
    return adjusted


def first_level(rows: int, level: float) -> float:
    """The level that the least p-value of all pairs of so many rows is held to: the strictest of the correction."""
    return _levels(rows, level)[0] if rows <= MOST_ROWS else level / (rows * (rows - 1) / 2)


def range_chance(p_values: Array, rows: int) -> Array:
    """R[n](p) of `corrected_pairs`: the chance that the least p-value of all pairs of n equal rows is below p.

    The range of n standard normal values is above w with the chance 1 - n integral phi(x) (Phi(x) - Phi(x - w))^(n - 1) dx.
    """
    if rows == 2:
        return p_values
    width = -math.sqrt(2) * ndtri(p_values / 2)
    within = ndtr(_NODES[:, None]) - ndtr(_NODES[:, None] - width[None, :])
    beyond = 1 - rows * (_DENSITY @ within ** (rows - 1))
    return np.clip(beyond, p_values, np.minimum(1.0, p_values * (rows * (rows - 1) / 2)))  # rounding of tiny chances


def _stepped(order: NDArray[np.intp], steps: Array, levels: Array, level: float) -> Corrected:
    """From what each step gives the sorted p-values, and the levels that say the same."""
    sorted_up = np.minimum(1.0, np.maximum.accumulate(steps))
    rejected = int((sorted_up < level).sum())
    levels = np.where(np.arange(len(order)) < rejected, levels, levels[min(rejected, len(order) - 1)])
    adjusted, own = np.empty(len(order)), np.empty(len(order))
    adjusted[order], own[order] = sorted_up, levels
    return Corrected(adjusted, own)


def _ranges(p_values: Array, rows: int) -> Array:
    """[rows - 1, m]: R[n](p) for n = 2 to `rows`."""
    return np.stack([range_chance(p_values, count) for count in range(2, rows + 1)])


def _most(ranged: Array, rows: int, pairs: int) -> Array:
    """The largest chance over the groups that may be equal while at most so many pairs are."""
    counts, equal = _groups(rows)
    return (counts[equal <= pairs] @ ranged).max(axis=0)


@lru_cache
def _levels(rows: int, level: float) -> tuple[float, ...]:
    """The level of each step: where the largest chance over the groups still possible is that of the family."""
    pairs = rows * (rows - 1) // 2

    def solve(left: int) -> float:
        def above(value: float) -> float:
            return float(_most(_ranges(np.array([value]), rows), rows, left)[0]) - level

        return float(brentq(above, level / pairs, level, xtol=1e-14)) if left > 1 else level

    return tuple(solve(pairs - step) for step in range(pairs))


@lru_cache
def _groups(rows: int) -> tuple[Array, NDArray[np.int64]]:
    """Every way in which rows may fall into groups of equal ones: how many groups of each size, and how many equal pairs."""
    ways = [[parts.count(size) for size in range(2, rows + 1)] for parts in _partitions(rows, rows)]
    ways = [way for way in ways if any(way)]
    counts = np.array(ways, dtype=np.float64)
    sizes = np.arange(2, rows + 1)
    return counts, (counts @ (sizes * (sizes - 1) / 2)).round().astype(np.int64)


def _partitions(total: int, largest: int) -> Iterator[list[int]]:
    if total == 0:
        yield []
    for first in range(min(total, largest), 0, -1):
        for rest in _partitions(total - first, first):
            yield [first, *rest]
