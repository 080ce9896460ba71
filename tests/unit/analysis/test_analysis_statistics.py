"""Intervals and p-values against scipy, sacreBLEU, statsmodels and worked examples."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.analysis import correction as c
from triptych.analysis import inference as i
from triptych.analysis.pairs import mean_estimate, paired_tests, samples
from triptych.config.schema import Analysis

ROUGE = (0.0, 100.0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def scores(seeds: int, documents: int, seed: int = 0, mean: float = 30.0, seed_sd: float = 0.5) -> i.Array:
    """[S, N]: documents SD 9, seeds `seed_sd`, seed and document together SD 6."""
    noise = rng(seed)
    return (
        mean
        + noise.normal(0, 9, documents)
        + noise.normal(0, seed_sd, (seeds, 1))
        + noise.normal(0, 6, (seeds, documents))
    )


def test_one_seed_without_skew_is_scipys_paired_t():
    """For symmetric differences under one seed, p-value and interval are those of scipy's paired t-test."""
    half = rng(1).normal(0.4, 3, 60)
    center = half.mean()
    values = np.concatenate([half, 2 * center - half])  # symmetric about its mean
    a, b = values + 30, np.full(120, 30.0)
    one = i.difference(i.sample_of(a[None], ROUGE), i.sample_of(b[None], ROUGE))
    theirs = scipy.stats.ttest_rel(a, b)
    assert one.p_value() == pytest.approx(theirs.pvalue, rel=1e-6)
    assert one.interval() == pytest.approx(tuple(theirs.confidence_interval(0.95)), abs=1e-9)


def test_skewed_values_are_halls_interval_by_hand():
    """The skewed interval solves Hall's g(T) = t at both ends."""
    values = rng(2).exponential(10, 30)
    one = i.sample_of(values[None], ROUGE)
    low, high = one.interval()
    error = values.std(ddof=1) / np.sqrt(30)
    skewness = ((values - values.mean()) ** 3).mean() / values.std(ddof=0) ** 3 / np.sqrt(30)
    t = scipy.stats.t.ppf(0.975, 29)
    for end, wanted in ((low, t), (high, -t)):
        T = (values.mean() - end) / error
        assert T + skewness * T**2 / 3 + skewness**2 * T**3 / 27 + skewness / 6 == pytest.approx(wanted)
    assert high - values.mean() > values.mean() - low  # the mean may lie on the side of the long tail


def test_seeds_that_rule_everything_are_scipys_t_over_seeds():
    """If documents do not vary, three or more seeds give scipy's Student interval over the seed means."""
    means = np.array([30.0, 31.0, 30.2, 30.7])
    values = means[:, None] + np.linspace(-1e-7, 1e-7, 50)
    theirs = scipy.stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert i.sample_of(values, ROUGE).interval() == pytest.approx((theirs.low, theirs.high), abs=1e-4)
    other = np.array([28.0, 28.9, 28.3, 28.6])
    two = i.difference(i.sample_of(values, ROUGE), i.sample_of(other[:, None] - np.linspace(-1e-7, 1e-7, 50), ROUGE))
    welch = scipy.stats.ttest_ind(means, other, equal_var=False)
    assert two.p_value() == pytest.approx(welch.pvalue, rel=1e-3)


def test_variance_components_are_the_mixed_models():
    """Seed and shared variances of a balanced table are those of a crossed mixed model fitted by statsmodels (REML)."""
    mixed = pytest.importorskip("statsmodels.regression.mixed_linear_model", reason="statsmodels is not installed")
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    values = scores(5, 40, seed=3, seed_sd=3.0)
    seeds, documents = np.meshgrid(np.arange(5), np.arange(40), indexing="ij")
    frame = pandas.DataFrame({"y": values.ravel(), "seed": seeds.ravel(), "document": documents.ravel(), "all": 1})
    parts = {"document": "0 + C(document)", "seed": "0 + C(seed)"}
    fitted = mixed.MixedLM.from_formula("y ~ 1", groups="all", vc_formula=parts, data=frame).fit(reml=True)
    of_document, of_seed = fitted.vcomp
    one = i.sample_of(values)
    (part,) = one.seeds
    assert part.shared * 40 * 5 == pytest.approx(fitted.scale, rel=1e-2)
    assert (part.variance - part.shared) * 5 == pytest.approx(of_seed, rel=2e-2)
    assert one.document_variance * 40 - fitted.scale / 5 == pytest.approx(of_document, rel=2e-2)
    both = one.document_variance + part.variance - part.shared  # each source of chance once
    assert both == pytest.approx(float(fitted.bse_fe.iloc[0]) ** 2, rel=2e-2)


