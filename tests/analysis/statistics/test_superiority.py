"""The probability of being better, against SciPy, closed forms and simulated coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from analysis.statistics.superiority import superiority


@pytest.mark.parametrize(("wins", "count"), [(0, 3), (2, 5), (5, 5), (11, 20)])
def test_the_interval_of_pairs_is_wilsons(wins: int, count: int) -> None:
    a = np.where(np.arange(count) < wins, 1.0, -1.0)
    found = superiority(a, np.zeros(count), paired=True)
    expected = stats.binomtest(wins, count).proportion_ci(method="wilson")
    assert found.mean == wins / count
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_share_of_unpaired_replicates_is_mann_whitneys() -> None:
    random = np.random.default_rng(0)
    a, b = random.integers(0, 6, 9).astype(float), random.integers(0, 6, 5).astype(float)  # with ties
    found = superiority(a, b, paired=False)
    assert found.mean == pytest.approx(stats.mannwhitneyu(a, b).statistic / (9 * 5))
    assert found.n == 5
    turned = superiority(b, a, paired=False)
    assert (turned.mean, turned.low, turned.high) == pytest.approx((1 - found.mean, 1 - found.high, 1 - found.low))


def test_the_ends_are_where_the_score_says() -> None:
    """Each end is z standard errors from the share, by the variance that Hanley & McNeil give at that end."""
    a, b = np.array([1.0, 2.0, 3.0, 9.0]), np.array([0.0, 2.5, 4.0])
    found, z = superiority(a, b, paired=False), special.ndtri(0.975)
    for end in (found.low, found.high):
        assert end is not None
        q1, q2, common = end / (2 - end), 2 * end**2 / (1 + end), 3.5 - 1
        variance = (end * (1 - end) + common * (q1 - end**2) + common * (q2 - end**2)) / 12
        assert abs(found.mean - end) == pytest.approx(z * variance**0.5)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("shift", [0.0, 1.0])
@pytest.mark.parametrize("count", [3, 10])
def test_the_interval_holds_the_truth(paired: bool, shift: float, count: int) -> None:
    """Of normal values P(A > B) is Φ(shift / √2); 2,000 samples, of which 95 % should hold it."""
    random = np.random.default_rng(count + 7 * paired)
    truth = float(special.ndtr(shift / 2**0.5))
    held = 0
    for _ in range(2000):
        found = superiority(random.normal(shift, 1, count), random.normal(0, 1, count), paired=paired)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
    # Of three pairs there are four shares, of three and three replicates ten: no interval can be closer to 95 %.
    assert held / 2000 >= (0.87 if count == 3 else 0.935)


@pytest.mark.parametrize(("a", "b", "paired"), [([], [1.0], False), ([1.0], [1.0, 2.0], True), ([np.nan], [1.0], True)])
def test_what_cannot_be_counted_is_refused(a: list[float], b: list[float], paired: bool) -> None:
    with pytest.raises(ValueError, match=r"superiority needs finite values|pairs need groups of one length"):
        superiority(np.array(a), np.array(b), paired=paired)
