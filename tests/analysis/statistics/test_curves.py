"""A curve in one number."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.statistics.curves import area, steps_to


def test_steps_to_a_quality_are_at_the_crossing_on_a_log_scale() -> None:
    steps, values = np.array([1.0, 4.0, 16.0]), np.array([100.0, 20.0, 10.0])
    assert steps_to(steps, values, 20.0, "min") == 4.0
    assert steps_to(steps, values, 60.0, "min") == pytest.approx(2.0)  # half way, and √(1 · 4)
    assert steps_to(steps, values, 200.0, "min") == 1.0
    assert math.isnan(steps_to(steps, values, 5.0, "min"))
    assert steps_to(steps, -values, -60.0, "max") == pytest.approx(2.0)


def test_the_area_is_the_mean_over_log_steps() -> None:
    steps = np.array([1.0, 2.0, 8.0])
    assert area(steps, np.array([3.0, 1.0, 1.0])) == pytest.approx((2 * 1 + 1 * 2) / 3)
    assert area(steps, np.full(3, 7.0)) == pytest.approx(7.0)
    assert area(steps, np.log(steps)) == pytest.approx(math.log(8) / 2)
    assert area(np.array([4.0]), np.array([2.0])) == 2.0
