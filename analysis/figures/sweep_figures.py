"""Figures of a sweep: quality against solver steps, over depth and rank, against cost, and over all axes at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from analysis.configuration.budget import check_equal
from analysis.configuration.levels import distinct_values, is_number, levels, short_names, words_of
from analysis.configuration.ranking import best, better, by_configuration, first_objective
from analysis.configuration.replicates import population, replicates
from analysis.figures import style
from analysis.figures.drawing import (
    Labelled,
    is_logarithmic,
    label_lines,
    marked,
    metric_words,
    norm_of,
    number,
    number_axis,
    place_words,
    plain_ticks,
    positions,
    references,
    value_axis,
    wide,
    wrapped,
)
from analysis.figures.style import Chart
from analysis.record.runs import Record, RecordError
from analysis.render.table import MISSING
from analysis.statistics.tests import Array, student
from analysis.tables.configurations import pivot
from analysis.tables.pareto import COSTS, nondominated

__all__ = [
    "axes_versus_objective",
    "depth_and_rank",
    "heat_map",
    "parallel_coordinates",
    "pareto",
    "rank_curves",
    "steps_versus_quality",
]

MOST_COLOURS = 8
MOST_BANDS = 6
"""Lines from which on only the best, and what was confirmed, have a band: more of them hide each other."""
MOST_SPREADS = 5
"""Columns of a heat map up to which a cell has room for its interval."""
MOST_TICKS = 6
DODGE = 0.018
"""The share of an axis by which lines stand beside each other."""

Curves = Mapping[int, pd.DataFrame]
"""A configuration's row to ``mean`` and ``half`` the width of its interval, by steps."""


def depth_and_rank(record: Record) -> tuple[str, str]:
    """The two axes that a map is of: depth and rank where they were searched, otherwise the first two of numbers.

    Raises ``RecordError`` where there are no two.
    """
    numeric = [axis for axis in record.axes if is_number(record.runs[axis]) and record.runs[axis].notna().any()]
    first = next((axis for axis in numeric if axis.endswith(".depth")), None)
    second = next((axis for axis in numeric if axis.endswith(".rank")), None)
    rest = [axis for axis in numeric if axis not in (first, second)]
    chosen = [axis if axis is not None else rest.pop(0) if rest else None for axis in (first, second)]
    if chosen[0] is None or chosen[1] is None:
        raise RecordError(f"{record.names}: a map needs two searched axes of numbers; there is {', '.join(numeric)}")
    return chosen[0], chosen[1]


def steps_versus_quality(record: Record, metric: str | None = None) -> Chart:
    """Quality against the number of solver steps, a line for each finished configuration of the search.

    Lines are means over seeds, coloured by the first axis; the best is thick, with a star where its collapsed
    operator is; what was confirmed at fresh seeds is black, controls are dashed, references, with the floor of real
    images, dotted. Bands are 95 % Student t intervals over seeds: of every line up to six, otherwise of the best and
    of what was confirmed. ``metric`` is a curve (``nfe/<quality metric>``, or what is behind the slash), by default
    that of the first objective. Raises ``RecordError`` where nobody has it.
    """
    metric = _curve_metric(record, metric)
    name = metric.removeprefix("nfe/")
    collapsed = f"quality/{name}_collapsed"
    frame = by_configuration(record)
    frame = frame[frame["state"] == "finished"].reset_index(drop=True)
    curves = _mean_curves(record, frame, metric)
    search = frame[(frame["kind"] == "search") & frame.index.isin(list(curves))]
    if search.empty:
        raise RecordError(f"{record.names}: no finished configuration of the search has the curve {metric}")
    with style.applied():
        figure = style.figure(2.8)
        axes = figure.add_subplot()
        colour_of, series_of, handles = _colours(record, figure, axes, search)
        top = best(record)
        bands: list[tuple[int, str, str]] = []
        for point in search.assign(_row=search.index).to_dict("records"):
            row = int(point["_row"])
            first = top is not None and (point["sweep"], point["trials"]) == (top.sweep, top.trials)
            look: dict[str, Any] = {"linewidth": 0.9, "alpha": 0.9, "markersize": 2}
            if first:
                look = {"linewidth": 1.8, "markersize": 3.4, "markeredgecolor": "white", "markeredgewidth": 0.4}
                look |= {"zorder": 4}
            look |= {"color": colour_of[row], "marker": "o"}
            _curve(axes, curves[row], name, f"{point['name']} ({place_words(record, point)})", series_of[row],
                   str(point["name"]), look)  # fmt: skip
            if first or len(search) <= MOST_BANDS:
                bands.append((row, colour_of[row], str(point["name"])))
            if first:
                handles.append(Line2D([], [], label=f"best ({point['name']})", **look))
                handles += _star(axes, curves[row], float(point.get(collapsed, math.nan)), colour_of[row], point)
        handles += _confirmed(record, axes, frame, curves, name, bands)
        labels = _controls(axes, frame, curves, name) + references(axes, frame, collapsed)
        number_axis(axes, {float(step) for curve in curves.values() for step in curve.index}, logarithmic=True)
        axes.set_xlabel("solver steps k")
        value_axis(axes)
        _bands(axes, curves, bands)
        axes.set_ylabel(metric_words(record, collapsed, name))
        handles = [handle for start in range(3) for handle in handles[start::3]]  # legends fill by columns
        figure.legend(handles=handles, loc="outside upper left", ncols=3, columnspacing=1.0, handlelength=1.4)
        label_lines(figure, axes, labels)
    return figure


