"""Intervals and p-values for means with two sources of variation: documents and training seeds.

One rule gives both: the 1 - alpha confidence interval excludes a value exactly when its p-value is below alpha.
`docs/statistics.md` explains what each figure means, how often it is wrong, and where the rules come from.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import stdtrit

Array = NDArray[np.float64]

LEAST_P = 1e-15  # smaller p-values are rounding error
MIN_RARE = 5  # documents that differ from the most common value; with fewer, the spread is unreliable
_DRAWS = 20_000  # for Gaffke's interval, which gives no p-value below 2 / _DRAWS


@dataclass(frozen=True)
class Seeds:
    """The variance that the training seeds of one method add to its mean.

    Attributes:
        variance: variance of the mean, from the means of the seeds: s^2 / S, with S - 1 degrees of freedom.
        shared: the part of `variance` due to seed-by-document interaction and noise, which the documents' variance
            includes as well.
        df: S - 1.
    """

    variance: float
    shared: float
    df: int


@dataclass(frozen=True)
class Total:
    """The variance of a mean over documents and seeds, and the half-width of its interval.

    The variances in `seeds` have the same shape: [] for an observation, [draws] for a simulation.

        E = max(0, sum_r (seeds[r] - (1 - 1 / f[r]) shared[r]))        V = documents + E
        half-width^2 = t[N - 1]^2 documents + t[f]^2 E

    The seeds' variance and the documents' variance both include the seed-by-document noise. Subtracting all of it makes
    V unbiased but, with two or three seeds, too small too often, so a share of 1 / f[r] stays, where f[r] = S - 1 for
    method r. Each part uses the t quantile of its own degrees of freedom: a single quantile for the sum (Satterthwaite
    1946) trusts an estimate of the seeds' variance that is small by chance. Two methods with the same number of seeds
    share one E with Welch's degrees of freedom. With unequal numbers, these would be those of the method with many
    seeds whenever the few seeds of the other happen to agree, so each method has its own E.
    `docs/statistics.md` gives the error rates.

    Attributes:
        documents: variance of the mean due to documents.
        count: N.
        seeds: E and its degrees of freedom for each part that training seeds add.
    """

    documents: float
    count: int
    seeds: tuple[tuple[Array, Array], ...]

    @classmethod
    def of(cls, documents: float, count: int, variances: Sequence[Array], parts: Sequence[Seeds]) -> "Total":
        """Compute it from each method's seed variance, observed or drawn, and the other properties of its seeds."""
        kept = [variance - part.shared * (1 - 1 / part.df) for variance, part in zip(variances, parts, strict=True)]
        dfs = [part.df for part in parts]
        if len(set(dfs)) == 1:
            seeds = [(np.maximum(0.0, sum(kept, np.zeros(()))), welch_df(variances, dfs))]
        else:
            seeds = [(np.maximum(0.0, one), np.array(float(df))) for one, df in zip(kept, dfs, strict=True)]
        return cls(documents, count, tuple(seeds))

    @property
    def variance(self) -> Array:
        """V."""
        return self.documents + sum((excess for excess, _ in self.seeds), np.zeros(()))

    def seeds_width(self, alpha: float) -> Array:
        """The seeds' part of the half-width of a 1 - alpha interval."""
        squares = [stdtrit(df, 1 - alpha / 2) ** 2 * excess for excess, df in self.seeds]
        return np.sqrt(sum(squares, np.zeros(())))

    def width(self, alpha: float) -> Array:
        """The half-width of a 1 - alpha interval."""
        quantile = stdtrit(max(1, self.count - 1), 1 - alpha / 2)
        return np.hypot(quantile * math.sqrt(self.documents), self.seeds_width(alpha))


