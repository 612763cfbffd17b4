"""The figure of partial dependence: the prediction of a metric along each axis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from analysis.configuration.configurations import Recorded
from analysis.configuration.dependence import AxisDependence, Dependences, dependences
from analysis.configuration.labels import label_of
from analysis.configuration.words import word
from analysis.figures import style
from analysis.figures.drawing import marked, metric_words, number, number_axis, plain_ticks
from analysis.figures.room import uncrowd
from analysis.figures.style import Chart

ACROSS = 3
"""Panels per row."""
MOST = 6
"""The most axes drawn: those along which means differ most."""


def partial_dependence(record: Recorded, metric: str | None = None, *, unequal: bool = False) -> Chart:
    """The predicted mean along each axis, over all values of the others, with 95 % intervals; dots are configurations.

    There is one panel for each of the six axes along which means differ most. See ``dependence_table`` for the
    prediction and for when ``RecordError`` is raised.

    >>> import analysis
    >>> figure = analysis.partial_dependence(analysis.example())
    >>> [axes.get_xlabel() for axes in figure.axes]
    ['rank', 'depth']
    """
    found = dependences(record, metric, unequal=unequal)
    shown = found.axes[:MOST]
    across = min(ACROSS, len(shown))
    down = math.ceil(len(shown) / across)
    with style.applied():
        figure = style.figure(0.5 + 1.4 * down)
        panels = figure.subplots(down, across, sharey=True, squeeze=False)
        for axes, each in zip(panels.flat, shown, strict=False):
            _panel(axes, found, each)
        for axes in panels.flat[len(shown) :]:
            axes.remove()
        figure.supylabel(metric_words(found.responses.record, found.responses.key), fontsize=7)
        uncrowd(figure)
    return figure


def _panel(axes: Axes, found: Dependences, each: AxisDependence) -> None:
    of, name = found.responses, str(label_of(found.responses.record, each.axis))
    colour = style.colours(3)[1]
    words = [word(value) for value in each.values]
    numbers = each.edge.ordered and not each.edge.levels
    at = [float(value) for value in each.values] if numbers else [float(place) for place in range(len(words))]
    points = [point[each.axis] for point in of.points]
    seen = [float(value) if numbers else float(words.index(word(value))) for value in points]
    dots = axes.plot(seen, of.means, ".", color=style.PALE, markersize=2, zorder=2)
    marked(axes, dots[0], "configurations", "", [])
    told = [
        f"{name} {said}: {number(float(mean))} [{number(float(low))}, {number(float(high))}]"
        for said, mean, low, high in zip(words, each.means, each.low, each.high, strict=True)
    ]
    look: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 2.6, "zorder": 4}
    if each.edge.ordered:
        axes.fill_between(at, each.low, each.high, color=colour, alpha=0.2, linewidth=0, zorder=3)
    else:
        axes.vlines(at, each.low, each.high, color=colour, linewidth=0.8, zorder=3)
        look["linestyle"] = "none"
    line = axes.plot(at, each.means, **look)
    marked(axes, line[0], "predicted", "", told)
    if numbers:
        number_axis(axes, at, logarithmic=each.edge.log)
    else:
        axes.set_xticks(at, words)
        axes.set_xlim(-0.5, len(words) - 0.5)
    if found.logarithmic:
        axes.set_yscale("log")
        plain_ticks(axes)
    else:
        low, high = float(np.min(of.means)), float(np.max(of.means))
        axes.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))
    axes.set_xlabel(name)
