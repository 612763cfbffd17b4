"""Configurations by two metrics, and their Pareto front."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.configuration.budget import check_equal
from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.labels import label_of
from analysis.configuration.names import metric_of
from analysis.configuration.objective import better
from analysis.figures import style
from analysis.figures.curves import FEWEST_SEEDS
from analysis.figures.drawing import (
    configuration_words,
    marked,
    metric_words,
    number,
    plain_ticks,
    shortened,
    value_axis,
    wide,
)
from analysis.figures.room import legend, name_marks, uncrowd
from analysis.figures.style import Chart
from analysis.record.runs import RecordError
from analysis.statistics.fronts import nondominated
from analysis.tables.pareto import COSTS

MOST_NAMED = 8
"""Up to so many members of the front are named."""


def pareto(record: Recorded, x: str | None = None, y: str | None = None, *, unequal: bool = False) -> Chart:
    """Finished configurations of the search by two metrics, and their Pareto front.

    ``y`` defaults to the first objective, ``x`` to the second or, in a sweep with one, to the size or cost of sampling.
    Bars are 95 % Student t intervals over three or more seeds. Raises ``RecordError`` for an unknown metric, if there
    is no second one or nothing finished, and for unequal training (unless ``unequal``).

    >>> import analysis
    >>> figure = analysis.pareto(analysis.example())
    >>> figure.axes[0].get_xlabel()
    'parameters (lower is better)'
    """
    configurations = Configurations.of(record)
    record = configurations.record
    objectives = list(record.objective)
    y = metric_of(record, y)
    others = [*objectives[1:], *(cost for cost in COSTS if cost in record.metrics)]
    if x is None and not others:
        raise RecordError(f"{record.names}: a front needs two metrics, but there is no second objective and no cost")
    x = others[0] if x is None else metric_of(record, x)
    frame = configurations.frame
    runs = record.runs[(record.runs["kind"] == "search") & (record.runs["state"] == "finished")]
    if not unequal:
        check_equal(record, runs, "a front")
    frame = frame[(frame["kind"] == "search") & (frame["state"] == "finished")]
    frame = frame[np.isfinite(frame[[x, y]].to_numpy(dtype=np.float64)).all(axis=1)].reset_index(drop=True)
    if frame.empty:
        raise RecordError(f"{record.names}: no finished configuration has {x} and {y}")
    ways = {name: better(record, name) or "min" for name in (x, y)}
    signs = np.array([1.0 if ways[name] == "min" else -1.0 for name in (x, y)])
    on = nondominated(frame[[x, y]].to_numpy(dtype=np.float64) * signs)
    with style.applied():
        figure = style.figure()
        axes = figure.add_subplot()
        bars = []
        for index, point in enumerate(frame.to_dict("records")):
            look: dict[str, Any] = {"marker": "o", "markersize": 4, "markerfacecolor": "none", "color": style.GREY}
            if on[index]:
                look = {"marker": "o", "markersize": 5, "color": style.colours(3)[1], "zorder": 4}
                look |= {"markeredgecolor": "white", "markeredgewidth": 0.4}
            dot = axes.plot(point[x], point[y], linestyle="none", **look)
            series = "front" if on[index] else "not on the front"
            told = f"{configuration_words(record, point, y)}, {label_of(record, x).name} {number(float(point[x]))}"
            marked(axes, dot[0], series, str(point["name"]), [told])
            if not math.isnan(point[f"{y} ci95"]) and point["seeds"] >= FEWEST_SEEDS:
                bars.append((point[x], point[y], point[f"{y} ci95"], look["color"], series, str(point["name"])))
        order = frame[on].sort_values(x)
        # Between two members, no known configuration is better than the worse of them.
        where: Literal["post", "pre"] = "post" if ways[x] == "min" else "pre"
        stair = axes.step(order[x], order[y], where=where, color=style.colours(3)[1], linewidth=1)
        marked(axes, stair[0], "front", "", [])
        value_axis(axes)
        if wide(frame[x]):
            axes.set_xscale("log")
            plain_ticks(axes, vertical=False)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.margins(x=0.12)
        low, high = axes.get_ylim()
        for across, mean, half, colour, series, item in bars:
            bar = axes.vlines(across, max(mean - half, low), min(mean + half, high), color=colour, linewidth=0.7)
            marked(axes, bar, series, item, [])
        axes.set_ylim(low, high)
        axes.set_xlabel(metric_words(record, x))
        axes.set_ylabel(metric_words(record, y))
        dot_look: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 4.5}
        handles = [Line2D([], [], color=style.colours(3)[1], label="Pareto front", **dot_look)]
        if not on.all():
            handles.append(
                Line2D([], [], color=style.GREY, markerfacecolor="none", label="another is better in both", **dot_look)
            )
        legend(figure, handles, 2, handletextpad=0.2)
        uncrowd(figure)
        if len(order) <= MOST_NAMED:
            points = zip(order[x], order[y], order["name"], strict=True)
            name_marks(axes, [(a, b, shortened(str(name))) for a, b, name in points], fontsize=style.SMALL)
    return figure