def axes_versus_objective(record: Record, x: str, y: str, metric: str | None = None) -> Chart:
    """Configurations of the search over two axes, coloured by the objective (or another metric).

    Stopped ones are hollow, failed ones crosses; the best is ringed. Raises ``RecordError`` for an unknown
    axis or metric, and where no configuration has a value.
    """
    key = first_objective(record)[0] if metric is None else record.checked(metric, record.metrics, "metric")
    for axis in (x, y):
        record.checked(axis, record.axes, "axis")
    frame = by_configuration(record)
    frame = frame[frame["kind"] == "search"].reset_index(drop=True)
    values = frame[key].astype("float64").replace([np.inf, -np.inf], np.nan)
    if values.notna().sum() == 0:
        raise RecordError(f"{record.names}: no configuration of the search has a value of {key}")
    top, short = best(record), short_names(record.axes)
    with style.applied():
        figure = style.figure()
        axes = figure.add_subplot()
        xs, ys = positions(record, axes, x, frame[x]), positions(record, axes, y, frame[y], vertical=True)
        norm, colormap = norm_of(values.dropna(), logarithmic=wide(values.dropna())), style.sequential()
        for point in frame.assign(_x=xs, _y=ys, _value=values).to_dict("records"):
            colour = colormap(norm(point["_value"]))
            look: dict[str, Any] = {"s": 26, "facecolors": "none", "edgecolors": [colour], "linewidths": 1.2}
            if point["state"] == "failed" or math.isnan(point["_value"]):
                look = {"s": 20, "marker": "x", "color": style.GREY, "linewidths": 1.0}
            elif point["state"] == "finished":
                look |= {"facecolors": [colour], "edgecolors": "white", "linewidths": 0.4}
            dots = axes.scatter(point["_x"], point["_y"], zorder=3, **look)
            if not (math.isnan(point["_x"]) or math.isnan(point["_y"])):
                marked(axes, dots, str(point["state"]), str(point["name"]), [_told(record, point, key)])
            if top is not None and (point["sweep"], point["trials"]) == (top.sweep, top.trials):
                ring: dict[str, Any] = {"facecolors": "none", "edgecolors": style.INK, "linewidths": 1.0}
                axes.scatter(point["_x"], point["_y"], s=90, zorder=3, **ring)
        axes.set_xlabel(short[x])
        axes.set_ylabel(short[y])
        bar = figure.colorbar(ScalarMappable(norm, colormap), ax=axes, aspect=30)
        bar.set_label(wrapped(metric_words(record, key), 36))
        if isinstance(norm, LogNorm):
            plain_ticks(bar.ax)
        handles = _state_handles(frame, top is not None)
        figure.legend(handles=handles, loc="outside upper left", ncols=4, columnspacing=1.0, handletextpad=0.2)
    return figure


