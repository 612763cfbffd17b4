"""Fronts and volumes against their definitions and Optuna's."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from optuna._hypervolume import compute_hypervolume

from analysis.statistics.fronts import hypervolume, nondominated


def test_what_no_other_point_is_better_than() -> None:
    points = np.array([[1.0, 4.0], [2.0, 2.0], [4.0, 1.0], [3.0, 3.0], [2.0, 2.0], [1.0, 5.0]])
    assert nondominated(points).tolist() == [True, True, True, False, True, False]


@pytest.mark.parametrize("objectives", [2, 3])
def test_fronts_are_those_of_their_definition(objectives: int) -> None:
    points = np.random.default_rng(objectives).integers(0, 5, (40, objectives)).astype(float)
    wanted = [not any(all(q <= p) and any(q < p) for q, p in ((other, point) for other in points)) for point in points]
    assert nondominated(points).tolist() == wanted


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_the_volume_is_that_of_optuna(objectives: int) -> None:
    random = np.random.default_rng(objectives)
    for count in (1, 2, 7, 40):
        points, corner = random.uniform(0, 1.3, (count, objectives)), np.ones(objectives)
        inside = points[(points < 1).all(axis=1)]
        wanted = float(compute_hypervolume(inside, corner)) if len(inside) else 0.0
        assert hypervolume(points, corner) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("objectives", [2, 3])
def test_the_volume_is_the_number_of_dominated_cells(objectives: int) -> None:
    points = np.random.default_rng(objectives + 10).integers(0, 7, (12, objectives)).astype(float)
    cells = itertools.product(range(7), repeat=objectives)
    dominated = sum(any((point <= cell).all() for point in points) for cell in map(np.array, cells))
    assert hypervolume(points, np.full(objectives, 7.0)) == dominated


def test_volumes_of_worked_examples() -> None:
    assert hypervolume(np.array([[1.0, 3.0], [2.0, 1.0]]), np.array([4.0, 4.0])) == 7.0
    assert hypervolume(np.array([[0.0, 0.0, 0.0]]), np.array([2.0, 3.0, 4.0])) == 24.0
    assert hypervolume(np.array([[5.0, 0.0]]), np.array([4.0, 4.0])) == 0.0
    with pytest.raises(ValueError, match="1, 2 or 3 objectives"):
        hypervolume(np.zeros((1, 4)), np.ones(4))
    with pytest.raises(ValueError, match="finite"):
        nondominated(np.array([[math.nan, 1.0]]))