def test_documents_are_shared_by_the_seeds():
    """Three identical seeds count as one: their interval is that of one seed."""
    values = rng(1).normal(30, 10, size=300)
    one, three = i.sample_of(values[None]).interval(), i.sample_of(np.tile(values, (3, 1))).interval()
    assert three == pytest.approx(one)


def test_seeds_widen_the_interval():
    """Seeds that disagree make the interval wider than documents alone do."""
    values = rng(1).normal(30, 10, size=300)
    apart = np.stack([values - 3, values, values + 3])
    assert np.ptp(i.sample_of(apart).interval()) > 2 * np.ptp(i.sample_of(values[None]).interval())


def test_ratio_interval_is_scipys():
    """For many documents, the interval of nats over targets is scipy's bootstrap interval of the ratio of sums."""
    targets = rng(1).integers(20, 90, size=400).astype(float)
    nats = targets * rng(2).normal(3, 0.5, size=400)
    low, high = i.sample_of(i.ratio_values(nats[None], targets[None])).interval()
    theirs = scipy.stats.bootstrap(
        (nats, targets),
        lambda x, y, axis: x.sum(axis) / y.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        batch=1000,
        method="BCa",
        rng=rng(4),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert abs(low - theirs.low) < 0.04 * width and abs(high - theirs.high) < 0.04 * width


def test_all_zero_is_clopper_and_pearson():
    """From N zeros, the mean's upper bound is the Clopper-Pearson bound on the share of nonzero values, times 100."""
    for documents in (24, 48, 500):
        low, high = i.sample_of(np.zeros((1, documents)), ROUGE).interval()
        theirs = scipy.stats.binomtest(0, documents).proportion_ci(0.95).high
        assert low == 0 and high == pytest.approx(100 * theirs, rel=0.02)


def test_documents_that_agree_still_vary_with_the_seeds():
    """If every document has the same value under a seed, only the spread over seeds remains: Student's t."""
    values = np.array([[0.25] * 30, [0.75] * 30, [0.35] * 30])
    sample = i.sample_of(values)
    assert sample.estimable
    expected = scipy.stats.ttest_1samp(values.mean(axis=1), 0.0)
    assert sample.p_value() == pytest.approx(expected.pvalue, rel=0.05)
    low, high = sample.interval()
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval()), rel=0.05)


def test_gaffkes_interval_has_no_p_value_below_its_draws():
    """A quantile of 20,000 draws cannot resolve probabilities below two draws."""
    sample = i.sample_of(np.zeros((1, 100)), (-1.0, 1.0))
    assert sample.p_value(0.15) == pytest.approx(2 / 20_000)
    assert 2 / 20_000 < sample.p_value(0.06) < 1


def test_no_interval_from_one_value():
    """A single document has no interval, and neither do equal values that nothing bounds."""
    assert i.sample_of(np.array([[3.0]]), ROUGE).interval() == (None, None)
    assert i.sample_of(np.full((1, 50), 3.0)).interval() == (None, None)
    assert i.t_interval(np.array([3.0])) == (None, None)


def test_t_interval_is_scipys():
    """The interval over seeds alone is Student's."""
    values = np.array([2.81, 2.79, 2.86])
    theirs = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert i.t_interval(values) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_one_seed_is_sacrebleus():
    """sacreBLEU's approximate randomization and bootstrap give the same p-value and interval on the same scores."""
    significance = pytest.importorskip("sacrebleu.significance", reason="sacrebleu is not installed")
    base = pytest.importorskip("sacrebleu.metrics.base", reason="sacrebleu is not installed")
    common = rng(1).normal(30, 8, size=120)
    systems = {"a": common + rng(2).normal(0.8, 4, size=120), "b": common + rng(3).normal(0, 4, size=120)}

    class MeanOfDocuments:
        """A metric with sacreBLEU's interface whose corpus score is the mean of given document scores."""

        def _extract_corpus_statistics(self, hypotheses, references):
            return np.array([[float(text)] for text in hypotheses])

        def _compute_score_from_stats(self, stats):
            return base.Score("mean", float(stats[0]) / 120)

        def _aggregate_and_compute(self, stats):
            return self._compute_score_from_stats(np.sum(stats, axis=0))

        def get_signature(self):
            return base.Signature({"num_refs": 1})

    named = [(name, [repr(float(value)) for value in values]) for name, values in systems.items()]
    randomized, resampled = (
        significance.PairedTest(named, {"mean": MeanOfDocuments()}, None, kind, n_samples=10_000)()[1]["mean"][1]
        for kind in ("ar", "bs")
    )
    one = samples({name: {"rouge1": values[None]} for name, values in systems.items()})
    (test,) = paired_tests(one, Analysis(), {"a": 1, "b": 1})
    assert 0.01 < test.p_value < 0.3
    assert abs(test.p_value - randomized.p_value) < 0.01
    interval = mean_estimate(one["b"]["rouge1"])
    assert (interval.high - interval.low) / 2 == pytest.approx(resampled.ci, rel=0.05)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), documents=st.integers(2, 60), seeds=st.integers(1, 4), zeros=st.floats(0, 1))
