"""How often the tests and intervals are wrong, and how often they find what is there, by seeded simulation.

`pytest tests/test_analysis_simulation.py -q -s` prints every figure that `docs/statistics.md` quotes.
"""

from itertools import pairwise

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from triptych.analysis import statistics as s
from triptych.contracts import Dataset
from triptych.datasets import newswire  # noqa: F401  (registers the data set)
from triptych.metrics.rouge import RougeScore
from triptych.registry import build, find
from triptych.sentences import split_sentences

SIMULATIONS = 5_000
LEVEL = 0.05
Array = s.Array


def rejected(differences: Array, generator: np.random.Generator, permutations: int = 1_999) -> float:
    """Share of columns that the sign-flip test rejects; every 500 have signs of their own."""
    blocks = np.array_split(differences, max(1, differences.shape[1] // 500), axis=1)
    return float(
        np.mean(np.concatenate([s.sign_flip_p_values(block, generator, permutations) for block in blocks]) < LEVEL)
    )


def row_noise(shape: tuple[int, ...], kind: str, generator: np.random.Generator) -> Array:
    """What sets a row's score of a document apart from another row's: mean 0, SD 8 R-1 points."""
    if kind == "normal":
        return generator.normal(0, 8, shape)
    if kind == "skewed":  # few summaries far better than the rest, as copied ones are
        return 8 * (generator.exponential(1, shape) - 1)
    scale = np.where(generator.random(shape) < 0.7, 0.0, 8 / np.sqrt(0.3))  # two rows tie on half of the documents
    return scale * generator.normal(0, 1, shape)


@pytest.mark.parametrize("documents", [25, 200])
@pytest.mark.parametrize("kind", ["normal", "skewed", "ties"])
def test_false_positives(kind: str, documents: int):
    """Where two rows are alike, at most 6% of 5,000 simulated comparisons reject at the 5% level, and not far fewer."""
    generator = np.random.default_rng([documents, *kind.encode()])
    differences = row_noise((documents, SIMULATIONS), kind, generator) - row_noise(
        (documents, SIMULATIONS), kind, generator
    )
    rate = rejected(differences, generator)
    print(f"\nfalse positives, {kind:>6}, {documents:>3} documents: {rate:.2%}")
    assert 0.04 <= rate <= 0.06


def test_family_wise_false_positives():
    """Where six rows are alike, at most 6% of 600 simulated tables hold any rejection after Holm's correction."""
    generator = np.random.default_rng(6)
    tables, rows, documents, permutations = 600, 6, 60, 15 * 4 * 100
    first, second = np.triu_indices(rows, 1)
    wrong = {False: 0, True: 0}
    for _ in range(tables // 50):
        shared = row_noise((documents, 50, rows, 1), "normal", generator)
        own = row_noise((documents, 50, rows, 4), "normal", generator)
        scores = 0.9 * shared + np.sqrt(1 - 0.81) * own  # the four ROUGE scores agree to 81% of their variance
        differences = scores[:, :, first] - scores[:, :, second]
        p_values = s.sign_flip_p_values(differences.reshape(documents, -1), generator, permutations).reshape(50, -1)
        wrong[False] += int((p_values.min(axis=1) < LEVEL).sum())
        wrong[True] += sum(bool((s.holm(p) < LEVEL).any()) for p in p_values)
    uncorrected, corrected = wrong[False] / tables, wrong[True] / tables
    print(f"\ntables of 6 equal rows with a rejection: {uncorrected:.1%} uncorrected, {corrected:.1%} Holm")
    assert corrected <= 0.06
    assert uncorrected > 0.3


def seed_rates(
    seeds: int, spread: float, generator: np.random.Generator, simulations: int = 600, documents: int = 400
) -> dict[str, float]:
    """How often two rows that are alike on average over training seeds are called different.

    Score of a document: common to all + of the row (SD 4) + of the seed (SD `spread`) + of both (SD 6).
    """
    scores = (
        generator.normal(0, 9, (documents, simulations, 1, 1))
        + generator.normal(0, 4, (documents, simulations, 2, 1))
        + generator.normal(0, spread, (1, simulations, 2, seeds))
        + generator.normal(0, 6, (documents, simulations, 2, seeds))
    )
    means = scores.mean(axis=3)
    p_values = s.sign_flip_p_values(means[:, :, 0] - means[:, :, 1], generator, 999)
    replicates = s.resample_documents(scores.reshape(documents, -1), 999, generator).reshape(999, simulations, 2, seeds)
    rejections, excludes = p_values < LEVEL, np.empty(simulations, bool)
    for index in range(simulations):
        a, b = (s.resample_seeds(replicates[:, index, row], generator) for row in (0, 1))
        low, high = s.percentile_interval(a - b)
        excludes[index] = not low <= 0 <= high
    return {"test": rejections.mean(), "interval": excludes.mean(), "both": (rejections & excludes).mean()}


def test_seeds_are_counted_by_the_interval():
    """Where training seeds differ, the interval is wrong far less often than the test of documents alone.

    This is why a row is called better only if both agree.
    """
    generator = np.random.default_rng(8)
    print("\nseeds  seed SD   test  interval  both")
    rates = {}
    for seeds, spread in ((1, 0.0), (1, 1.0), (2, 0.0), (2, 1.0), (3, 0.0), (3, 0.3), (3, 1.0), (5, 1.0)):
        rates[seeds, spread] = rate = seed_rates(seeds, spread, generator)
        print(f"{seeds:>5}  {spread:>7.1f}  {rate['test']:5.1%}  {rate['interval']:8.1%}  {rate['both']:5.1%}")
    assert all(rates[seeds, 0.0]["both"] <= 0.06 for seeds in (1, 2, 3)) and rates[3, 0.3]["both"] <= 0.06
    assert rates[2, 1.0]["both"] <= 0.15 and rates[3, 1.0]["both"] <= 0.09 and rates[5, 1.0]["both"] <= 0.09
    assert rates[3, 1.0]["test"] > 0.25
    assert rates[1, 1.0]["both"] > 0.25  # with one seed nothing can count the seeds


@pytest.fixture(scope="module")
def lead_scores() -> tuple[Array, Array]:
    """ROUGE-1 of the first three sentences and of the first alone, on 200 embedded articles."""
    metric = RougeScore()
    three, one = [], []
    for example in build(find(Dataset, "newswire"), {"test_documents": 200}, "").examples("test"):
        sentences = split_sentences(example.document)
        for scores, count in ((three, 3), (one, 1)):
            scores.append(metric.score("\n".join(sentences[:count]), example.summary, example.document)["rouge1"])
    return np.array(three), np.array(one)


@pytest.mark.parametrize("spread", [0.0, 8.0])
def test_power(lead_scores: tuple[Array, Array], spread: float):
    """With k% of a row's Lead-3 summaries replaced by Lead-1 the test finds it the more often the greater k is.

    `spread` is the SD in R-1 points by which the two rows differ on a document beside that; with 0 they are the same
    row and nothing is found at k = 0. With d the difference of a document, the normal approximation of the power is
    Phi(e - z) + Phi(-e - z), e = sqrt(N) |mean d| / sd d, z = z[0.975].
    """
    three, one = lead_scores
    gap = three - one
    generator = np.random.default_rng(9)
    documents, simulations = 200, 2_000
    print(f"\nLead-3 {three.mean():.2f}, Lead-1 {one.mean():.2f} ROUGE-1; {documents} documents, SD {spread}")
    print("    k   power  approximation")
    powers = []
    for share in (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.4):
        drawn = gap[generator.integers(len(gap), size=(documents, simulations))]
        replaced = generator.random((documents, simulations)) < share
        noise = generator.normal(0, spread, (documents, simulations))
        powers.append(rejected(np.where(replaced, drawn, 0.0) + noise, generator, 999))
        mean, square = share * gap.mean(), share * np.mean(gap**2) + spread**2
        effect = np.sqrt(documents) * abs(mean) / np.sqrt(square - mean**2) if square else 0.0
        expected = float(ndtr(effect - ndtri(0.975)) + ndtr(-effect - ndtri(0.975)))
        print(f"{share:5.0%}  {powers[-1]:6.1%}  {expected:6.1%}")
        if spread:  # without it, few differences are not 0: no normal
            assert abs(powers[-1] - expected) < 0.03
    assert powers[0] <= (0.06 if spread else 0) and powers[-1] > 0.99
    assert all(later >= earlier for earlier, later in pairwise(powers))