def heat_map(
    record: Record, x: str | None = None, y: str | None = None, metric: str | None = None, *, unequal: bool = False
) -> Chart:
    """The mean of a metric for each pair of values of two axes: ``analysis.pivot`` as a picture.

    Depth across and rank upwards by default. The best pair is framed, ``≈`` marks what is not significantly
    different from it, hatched pairs have no value. Raises ``RecordError`` as ``pivot`` does.
    """
    if x is None or y is None:
        x, y = depth_and_rank(record)
    key = first_objective(record)[0] if metric is None else metric
    table = pivot(record, y, x, key, unequal=unequal)
    rows = [row for row in table.rows if not row.block]
    columns = [(place, column) for place, column in enumerate(table.columns) if place and column.key != "beside"]
    found = {(across, up): row.cells[place] for up, row in enumerate(rows) for across, (place, _) in enumerate(columns)}
    values = pd.Series([cell.value for cell in found.values() if not cell.missing], dtype="float64")
    if values.empty:
        raise RecordError(f"{record.names}: no pair of {x} and {y} has a value of {key}")
    short = short_names(record.axes)
    with style.applied():
        figure = style.figure(0.75 + 0.36 * max(len(rows), 4))
        axes = figure.add_subplot()
        norm, colormap = norm_of(values, wide(values)), style.sequential()
        for (across, up), cell in found.items():
            column = columns[across][1]
            corner = (across - 0.5, up - 0.5)
            where = f"{short[x]} {column.header}, {short[y]} {rows[up].cells[0].value}"
            if cell.missing:
                box = Rectangle(corner, 1, 1, facecolor="white", edgecolor=style.PALE, hatch="////", linewidth=0)
                words = wrapped(cell.reason, 9)
                ground: dict[str, Any] = {"bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1}}
                look: dict[str, Any] = {"color": style.GREY} | (ground if words else {})
            else:
                colour = colormap(norm(float(str(cell.value))))
                box = Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white", linewidth=0.6)
                digits = column.figures(cell)
                words = f"{digits.value}{' ≈' if '≈' in cell.marker else ''}"
                if len(digits.spread) == 1 and len(columns) <= MOST_SPREADS:
                    words += f"\n± {digits.spread[0]}"
                look = {"color": style.ink_on(colour), "weight": "bold" if cell.bold else "normal"}
            axes.add_patch(box)
            marked(axes, box, "", "", [f"{where}: {column.text(cell)}"])
            axes.text(across, up, words, ha="center", va="center", fontsize=style.SMALL, linespacing=1.15, **look)
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
        bar.set_label(wrapped(metric_words(record, key), 36), fontsize=6.5)
        if isinstance(norm, LogNorm):
            plain_ticks(bar.ax)
    return figure


def rank_curves(
    record: Record, x: str | None = None, by: str | None = None, metric: str | None = None, *, unequal: bool = False
) -> Chart:
    """A metric against one axis, a line for each value (or bin) of another: rank, and depth, by default.

    Lines go through means of the finished configurations of the search; small dots are the replicates (seeds, or
    configurations where these differ in something else), bars 95 % Student t intervals. References are dotted.
    Raises ``RecordError`` for unknown names, where nothing has a value, and for unequal training, unless ``unequal``.
    """
    if x is None or by is None:
        by, x = depth_and_rank(record)
    for axis in (x, by):
        record.checked(axis, record.axes, "axis")
    key = first_objective(record)[0] if metric is None else record.checked(metric, record.metrics, "metric")
    searched = record.runs[record.runs["kind"] == "search"]
    if not unequal:
        check_equal(record, searched[searched["state"] == "finished"], f"{key} by {by} and {x}")
    frame = population(record, key, unequal)
    frame = frame[frame["counts"] & frame[x].notna()]
    if frame.empty:
        raise RecordError(f"{record.names}: no finished configuration has a finite {key}")
    lines = levels(record, by, frame[by])
    keys = pd.Series(list(zip(lines.astype("object"), frame[x], strict=True)), frame.index, dtype="object")
    compared = replicates(record, frame, key, keys, [x, by], unequal)
    pairs = [cast(tuple[str, Any], pair) for pair in compared.groups]
    groups = {pair: compared.groups[pair] for pair in sorted(pairs, key=lambda pair: pair[1])}
    short, known = short_names(record.axes), sorted(float(value) for value in frame[x].unique())
    logarithmic = known[0] > 0 and (is_logarithmic(record, x) or known[-1] >= 4 * known[0])
    with style.applied():
        figure = style.figure()
        axes = figure.add_subplot()
        bars: list[tuple[float, float, float, str, str]] = []
        categories = list(lines.cat.categories)
        for place, (colour, level) in enumerate(zip(style.colours(len(categories)), categories, strict=True)):
            series, told, means = f"{short[by]} {level}", [], []
            places = [value for name, value in groups if name == level]
            # Bars at one place would hide each other.
            step = DODGE * (place - (len(categories) - 1) / 2)
            across = known[-1] - known[0]
            beside = {
                value: value * (known[-1] / known[0]) ** step if logarithmic else value + step * across
                for value in places
            }
            for value in places:
                replicated, cell = groups[level, value].values, compared.cell((level, value), "t")
                half = math.nan if cell.half_width is None else cell.half_width
                means.append(float(replicated.mean()))
                bars.append((beside[value], means[-1], half, colour, series))
                unit = compared.unit if len(replicated) > 1 else compared.unit[:-1]
                numbers = f"{key} {number(means[-1], half)} ({len(replicated)} {unit})"
                told.append(f"{series}, {short[x]} {value:g}: {numbers}")
                if len(replicated) > 1:
                    look: dict[str, Any] = {"linestyle": "none", "marker": ".", "markersize": 2.5, "alpha": 0.5}
                    dots = axes.plot([beside[value]] * len(replicated), replicated, color=colour, **look)
                    marked(axes, dots[0], series, series, [])
            look = {"marker": style.MARKERS[place % len(style.MARKERS)], "markersize": 4, "label": series}
            look |= {"markeredgecolor": "white", "markeredgewidth": 0.4, "zorder": 4}
            line = axes.plot(list(beside.values()), means, color=colour, **look)
            marked(axes, line[0], series, series, told)
        labels = references(axes, by_configuration(record), key)
        number_axis(axes, known, logarithmic=logarithmic)
        axes.set_xlabel(short[x])
        value_axis(axes)
        low, high = axes.get_ylim()
        for value, mean, half, colour, series in bars:
            if not math.isnan(half):
                bar = axes.vlines(value, max(mean - half, low), min(mean + half, high), color=colour, linewidth=0.8)
                marked(axes, bar, series, series, [])
        axes.set_ylim(low, high)
        axes.set_ylabel(wrapped(metric_words(record, key), 36))
        figure.legend(loc="outside upper left", ncols=4, columnspacing=1.0, handlelength=1.4)
        label_lines(figure, axes, labels)
    return figure


def pareto(record: Record, x: str | None = None, y: str | None = None, *, unequal: bool = False) -> Chart:
    """Finished configurations of the search by two metrics, and the front that no other one is better than in both.

    ``y`` is the first objective by default, ``x`` the second or, of a sweep with one, the size or cost of sampling.
    Bars are 95 % Student t intervals over seeds. Raises ``RecordError`` for an unknown metric, where there is no
    second one or nothing finished, and for unequal training, unless ``unequal``.
    """
    objectives = list(record.objective)
    y = first_objective(record)[0] if y is None else record.checked(y, record.metrics, "metric")
    others = [*objectives[1:], *(cost for cost in COSTS if cost in record.metrics)]
    if x is None and not others:
        raise RecordError(f"{record.names}: a front needs two metrics; there is no second objective and no cost")
    x = others[0] if x is None else record.checked(x, record.metrics, "metric")
    frame = by_configuration(record)
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
            told = f"{_told(record, point, y)}, {x} {number(float(point[x]))}"
            marked(axes, dot[0], series, str(point["name"]), [told])
            if not math.isnan(point[f"{y} ci95"]):
                bars.append((point[x], point[y], point[f"{y} ci95"], look["color"], series, str(point["name"])))
        order = frame[on].sort_values(x)
        # Between two members nothing is known that is better than the worse of them.
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
        if len(order) <= MOST_COLOURS:
            for place, point in enumerate(order.to_dict("records")):
                # On both sides of the stair in turn: neighbours' names would meet.
                side: dict[str, Any] = {"xytext": (3, 3), "ha": "left"}
                if place % 2:
                    side = {"xytext": (-3, -3), "ha": "right", "va": "top"}
                side |= {"textcoords": "offset points", "fontsize": style.SMALL, "zorder": 5}
                axes.annotate(str(point["name"]), (point[x], point[y]), **side)
        axes.set_xlabel(metric_words(record, x))
        axes.set_ylabel(wrapped(metric_words(record, y), 36))
        dot_look: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 4.5}
        handles = [Line2D([], [], color=style.colours(3)[1], label="Pareto front", **dot_look)]
        if not on.all():
            handles.append(
                Line2D([], [], color=style.GREY, markerfacecolor="none", label="another is better in both", **dot_look)
            )
        figure.legend(handles=handles, loc="outside upper left", ncols=2, columnspacing=1.0, handletextpad=0.2)
    return figure


