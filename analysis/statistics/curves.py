"""Summaries of a curve of quality over solver steps in one number."""

from __future__ import annotations

import numpy as np

from analysis.record.runs import Direction
from analysis.statistics.intervals import Array


def steps_to(steps: Array, values: Array, target: float, direction: Direction) -> float:
    """The number of steps at which a curve first reaches the target; NaN if it never does.

    ``steps`` ascend. Between steps the curve is interpolated linearly in the logarithm of steps.
    """
    sign = 1.0 if direction == "min" else -1.0
    gaps = sign * (np.asarray(values, dtype=np.float64) - target)
    there = np.flatnonzero(gaps <= 0)
    if not len(there):
        return float("nan")
    first = int(there[0])
    if first == 0 or not np.isfinite(gaps[first - 1]):
        return float(steps[first])
    share = gaps[first - 1] / (gaps[first - 1] - gaps[first])
    low, high = np.log(steps[first - 1]), np.log(steps[first])
    return float(np.exp(low + share * (high - low)))


def area(steps: Array, values: Array) -> float:
    """The mean of a curve over the logarithm of steps by the trapezoidal rule: its area divided by its width."""
    logs = np.log(np.asarray(steps, dtype=np.float64))
    if len(logs) == 1:
        return float(values[0])
    return float(np.trapezoid(values, logs) / (logs[-1] - logs[0]))
