"""Intervals and tests on per-document scores, vectorised, seeded, in bounded memory.

Shapes: B resamples, N documents, S seeds, C columns (any set of scores of the same documents).
`docs/statistics.md` says what each figure means and how it was checked.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]

RESAMPLES = 10_000
PERMUTATIONS = 10_000
CONFIDENCE = 0.95
CELLS = 1 << 22  # numbers of a temporary matrix: 32 MB, whatever the number of documents


@dataclass(frozen=True)
class Interval:
    """A mean with its interval; low and high are None where there is nothing to estimate a spread from."""

    mean: float
    low: float | None
    high: float | None


def resample_documents(columns: Array, resamples: int, generator: Generator, cells: int = CELLS) -> Array:
    """Means of every column over `resamples` samples of N documents drawn with replacement.

        m*[b, c] = sum_n k[b, n] columns[n, c] / N,   k[b] ~ Multinomial(N, 1/N)

    All columns share the samples, so differences between columns are paired by document (Koehn 2004). The seeds of a row
    are columns too: documents and seeds are crossed factors, since every seed was tested on the same documents (Owen 2007,
    the pigeonhole bootstrap; for nested ones see Davison and Hinkley 1997, section 3.8). `resample_seeds` draws the other.
    Efron and Tibshirani 1993, chapter 6.

    Args:
        columns: [N, C] scores.
        resamples: B.
        generator: the source of chance; the draws do not depend on `cells`.
        cells: numbers a temporary matrix may hold.

    Returns:
        [B, C].
    """
    documents = len(columns)
    means = np.empty((resamples, columns.shape[1]))
    for start, stop in _chunks(resamples, documents, cells):
        drawn = generator.integers(documents, size=(stop - start, documents))
        drawn += documents * np.arange(stop - start)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=(stop - start) * documents).reshape(stop - start, documents)
        means[start:stop] = counts.astype(np.float64) @ columns / documents
    return means


def resample_seeds(means: Array, generator: Generator) -> Array:
    """Mean over a sample of S seeds drawn with replacement, its spread corrected for small S.

        r[b] = m[b, .] + sqrt(S / (S - 1)) (sum_s k[b, s] m[b, s] / S - m[b, .]),   k[b] ~ Multinomial(S, 1/S)

    where m[b, .] is the mean over the seeds. Plain resampling of S values has (S - 1)/S of the variance it should
    have: a third is missing at three seeds. The factor restores it (Rao and Wu 1988, the rescaling bootstrap).

    Args:
        means: [B, S], for each sample of documents the mean of each seed. One seed: returned as it is.
        generator: the source of chance.

    Returns:
        [B].
    """
    resamples, seeds = means.shape
    centre = means.mean(axis=1)
    if seeds == 1:
        return centre
    counts = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    return centre + np.sqrt(seeds / (seeds - 1)) * ((counts * means).sum(axis=1) / seeds - centre)


def percentile_interval(replicates: Array, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The quantiles (1 - confidence)/2 and (1 + confidence)/2 of bootstrap replicates.

    Efron and Tibshirani 1993, chapter 13.
    """
    low, high = np.quantile(replicates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def t_interval(values: Array, confidence: float = CONFIDENCE) -> Interval:
    """Mean of independent values, one a seed, with Student's interval.

        mean +- t[S - 1, (1 + confidence)/2] s / sqrt(S),   s^2 = sum (x - mean)^2 / (S - 1)

    Returns:
        no interval for a single value.
    """
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return Interval(mean, None, None)
    half = float(stdtrit(count - 1, (1 + confidence) / 2) * values.std(ddof=1) / np.sqrt(count))
    return Interval(mean, mean - half, mean + half)


def sign_flip_p_values(
    differences: Array, generator: Generator, permutations: int = PERMUTATIONS, cells: int = CELLS
) -> Array:
    """Two-sided p-values of the paired permutation test, for each column of differences.

    Under the null hypothesis the two rows are exchangeable on every document, so each difference d[n] could as well
    have had the other sign. With T = sum_n d[n] and T* the same sum after random signs:

        all 2^N signs, where these are at most `permutations`:  p = #{|T*| >= |T|} / 2^N
        else B random signs:                                    p = (1 + #{|T*| >= |T|}) / (B + 1)

    The 1 counts the observed signs, so that p is valid and never 0 (Phipson and Smyth 2010). Dror et al. 2018 discuss
    permutation tests in language processing.

    Args:
        differences: [N, C], score of one row minus score of the other, averaged over seeds.
        generator: the source of chance; all columns share the signs, and these do not depend on `cells`.
        permutations: B.
        cells: numbers a temporary matrix may hold.

    Returns:
        [C].
    """
    documents = len(differences)
    observed = np.abs(differences.sum(axis=0))
    threshold = observed - 1e-12 * np.abs(differences).sum(axis=0)  # sums of the same terms, rounded in another order
    exact = documents < 63 and 2**documents <= permutations
    count = 2**documents if exact else permutations
    reached = np.zeros(differences.shape[1])
    for start, stop in _chunks(count, documents, cells):
        if exact:
            bits = (np.arange(start, stop)[:, None] >> np.arange(documents) & 1).astype(np.uint8)
        else:
            words = generator.integers(2**64, size=(stop - start, -(-documents // 64)), dtype=np.uint64)
            bits = np.unpackbits(words.view(np.uint8), axis=1, count=documents)
        reached += (np.abs((1.0 - 2.0 * bits) @ differences) >= threshold).sum(axis=0)
    return reached / count if exact else (reached + 1) / (count + 1)


def holm(p_values: Array) -> Array:
    """Adjusted p-values of Holm's step-down procedure: the family-wise error rate is kept under any dependence.

    With p sorted, p(1) <= ... <= p(m):  adjusted(i) = max over j <= i of min(1, (m - j + 1) p(j)).  Holm 1979.
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * p_values[order]))
    return adjusted


def _chunks(rows: int, columns: int, cells: int) -> list[tuple[int, int]]:
    """Ranges of rows such that rows times columns stays within `cells`, at least one row each."""
    step = max(1, cells // columns)
    return [(start, min(start + step, rows)) for start in range(0, rows, step)]
