"""Parallel coordinates: all axes at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm

from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.labels import label_of
from analysis.configuration.levels import categories, is_number
from analysis.configuration.names import metric_of
from analysis.configuration.objective import better, first_objective
from analysis.configuration.ranking import Best
from analysis.configuration.words import ARROWS
from analysis.figures import style
from analysis.figures.drawing import (
    MOST_APART,
    configuration_words,
    is_logarithmic,
    marked,
    metric_words,
    norm_of,
    plain_ticks,
    shortened,
    wide,
    wrapped,
)
from analysis.figures.style import Chart
from analysis.record.runs import Record, RecordError
from analysis.statistics.intervals import Array
from analysis.tables.pareto import COSTS

MOST_TICKS = 6
MOST_NARROW = 5
"""The most axes in a figure one column wide; with more it spans both columns."""
LETTERS = 16
"""Characters per inch."""


def parallel_coordinates(record: Recorded, metrics: Sequence[str] | None = None) -> Chart:
    """One line per configuration of the search, through its axes, its objectives and its size.

    Lines are coloured by the first objective; the best is thick, unfinished ones are grey. ``metrics`` are the vertical
    axes after those of the search. Raises ``RecordError`` for an unknown metric, and if nothing finished.

    >>> import analysis
    >>> figure = analysis.parallel_coordinates(analysis.example())
    >>> len(figure.marks)
    12
    """
    configurations = Configurations.of(record)
    record = configurations.record
    key, direction = first_objective(record)
    if metrics is None:
        metrics = [*record.objective, *(cost for cost in COSTS[:1] if cost in record.metrics)]
    metrics = [metric_of(record, name) for name in metrics]
    shown = [*record.axes, *metrics]
    frame = configurations.frame
    frame = frame[frame["kind"] == "search"].reset_index(drop=True)
    finished = (frame["state"] == "finished") & np.isfinite(frame[key].astype("float64"))
    if not finished.any():
        raise RecordError(f"{record.names}: no configuration of the search has finished with a finite {key}")
    # An axis whose condition never held has no values.
    shown = [name for name in shown if not is_number(frame[name]) or np.isfinite(frame[name].astype("float64")).any()]
    scales = [_scale(record, name, frame[name]) for name in shown]
    heights = np.column_stack([places for places, _ in scales])
    values = frame.loc[finished, key].astype("float64")
    worst_first = values.sort_values(ascending=direction == "max").index
    order = [*frame.index[~finished], *worst_first]
    top = configurations.best
    with style.applied():
        figure = style.figure(2.5, style.WIDTH if len(shown) <= MOST_NARROW else style.PAGE)
        letters = max(6, int(LETTERS * figure.get_figwidth() / len(shown)))
        axes = figure.add_subplot()
        norm, colormap = norm_of(values, wide(values)), style.sequential()
        points = dict(zip(frame.index, frame.to_dict("records"), strict=True))
        best = next((row for row in order if top and _is(points[row], top)), None)
        together = {False: list[Any](), True: list[Any]()}
        for row in order:
            if len(order) > MOST_APART and row != best:
                together[bool(finished[row])].append(row)
                continue
            look: dict[str, Any] = {"color": style.PALE, "linewidth": 0.7, "linestyle": (0, (3, 2))}
            if finished[row]:
                look = {"color": colormap(norm(values[row])), "linewidth": 2.2 if row == best else 0.9}
            line = axes.plot(range(len(shown)), heights[row], zorder=3, **look)
            series = "best" if row == best else "finished" if finished[row] else "not finished"
            words = configuration_words(record, points[row], key)
            marked(axes, line[0], series, str(points[row]["name"]), [words])
        for done, rows in together.items():
            colours = colormap(norm(values[rows])) if done else style.PALE
            _draw_lines(axes, heights[rows], done, colours, [configuration_words(record, points[r], key) for r in rows])
        for place, (name, (_, ticks)) in enumerate(zip(shown, scales, strict=True)):
            axes.axvline(place, color=style.INK, linewidth=0.8, zorder=4)
            for height, text in ticks:
                axes.plot([place - 0.03, place], [height, height], color=style.INK, linewidth=0.6, zorder=4)
                ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.75}
                side: dict[str, Any] = {"x": place + 0.04, "ha": "left"} if place < len(shown) - 1 else {
                    "x": place - 0.06, "ha": "right"}  # fmt: skip
                axes.text(
                    y=height,
                    s=shortened(text, letters),
                    va="center",
                    fontsize=style.SMALL,
                    zorder=6,
                    bbox=ground,
                    **side,
                )
            words = str(label_of(record, name))
            arrow = ARROWS[better(record, name)] if name in metrics else ""
            axes.text(place, 1.07, wrapped(words + arrow, letters), ha="center", va="bottom", fontsize=6.5)
        axes.set_axis_off()
        axes.set_ylim(-0.06, 1.06)
        axes.set_xlim(-0.15, len(shown) - 0.85)
        bar = figure.colorbar(ScalarMappable(norm, colormap), ax=axes, location="bottom", aspect=45, pad=0.02)
        bar.set_label(metric_words(record, key))
        if isinstance(norm, LogNorm):
            plain_ticks(bar.ax, vertical=False)
    return figure


def _is(point: Mapping[Any, Any], best: Best) -> bool:
    return (point["sweep"], point["trials"]) == (best.sweep, best.trials)


def _draw_lines(axes: Axes, heights: Array, finished: bool, colours: Any, told: Sequence[str]) -> None:
    """Draw many lines ``(lines, axes)`` in one piece, below those that are drawn by themselves."""
    places = np.arange(heights.shape[1])
    known = np.isfinite(heights)
    drawn = np.any(known[:, 1:] & known[:, :-1], axis=1)  # an axis whose condition does not hold is a gap
    if not drawn.any():
        return
    look: dict[str, Any] = {"linewidths": 0.9} if finished else {"linewidths": 0.7, "linestyles": [(0, (3, 2))]}
    segments = [np.column_stack([places, row]) for row in heights[drawn]]
    lines = LineCollection(segments, colors=colours[drawn] if finished else colours, zorder=2.9, **look)
    axes.add_collection(lines, autolim=False)
    series = "finished" if finished else "not finished"
    marked(axes, lines, series, "", [text for text, is_drawn in zip(told, drawn.tolist(), strict=True) if is_drawn])


def _scale(record: Record, name: str, values: pd.Series[Any]) -> tuple[Array, list[tuple[float, str]]]:
    """The heights in [0, 1] of a column's values, and the labelled heights."""
    if not is_number(values):
        words = categories(record, name, values)
        last = max(len(words.cat.categories) - 1, 1)
        ticks = [(place / last, str(word)) for place, word in enumerate(words.cat.categories)]
        return words.cat.codes.to_numpy(dtype=np.float64) / last, ticks
    numbers = values.astype("float64").replace([np.inf, -np.inf], np.nan)
    present = [float(value) for value in sorted(numbers.dropna().unique())]
    low, high = present[0], present[-1]
    logarithmic = low > 0 and (is_logarithmic(record, name) or ("/" in name and high > 10 * low))

    def height(value: float) -> float:
        if math.isnan(value) or low == high:
            return value * 0 + 0.5
        if logarithmic:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    named = present
    if len(present) > MOST_TICKS:
        named = list(np.geomspace(low, high, 5) if logarithmic else np.linspace(low, high, 5))
    if pd.api.types.is_integer_dtype(values):
        named = [float(round(value)) for value in named]
    ticks = [(height(value), f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.3g}") for value in named]
    return np.array([height(value) for value in numbers]), ticks
