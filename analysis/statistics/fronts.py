"""Pareto fronts of points, and the hypervolume that they dominate."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.statistics.intervals import Array


def nondominated(points: Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which of the points ``(points, objectives)``, all minimised, are not dominated by another point.

    Equal points do not dominate each other. Raises ``ValueError`` for values that are not finite.
    """
    values = _checked(points)
    kept = np.ones(len(values), dtype=np.bool_)
    for index, point in enumerate(values):
        kept[index] = not ((values <= point).all(axis=1) & (values < point).any(axis=1)).any()
    return kept


def hypervolume(points: Array, reference: Array) -> float:
    """The exact volume between the points ``(points, objectives)``, all minimised, and a reference point.

    There may be one, two or three objectives. Points that are not below the reference in every objective add nothing.
    Raises ``ValueError`` for more objectives and for values that are not finite.
    """
    values, corner = _checked(points), np.asarray(reference, dtype=np.float64)
    if corner.shape != values.shape[1:] or not 1 <= corner.size <= 3:
        raise ValueError(f"the volume needs 1, 2 or 3 objectives and a reference of the same size, got {corner.size}")
    inside = values[(values < corner).all(axis=1)]
    if not len(inside):
        return 0.0
    if corner.size == 1:
        return float(corner[0] - inside.min())
    if corner.size == 2:
        return _area(inside, corner)
    order = inside[np.argsort(inside[:, 2], kind="stable")]
    depths = np.diff(np.append(order[:, 2], corner[2]))
    # Between two depths, the cross-section is the area dominated by all points before them.
    return float(sum(depth * _area(order[: i + 1, :2], corner[:2]) for i, depth in enumerate(depths) if depth > 0))


def _area(points: Array, corner: Array) -> float:
    """The area of the staircase between the corner and the points below it."""
    order = points[np.lexsort((points[:, 1], points[:, 0]))]
    heights = np.minimum.accumulate(order[:, 1])
    widths = np.diff(np.append(order[:, 0], corner[0]))
    return float((widths * (corner[1] - heights)).sum())


def _checked(points: Array) -> Array:
    values = np.asarray(points, dtype=np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError("points must be a matrix (points, objectives) of finite numbers")
    return values
