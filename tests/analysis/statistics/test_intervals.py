"""Intervals of a mean against SciPy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.intervals import estimate
from tests.analysis.statistics.rates import rng


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
