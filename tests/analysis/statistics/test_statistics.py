"""Statistics against known answers: SciPy, closed forms, planted effects that are found and nulls that are not."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.agreement import rank_agreement
from analysis.statistics.anova import two_way_anova
from analysis.statistics.intervals import Array, estimate
from analysis.statistics.laws import fit_logarithm, fit_power_law, lack_of_fit
from analysis.statistics.tests import compare, hedges_g, holm, paired_t

SWEEPS = 1000


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def rate_bound(rate: float, count: int = SWEEPS) -> float:
    """What a count of so many exceeds once in ten thousand times where the rate is true."""
    return float(stats.binom.ppf(1 - 1e-4, count, rate)) / count


# Means and intervals


@pytest.mark.parametrize("count", [2, 3, 5, 30])
def test_the_student_interval_is_scipys(count: int) -> None:
    values = rng(count).normal(3.0, 2.0, count)
    found = estimate(values)
    low, high = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
    assert (found.mean, found.n) == (pytest.approx(values.mean()), count)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize("count", [30, 200])
def test_the_bootstrap_interval_is_scipys_bca_and_the_same_each_time(count: int) -> None:
    values = rng(count).gamma(1.5, 2.0, count)
    found = estimate(values, "bootstrap")
    # Another seed: the ends differ by what 9,999 draws leave open.
    other = stats.bootstrap((values,), np.mean, method="BCa", rng=rng(77)).confidence_interval
    spread = values.std(ddof=1) / math.sqrt(count)
    assert found.low == pytest.approx(other.low, abs=0.2 * spread)
    assert found.high == pytest.approx(other.high, abs=0.2 * spread)
    assert found == estimate(values, "bootstrap")


@pytest.mark.parametrize("values", [[1.0, 2.0], [1.0, 1.0, 2.0], [0.0, 0.0, 0.0, 9.0]])
def test_the_bootstrap_of_a_handful_stays_within_their_range(values: list[float]) -> None:
    found = estimate(values, "bootstrap")
    assert found.low is not None
    assert found.high is not None
    assert min(values) <= found.low <= found.mean <= found.high <= max(values)


@pytest.mark.parametrize("method", ["t", "bootstrap"])
def test_equal_values_have_an_interval_of_no_width(method: str) -> None:
    found = estimate([0.1] * 7, method)  # type: ignore[arg-type]
    assert (found.mean, found.low, found.high) == (0.1, 0.1, 0.1)


def test_one_value_has_no_interval_and_none_no_mean() -> None:
    assert estimate([4.0]).low is None
    assert estimate([4.0, math.inf]).high is None
    with pytest.raises(ValueError, match="no values"):
        estimate([])


# Comparisons of two


def test_pairs_are_compared_as_scipy_does() -> None:
    a, b = rng(1).normal(0.0, 1.0, (2, 9))
    a += 0.8
    found = compare(a, b, paired=True)
    reference = stats.ttest_rel(a, b)
    interval = reference.confidence_interval(0.95)
    assert found.p == pytest.approx(reference.pvalue, rel=1e-9)
    assert found.difference == pytest.approx((a - b).mean())
    assert found.half_width == pytest.approx((interval.high - interval.low) / 2)
    assert found.wilcoxon == pytest.approx(stats.wilcoxon(a, b).pvalue)
    assert found.d_z == pytest.approx(reference.statistic / 3)  # t / √n
    assert found.n == 9


def test_unpaired_groups_are_compared_as_welch_does() -> None:
    a, b = rng(2).normal(1.0, 3.0, 7), rng(3).normal(0.0, 0.5, 12)
    found = compare(a, b, paired=False)
    reference = stats.ttest_ind(a, b, equal_var=False)
    interval = reference.confidence_interval(0.95)
    assert found.p == pytest.approx(reference.pvalue, rel=1e-9)
    assert found.half_width == pytest.approx((interval.high - interval.low) / 2)
    assert (found.n, found.d_z, found.wilcoxon) == (7, None, None)


def test_wilcoxon_is_told_from_six_pairs_on() -> None:
    x = np.arange(1.0, 7.0)
    assert compare(2 * x, x, paired=True).wilcoxon == pytest.approx(2 / 2**6)
    assert compare(2 * x[:5], x[:5], paired=True).wilcoxon is None


@pytest.mark.parametrize(("gap", "p"), [(0.0, 1.0), (0.25, 0.0)])
def test_differences_without_spread(gap: float, p: float) -> None:
    values = np.array([1.0, 2.5, 4.0])
    found = compare(values + gap, values, paired=True)
    assert (found.p, found.half_width, found.d_z) == (p, 0.0, None)
    same = np.full(3, 1.0)
    assert compare(same + gap, same, paired=False).p == p


def test_too_few_or_infinite_values_are_not_tested() -> None:
    assert compare([1.0], [2.0], paired=True).p is None
    assert compare([1.0, math.inf], [2.0, 3.0], paired=False).p is None
    assert math.isnan(compare([], [], paired=True).difference)
    with pytest.raises(ValueError, match="got 2 and 3 values"):
        compare([1.0, 2.0], [1.0, 2.0, 3.0], paired=True)


def test_hedges_g_is_unbiased() -> None:
    draws = rng(4).normal(0.0, 1.0, (4000, 2, 4)) + np.array([0.7, 0.0])[:, None]
    found = [hedges_g(x, y) for x, y in draws]
    raw = [(x.mean() - y.mean()) / math.sqrt((x.var(ddof=1) + y.var(ddof=1)) / 2) for x, y in draws]
    error = 4 * float(np.std(raw)) / math.sqrt(len(raw))
    assert np.mean([g for g in found if g is not None]) == pytest.approx(0.7, abs=error)
    assert abs(np.mean(raw) - 0.7) > error  # Cohen's d is not.


# Many comparisons


def test_holm_of_a_worked_example() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, never below what came before.
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, math.nan, 0.04]).tolist() == pytest.approx([0.02, math.nan, 0.04], nan_ok=True)
    assert holm([0.01, 0.04], family=6).tolist() == pytest.approx([0.06, 0.2])
    assert holm([0.6, 0.9]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_holm_is_the_closed_test_of_bonferroni() -> None:
    """A hypothesis is rejected where Bonferroni's test rejects every intersection that it is part of."""
    p = rng(5).uniform(0, 0.2, 4)
    subsets = [s for size in range(1, 5) for s in itertools.combinations(range(4), size)]
    closed = [max(min(len(s) * min(p[list(s)]), 1.0) for s in subsets if i in s) for i in range(4)]
    assert holm(p).tolist() == pytest.approx(closed)


