"""The searched space as a unit cube, with every axis from 0 to 1, for models of the objective."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.configuration.words import word
from analysis.record.runs import Record
from analysis.statistics.intervals import Array

SHOWN = 7
"""How many values of a range are shown."""


@dataclass(frozen=True)
class Edge:
    """An axis of the cube: its ``levels`` take equal parts; without levels, it runs from ``low`` to ``high``.

    ``ordered`` levels are numbers in ascending order; other levels have no order. ``log``: the axis is logarithmic.
    ``whole``: its values are integers, each covering half a step to both sides.
    """

    axis: str
    levels: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    whole: bool = False
    ordered: bool = True

    def place(self, value: Any) -> float:
        """The position of a value, from 0 to 1.

        >>> Edge("train.loss.flow", low=1.0, high=4.0, log=True).place(2.0), Edge("depth", (1, 2, 4, 8)).place(2)
        (0.5, 0.375)
        """
        if self.levels:
            return ([word(level) for level in self.levels].index(word(value)) + 0.5) / len(self.levels)
        low, high, at = (math.log(each) if self.log else float(each) for each in (*self._ends, value))
        return (at - low) / (high - low) if high > low else 0.5

    @property
    def _ends(self) -> tuple[float, float]:
        return (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)

    @property
    def shown(self) -> list[Any]:
        """The levels, or several values from one end to the other."""
        if self.levels:
            return list(self.levels)
        if self.low == self.high:
            return [self.low]
        between = np.geomspace(self.low, self.high, SHOWN) if self.log else np.linspace(self.low, self.high, SHOWN)
        return list(dict.fromkeys(round(each) if self.whole else float(f"{each:.3g}") for each in between.tolist()))


def edges_of(record: Record, axes: Sequence[str], points: Sequence[Mapping[str, Any]]) -> list[Edge]:
    """The edges of axes that every point has, with the specs' ranges, merged over sweeps."""
    return [_edge(record, axis, [point[axis] for point in points]) for axis in axes]


def places_of(edges: Sequence[Edge], points: Sequence[Mapping[str, Any]]) -> Array:
    """The positions of the points in the cube, ``(points, edges)``."""
    return np.array([[edge.place(point[edge.axis]) for edge in edges] for point in points])


def _edge(record: Record, axis: str, values: Sequence[Any]) -> Edge:
    dimensions = [sweep.dimension(axis) for sweep in record.sweeps if sweep.dimension(axis)]
    bounds = [dimension.get("int") or dimension.get("float") for dimension in dimensions]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if not bounds or not all(bounds) or not numbers:
        listed = [each for dimension in dimensions for each in dimension.get("choice") or dimension.get("grid") or ()]
        levels = list({word(level): level for level in [*listed, *values]}.values())
        ordered = all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels)
        return Edge(axis, tuple(sorted(levels) if ordered else levels), ordered=ordered)
    low = min(min(pair[0] for pair in bounds if pair), min(values))
    high = max(max(pair[1] for pair in bounds if pair), max(values))
    log = all(dimension.get("log") for dimension in dimensions) and low > 0
    return Edge(axis, (), low, high, log, all(dimension.get("int") for dimension in dimensions))
