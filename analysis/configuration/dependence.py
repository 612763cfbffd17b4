"""The partial dependence of a metric on each axis of a search, with intervals, for the table and the figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.configuration.configurations import Recorded
from analysis.configuration.cube import Edge, places_of
from analysis.configuration.responses import Responses, responses
from analysis.statistics.intervals import Array
from analysis.statistics.surrogate import Surrogate

MOST = 200
"""The most configurations used for the model, whose time grows with the cube of their number."""
WIDE = 10
"""Positive values that span at least this ratio are modelled in logarithms."""


@dataclass(frozen=True)
class AxisDependence:
    """The values of an axis, the predicted mean at each, ``(values,)``, and the ends of their 95 % intervals."""

    axis: str
    edge: Edge
    values: Sequence[Any]
    means: Array
    low: Array
    high: Array

    @property
    def reach(self) -> float:
        """The difference between the largest and the smallest mean."""
        return float(np.ptp(self.means))


@dataclass(frozen=True)
class Dependences:
    """The dependence on every axis, the largest reach first; the data of the model, and how well it predicts.

    ``logarithmic``: values are modelled in logarithms, so that means are geometric. ``explained`` is the share of the
    variance that the model predicts in leave-one-out cross-validation over configurations.
    """

    responses: Responses
    axes: Sequence[AxisDependence]
    logarithmic: bool
    explained: float
    used: int


def dependences(record: Recorded, metric: str | None = None, *, unequal: bool = False) -> Dependences:
    """The mean prediction at values of each axis, averaged over the configurations' values of the other axes.

    The prediction is by a Gaussian process fitted to the configurations' means; if there are more than 200, to 200
    drawn with a fixed seed. Raises ``RecordError`` as ``responses`` does.
    """
    found = responses(record, metric, "there is nothing to explain", unequal=unequal)
    chosen = np.arange(len(found.points))
    if len(chosen) > MOST:
        chosen = np.sort(np.random.default_rng(0).choice(len(chosen), MOST, replace=False))
    values = found.means[chosen]
    logarithmic = bool(values.min() > 0 and values.max() > WIDE * values.min())
    points, columns = _columns(found.edges, places_of(found.edges, [found.points[int(place)] for place in chosen]))
    model = Surrogate(points, np.log(values) if logarithmic else values)
    axes = []
    for place, edge in enumerate(found.edges):
        if len(edge.shown) < 2:
            continue
        shown, _ = _columns([edge], np.array([[edge.place(value)] for value in edge.shown]))
        told = model.dependence(columns[place], shown, points)
        ends = told.means, told.means - told.half_widths, told.means + told.half_widths
        means, low, high = (np.exp(each) for each in ends) if logarithmic else ends
        axes.append(AxisDependence(found.axes[place], edge, edge.shown, means, low, high))
    axes.sort(key=lambda each: -each.reach)
    return Dependences(found, axes, logarithmic, model.left_out(), len(chosen))


def _columns(edges: Sequence[Edge], places: Array) -> tuple[Array, list[list[int]]]:
    """The cube as columns of a model, and each edge's columns: one per level if the levels have no order."""
    columns: list[Array] = []
    of_edges = []
    for place, edge in enumerate(edges):
        first = len(columns)
        if edge.ordered or len(edge.levels) < 3:
            columns.append(places[:, place])
        else:
            codes = np.floor(places[:, place] * len(edge.levels)).astype(int)
            columns += list((codes[:, None] == np.arange(len(edge.levels))).astype(np.float64).T)
        of_edges.append(list(range(first, len(columns))))
    return np.stack(columns, axis=1), of_edges