@dataclass(frozen=True)
class Sample:
    """A mean and its spread: the mean of a method, or the mean difference of two methods.

    Attributes:
        mean: over seeds and documents.
        profile: [N], the value of each document as a mean over seeds; its variance is the documents' part.
        seeds: the seeds' part, one entry for each method with two seeds or more.
        bounds: the lowest and highest value a document can have; None if unknown.
    """

    mean: float
    profile: Array
    seeds: tuple[Seeds, ...]
    bounds: tuple[float, float] | None

    @cached_property
    def document_variance(self) -> float:
        """Variance of the mean due to documents: s^2 / N. Zero for a single document."""
        count = len(self.profile)
        return float(self.profile.var(ddof=1)) / count if count > 1 else 0.0

    @property
    def estimable(self) -> bool:
        """Whether the spread of the mean can be estimated: from documents, from seeds, or from the bounds."""
        return self._concentrated is not None or (len(self.profile) > 1 and float(self._total.variance) > 0)

    @property
    def concentrated(self) -> bool:
        """Whether nearly all documents have one value, so that the interval is that of `concentrated_widths`."""
        return self._concentrated is not None

    def widths(self, alpha: float) -> tuple[float, float]:
        """How far the 1 - alpha interval extends below and above the mean, if it is `estimable`.

        The half-width is that of `Total`, adjusted for the skewness of the documents (`skewed_quantile`). If nearly all
        documents have one value, the documents' part is that of `concentrated_widths`.
        """
        total = self._total
        if self._concentrated is not None:
            seeds = float(total.seeds_width(alpha))
            below, above = self._concentrated(alpha)
            return math.hypot(below, seeds), math.hypot(above, seeds)
        error = float(np.sqrt(total.variance))
        quantile = float(total.width(alpha)) / error
        return error * skewed_quantile(quantile, self._skewness), -error * skewed_quantile(-quantile, self._skewness)

    def interval(self, alpha: float = 0.05) -> tuple[float, float] | tuple[None, None]:
        """The 1 - alpha interval of the mean, within the bounds; (None, None) if the spread is not `estimable`."""
        if not self.estimable:
            return None, None
        below, above = self.widths(alpha)
        least, most = self.bounds or (-math.inf, math.inf)
        return max(least, self.mean - below), min(most, self.mean + above)

    def p_value(self, value: float = 0.0) -> float:
        """Two-sided p-value: the smallest alpha at which the 1 - alpha interval excludes `value`.

        If the spread is not `estimable`, all documents agree, and this is the probability that all signs are equal.
        """
        distance = abs(self.mean - value)
        if distance == 0:
            return 1.0
        if not self.estimable:
            return max(LEAST_P, 2.0 ** (1 - len(self.profile)))
        side = 0 if self.mean > value else 1

        def beyond(log_alpha: float) -> float:
            return self.widths(math.exp(log_alpha))[side] - distance

        least_p = LEAST_P if self._concentrated is None else 2 / _DRAWS
        lowest, highest = math.log(least_p), math.log(1 - 1e-12)
        if beyond(lowest) <= 0:
            return least_p
        if beyond(highest) >= 0:
            return 1.0
        return math.exp(float(brentq(beyond, lowest, highest, xtol=1e-10)))

    def p_above(self, value: float) -> float:
        """One-sided p-value against the hypothesis that the mean is `value` or less."""
        p = self.p_value(value) / 2
        return p if self.mean > value else 1 - p

    @cached_property
    def _total(self) -> Total:
        variances = [np.array(part.variance) for part in self.seeds]
        return Total.of(self.document_variance, len(self.profile), variances, self.seeds)

    @cached_property
    def _skewness(self) -> float:
        """Skewness of the mean: third central moment over V^(3/2). Seeds add to V and are assumed symmetric."""
        centered = self.profile - self.profile.mean()
        count = len(centered)
        ratio = count / (count - 1)  # cancels N - 1 in V: without seeds, the skewness is m3 / m2^1.5 / sqrt(N)
        return float((centered**3).mean()) * ratio**1.5 / count**2 / float(self._total.variance) ** 1.5

    @cached_property
    def _concentrated(self) -> Callable[[float], tuple[float, float]] | None:
        return concentrated_widths(self.profile, self.bounds)


