"""Intervals and tests against scipy, sacreBLEU, enumeration and worked examples."""

from itertools import product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.analysis import statistics as s


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_documents_only_interval_is_scipys():
    """With one seed the interval is scipy's percentile bootstrap of the mean, up to Monte Carlo error."""
    scores = rng(1).gamma(4.0, 5.0, size=200)
    ours = bootstrap_mean(scores[None], rng(2), 20_000)
    theirs = scipy.stats.bootstrap((scores,), np.mean, n_resamples=20_000, batch=1000, method="percentile", rng=rng(3))
    interval = theirs.confidence_interval
    assert ours.mean == pytest.approx(scores.mean(), abs=1e-12)
    width = interval.high - interval.low
    assert abs(ours.low - interval.low) < 0.03 * width and abs(ours.high - interval.high) < 0.03 * width


def test_difference_interval_is_scipys_paired_one():
    """Replicates that share their documents differ as scipy's paired bootstrap does."""
    common = rng(1).normal(30, 10, size=150)
    a, b = common + rng(2).normal(1, 3, size=150), common + rng(3).normal(0, 3, size=150)
    means = s.resample_documents(np.stack([a, b], axis=1), 20_000, rng(4))
    low, high = s.percentile_interval(means[:, 0] - means[:, 1])
    theirs = scipy.stats.bootstrap(
        (a, b),
        lambda x, y, axis: x.mean(axis) - y.mean(axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        batch=1000,
        method="percentile",
        rng=rng(5),
    ).confidence_interval
    assert low == pytest.approx(theirs.low, abs=0.03) and high == pytest.approx(theirs.high, abs=0.03)
    assert high - low < 0.5 * 4 * 10 * np.sqrt(2 / 150)  # unpaired, it would be far wider


def test_resampled_document_means_are_those_of_drawn_documents():
    """Every replicate is the mean of N documents drawn with replacement, the same ones for all columns."""
    columns = np.array([[1.0, 10.0], [100.0, 20.0], [10_000.0, 30.0]])  # the first column tells which were drawn
    for first, second in s.resample_documents(columns, 50, rng()) * 3:
        counts = [round(first) // place % 100 for place in (1, 100, 10_000)]
        assert sum(counts) == 3
        assert second == pytest.approx(np.dot(counts, columns[:, 1]))


@settings(max_examples=25, deadline=None)
@given(documents=st.integers(1, 130), cells=st.integers(1, 2000))
def test_chunking_changes_nothing(documents: int, cells: int):
    """What the temporary matrices may hold has no influence on replicates or p-values."""
    values = rng(documents).normal(size=(documents, 2))
    np.testing.assert_allclose(
        s.resample_documents(values, 40, rng(1), cells), s.resample_documents(values, 40, rng(1))
    )
    np.testing.assert_array_equal(
        s.sign_flip_p_values(values, rng(1), 40, cells), s.sign_flip_p_values(values, rng(1), 40)
    )


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_seed_spread_is_unbiased(seeds: int):
    """The replicates' variance over seeds is s^2 / S with the unbiased s^2, also for two or three seeds."""
    values = rng(seeds).normal(30, 2, size=seeds)
    replicates = s.resample_seeds(np.tile(values, (200_000, 1)), rng(1))
    assert replicates.var() == pytest.approx(values.var(ddof=1) / seeds, rel=0.03)
    assert replicates.mean() == pytest.approx(values.mean(), abs=0.02)


def test_documents_are_shared_by_the_seeds():
    """Three identical seeds are worth one: their interval is as wide as that of one seed."""
    scores = rng(1).normal(30, 10, size=300)
    one, three = bootstrap_mean(scores[None], rng(2)), bootstrap_mean(np.tile(scores, (3, 1)), rng(2))
    assert three.high - three.low == pytest.approx(one.high - one.low, rel=1e-9)


def test_seeds_widen_the_interval():
    """Seeds that disagree make the interval wider than the documents alone do."""
    scores = rng(1).normal(30, 10, size=300)
    apart = np.stack([scores - 3, scores, scores + 3])
    assert np.ptp(_ends(bootstrap_mean(apart, rng(2)))) > 2 * np.ptp(_ends(bootstrap_mean(scores[None], rng(2))))


def test_ratio_interval_is_scipys():
    """The interval of nats over targets is scipy's paired bootstrap of the ratio of sums."""
    targets = rng(1).integers(20, 90, size=200).astype(float)
    nats = targets * rng(2).normal(3, 0.5, size=200)
    drawn = s.resample_documents(np.stack([nats, targets], axis=1), 20_000, rng(3))
    low, high = s.percentile_interval(drawn[:, 0] / drawn[:, 1])
    theirs = scipy.stats.bootstrap(
        (nats, targets),
        lambda x, y, axis: x.sum(axis) / y.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        batch=1000,
        method="percentile",
        rng=rng(4),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert abs(low - theirs.low) < 0.03 * width and abs(high - theirs.high) < 0.03 * width


def test_t_interval_is_scipys():
    """The interval over seeds is Student's."""
    values = np.array([2.81, 2.79, 2.86])
    theirs = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert _ends(s.t_interval(values)) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_no_interval_from_one_value():
    """One seed has a mean and no interval."""
    assert s.t_interval(np.array([3.0])) == s.Interval(3.0, None, None)


def test_small_sign_flip_test_is_the_enumeration():
    """For few documents the p-value is the share of all sign patterns that reach the observed sum, ties included."""
    differences = np.array([1.0, 2.0, -1.0, 3.0, 0.0, 0.5, 1.0])
    sums = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=7)]
    expected = sum(value >= abs(differences.sum()) for value in sums) / 2**7
    assert s.sign_flip_p_values(differences[:, None], rng())[0] == expected
    theirs = scipy.stats.permutation_test((differences,), np.sum, permutation_type="samples", n_resamples=10_000)
    assert expected == pytest.approx(theirs.pvalue)


def test_large_sign_flip_test_is_scipys():
    """For many documents the p-value is scipy's permutation test's, up to Monte Carlo error."""
    differences = rng(1).normal(0.25, 1, size=(60, 1))
    ours = s.sign_flip_p_values(differences, rng(2), 50_000)[0]
    theirs = scipy.stats.permutation_test(
        (differences[:, 0],),
        lambda x, axis: x.sum(axis),
        vectorized=True,
        permutation_type="samples",
        n_resamples=50_000,
        batch=5000,
        rng=rng(3),
    ).pvalue
    assert 0.01 < theirs < 0.2
    assert abs(ours - theirs) < 5 * np.sqrt(2 * theirs / 50_000)


def test_sign_flip_test_and_bootstrap_are_sacrebleus():
    """sacreBLEU's approximate randomisation and bootstrap give the same p-value and interval on the same scores."""
    significance = pytest.importorskip("sacrebleu.significance", reason="sacrebleu is not installed")
    base = pytest.importorskip("sacrebleu.metrics.base", reason="sacrebleu is not installed")
    common = rng(1).normal(30, 8, size=120)
    systems = {"a": common + rng(2).normal(0.8, 4, size=120), "b": common + rng(3).normal(0, 4, size=120)}

    class MeanOfDocuments:
        """A metric of sacreBLEU's shape, whose corpus score is the mean of given document scores."""

        def _extract_corpus_statistics(self, hypotheses, references):
            return np.array([[float(text)] for text in hypotheses])

        def _compute_score_from_stats(self, stats):
            return base.Score("mean", float(stats[0]) / 120)

        def _aggregate_and_compute(self, stats):
            return self._compute_score_from_stats(np.sum(stats, axis=0))

        def get_signature(self):
            return base.Signature({"num_refs": 1})

    named = [(name, [repr(float(value)) for value in values]) for name, values in systems.items()]
    randomised = significance.PairedTest(named, {"mean": MeanOfDocuments()}, None, "ar", n_samples=10_000)()[1]["mean"][
        1
    ]
    resampled = significance.PairedTest(named, {"mean": MeanOfDocuments()}, None, "bs", n_samples=10_000)()[1]["mean"][
        1
    ]
    p_value = s.sign_flip_p_values((systems["a"] - systems["b"])[:, None], rng(4))[0]
    assert 0.01 < p_value < 0.3
    assert abs(p_value - randomised.p_value) < 5 * np.sqrt(2 * p_value / 10_000)
    low, high = _ends(bootstrap_mean(systems["b"][None], rng(5)))
    assert (high - low) / 2 == pytest.approx(resampled.ci, rel=0.04)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), documents=st.integers(1, 40))
