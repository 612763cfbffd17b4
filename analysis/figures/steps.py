"""Quality against the number of solver steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.levels import distinct_values, is_number
from analysis.configuration.objective import first_objective
from analysis.configuration.words import short_names, words_of
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
    references,
    value_axis,
)
from analysis.figures.style import Chart
from analysis.record.runs import Record, RecordError
from analysis.render.cells import MISSING
from analysis.statistics.intervals import student

MOST_COLOURS = 8
MOST_BANDS = 6
"""Lines from which on only the best, and what was confirmed, have a band: more of them hide each other."""

Curves = Mapping[int, pd.DataFrame]
"""A configuration's row to ``mean`` and ``half`` the width of its interval, by steps."""


def steps_versus_quality(record: Recorded, metric: str | None = None) -> Chart:
    """Quality against the number of solver steps, a line for each finished configuration of the search.

    Lines are means over seeds, coloured by the first axis; the best is thick, with a star where its collapsed
    operator is; what was confirmed at fresh seeds is black, controls are dashed, references, with the floor of real
    images, dotted. Bands are 95 % Student t intervals over seeds: of every line up to six, otherwise of the best and
    of what was confirmed. ``metric`` is a curve (``nfe/<quality metric>``, or what is behind the slash), by default
    that of the first objective. Raises ``RecordError`` where nobody has it.

    >>> import analysis
    >>> figure = analysis.steps_versus_quality(analysis.example())
    >>> figure.axes[0].get_xlabel()
    'solver steps k'
    """
    configurations = Configurations.of(record)
    record = configurations.record
    metric = _curve_metric(record, metric)
    name = metric.removeprefix("nfe/")
    collapsed = f"quality/{name}_collapsed"
    frame = configurations.frame
    there = (frame["state"] == "finished") | ((frame["kind"] == "control") & (frame["finished"] > 0))
    frame = frame[there].reset_index(drop=True)
    curves = _mean_curves(record, frame, metric)
    search = frame[(frame["kind"] == "search") & frame.index.isin(list(curves))]
    if search.empty:
        raise RecordError(f"{record.names}: no finished configuration of the search has the curve {metric}")
    with style.applied():
        figure = style.figure(2.8)
        axes = figure.add_subplot()
        colour_of, series_of, handles = _colours(record, figure, axes, search)
        top = configurations.best
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
    rows = frame["used"].explode()
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
            part = "" if point["state"] == "finished" else f" ({point['words']})"
            labels.append((float(curves[row]["mean"].dropna().iloc[-1]), f"{point['name']}{part}"))
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
