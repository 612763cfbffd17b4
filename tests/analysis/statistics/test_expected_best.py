"""The best of several draws, in closed form against simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from analysis.statistics.expected_best import best_of


@pytest.mark.parametrize("trials", [1, 2, 3])
def test_it_is_the_mean_over_all_ways_to_draw(trials: int) -> None:
    values = np.array([3.0, 1.0, 4.0, 1.5, 9.0])
    ways = [min(way) for way in itertools.product(values, repeat=trials)]
    assert best_of(values, trials).mean == pytest.approx(np.mean(ways))


def test_it_is_the_expected_least_of_many_values_distribution() -> None:
    """Of k uniform draws the least has mean 1 / (k + 1) and the quantile q at 1 - (1 - q)^(1 / k)."""
    values = (np.arange(20_000) + 0.5) / 20_000
    for trials in (1, 4, 16):
        found = best_of(values, trials)
        assert found.mean == pytest.approx(1 / (trials + 1), abs=1e-4)
        assert found.low == pytest.approx(1 - 0.975 ** (1 / trials), abs=2e-4)
        assert found.high == pytest.approx(1 - 0.025 ** (1 / trials), abs=2e-4)


def test_of_one_search_after_the_other_95_percent_are_within_its_interval() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=200)
    found = best_of(values, 10)
    searches = values[rng.integers(200, size=(20_000, 10))].min(axis=1)
    assert ((found.low <= searches) & (searches <= found.high)).mean() >= 0.95 - 0.005
    assert found.mean == pytest.approx(searches.mean(), abs=4 * searches.std() / np.sqrt(20_000))


def test_what_has_no_best_is_refused() -> None:
    for values, trials in ((np.empty(0), 1), (np.ones(3), 4), (np.ones(3), 0), (np.array([np.nan]), 1)):
        with pytest.raises(ValueError, match="needs as many finite values"):
            best_of(values, trials)
