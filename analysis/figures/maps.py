"""Configurations over two axes: each as a dot, and the means of pairs as a heat map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.labels import axis_labels
from analysis.configuration.levels import is_number
from analysis.configuration.names import axis_of, metric_of
from analysis.configuration.replicates import OPEN, SAME, SURVIVORS, UNTESTED
from analysis.figures import style
from analysis.figures.drawing import (
    MOST_APART,
    configuration_words,
    marked,
    metric_words,
    norm_of,
    plain_ticks,
    positions,
    wide,
)
from analysis.figures.room import fitted, legend, uncrowd
from analysis.figures.style import Chart
from analysis.record.runs import Record, RecordError
from analysis.tables.pairs import pivot

MOST_SPREADS = 5
"""Up to so many columns, the cells of a heat map have room for an interval."""


def depth_and_rank(record: Record) -> tuple[str, str]:
    """The two axes of a map: depth and rank if they were searched, otherwise the first two numeric axes.

    Raises ``RecordError`` if there are no two.
    """
    numeric = [axis for axis in record.axes if is_number(record.runs[axis]) and record.runs[axis].notna().any()]
    first = next((axis for axis in numeric if axis.endswith(".depth")), None)
    second = next((axis for axis in numeric if axis.endswith(".rank")), None)
    rest = [axis for axis in numeric if axis not in (first, second)]
    chosen = [axis if axis is not None else rest.pop(0) if rest else None for axis in (first, second)]
    if chosen[0] is None or chosen[1] is None:
        raise RecordError(f"{record.names}: a map needs two searched numeric axes, got {', '.join(numeric)}")
    return chosen[0], chosen[1]


def axes_versus_objective(record: Recorded, x: str, y: str, metric: str | None = None) -> Chart:
    """Configurations of the search over two axes, coloured by the objective (or another metric).

    Stopped ones are hollow, failed ones crosses; the best is ringed. Raises ``RecordError`` for an unknown
    axis or metric, and if no configuration has a value.

    >>> import analysis
    >>> figure = analysis.axes_versus_objective(analysis.example(), "model.flow.depth", "model.operator.rank")
    >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
    ('depth', 'rank')
    """
    configurations = Configurations.of(record)
    record = configurations.record
    key, x, y = metric_of(record, metric), axis_of(record, x), axis_of(record, y)
    frame = configurations.frame
    frame = frame[frame["kind"] == "search"].reset_index(drop=True)
    values = frame[key].astype("float64").replace([np.inf, -np.inf], np.nan)
    if values.notna().sum() == 0:
        raise RecordError(f"{record.names}: no configuration of the search has a value of {key}")
    top, short = configurations.best, axis_labels(record)
    with style.applied():
        figure = style.figure()
        axes = figure.add_subplot()
        xs, ys = positions(record, axes, x, frame[x]), positions(record, axes, y, frame[y], vertical=True)
        norm, colormap = norm_of(values.dropna(), logarithmic=wide(values.dropna())), style.sequential()
        points = frame.assign(_x=xs, _y=ys, _value=values).to_dict("records")
        for alike in _alike(points):
            _draw_dots(axes, alike, [colormap(norm(point["_value"])) for point in alike], record, key)
            for point in alike:
                if top is not None and (point["sweep"], point["trials"]) == (top.sweep, top.trials):
                    ring: dict[str, Any] = {"facecolors": "none", "edgecolors": style.INK, "linewidths": 1.0}
                    axes.scatter(point["_x"], point["_y"], s=90, zorder=3, **ring)
        axes.set_xlabel(short[x])
        axes.set_ylabel(short[y])
        bar = figure.colorbar(ScalarMappable(norm, colormap), ax=axes, aspect=30)
        bar.set_label(metric_words(record, key))
        if isinstance(norm, LogNorm):
            plain_ticks(bar.ax)
        legend(figure, _state_handles(frame, top is not None), 4, handletextpad=0.2)
        uncrowd(figure)
    return figure


def _alike(points: Sequence[dict[Any, Any]]) -> list[list[dict[Any, Any]]]:
    """The points that are drawn in one piece: each by itself, or of many those in the same state."""
    if len(points) <= MOST_APART:
        return [[point] for point in points]
    groups: dict[tuple[str, bool, bool], list[dict[Any, Any]]] = {}
    for point in points:
        groups.setdefault((str(point["state"]), math.isnan(point["_value"]), _has_place(point)), []).append(point)
    return list(groups.values())


def _has_place(point: Mapping[Any, Any]) -> bool:
    return not (math.isnan(point["_x"]) or math.isnan(point["_y"]))


def _draw_dots(
    axes: Axes, points: Sequence[Mapping[Any, Any]], colours: Sequence[Any], record: Record, key: str
) -> None:
    """Draw configurations that look alike, by their state and whether they have a value, and give them tooltips."""
    first = points[0]
    look: dict[str, Any] = {"s": 26, "facecolors": "none", "edgecolors": colours, "linewidths": 1.2}
    if first["state"] == "failed" or math.isnan(first["_value"]):
        look = {"s": 20, "marker": "x", "color": style.GREY, "linewidths": 1.0}
    elif first["state"] == "finished":
        look |= {"facecolors": colours, "edgecolors": "white", "linewidths": 0.4}
    dots = axes.scatter([point["_x"] for point in points], [point["_y"] for point in points], zorder=3, **look)
    if _has_place(first):
        told = [configuration_words(record, point, key) for point in points]
        marked(axes, dots, str(first["state"]), str(first["name"]) if len(points) == 1 else "", told)


def heat_map(
    record: Recorded,
    x: str | None = None,
    y: str | None = None,
    metric: str | None = None,
    *,
    unequal: bool = False,
    margin: float | None = None,
) -> Chart:
    """The mean of a metric for each pair of values of two axes: ``analysis.pivot`` as a picture.

    By default depth is horizontal and rank vertical. The best pair is framed. ``≈`` marks pairs equal to it within the
    margin, ``~`` undecided ones, ``?`` those that could not be tested, and ``‡`` those with only survivors of early
    stopping; hatched pairs have no value. Raises ``RecordError`` as ``pivot`` does.

    >>> import analysis
    >>> figure = analysis.heat_map(analysis.example())
    >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
    ('depth', 'rank')
    """
    configurations = Configurations.of(record)
    record = configurations.record
    if x is None or y is None:
        x, y = depth_and_rank(record)
    key, x, y = metric_of(record, metric), axis_of(record, x), axis_of(record, y)
    table = pivot(configurations, y, x, key, unequal=unequal, margin=margin)
    rows = [row for row in table.rows if not row.block]
    columns = [(place, column) for place, column in enumerate(table.columns) if place and column.key != "beside"]
    found = {(across, up): row.cells[place] for up, row in enumerate(rows) for across, (place, _) in enumerate(columns)}
    values = pd.Series([cell.value for cell in found.values() if not cell.missing], dtype="float64")
    if values.empty:
        raise RecordError(f"{record.names}: no pair of {x} and {y} has a value of {key}")
    short = axis_labels(record)
    with style.applied():
        figure = style.figure(0.75 + 0.36 * max(len(rows), 4))
        axes = figure.add_subplot()
        norm, colormap = norm_of(values, wide(values)), style.sequential()
        written: list[tuple[Text, list[str]]] = []
        for (across, up), cell in found.items():
            column = columns[across][1]
            corner = (across - 0.5, up - 0.5)
            where = f"{short[x]} {column.header}, {short[y]} {rows[up].cells[0].value}"
            if cell.missing:
                box = Rectangle(corner, 1, 1, facecolor="white", edgecolor=style.PALE, hatch="////", linewidth=0)
                # If there is no room for the reason, the hatching and the tooltip have to do.
                wordings = [cell.reason, cell.reason.partition(" ")[0]] if cell.reason else []
                ground: dict[str, Any] = {"bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1}}
                look: dict[str, Any] = {"color": style.GREY} | (ground if wordings else {})
            else:
                colour = colormap(norm(float(str(cell.value))))
                box = Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white", linewidth=0.6)
                digits = column.digits(cell)
                words = " ".join(
                    [digits.value, *(mark for mark in (SAME, OPEN, UNTESTED, SURVIVORS) if mark in cell.marker)]
                )
                spread = len(digits.spread) == 1 and len(columns) <= MOST_SPREADS
                wordings = [*([f"{words}\n± {digits.spread[0]}"] if spread else []), words, digits.value]
                look = {"color": style.ink_on(colour), "weight": "bold" if cell.bold else "normal"}
            axes.add_patch(box)
            marked(axes, box, "", "", [f"{where}: {column.text(cell)}"])
            place: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": style.SMALL, "linespacing": 1.15}
            written.append((axes.text(across, up, "", **place, **look), wordings))
            if cell.bold:
                look = {"fill": False, "edgecolor": style.INK, "linewidth": 1.6, "zorder": 4, "clip_on": False}
                axes.add_patch(Rectangle(corner, 1, 1, **look))
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_ylim(-0.5, len(rows) - 0.5)
        axes.set_xticks(range(len(columns)), [column.header for _, column in columns])
        axes.set_yticks(range(len(rows)), [str(row.cells[0].value) for row in rows])
        axes.tick_params(length=0)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(short[x])
        axes.set_ylabel(short[y])
        bar = figure.colorbar(ScalarMappable(norm, colormap), ax=axes, aspect=30)
        bar.set_label(metric_words(record, key), fontsize=6.5)
        if isinstance(norm, LogNorm):
            plain_ticks(bar.ax)
        uncrowd(figure)
        fitted(written, axes, 1.0)
    return figure


def _state_handles(frame: pd.DataFrame, ringed: bool) -> list[Line2D]:
    dot: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 4.5, "color": style.GREY}
    handles = [Line2D([], [], label="finished", **dot)]
    if frame["state"].isin(["stopped", "unfinished"]).any():
        handles.append(Line2D([], [], label="stopped or unfinished", markerfacecolor="none", **dot))
    if (frame["state"] == "failed").any():
        handles.append(Line2D([], [], label="failed", **dot | {"marker": "x"}))
    if ringed:
        ring = {"markersize": 8, "color": style.INK}
        handles.append(Line2D([], [], label="best", markerfacecolor="none", **dot | ring))
    return handles