def parallel_coordinates(record: Record, metrics: Sequence[str] | None = None) -> Chart:
    """A line for each configuration of the search through its axes, its objectives and its size.

    Coloured by the first objective; the best is thick, what did not finish is grey. ``metrics`` are the vertical
    lines behind those of the axes. Raises ``RecordError`` for an unknown metric and where nothing finished.
    """
    key, direction = first_objective(record)
    if metrics is None:
        metrics = [*record.objective, *(cost for cost in COSTS[:1] if cost in record.metrics)]
    shown = [*record.axes, *(record.checked(name, record.metrics, "metric") for name in metrics)]
    frame = by_configuration(record)
    frame = frame[frame["kind"] == "search"].reset_index(drop=True)
    finished = (frame["state"] == "finished") & np.isfinite(frame[key].astype("float64"))
    if not finished.any():
        raise RecordError(f"{record.names}: no configuration of the search has finished with a finite {key}")
    # An axis whose condition never held has no value anywhere.
    shown = [name for name in shown if not is_number(frame[name]) or np.isfinite(frame[name].astype("float64")).any()]
    scales = [_scale(record, name, frame[name]) for name in shown]
    heights = np.column_stack([places for places, _ in scales])
    values = frame.loc[finished, key].astype("float64")
    worst_first = values.sort_values(ascending=direction == "max").index
    order = [*frame.index[~finished], *worst_first]
    short, top = short_names(record.axes), best(record)
    with style.applied():
        figure = style.figure(2.5)
        axes = figure.add_subplot()
        norm, colormap = norm_of(values, wide(values)), style.sequential()
        for row in order:
            point = frame.loc[row].to_dict()
            first = top is not None and (point["sweep"], point["trials"]) == (top.sweep, top.trials)
            look: dict[str, Any] = {"color": style.PALE, "linewidth": 0.7, "linestyle": (0, (3, 2))}
            if finished[row]:
                look = {"color": colormap(norm(values[row])), "linewidth": 2.2 if first else 0.9}
            line = axes.plot(range(len(shown)), heights[row], zorder=3, **look)
            series = "best" if first else "finished" if finished[row] else "not finished"
            marked(axes, line[0], series, str(point["name"]), [_told(record, point, key)])
        for place, (name, (_, ticks)) in enumerate(zip(shown, scales, strict=True)):
            axes.axvline(place, color=style.INK, linewidth=0.8, zorder=4)
            for height, text in ticks:
                axes.plot([place - 0.03, place], [height, height], color=style.INK, linewidth=0.6, zorder=4)
                ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.75}
                side: dict[str, Any] = {"x": place + 0.04, "ha": "left"} if place < len(shown) - 1 else {
                    "x": place - 0.06, "ha": "right"}  # fmt: skip
                axes.text(y=height, s=text, va="center", fontsize=style.SMALL, zorder=6, bbox=ground, **side)
            words = short.get(name) or name.partition("/")[2].replace("_", " ")
            arrow = {"min": " ↓", "max": " ↑", None: ""}[better(record, name)] if name in metrics else ""
            axes.text(place, 1.07, wrapped(words, 12) + arrow, ha="center", va="bottom", fontsize=6.5)
        axes.set_axis_off()
        axes.set_ylim(-0.06, 1.06)
        axes.set_xlim(-0.15, len(shown) - 0.85)
        bar = figure.colorbar(ScalarMappable(norm, colormap), ax=axes, location="bottom", aspect=45, pad=0.02)
        bar.set_label(metric_words(record, key))
        if isinstance(norm, LogNorm):
            plain_ticks(bar.ax, vertical=False)
    return figure


