"""Partial dependence of a Gaussian process, against scikit-learn, refits and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.inspection import partial_dependence

from analysis.statistics.surrogate import Surrogate
from tests.analysis.statistics.rates import rng


def test_partial_dependence_is_that_of_scikit_learn() -> None:
    points = rng(1).uniform(size=(40, 3))
    model = Surrogate(points, points[:, 0] ** 2 + points[:, 1] * points[:, 2])
    places = np.linspace(0.1, 0.9, 5)
    found = model.dependence([1], places[:, None], points)
    theirs = partial_dependence(
        model.process, points, [1], custom_values={1: places}, method="brute", kind="average"
    )["average"][0]  # fmt: skip
    assert found.means == pytest.approx(model.middle + model.scale * theirs)


def test_its_interval_is_that_of_a_mean_of_correlated_predictions() -> None:
    points = rng(2).uniform(size=(25, 2))
    model = Surrogate(points, np.sin(5 * points[:, 0]) + 0.2 * rng(3).normal(size=25))
    found = model.dependence([0], np.array([[0.3]]), points)
    at = points.copy()
    at[:, 0] = 0.3
    _, covariance = model.process.predict(at, return_cov=True)
    noise = model.process.kernel_.k2.noise_level * np.eye(25)  # of a new value, not of the function
    assert found.half_widths[0] == pytest.approx(1.96 * model.scale * np.sqrt((covariance - noise).mean()), rel=1e-6)


def test_intervals_hold_the_truth() -> None:
    """sin(3x) + y² averages over the points to sin(3x) and the mean of their y²."""
    random, held = rng(4), []
    places = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    for _ in range(60):
        points = random.uniform(size=(30, 2))
        values = np.sin(3 * points[:, 0]) + points[:, 1] ** 2 + 0.2 * random.normal(size=30)
        found = Surrogate(points, values).dependence([0], places[:, None], points)
        truth = np.sin(3 * places) + (points[:, 1] ** 2).mean()
        held.append(np.abs(found.means - truth) <= found.half_widths)
    assert np.mean(held) >= 0.85


def test_what_is_left_out_is_predicted_as_by_the_others_alone() -> None:
    points = rng(6).uniform(size=(15, 2))
    values = points[:, 0] + 0.1 * rng(7).normal(size=15)
    model = Surrogate(points, values)
    y = (values - model.middle) / model.scale
    missed = []
    for place in range(15):
        others = np.delete(np.arange(15), place)
        alone = GaussianProcessRegressor(clone(model.process.kernel_), optimizer=None).fit(points[others], y[others])
        missed.append(y[place] - alone.predict(points[[place]])[0])
    assert model.left_out() == pytest.approx(1 - np.square(missed).sum() / np.square(y).sum())


@pytest.mark.parametrize("values", [np.ones(12), np.append(np.arange(11.0), np.nan)])
def test_values_that_say_nothing_are_refused(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    with pytest.raises(ValueError, match="finite, and not all the same"):
        Surrogate(rng(0).uniform(size=(12, 2)), values)
