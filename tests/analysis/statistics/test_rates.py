"""Errors happen as often as stated, over a thousand simulated sweeps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.anova import two_way_anova
from analysis.statistics.intervals import Array
from analysis.statistics.laws import fit_logarithm
from analysis.statistics.tests import holm, paired_t
from tests.analysis.statistics.rates import SWEEPS, rate_bound, rng


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