def _told(record: Record, point: Mapping[Any, Any], key: str) -> str:
    """What a configuration tells of itself."""
    value = float(point[key])
    words = "no value" if math.isnan(value) else f"{key} {number(value, float(point[f'{key} ci95']))}"
    state = "" if point["state"] == "finished" else f" [{point['words']}]"
    return f"{point['name']} ({place_words(record, point)}){state}: {words}"


def _scale(record: Record, name: str, values: pd.Series[Any]) -> tuple[Array, list[tuple[float, str]]]:
    """Heights in [0, 1] of a column's values, and the heights that are named."""
    if not is_number(values):
        words = levels(record, name, values)
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


def _curve_metric(record: Record, metric: str | None) -> str:
    known = sorted(str(name) for name in record.curves["metric"].unique() if str(name).startswith("nfe/"))
    if metric is not None:
        return record.checked(metric if metric.startswith("nfe/") else f"nfe/{metric}", known, "curve")
    if not known:
        raise RecordError(f"{record.names}: no trial has a curve yet")
    objective = first_objective(record)[0].partition("/")[2]
    matching = [name for name in known if objective.startswith(f"{name.removeprefix('nfe/')}_")]
    return max(matching, key=len, default=known[0])


def _mean_curves(record: Record, frame: pd.DataFrame, metric: str) -> Curves:
    """Row of ``frame`` to its curve over seeds, by steps; where a seed has no value there is a gap."""
    rows = frame["trials"].explode()
    place = pd.DataFrame({"sweep": frame["sweep"].reindex(rows.index), "trial": rows, "row": rows.index})
    curves = record.curves[record.curves["metric"] == metric].merge(place, on=["sweep", "trial"])
    finite = curves["value"].where(np.isfinite(curves["value"]))
    groups = finite.groupby([curves["row"], curves["step"]])
    half = groups.std(skipna=False) * pd.Series(student(groups.size().astype("float64")), groups.size().index)
    means = pd.DataFrame({"mean": groups.mean(skipna=False), "half": half})
    found = {row: means[means.index.get_level_values("row") == row] for row in frame.index}
    return {row: curve.droplevel("row").sort_index() for row, curve in found.items() if not curve.empty}


