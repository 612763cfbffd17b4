"""Races: which configurations are out, by hand and by scipy, and over simulated sweeps what that saves and costs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.racing import race

SWEEPS, CONFIGURATIONS, AT_LEAST, AT_MOST = 200, 12, 3, 12


@pytest.mark.parametrize("direction", ["min", "max"])
def test_a_look_is_scipys_one_sided_paired_test_at_a_part_of_the_level(direction: str) -> None:
    draw = np.random.default_rng(0)
    for gap in np.linspace(0, 6, 25):
        leader = draw.normal(size=5)
        other = leader + gap + draw.normal(size=5)
        sign = 1 if direction == "min" else -1
        values = {"a": sign * leader, "b": sign * other, "c": sign * (leader + 50 + draw.normal(size=5))}
        standing = race({key: row[:3] for key, row in values.items()}, 3, 12, direction)  # type: ignore[arg-type]
        # Nine looks, and three configurations: each is in two pairs.
        for key in standing.left[1:] + tuple(standing.out):
            better = values[standing.left[0]][:3]
            side = "greater" if direction == "min" else "less"
            p = stats.ttest_rel(values[key][:3], better, alternative=side).pvalue  # type: ignore[index]
            assert (key in standing.out) == (p < 0.05 / 9 / 2)


def test_one_more_seed_is_waited_for_and_the_last_look_decides() -> None:
    draw = np.random.default_rng(4)
    rows = {"a": draw.normal(size=12), "b": draw.normal(size=12)}
    assert not race({key: row[:4] for key, row in rows.items()}, 3, 12).decided
    assert race({"a": rows["a"][:4], "b": rows["b"][:3]}, 3, 12).seeds == 3
    whole = race(rows, 3, 12)
    assert (whole.seeds, whole.decided) == (12, True)
    assert whole.left == tuple(sorted(rows, key=lambda key: rows[key].mean()))
    assert race({"a": rows["a"][:3]}, 3, 12).decided
    # Where nothing differs by chance, a difference is certain.
    assert race({"a": [1.0, 1.0, 1.0], "b": [2.0, 2.0, 2.0], "c": [1.0, 1.0, 1.0]}, 3, 12).out == {"b": 3}
    with pytest.raises(ValueError, match="b must have at least 3 finite values"):
        race({"a": [1.0, 2.0, 3.0], "b": [1.0, float("nan"), 3.0]}, 3, 12)


def test_the_best_is_seldom_lost_where_all_are_nearly_alike() -> None:
    """Of configurations of one mean any is the best: a given one is out in 5 % of the races at most."""
    draw = np.random.default_rng(2)
    lost = sum(0 in race(dict(enumerate(draw.normal(size=(6, 12)))), 3, 12).out for _ in range(600))
    assert lost <= stats.binom.ppf(0.999, 600, 0.05)


def raced(values: np.ndarray) -> tuple[int, int]:
    """Who wins a race that asks for values seed by seed, and how many it has asked for."""
    seeds = dict.fromkeys(range(len(values)), AT_LEAST)
    while not (standing := race({key: values[key, :n] for key, n in seeds.items()}, AT_LEAST, AT_MOST)).decided:
        for key in standing.left:
            seeds[int(str(key))] += 1
    return int(str(standing.left[0])), sum(seeds.values())


@pytest.mark.parametrize("uneven", [0.0, 0.1], ids=["equal noise", "noise that grows with the mean"])
def test_over_200_sweeps_the_same_best_is_found_with_60_percent_of_the_seeds(uneven: float) -> None:
    draw = np.random.default_rng(3)
    used = same = wrong = wrong_fixed = 0
    for _ in range(SWEEPS):
        means = draw.normal(0, 4, CONFIGURATIONS)
        means -= means.min()
        noise = (1 + uneven * means)[:, None] * draw.normal(size=(CONFIGURATIONS, AT_MOST))
        # Seeds have something in common: initial weights and the order of data.
        values = means[:, None] + 0.9 * noise + 0.45 * draw.normal(size=AT_MOST)
        best, count = raced(values)
        fixed = int(values.mean(axis=1).argmin())
        used += count
        same += best == fixed
        wrong += means[best] > 0
        wrong_fixed += means[fixed] > 0
    assert used <= 0.6 * SWEEPS * CONFIGURATIONS * AT_MOST
    assert same >= 0.99 * SWEEPS
    assert wrong <= wrong_fixed