def test_sign_flip_p_values_are_valid_and_symmetric(seed: int, documents: int):
    """A p-value lies in (0, 1], does not depend on which row comes first or on the scale, and is 1 for equal rows."""
    differences = rng(seed).normal(size=(documents, 1)) * 10.0
    columns = np.concatenate([differences, -differences, 1000 * differences, 0 * differences], axis=1)
    p = s.sign_flip_p_values(columns, rng(seed), 500)
    assert 0 < p[0] <= 1 and p[0] == p[1] == p[2] and p[3] == 1


def test_holm_on_a_worked_example():
    """p = .01 .04 .03 .005 become .03 .06 .06 .02: factors 4 3 2 1 on the sorted values, never falling."""
    np.testing.assert_allclose(s.holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=20))
def test_holm_lies_between_the_raw_and_bonferroni(values: list[float]):
    """Adjusted values keep the order, are at least the raw ones, and at most Bonferroni's."""
    p = np.array(values)
    adjusted = s.holm(p)
    assert np.all(adjusted >= p - 1e-15) and np.all(adjusted <= np.minimum(1, len(p) * p) + 1e-15)
    assert np.all(np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0)


def test_memory_is_bounded():
    """The whole CNN/DailyMail test split at 300 resamples stays within a few temporaries of 32 MB."""
    import tracemalloc

    columns = rng(1).normal(size=(11_490, 4))
    tracemalloc.start()
    s.resample_documents(columns, 300, rng(2))
    s.sign_flip_p_values(columns, rng(2), 300)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 8 * s.CELLS


def bootstrap_mean(scores: s.Array, generator: np.random.Generator, resamples: int = s.RESAMPLES) -> s.Interval:
    """A row's mean with its interval, as `analysis.comparison` composes them: documents drawn for all seeds, then seeds."""
    replicates = s.resample_seeds(s.resample_documents(scores.T, resamples, generator), generator)
    return s.Interval(float(scores.mean()), *s.percentile_interval(replicates))


def _ends(interval: s.Interval) -> tuple[float, float]:
    return interval.low, interval.high
