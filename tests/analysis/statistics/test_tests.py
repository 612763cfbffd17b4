"""Comparisons and corrections against SciPy's and by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.tests import compare, hedges_g, holm
from tests.analysis.statistics.rates import rng


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


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize(("gap", "p"), [(0.0, 1.0), (2.0, 0.0)])
def test_differences_that_differ_by_rounding_have_no_spread(size: float, gap: float, p: float) -> None:
    """3.05 - 1.05 is not 5.05 - 3.05 in floating point: their deviation of 1e-16 is none to test against."""
    values = np.array([1.05, 2.05, 3.05, 0.1 + 0.2])
    moved = (values + gap) * size if gap else values * size * (1 + np.finfo(np.float64).eps * np.array([1, 0, 0, 1]))
    found = compare(moved, values * size, paired=True)
    assert (found.p, found.half_width, found.d_z) == (p, 0.0, None)
    assert found.difference == pytest.approx(gap * size)
    flat = np.array([0.3, 0.1 + 0.2, 0.3])
    found = compare((flat + gap) * size, flat[:2] * size, paired=False)
    assert (found.p, found.half_width, found.hedges_g) == (p, 0.0, None)


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
