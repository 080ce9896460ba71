"""Variance components of a difference between two methods: documents, training seeds, and seed-by-document noise."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from scipy.special import chdtri

from triptych.analysis.inference import Array, Seeds
from triptych.analysis.power import StudyDesign

RANGE = 0.9  # confidence level of the range given for a seed SD

# Assumptions without a pilot, in points of ROUGE F1. On CNN/DailyMail (SmolLM2-135M, docs/results), the per-document
# differences between two trained methods with one seed have an SD of 8.8 to 12.2, 11.7 in the middle, and those between
# two seeds of the last layers 10.3 to 10.9. An SD of 5 for the methods and 7.5 for each seed gives 11.7 and 10.6.
ASSUMED_DOCUMENT_SD = 5.0
ASSUMED_NOISE_SD = 7.5
ASSUMED_SEED_SD = 0.3  # between the 0.2 and 0.5 that docs/statistics.md simulates


@dataclass(frozen=True)
class Chance:
    """Variance components of the difference between two methods on one measure, for a single document or seed.

    Attributes:
        documents: variance of a document's difference if training were deterministic.
        noise: seed-by-document variance of each method.
        seeds: variance of a seed's mean over all documents, for each method.
    """

    documents: float
    noise: tuple[float, float]
    seeds: tuple[float, float]

    def design(self, documents: int, seeds: int, alpha: float) -> StudyDesign:
        """Return the study design for these numbers of documents and seeds.

        Args:
            documents: number of test documents.
            seeds: number for each method; 1 means the difference of two trained models, in which seeds play no part.
            alpha: two-sided level of the test, after correction.
        """
        of_documents = (self.documents + sum(self.noise) / seeds) / documents
        if seeds == 1:
            return StudyDesign(of_documents, documents, (), alpha)
        parts = []
        for noise, seed in zip(self.noise, self.seeds, strict=True):
            shared = noise / (documents * seeds)
            parts.append(Seeds(seed / seeds + shared, shared, seeds - 1))
        return StudyDesign(of_documents, documents, parts, alpha)

    def share_of_seeds(self, documents: int, seeds: int) -> float:
        """The seeds' share of the variance of the mean difference, in 0-1."""
        of_documents = (self.documents + sum(self.noise) / seeds) / documents
        of_seeds = sum(self.seeds) / seeds
        return of_seeds / (of_documents + of_seeds) if of_seeds else 0.0


ASSUMED = Chance(ASSUMED_DOCUMENT_SD**2, (ASSUMED_NOISE_SD**2,) * 2, (ASSUMED_SEED_SD**2,) * 2)


@dataclass(frozen=True)
class SeedVariance:
    """The variance between the means of seeds, pooled over methods.

    Attributes:
        variance: of a seed's mean over all documents.
        low: lower bound of its likely range, see `RANGE`.
        high: upper bound.
        df: degrees of freedom, the sum of S - 1 over methods.
    """

    variance: float
    low: float
    high: float
    df: int


def noise_of(values: Array) -> float:
    """Seed-by-document variance of a method's scores [S, N]; zero with a single seed, which cannot show it."""
    seeds, documents = values.shape
    if seeds < 2 or documents < 2:
        return 0.0
    left = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    return float((left**2).sum()) / ((seeds - 1) * (documents - 1))


def seed_variance(rows: Sequence[Array]) -> SeedVariance | None:
    """The variance of a seed's mean over all documents, pooled over methods [S, N]; None if no method has two seeds.

    It is the variance of the seed means minus the noise that averaging over the documents leaves in them. The range is
    the chi-square interval of the variance before this subtraction, less the same noise.
    """
    several = [values for values in rows if len(values) > 1]
    df = sum(len(values) - 1 for values in several)
    if not df:
        return None
    of_means = sum((len(values) - 1) * float(values.mean(axis=1).var(ddof=1)) for values in several) / df
    of_noise = sum((len(values) - 1) * noise_of(values) / values.shape[1] for values in several) / df
    tail = (1 - RANGE) / 2
    low, high = (df * of_means / float(chdtri(df, upper)) for upper in (tail, 1 - tail))
    return SeedVariance(max(0.0, of_means - of_noise), max(0.0, low - of_noise), max(0.0, high - of_noise), df)


def pairs_of(rows: Mapping[str, Array], seeds: float) -> dict[tuple[str, str], Chance]:
    """Variance components of the difference of every pair of methods scored on the same documents.

    Args:
        rows: scores [S, N] by label.
        seeds: variance of a seed's mean, the same for every method.

    The noise of a method with one seed cannot be estimated. All of it then counts as variance of documents, which more
    seeds do not reduce, so that power is not overstated.
    """
    noise = {label: noise_of(values) for label, values in rows.items()}
    found = {}
    for a, b in combinations(rows, 2):
        total = float((rows[a].mean(axis=0) - rows[b].mean(axis=0)).var(ddof=1))
        left = total - noise[a] / len(rows[a]) - noise[b] / len(rows[b])
        found[a, b] = Chance(max(0.0, left), (noise[a], noise[b]), (seeds, seeds))
    return found


def widest(pairs: Iterable[tuple[tuple[str, str], Chance]], seeds: int) -> tuple[tuple[str, str], Chance]:
    """The pair whose documents vary most with this many seeds: what is enough for it is enough for all."""
    return max(pairs, key=lambda pair: pair[1].documents + sum(pair[1].noise) / seeds)


def root(variance: float) -> float:
    """The standard deviation for a variance."""
    return math.sqrt(max(0.0, variance))
