"""The agreement of rankings against SciPy's."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.agreement import rank_agreement, rank_correlation
from tests.analysis.statistics.rates import rng


def test_rank_agreement_is_the_mean_spearman() -> None:
    scores = rng(6).normal(size=(4, 6))
    pairs = [stats.spearmanr(a, b).statistic for a, b in itertools.combinations(scores, 2)]
    assert rank_agreement(scores) == pytest.approx(np.mean(pairs))
    assert rank_agreement(np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 40.0]])) == pytest.approx(1.0)
    assert math.isnan(rank_agreement(np.ones((3, 4))))


@pytest.mark.parametrize("kind", ["spearman", "kendall"])
def test_intervals_of_rank_correlations_hold_what_they_say(kind: Literal["spearman", "kendall"]) -> None:
    """Of normal pairs, whose correlations are ρ_s = 6/π asin(r/2) and τ = 2/π asin(r) (Kendall & Gibbons, 1990)."""
    rng, r = np.random.default_rng(0), 0.6
    truth = 6 / np.pi * np.arcsin(r / 2) if kind == "spearman" else 2 / np.pi * np.arcsin(r)
    held = []
    for _ in range(400):
        x = rng.normal(size=15)
        found = rank_correlation(x, r * x + np.sqrt(1 - r**2) * rng.normal(size=15), kind)
        held.append(found.low is not None and found.high is not None and found.low <= truth <= found.high)
    assert 0.92 <= np.mean(held) <= 0.99


def test_a_rank_correlation_is_scipys_and_has_no_interval_of_four() -> None:
    x, y = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 1.0, 4.0, 3.0])
    found = rank_correlation(x, y, "kendall")
    assert found.value == pytest.approx(stats.kendalltau(x, y).statistic)
    assert (found.n, found.low) == (4, None)
    assert np.isnan(rank_correlation(x, np.ones(4), "spearman").value)
    perfect = rank_correlation(np.arange(9.0), np.arange(9.0), "spearman")
    assert perfect.low is not None
    assert 0.9 < perfect.low < 1
