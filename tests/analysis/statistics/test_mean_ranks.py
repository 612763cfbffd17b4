"""Ranks over several data sets, against SciPy, published tables and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.mean_ranks import mean_ranks

AUC = {
    "adult": (0.763, 0.768, 0.771, 0.798),
    "breast cancer": (0.599, 0.591, 0.590, 0.569),
    "breast cancer Wisconsin": (0.954, 0.971, 0.968, 0.967),
    "cmc": (0.628, 0.661, 0.654, 0.657),
    "ionosphere": (0.882, 0.888, 0.886, 0.898),
    "iris": (0.936, 0.931, 0.916, 0.931),
    "liver disorders": (0.661, 0.668, 0.609, 0.685),
    "lung cancer": (0.583, 0.583, 0.563, 0.625),
    "lymphography": (0.775, 0.838, 0.866, 0.875),
    "mushroom": (1.000, 1.000, 1.000, 1.000),
    "primary tumor": (0.940, 0.962, 0.965, 0.962),
    "rheum": (0.619, 0.666, 0.614, 0.669),
    "voting": (0.972, 0.981, 0.975, 0.9749),  # printed as equal, and ranked 2 and 3
    "wine": (0.957, 0.978, 0.946, 0.970),
}
"""Demšar (2006), table 6: C4.5 without and with tuned m, cf, or both, by area under the curve, higher is better."""


def test_the_worked_example_of_demsar() -> None:
    """Section 3.2.2 has mean ranks, χ² = 9.28, F = 3.69 and, in 3.2.3, a critical difference of 1.25."""
    scores = -np.array(list(AUC.values())).T
    found = mean_ranks(scores)
    np.testing.assert_allclose(found.ranks, [3.143, 2.000, 2.893, 1.964], atol=5e-4)
    # The example does not correct for ties.
    plain = 12 * 14 / 20 * (np.square(found.ranks).sum() - 4 * 25 / 4)
    assert plain == pytest.approx(9.28, abs=5e-3)
    assert 13 * plain / (14 * 3 - plain) == pytest.approx(3.69, abs=5e-3)
    assert found.critical_difference == pytest.approx(1.25, abs=5e-3)
    assert found.cliques() == [(0, 3)]


def test_the_statistic_is_that_of_scipy_and_p_agrees_where_its_approximation_holds() -> None:
    scores = np.random.default_rng(1).normal(size=(6, 30)) + 0.12 * np.arange(6)[:, None]
    found, reference = mean_ranks(scores), stats.friedmanchisquare(*scores)
    assert found.chi2 == pytest.approx(reference.statistic)
    assert found.p == pytest.approx(reference.pvalue, abs=0.01)
    assert found.p == pytest.approx(float(stats.f.sf(found.f, 5, 5 * 29)), abs=0.01)
    tied = np.array(list(AUC.values())).T
    assert mean_ranks(tied).chi2 == pytest.approx(stats.friedmanchisquare(*tied).statistic)


@pytest.mark.parametrize(("methods", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (7, 2.949), (10, 3.164)])
def test_critical_values_are_those_of_demsars_table(methods: int, q: float) -> None:
    """Table 5 (a): the studentized range over √2."""
    found = mean_ranks(np.random.default_rng(0).normal(size=(methods, 8)))
    assert found.critical_difference / np.sqrt(methods * (methods + 1) / (6 * 8)) == pytest.approx(q, abs=1e-3)


def test_p_is_below_005_where_the_difference_is_critical() -> None:
    found = mean_ranks(np.random.default_rng(3).normal(size=(5, 9)) + np.arange(5)[:, None])
    for place, rank in enumerate(found.ranks):
        p = found.nemenyi(place)
        np.testing.assert_array_equal(p < 0.05, np.abs(found.ranks - rank) > found.critical_difference)
        assert p[place] == 1
    assert (found.nemenyi(0) < 0.05).any()


def test_p_of_few_data_sets_is_that_of_counting() -> None:
    """Two methods on three data sets: all agree in 2 of 8 equally likely outcomes."""
    assert mean_ranks(np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])).p == pytest.approx(0.25, abs=0.02)


def test_nothing_is_found_where_nothing_is() -> None:
    """Of 100 tables without an effect 5 % at most, by any pair and by permutation; ties of everything tell nothing."""
    rng = np.random.default_rng(5)
    wrong, rare = 0, 0
    for _ in range(100):
        found = mean_ranks(rng.normal(size=(4, 6)))
        wrong += bool(np.ptp(found.ranks) > found.critical_difference)
        rare += found.p < 0.05
    most = stats.binom.ppf(1 - 1e-3, 100, 0.05)
    assert wrong <= most
    assert 0 < rare <= most
    flat = mean_ranks(np.ones((3, 4)))
    assert flat.p == 1.0
    assert flat.chi2 == 0.0
    assert flat.ranks.tolist() == [2.0, 2.0, 2.0]


def test_cliques_are_the_largest_groups_that_are_not_told_apart() -> None:
    rng = np.random.default_rng(0)
    scores = np.array([0, 0.1, 8, 8.1, 16])[:, None] + rng.normal(size=(5, 30))
    assert mean_ranks(scores).cliques() == [(0, 1), (2, 3)]
    chain = mean_ranks(np.array([0, 0.8, 1.6, 2.4])[:, None] + 1.5 * rng.normal(size=(4, 40)))
    ordered = np.sort(chain.ranks)
    for first, last in chain.cliques():
        assert ordered[last] - ordered[first] <= chain.critical_difference
        assert last == 3 or ordered[last + 1] - ordered[first] > chain.critical_difference


def test_what_has_no_ranks_is_refused() -> None:
    for scores in (np.ones((1, 4)), np.ones((4, 1)), np.array([[1.0, np.nan], [2.0, 3.0]])):
        with pytest.raises(ValueError, match="two methods and two data sets"):
            mean_ranks(scores)