def welch_df(variances: Sequence[Array], dfs: Sequence[int]) -> Array:
    """Degrees of freedom of a sum of variances, V^2 / sum_i (V_i^2 / f_i), Welch 1947.

    Infinite for an empty sum; the sum of the degrees of freedom if all variances are 0.
    """
    total = sum(variances, np.array(0.0))
    weights = sum((variance**2 / df for variance, df in zip(variances, dfs, strict=True)), np.array(0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(weights > 0, total**2 / weights, np.inf if not dfs else float(sum(dfs)))


def skewed_quantile(quantile: float, skewness: float) -> float:
    """Convert Student's quantile to that of a studentized mean of skewed values: Hall's (1992) transformation inverted.

        g(T) = T + A T^2 / 3 + A^2 T^3 / 27 + A / 6
        T = 3 ((1 + A (g - A / 6))^(1/3) - 1) / A

    where A is the skewness of the mean. The resulting interval is among the best for a mean of skewed values with many
    zeros (Zhou and Dinh 2005).
    """
    if abs(skewness) < 1e-8:
        return quantile
    return 3 / skewness * (float(np.cbrt(1 + skewness * (quantile - skewness / 6))) - 1)


def sample_of(values: Array, bounds: tuple[float, float] | None = None) -> Sample:
    """A method's mean, with documents crossed with seeds, since every seed was tested on the same documents.

    Let m[s] be the mean of seed s, y[., n] the mean of document n, and MS the mean square of the residuals after both,
    with (S - 1)(N - 1) degrees of freedom:

        variance of the seeds' part   sum_s (m[s] - m)^2 / (S - 1) / S
        shared                        MS / (N S)

    Args:
        values: [S, N], one row of N documents per seed; S = 1 if the method is untrained or was trained once.
        bounds: the lowest and highest value a document can have.
    """
    seeds, documents = values.shape
    profile = values.mean(axis=0)
    mean = float(profile.mean())
    if seeds == 1:
        return Sample(mean, profile, (), bounds)
    means = values.mean(axis=1)
    shared = 0.0
    if documents > 1:
        residual = values - means[:, None] - (profile - mean)[None, :]
        shared = float((residual**2).sum()) / ((seeds - 1) * (documents - 1)) / (documents * seeds)
    return Sample(mean, profile, (Seeds(float(means.var(ddof=1)) / seeds, shared, seeds - 1),), bounds)


def difference(a: Sample, b: Sample) -> Sample:
    """The mean difference a - b, paired by document: both have the same documents in the same order.

    The seeds of the two methods are independent.
    """
    bounds = None if a.bounds is None or b.bounds is None else (a.bounds[0] - b.bounds[1], a.bounds[1] - b.bounds[0])
    return Sample(a.mean - b.mean, a.profile - b.profile, (*a.seeds, *b.seeds), bounds)


def concentrated_widths(
    profile: Array, bounds: tuple[float, float] | None
) -> Callable[[float], tuple[float, float]] | None:
    """Half-widths of an interval for values that are nearly all the same, as a function of alpha.

    If more than half of the documents have one value (such as a ROUGE-2 of zero) and fewer than `MIN_RARE` another, the
    spread says almost nothing about the mean: it is zero if all agree. The interval is then Gaffke's (2005), which
    Learned-Miller and Thomas (2019) conjecture to hold for any distribution within the bounds: with weights from a flat
    Dirichlet distribution on the N values and one of the bounds, it extends from the alpha/2 quantile of the weighted
    mean with the lower bound to the 1 - alpha/2 quantile with the upper bound. For N zeros, this is Clopper and
    Pearson's bound on the nonzero share, times the highest value.

    Args:
        profile: [N] values.
        bounds: the lowest and highest possible value; None if unknown.

    Returns:
        None if the values are not that concentrated, or if there is only one document or no bound.
    """
    count, mean = len(profile), float(profile.mean())
    if count < 2 or bounds is None:
        return None
    common = np.partition(profile, count // 2)[count // 2]  # a value that more than half have is the median
    rare = profile[profile != common]
    if len(rare) >= MIN_RARE or 2 * len(rare) >= count:
        return None
    generator = np.random.default_rng(0)
    weights = generator.gamma([count - len(rare), *[1.0] * (len(rare) + 1)], size=(_DRAWS, len(rare) + 2))
    shared = weights[:, 0] * common + weights[:, 2:] @ rare
    least, most = (np.sort((shared + weights[:, 1] * bound) / weights.sum(axis=1)) for bound in bounds)

    def widths(alpha: float) -> tuple[float, float]:
        low, high = float(np.quantile(least, alpha / 2)), float(np.quantile(most, 1 - alpha / 2))
        return max(0.0, mean - low), max(0.0, high - mean)

    return widths


def ratio_values(numerators: Array, denominators: Array) -> Array:
    """Document values whose mean is a ratio of sums and whose spread is that of the ratio (the delta method).

        L = sum_n a[n] / sum_n b[n];    value[n] = L + (a[n] - L b[n]) / mean b           Cochran 1977, section 6.3

    Args:
        numerators: [S, N], for example the nats of each document.
        denominators: [S, N], for example the target tokens of each document.
    """
    ratio = numerators.sum(axis=1, keepdims=True) / denominators.sum(axis=1, keepdims=True)
    return ratio + (numerators - ratio * denominators) / denominators.mean(axis=1, keepdims=True)


def t_interval(values: Array, alpha: float = 0.05) -> tuple[float, float] | tuple[None, None]:
    """Student's interval for the mean of independent values, one per seed; (None, None) for fewer than two."""
    count = len(values)
    if count < 2:
        return None, None
    mean, half = float(values.mean()), float(stdtrit(count - 1, 1 - alpha / 2) * values.std(ddof=1) / math.sqrt(count))
    return mean - half, mean + half