def test_interval_and_p_value_are_one_law(seed: int, documents: int, seeds: int, zeros: float):
    """An interval at any level excludes zero exactly if the p-value is below that level; signs may be flipped."""
    noise = rng(seed)
    a, b = (
        np.where(noise.random((seeds, documents)) < zeros, 0.0, noise.gamma(2, 8, (seeds, documents)) % 100)
        for _ in range(2)
    )
    one, other = i.sample_of(a, ROUGE), i.sample_of(b, ROUGE)
    forth, back = i.difference(one, other), i.difference(other, one)
    p = forth.p_value()
    assert 0 < p <= 1 and back.p_value() == pytest.approx(p, rel=1e-3, abs=1e-3)
    for alpha in (0.3, 0.05, 0.004):
        low, high = forth.interval(alpha)
        if abs(p / alpha - 1) > 1e-3:
            assert (low > 0 or high < 0) == (p < alpha)
    wide, narrow = forth.interval(0.01), forth.interval(0.1)
    assert wide[0] <= narrow[0] and narrow[1] <= wide[1]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 5), seeds=st.integers(1, 3), spread=st.floats(0, 4))
def test_printed_intervals_agree_with_the_decisions(seed: int, rows: int, seeds: int, spread: float):
    """In every table, methods are different exactly if the printed interval excludes zero, and equivalent only if the
    one-sided tests at the margin reject; a pair's own 95% interval lies within the corrected one."""
    noise = rng(seed)
    common = noise.normal(30, 9, 80)
    table = {
        f"r{row}": {"rouge1": common + spread * row + noise.normal(0, 3, 80) + noise.normal(0, 0.5, (seeds, 1))}
        for row in range(rows)
    }
    for test in paired_tests(samples(table), Analysis(margin=2.0), dict.fromkeys(table, seeds)):
        assert (test.decision == "different") == (test.p_value_adjusted < 0.05) == (not test.low <= 0 <= test.high)
        assert test.low <= test.single_low <= test.difference <= test.single_high <= test.high
        if test.decision == "equivalent":
            assert max(test.p_not_worse, test.p_not_better) < 0.05 and abs(test.difference) < 2.0
        assert test.detectable > 0 and 0.95 <= test.confidence < 1


def test_equivalence_is_two_one_sided_tests():
    """For one symmetric pair with one seed, equivalence agrees with scipy's two one-sided t-tests at the margin."""
    half = rng(5).normal(0.1, 2, 500)
    values = np.concatenate([half, 2 * half.mean() - half])
    table = samples({"a": {"rouge1": 40 + values[None]}, "b": {"rouge1": np.full((1, 1000), 40.0)}})
    (test,) = paired_tests(table, Analysis(margin=0.5), {})
    lower = scipy.stats.ttest_1samp(values, -0.5, alternative="greater").pvalue
    upper = scipy.stats.ttest_1samp(values, 0.5, alternative="less").pvalue
    assert (test.p_not_worse, test.p_not_better) == pytest.approx((lower, upper), rel=1e-5)
    assert test.decision == "equivalent"


def test_a_lower_loss_is_better():
    """On the loss, the method with fewer nats is the one shown not to be worse."""
    table = {"a": {"loss": rng(1).normal(2.0, 0.1, (1, 200))}, "b": {"loss": rng(2).normal(2.5, 0.1, (1, 200))}}
    (test,) = paired_tests(samples(table), Analysis(), {})
    assert test.p_not_worse < 1e-6 and test.p_not_better > 0.99 and test.units == "nats per target token"