def _colours(
    record: Record, figure: Figure, axes: Axes, search: pd.DataFrame
) -> tuple[dict[int, str], dict[int, str], list[Line2D]]:
    """Row of ``search`` to its colour and its series, and legend entries: none where a colour bar says it better."""
    axis = record.axes[0]
    name, values = short_names(record.axes)[axis], search[axis]
    rows = [int(row) for row in search.index]
    if is_number(values) and values.nunique() > MOST_COLOURS:
        numbers, colormap = values.astype("float64"), style.sequential()
        norm = norm_of(numbers.dropna(), is_logarithmic(record, axis))
        bar = figure.colorbar(ScalarMappable(norm, colormap), ax=axes, location="top", label=name, aspect=40, pad=0.02)
        if isinstance(norm, LogNorm):
            plain_ticks(bar.ax, vertical=False)
        pairs = zip(rows, numbers, strict=True)
        colour_of = {row: style.GREY if math.isnan(n) else to_hex(colormap(norm(n))) for row, n in pairs}
        return colour_of, dict.fromkeys(rows, "search"), []
    words = words_of(values)
    order = list(words_of(pd.Series(distinct_values(record, axis, values), dtype="object")))
    order += [MISSING] if MISSING in set(words) else []
    named = dict(zip(order, style.colours(len(order)), strict=True))
    handles = [Line2D([], [], color=named[word], linewidth=1.6, label=f"{name} {word}") for word in order]
    pairs = zip(rows, words, strict=True)
    colour_of = {row: named[word] for row, word in zip(rows, words, strict=True)}
    return colour_of, {row: f"{name} {word}" for row, word in pairs}, handles


