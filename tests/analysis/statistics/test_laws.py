"""Fitted laws against SciPy's, and what speaks against them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.laws import fit_logarithm, fit_power_law, lack_of_fit
from tests.analysis.statistics.rates import SWEEPS, rate_bound, rng

RANKS = np.array([4.0, 8.0, 16.0, 32.0, 64.0])


@pytest.mark.parametrize(("a", "b", "c"), [(100.0, 0.8, 5.0), (-3.0, 1.5, 20.0), (40.0, 0.3, -2.0), (2.0, -0.5, 1.0)])
def test_an_exact_power_law_is_found(a: float, b: float, c: float) -> None:
    law = fit_power_law(RANKS, a * RANKS**-b + c)
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


@pytest.mark.parametrize("replicates", [1, 2, 5])
def test_the_intervals_of_a_power_law_cover_it_as_often_as_stated(replicates: int) -> None:
    x, random = np.repeat(RANKS, replicates), rng(16)
    laws = [fit_power_law(x, 100 * x**-0.8 + 5 + random.normal(0, 0.5, len(x))) for _ in range(SWEEPS // 2)]
    for truth, intervals in (
        (0.8, [law.b_interval for law in laws]),
        (5.0, [law.c_interval for law in laws if law.c_interval]),
    ):
        missed = np.mean([not low <= truth <= high for low, high in intervals])
        assert 0.05 - (rate_bound(0.05, SWEEPS // 2) - 0.05) <= missed <= rate_bound(0.05, SWEEPS // 2)


def test_without_a_value_to_spare_a_law_has_no_interval() -> None:
    law = fit_power_law(RANKS[:3], np.array([3.0, 2.0, 1.5]))
    assert all(map(math.isnan, law.b_interval))
    assert "3 values are too few to estimate an error" in law.doubts


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
        ([1.0, 2.0], [1.0, 2.0], "needs at least 3 different x"),
        ([0.0, 1.0, 2.0], [1.0, 2.0, 3.0], "positive x"),
        ([1.0, 2.0, 3.0], [1.0, math.nan, 3.0], "finite y"),
    ],
)
def test_laws_refuse_what_they_cannot_fit(x: list[float], y: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_power_law(np.array(x), np.array(y))


def test_the_lack_of_fit_is_the_textbook_f_test() -> None:
    x, y = np.repeat([1.0, 2.0, 3.0], 2), np.array([1.0, 1.2, 3.0, 3.4, 2.0, 2.2])
    line = np.polyval(np.polyfit(x, y, 1), x)
    pure, missed = 0.02 + 0.08 + 0.02, float(np.square(np.repeat([1.1, 3.2, 2.1], 2) - line).sum())
    assert lack_of_fit(x, y, line, 2) == pytest.approx(stats.f.sf(missed / (pure / 3), 1, 3))
    assert lack_of_fit(x[::2], y[::2], line[::2], 2) is None