def test_correction_is_within_a_measure():
    """Adding a measure does not change the decisions on the others; roles name the primary, the second and the
    secondary."""
    table = {label: {"rouge1": scores(3, 60, seed)} for seed, label in enumerate("abc")}
    more = {
        label: {**columns, "rouge2": columns["rouge1"] / 2, "loss": columns["rouge1"] / 10}
        for label, columns in table.items()
    }
    one = paired_tests(samples(table), Analysis(), {})
    many = paired_tests(samples(more), Analysis(), {})
    assert [test for test in many if test.metric == "rouge1"] == one
    assert {test.metric: test.role for test in many} == {"rouge1": "primary", "rouge2": "secondary", "loss": "second"}


def test_holm_on_a_worked_example():
    """p = .01 .04 .03 .005 become .03 .06 .06 .02: factors 4 3 2 1 on the sorted values, never falling."""
    p = np.array([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(c.holm(p), [0.03, 0.06, 0.06, 0.02])
    found = c.corrected_by_holm(p, 0.05)
    np.testing.assert_allclose(found.adjusted, [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(found.levels, [0.05 / 3, 0.025, 0.025, 0.0125])


def test_equal_pairs_are_shaffers_table():
    """The numbers of pairs of 3 to 6 methods that can be equal at once follow Shaffer's (1986) table, step by step."""
    assert c.equal_pairs(2) == (1,) and c.equal_pairs(3) == (3, 1, 1) and c.equal_pairs(4) == (6, 3, 3, 3, 2, 1)
    assert c.equal_pairs(5) == (10, 6, 6, 6, 6, 4, 4, 3, 2, 1)
    assert c.equal_pairs(6) == (15, 10, 10, 10, 10, 10, 7, 7, 7, 6, 4, 4, 3, 2, 1)
    stopped = c.corrected_pairs(np.array([0.011, 0.012, 1e-9, 0.4, 0.5, 0.6]), 4, 0.05)
    np.testing.assert_allclose(stopped.adjusted, [0.033, 0.036, 6e-9, 1, 1, 1])
    np.testing.assert_allclose(stopped.levels, 0.05 / np.array([3, 3, 6, 3, 3, 3]))


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(2, 12), seed=st.integers(0, 2**32 - 1), strength=st.floats(0.2, 12))
def test_the_correction_lies_between_the_raw_and_holm(rows: int, seed: int, strength: float):
    """Adjusted values keep the order, lie between the raw values and Holm's, and agree with the levels."""
    p = np.maximum(1e-15, rng(seed).random(rows * (rows - 1) // 2) ** strength)
    found, by_holm = c.corrected_pairs(p, rows, 0.05), c.corrected_by_holm(p, 0.05)
    assert np.all(found.adjusted >= p * (1 - 1e-12)) and np.all(found.adjusted <= by_holm.adjusted * (1 + 1e-12))
    for one in (found, by_holm):
        assert np.all(np.diff(one.adjusted[np.argsort(p, kind="stable")]) >= 0)
        clear = np.abs(one.adjusted / 0.05 - 1) > 1e-6
        assert np.array_equal((p < one.levels)[clear], (one.adjusted < 0.05)[clear])


@pytest.mark.parametrize(("means", "equal"), [((0, 0, 0, 0), 6), ((4, 0, 0, 0), 3), ((5, 5, 0, 0), 2)])
def test_the_correction_keeps_the_family_rate(means: tuple[int, ...], equal: int):
    """Of four normal means of unequal variance, whichever are equal, at most 5% of 4,000 tables contain a false
    rejection."""
    noise, sds = rng(sum(means)), np.array([1.0, 1.0, 0.6, 1.5])
    first, second = np.triu_indices(4, 1)
    same = np.array(means)[first] == np.array(means)[second]
    wrong = 0
    for _ in range(4000):
        values = noise.normal(0, sds) + 3 * np.array(means)
        z = (values[first] - values[second]) / np.hypot(sds[first], sds[second])
        wrong += (c.corrected_pairs(2 * scipy.stats.norm.sf(np.abs(z)), 4, 0.05).adjusted[same] < 0.05).any()
    assert same.sum() == equal and 0.02 < wrong / 4000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000)