def _curve(
    axes: Axes, curve: pd.DataFrame, name: str, who: str, series: str, item: str, look: Mapping[str, Any]
) -> None:
    line = axes.plot(curve.index, curve["mean"], **look)
    points = zip(curve.index, curve["mean"], curve["half"], strict=True)
    told = [f"{who}: {name} {number(mean, half)} at k = {step}" for step, mean, half in points if math.isfinite(mean)]
    marked(axes, line[0], series, item, told)


def _star(axes: Axes, curve: pd.DataFrame, value: float, colour: str, point: Mapping[Any, Any]) -> list[Line2D]:
    """The best one's collapsed operator, at the most steps, which it stands for."""
    if not math.isfinite(value):
        return []
    star: dict[str, Any] = {"marker": "*", "markersize": 9, "linestyle": "none", "color": colour}
    star |= {"markeredgecolor": style.INK, "markeredgewidth": 0.6}
    drawn = axes.plot([curve.index[-1]], [value], zorder=5, **star)
    marked(axes, drawn[0], "best, collapsed", str(point["name"]), [f"{point['name']}, collapsed: {number(value)}"])
    return [Line2D([], [], label="best, collapsed", **star)]


def _confirmed(
    record: Record, axes: Axes, frame: pd.DataFrame, curves: Curves, name: str, bands: list[tuple[int, str, str]]
) -> list[Line2D]:
    look: dict[str, Any] = {"color": style.INK, "linewidth": 1.1, "marker": "s", "markersize": 2.4}
    handles = []
    for row, point in enumerate(frame.to_dict("records")):
        if point["kind"] == "confirm" and row in curves:
            who = f"{point['name']}, confirmed ({place_words(record, point)})"
            _curve(axes, curves[row], name, who, "confirmed", str(point["name"]), look | {"zorder": 3.5})
            bands.append((row, style.INK, str(point["name"])))
            handles = [Line2D([], [], label="fresh seeds", **look)]
    return handles


def _controls(axes: Axes, frame: pd.DataFrame, curves: Curves, name: str) -> list[Labelled]:
    labels = []
    look: dict[str, Any] = {"color": style.GREY, "linestyle": (0, (4, 2)), "marker": ".", "markersize": 2.5}
    for row, point in enumerate(frame.to_dict("records")):
        if point["kind"] == "control" and row in curves and curves[row]["mean"].notna().any():
            _curve(axes, curves[row], name, str(point["name"]), "controls", str(point["name"]), look)
            labels.append((float(curves[row]["mean"].dropna().iloc[-1]), str(point["name"])))
    return labels


def _bands(axes: Axes, curves: Curves, bands: Sequence[tuple[int, str, str]]) -> None:
    """Intervals inside of what the lines span: those of two seeds would make everything else flat."""
    low, high = axes.get_ylim()
    for row, colour, item in bands:
        curve = curves[row][curves[row]["half"].notna()]
        if len(curve):
            ends = (curve["mean"] - curve["half"]).clip(lower=low), (curve["mean"] + curve["half"]).clip(upper=high)
            band = axes.fill_between(curve.index, *ends, color=colour, alpha=0.16, linewidth=0, zorder=1.5)
            marked(axes, band, "intervals", item, [])
    axes.set_ylim(low, high)


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
