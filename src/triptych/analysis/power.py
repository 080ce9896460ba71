"""The differences that a design detects, and how often, computed from the decision rule of `inference`."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from triptych.analysis.inference import Array, Sample, Seeds, Total

POWER = 0.8
_DRAWS = 2_000


class StudyDesign:
    """The variance of a difference between two methods, and the width of its interval.

    Args:
        documents: variance of the mean difference due to documents.
        count: N.
        seeds: the seeds' part of each method with two seeds or more; `variance` is the expected s^2 / S.
        alpha: two-sided level of the test.
    """

    def __init__(self, documents: float, count: int, seeds: Sequence[Seeds], alpha: float):
        generator = np.random.default_rng(0)
        drawn = [part.variance * generator.chisquare(part.df, _DRAWS) / part.df for part in seeds]
        total = Total.of(documents, count, drawn, seeds)
        self._widths: Array = np.atleast_1d(total.width(alpha))
        self._error = math.sqrt(documents + sum(max(0.0, part.variance - part.shared) for part in seeds))

    def power(self, difference: float) -> float:
        """The probability of detecting a true difference."""
        if not self._error:
            return float(difference != 0)
        above = ndtr((difference - self._widths) / self._error)
        below = ndtr((-difference - self._widths) / self._error)
        return float((above + below).mean())

    def detectable(self, power: float = POWER) -> float:
        """The smallest difference detected with this power."""
        if not self._error:
            return 0.0
        most = float(self._widths.max()) + 10 * self._error
        return float(brentq(lambda difference: self.power(difference) - power, 0.0, most, xtol=1e-6 * most))


def detectable(one: Sample, alpha: float, power: float = POWER) -> float | None:
    """The difference that a design like this one detects with this power, from the variances of its scores.

    Args:
        one: the difference of two methods.
        alpha: two-sided level of the test, after correction.
        power: probability of detecting it.

    Returns:
        None if the documents' spread cannot be estimated. If nearly all documents tie, at least the interval's larger
        half-width.
    """
    least = max(one.widths(alpha)) if one.concentrated else 0.0
    if not one.document_variance:
        return least or None
    return max(least, StudyDesign(one.document_variance, len(one.profile), one.seeds, alpha).detectable(power))
