"""Intervals of a mean against SciPy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.intervals import BOOTSTRAP_FROM, estimate
from tests.analysis.statistics.rates import rate_bound, rng


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
    # Another seed: the ends differ by what 9,999 draws leave open. Of normal values it is as wide as Student's.
    level = 2 * stats.norm.cdf(math.sqrt(count / (count - 1)) * stats.t.ppf(0.975, count - 1)) - 1
    other = stats.bootstrap((values,), np.mean, method="BCa", confidence_level=level, rng=rng(77)).confidence_interval
    spread = values.std(ddof=1) / math.sqrt(count)
    assert found.low == pytest.approx(other.low, abs=0.2 * spread)
    assert found.high == pytest.approx(other.high, abs=0.2 * spread)
    assert found == estimate(values, "bootstrap")


@pytest.mark.parametrize("values", [[1.0, 2.0], [1.0, 1.0, 2.0], [0.0, 0.0, 0.0, 9.0], list(range(9))])
def test_the_bootstrap_of_a_handful_is_refused(values: list[float]) -> None:
    found = estimate(values, "bootstrap")
    assert (found.mean, found.low, found.high) == (np.mean(values), None, None)


def test_the_bootstrap_covers_what_it_says_where_it_is_given() -> None:
    draws = rng(20).normal(size=(250, BOOTSTRAP_FROM))
    found = [estimate(values, "bootstrap") for values in draws]
    covered = np.mean([each.low <= 0 <= each.high for each in found if each.low is not None and each.high is not None])
    assert 1 - rate_bound(0.05, 250) <= covered  # the plain interval covers 89 %


@pytest.mark.parametrize("method", ["t", "bootstrap"])
def test_equal_values_have_an_interval_of_no_width(method: str) -> None:
    found = estimate([0.1] * 7, method)  # type: ignore[arg-type]
    assert (found.mean, found.low, found.high) == (0.1, 0.1, 0.1)


def test_one_value_has_no_interval_and_none_no_mean() -> None:
    assert estimate([4.0]).low is None
    assert estimate([4.0, math.inf]).high is None
    with pytest.raises(ValueError, match="at least one value"):
        estimate([])
