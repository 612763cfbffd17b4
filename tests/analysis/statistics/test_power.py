"""What replicates can tell: against statsmodels, SciPy, simulation at nominal rates, and counted flips."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

from analysis.configuration.replicates import Compared
from analysis.statistics.power import detectable, equivalence, pairs_needed, power, sign_flips
from analysis.statistics.tests import compare, paired_t


def test_power_is_that_of_statsmodels() -> None:
    for effect, pairs, level in itertools.product((0.2, 0.5, 0.9), (3, 8, 40), (0.05, 0.01)):
        expected = TTestPower().power(effect, pairs, level, alternative="two-sided")
        assert 0 < expected < 1
        assert power(effect, pairs, level) == pytest.approx(expected, rel=1e-5)


def test_what_is_detectable_is_seen_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    for pairs in (2, 3, 5, 10):
        gaps = detectable(pairs) + generator.standard_normal((20_000, pairs))
        seen = (paired_t(gaps)[1] < 0.05).mean()
        assert seen == pytest.approx(0.8, abs=4 * math.sqrt(0.8 * 0.2 / 20_000))
    assert detectable(1) == math.inf


def test_as_many_pairs_as_are_needed_and_no_fewer() -> None:
    for effect in (0.3, 0.5, 1.0, 3.0):
        found = pairs_needed(effect)
        assert found is not None
        assert power(effect, found) >= 0.8 > power(effect, found - 1)
        solved = TTestPower().solve_power(effect, power=0.8, alpha=0.05)
        assert found in (math.ceil(solved), math.ceil(solved) + 1)
    assert pairs_needed(1e-4) is None


@pytest.mark.parametrize("effect", [0.6, 1.0, 1.6])
def test_the_seeds_that_are_needed_are_predicted_within_a_fifth(effect: float) -> None:
    """What 200 studies of 20 seeds predict, in the median, against the seeds at which 80 % of 10,000 studies see it."""
    generator = np.random.default_rng(3)

    def seen(pairs: int) -> float:
        gaps = effect + generator.standard_normal((10_000, pairs))
        return float((paired_t(gaps)[1] < 0.05).mean())

    needed = next(pairs for pairs in itertools.count(2) if seen(pairs) >= 0.8)
    predicted = []
    for _ in range(200):
        base = generator.normal(10.0, 3.0, 20)
        found = compare(base + 0.5 * (effect + generator.standard_normal(20)), base, paired=True)
        # One for which 10,000 would not do is above any other.
        predicted.append(Compared({"a": found}, {"a": 0.5}, family=1).needed("a") or math.inf)
    assert pairs_needed(effect) == pytest.approx(needed, rel=0.2)
    assert np.median(predicted) == pytest.approx(needed, rel=0.2)


def test_equivalence_is_that_of_statsmodels_and_errs_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    for _ in range(20):
        gaps = generator.normal(0.1, 0.5, 6)
        expected = DescrStatsW(gaps).ttost_mean(-0.7, 0.7)[0]
        assert equivalence(gaps, 0.7) == pytest.approx(expected, rel=1e-5)
    # At the margin itself, which is the worst of the hypothesis, it errs at the level.
    wrong = [equivalence(generator.normal(3.0, 1.0, 12), 3.0) < 0.05 for _ in range(4000)]
    assert np.mean(wrong) == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 4000))
    assert equivalence(np.array([0.5, 0.5]), 1.0) == 0
    assert equivalence(np.array([2.0, 2.0]), 1.0) == 1
    for gaps, margin in ((np.array([1.0]), 1.0), (np.array([1.0, 2.0]), 0.0)):
        with pytest.raises(ValueError, match="margin above 0"):
            equivalence(gaps, margin)


def test_sign_flips_are_counted() -> None:
    generator = np.random.default_rng(2)
    for pairs in (2, 5, 9):
        gaps = generator.normal(0.4, 1.0, pairs)
        means = [np.mean(np.array(signs) * gaps) for signs in itertools.product((-1, 1), repeat=pairs)]
        expected = np.mean([abs(mean) >= abs(gaps.mean()) - 1e-12 for mean in means])
        assert sign_flips(gaps) == pytest.approx(expected)
        assert sign_flips(np.abs(gaps)) == pytest.approx(2 / 2**pairs)
    assert sign_flips(np.zeros(4)) == 1
    many = generator.normal(1.0, 1.0, 40)
    assert sign_flips(many) == sign_flips(many) < 0.01
    with pytest.raises(ValueError, match="two or more finite"):
        sign_flips(np.array([1.0]))