def test_rank_agreement_is_the_mean_spearman() -> None:
    scores = rng(6).normal(size=(4, 6))
    pairs = [stats.spearmanr(a, b).statistic for a, b in itertools.combinations(scores, 2)]
    assert rank_agreement(scores) == pytest.approx(np.mean(pairs))
    assert rank_agreement(np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 40.0]])) == pytest.approx(1.0)
    assert math.isnan(rank_agreement(np.ones((3, 4))))


# 1,000 simulated sweeps


def tables_of(effect: float, cells: int = 6, seeds: int = 5) -> Array:
    """p of the best cell against the others, all pairs corrected, of sweeps whose first cell is better by ``effect``.

    Seeds shift all cells of a sweep alike, which is what pairing takes out.
    """
    random = rng(7)
    values = random.normal(size=(SWEEPS, cells, seeds)) + 3 * random.normal(size=(SWEEPS, 1, seeds))
    values[:, 0] -= effect
    best = values.mean(axis=-1).argmin(axis=1)
    gaps = values - values[np.arange(SWEEPS), best][:, None]
    p = paired_t(gaps)[1]
    p[np.arange(SWEEPS), best] = np.nan
    return holm(p, family=cells * (cells - 1) // 2)


def test_no_effect_is_found_no_more_often_than_stated_though_the_best_is_chosen() -> None:
    found = (np.nan_to_num(tables_of(0.0), nan=1.0) < 0.05).any(axis=1)
    assert found.mean() <= rate_bound(0.05)


def test_a_planted_effect_is_found() -> None:
    p = tables_of(30.0)
    assert np.isnan(p[:, 0]).all()
    assert (p[:, 1:] < 0.05).all(axis=1).mean() > 0.95


def test_the_p_of_pairs_without_an_effect_is_uniform() -> None:
    p = paired_t(rng(8).normal(size=(SWEEPS, 4)))[1]
    assert stats.kstest(p, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("effect", [0.0, 1.5])
def test_an_interaction_is_found_where_it_is_and_not_where_it_is_not(effect: float) -> None:
    depth, rank = (grid.ravel() for grid in np.meshgrid(np.arange(4), np.arange(3)))
    depth, rank = np.repeat(depth, 3), np.repeat(rank, 3)
    mean = 2.0 * depth - rank + effect * (depth == 3) * (rank == 2)
    found = two_way_anova(mean * 2 + rng(9).normal(size=(SWEEPS, len(depth))), depth, rank).interaction
    assert found.p is not None
    rate = (found.p < 0.05).mean()
    if effect:
        assert rate > 0.5
    else:
        assert 1 - rate_bound(0.95) <= rate <= rate_bound(0.05)
        assert stats.kstest(found.p, "uniform").pvalue > 1e-4


def test_a_slope_is_found_at_the_stated_rate() -> None:
    x = np.tile([4.0, 8.0, 16.0, 32.0], 3)
    random = rng(10)
    null = [fit_logarithm(x, random.normal(size=12)).b_interval for _ in range(300)]
    found = np.mean([not low <= 0 <= high for low, high in null])
    assert found <= rate_bound(0.05, 300)
    planted = [fit_logarithm(x, -2 * np.log2(x) + random.normal(size=12)).b_interval for _ in range(50)]
    assert all(high < 0 for _, high in planted)


# Analysis of variance


def test_a_balanced_analysis_of_variance_has_its_closed_form() -> None:
    values = rng(11).normal(size=(3, 4, 5)) + np.arange(3)[:, None, None]
    a, b = (index.ravel() for index in np.indices((3, 4, 5))[:2])
    found = two_way_anova(values.ravel(), a, b)
    grand, rows, cols = values.mean(), values.mean(axis=(1, 2)), values.mean(axis=(0, 2))
    cells = values.mean(axis=2)
    ss_a, ss_b = 20 * np.square(rows - grand).sum(), 15 * np.square(cols - grand).sum()
    ss_ab = 5 * np.square(cells - rows[:, None] - cols + grand).sum()
    ss_e = np.square(values - cells[..., None]).sum()
    assert [float(e.squares) for e in (found.a, found.b, found.interaction, found.residual)] == pytest.approx(
        [ss_a, ss_b, ss_ab, ss_e]
    )
    assert [e.freedom for e in (found.a, found.b, found.interaction, found.residual)] == [2, 3, 6, 48]
    f = (ss_ab / 6) / (ss_e / 48)
    assert found.interaction.f == pytest.approx(f)
    assert found.interaction.p == pytest.approx(stats.f.sf(f, 6, 48))
    assert found.interaction.eta == pytest.approx(ss_ab / (ss_ab + ss_e))


def test_sums_of_squares_of_an_unbalanced_design_are_of_type_two() -> None:
    """The same as what regressions with and without the factor's indicators leave over."""
    random = rng(12)
    a, b = random.integers(3, size=40), random.integers(2, size=40)
    y = random.normal(size=40) + a - b
    found = two_way_anova(y, a, b)

    def left_over(*columns: Array) -> float:
        design = np.column_stack([np.ones(40), *columns])
        return float(np.square(y - design @ np.linalg.lstsq(design, y, rcond=None)[0]).sum())

    in_a, in_b = [(a == level) * 1.0 for level in (1, 2)], [(b == 1) * 1.0]
    crossed = [first * in_b[0] for first in in_a]
    assert float(found.a.squares) == pytest.approx(left_over(*in_b) - left_over(*in_a, *in_b))
    assert float(found.b.squares) == pytest.approx(left_over(*in_a) - left_over(*in_a, *in_b))
    assert float(found.interaction.squares) == pytest.approx(
        left_over(*in_a, *in_b) - left_over(*in_a, *in_b, *crossed)
    )


def test_one_way_f_is_scipys_where_the_other_factor_does_nothing() -> None:
    groups = rng(13).normal(size=(3, 8)) + np.array([0.0, 1.0, 0.5])[:, None]
    centred = groups - groups[:, ::2].mean() + 0.0
    b = np.tile([0, 1], 12)
    a = np.repeat([0, 1, 2], 8)
    # Both values of b get the same data, so that b and the interaction have nothing to explain.
    doubled = np.repeat(centred[:, ::2], 2, axis=1).ravel()
    found = two_way_anova(doubled, a, b)
    assert float(found.b.squares) == pytest.approx(0.0, abs=1e-12)
    between = float(found.a.squares) / 2
    reference = stats.f_oneway(*doubled.reshape(3, 8))
    assert between / (float(found.residual.squares) / 21) == pytest.approx(reference.statistic)


def test_linear_factors_are_a_regression_with_a_product() -> None:
    random = rng(14)
    x, z = random.uniform(size=(2, 30))
    y = 1 + 2 * x - z + 3 * x * z + 0.1 * random.normal(size=30)
    found = two_way_anova(y, x, z, "linear")
    design = np.column_stack([np.ones(30), x, z, x * z])
    coefficients, rest, *_ = np.linalg.lstsq(design, y, rcond=None)
    variance = rest[0] / 26
    t = coefficients[3] / math.sqrt(variance * np.linalg.inv(design.T @ design)[3, 3])
    assert found.interaction.f == pytest.approx(t**2)
    assert found.interaction.p == pytest.approx(2 * stats.t.sf(abs(t), 26))
    assert found.interaction.freedom == 1


def test_what_cannot_be_analysed_is_told() -> None:
    with pytest.raises(ValueError, match="as many cells as values"):
        two_way_anova(np.arange(4.0), [0, 0, 1, 1], [0, 1, 0, 1])
    with pytest.raises(ValueError, match="one level only"):
        two_way_anova(np.arange(4.0), [0, 0, 0, 0], [0, 1, 0, 1])
    with pytest.raises(ValueError, match="finite"):
        two_way_anova(np.array([1.0, math.nan, 0.0]), [0, 1, 1], [0, 1, 0])


# Scaling laws

RANKS = np.array([4.0, 8.0, 16.0, 32.0, 64.0])


@pytest.mark.parametrize(("a", "b", "c"), [(100.0, 0.8, 5.0), (-3.0, 1.5, 20.0), (40.0, 0.3, -2.0), (2.0, -0.5, 1.0)])
def test_an_exact_power_law_is_found(a: float, b: float, c: float) -> None:
    law = fit_power_law(RANKS, a * RANKS**-b + c, resamples=20)
    assert (law.a, law.b, law.c) == (pytest.approx(a, rel=1e-4), pytest.approx(b, rel=1e-4), pytest.approx(c, rel=1e-3))
    assert law.r2 == pytest.approx(1.0)
    assert law(RANKS) == pytest.approx(a * RANKS**-b + c, rel=1e-4)


def test_a_noisy_power_law_is_that_of_scipys_least_squares() -> None:
    from scipy.optimize import curve_fit

    x = np.repeat(RANKS, 4)
    y = 100 * x**-0.8 + 5 + rng(15).normal(0, 0.5, 20)
    law = fit_power_law(x, y)
    best, covariance = curve_fit(lambda x, a, b, c: a * x**-b + c, x, y, p0=(100, 0.8, 5))
    assert (law.a, law.b, law.c) == tuple(pytest.approx(value, rel=1e-3) for value in best)
    reach = 1.96 * math.sqrt(covariance[1, 1])
    assert law.b_interval == (pytest.approx(best[1] - reach, abs=reach), pytest.approx(best[1] + reach, abs=reach))
    assert law.b_interval[0] < 0.8 < law.b_interval[1]
    assert law.supported


def test_the_interval_of_the_exponent_covers_it_about_as_often_as_stated() -> None:
    x, random = np.repeat(RANKS, 5), rng(16)
    laws = [fit_power_law(x, 100 * x**-0.8 + 5 + random.normal(0, 0.5, 25), resamples=200) for _ in range(60)]
    covered = np.mean([low <= 0.8 <= high for low, high in (law.b_interval for law in laws)])
    # Bootstraps of five replicates are somewhat narrow: they have √(4/5) of the spread.
    assert covered > 0.78


def test_data_that_do_not_support_a_law_are_told() -> None:
    x = np.repeat(RANKS, 3)
    noise = fit_power_law(x, rng(17).normal(size=15))
    assert not noise.supported
    assert any("covers 0" in doubt for doubt in noise.doubts)
    assert any("of the variance" in doubt for doubt in noise.doubts)
    few = fit_power_law(RANKS[:3], np.array([3.0, 2.0, 1.5]))
    assert "3 levels are too few" in few.doubts
    logs = np.log2(x)
    hump = fit_logarithm(x, 3 * logs - np.square(logs - 4) + 0.01 * rng(18).normal(size=15))
    assert any("misses the means" in doubt for doubt in hump.doubts)
    flat = fit_logarithm(x, np.ones(15))
    assert "the values are all equal" in flat.doubts


def test_the_lack_of_fit_is_the_textbook_f_test() -> None:
    x, y = np.repeat([1.0, 2.0, 3.0], 2), np.array([1.0, 1.2, 3.0, 3.4, 2.0, 2.2])
    line = np.polyval(np.polyfit(x, y, 1), x)
    pure, missed = 0.02 + 0.08 + 0.02, float(np.square(np.repeat([1.1, 3.2, 2.1], 2) - line).sum())
    assert lack_of_fit(x, y, line, 2) == pytest.approx(stats.f.sf(missed / (pure / 3), 1, 3))
    assert lack_of_fit(x[::2], y[::2], line[::2], 2) is None


def test_the_logarithmic_law_is_scipys_regression() -> None:
    x = np.repeat(RANKS, 2)
    y = 3 - 2 * np.log2(x) + rng(19).normal(size=10)
    law, reference = fit_logarithm(x, y), stats.linregress(np.log2(x), y)
    reach = reference.stderr * stats.t.ppf(0.975, 8)
    assert (law.a, law.b, law.r2) == tuple(
        pytest.approx(value) for value in (reference.intercept, reference.slope, reference.rvalue**2)
    )
    assert law.b_interval == (pytest.approx(reference.slope - reach), pytest.approx(reference.slope + reach))
    assert law(RANKS) == pytest.approx(reference.intercept + reference.slope * np.log2(RANKS))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1.0, 2.0], [1.0, 2.0], "needs 3 different x"),
        ([0.0, 1.0, 2.0], [1.0, 2.0, 3.0], "positive x"),
        ([1.0, 2.0, 3.0], [1.0, math.nan, 3.0], "finite y"),
    ],
)
def test_laws_refuse_what_they_cannot_fit(x: list[float], y: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_power_law(np.array(x), np.array(y))
