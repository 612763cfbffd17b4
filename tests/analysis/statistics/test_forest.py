"""Shares of a forest's variance, against closed forms, brute force and Optuna's fANOVA."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import optuna
import pytest
from sklearn.ensemble import RandomForestRegressor

from analysis.statistics.forest import Tree, grow, local_shares, variance_shares
from analysis.statistics.intervals import Array
from tests.analysis.statistics.rates import rng


def sampled(function: Callable[[Array], Array], count: int = 600, directions: int = 2) -> tuple[Array, Array]:
    points = rng(3).uniform(size=(count, directions))
    return points, function(points)


def predicted(forest: Sequence[Tree], points: Array) -> Array:
    """The mean of the trees, by looking for each point's leaf."""
    found = np.zeros(len(points))
    for tree in forest:
        inside = ((tree.low < points[:, None]) & (points[:, None] <= tree.high)).all(axis=-1)
        found += tree.values[inside.argmax(axis=1)] / len(forest)
    return found


def test_a_product_has_its_closed_form() -> None:
    """x y has variance 7/144, of which x and y have 1/48 each: 3/7, 3/7, and 1/7 together."""
    shares = variance_shares(grow(*sampled(lambda x: x[:, 0] * x[:, 1], directions=3)))
    assert [shares[key] for key in ((0,), (1,), (0, 1))] == pytest.approx([3 / 7, 3 / 7, 1 / 7], abs=0.05)
    assert max(shares[key] for key in ((2,), (0, 2), (1, 2))) < 0.005


def test_what_only_two_directions_do_together_is_their_pair() -> None:
    """Each of (x - 1/2)(y - 1/2) alone is constant on average."""
    shares = variance_shares(grow(*sampled(lambda x: (x[:, 0] > 0.5) * 1.0 == (x[:, 1] > 0.5) * 1.0)))
    assert shares[0, 1] > 0.95


def test_shares_are_those_of_the_forest_itself() -> None:
    """By brute force on a grid as fine as the leaves are told apart."""
    forest = grow(*sampled(lambda x: np.sin(4 * x[:, 0]) + x[:, 0] * x[:, 1] ** 2, count=40), trees=3)
    count = 800
    line = (np.arange(count) + 0.5) / count
    grid = predicted(forest, np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)).reshape(count, count)
    total = grid.var()
    a, b = grid.mean(axis=1).var() / total, grid.mean(axis=0).var() / total
    shares = variance_shares(forest)
    assert [shares[0,], shares[1,], shares[0, 1]] == pytest.approx([a, b, 1 - a - b], abs=0.005)
    along = [grid[:, 240].var(), grid[560].var()]
    assert local_shares(forest, np.array([line[560], line[240]])) == pytest.approx(
        np.array(along) / sum(along), abs=0.01
    )


def test_a_tree_is_what_scikit_learn_predicts() -> None:
    points, values = sampled(lambda x: x[:, 0] ** 2 - x[:, 1], count=60)
    theirs = RandomForestRegressor(4, bootstrap=False, max_features=0.5, max_leaf_nodes=256, random_state=0).fit(
        points, values
    )
    fresh = rng(5).uniform(size=(200, 2))
    assert predicted(grow(points, values, trees=4), fresh) == pytest.approx(theirs.predict(fresh))


def test_single_directions_agree_with_optuna() -> None:
    points, values = sampled(lambda x: 4 * x[:, 0] + 2 * x[:, 1] + x[:, 2], count=150, directions=3)
    study = optuna.create_study()
    ranges = {name: optuna.distributions.FloatDistribution(0, 1) for name in "abc"}
    for point, value in zip(points, values, strict=True):
        params = dict(zip("abc", point.tolist(), strict=True))
        study.add_trial(optuna.trial.create_trial(params=params, distributions=ranges, value=float(value)))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    theirs = optuna.importance.get_param_importances(study, evaluator=evaluator)
    ours = variance_shares(grow(points, values))
    exact = np.array([16, 4, 1]) / 21
    assert [ours[0,], ours[1,], ours[2,]] == pytest.approx(exact, abs=0.05)
    assert [theirs[name] for name in "abc"] == pytest.approx(exact, abs=0.1)


def test_around_a_point_the_others_are_fixed() -> None:
    """Along x at y = 1 a product varies by 1/12, along y at x = 1/2 by a quarter of that."""
    forest = grow(*sampled(lambda x: x[:, 0] * x[:, 1]))
    assert local_shares(forest, np.array([0.5, 0.999])) == pytest.approx([0.8, 0.2], abs=0.1)


def test_a_constant_has_no_shares() -> None:
    points = rng(0).uniform(size=(20, 2))
    forest = grow(points, np.ones(20))
    assert set(variance_shares(forest).values()) == {0.0}
    assert local_shares(forest, np.array([0.0, 1.0])).tolist() == [0.0, 0.0]
