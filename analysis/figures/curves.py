"""Quality against solver steps or rank when sampling from a trained model: one line per configuration."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.curves import Curves, curve_keys, curves_by_trial, mean_curves
from analysis.configuration.labels import label_of, metric_label
from analysis.configuration.levels import categories, distinct_values, is_number
from analysis.configuration.objective import first_objective
from analysis.configuration.words import words_of
from analysis.figures import style
from analysis.figures.drawing import (
    Labelled,
    floor_name,
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
    shortened,
    value_axis,
)
from analysis.figures.room import legend, uncrowd
from analysis.figures.style import Chart
from analysis.record.runs import Record, RecordError
from analysis.render.cells import MISSING

MOST_COLOURS = 8
SHORT = 22
"""Characters of the best configuration's name, which leave room for other entries of the legend."""
MOST_BANDS = 6
"""With more lines, only the best and the confirmed have a band, since bands would hide each other."""
FEWEST_SEEDS = 3
"""Seeds that a band needs; the interval of two is wider than any figure, so their points are shown instead."""
DASHES: Sequence[Any] = ("-", (0, (4, 1.2)), (0, (1.2, 1)), (0, (5, 1.2, 1.2, 1.2)))
"""Dashes for the values of the second axis, which also have different markers."""


@dataclass(frozen=True)
class Over:
    """The horizontal axis of curves.

    ``begins`` is the prefix of their keys, ``label`` the axis label, and ``place`` the text before a value on it.
    ``star`` labels the star at the setting with which the best configuration is finally sampled; ``star_at`` gives its
    position for a record, a configuration's row and its curve. Curves ``<begins>test_<metric>`` are on the test split.
    """

    begins: str
    label: str
    place: str
    star: str
    star_at: Callable[[Record, Mapping[Any, Any], pd.DataFrame], float]


def curve_chart(record: Recorded, metric: str | None, over: Over) -> Chart:
    """Quality against the axis ``over``, with one line per finished configuration of the search.

    Lines are means over seeds, coloured by the first axis and dashed by the second. The best is thick, with a star at
    its final sampling setting, and is drawn a second time on the test split if that was recorded. Configurations
    confirmed at fresh seeds are black, controls dashed, references dotted (horizontal if they have no curve). With
    three or more seeds, bands are 95 % Student t intervals over seeds; fewer seeds are dots. If there are more than
    six lines, only the best and the confirmed have bands. Raises ``RecordError`` if no finished configuration has the
    curve.
    """
    configurations = Configurations.of(record)
    record = configurations.record
    metric = curve_metric(record, metric, over)
    measured = metric.removeprefix(over.begins)
    name, collapsed = str(metric_label(record, measured)), f"quality/{measured}_collapsed"
    frame = configurations.frame
    there = (frame["state"] == "finished") | ((frame["kind"] == "control") & (frame["finished"] > 0))
    frame = frame[there].reset_index(drop=True)
    curves = mean_curves(record, frame, metric)
    tested = mean_curves(record, frame, f"{over.begins}test_{measured}")
    search = frame[(frame["kind"] == "search") & frame.index.isin(list(curves))]
    if search.empty:
        raise RecordError(f"{record.names}: no finished configuration of the search has the curve {metric}")
    with style.applied():
        figure = style.figure(2.8)
        axes = figure.add_subplot()
        draw = _Lines(axes, over, name)
        colour_of, series_of, handles = _colours(record, figure, axes, search)
        dashes_of, dashed = _dashes(record, search)
        handles += dashed
        top = configurations.best
        bands: list[tuple[int, str, str]] = []
        for point in search.assign(_row=search.index).to_dict("records"):
            row = int(point["_row"])
            first = top is not None and (point["sweep"], point["trials"]) == (top.sweep, top.trials)
            look: dict[str, Any] = {"linewidth": 0.9, "alpha": 0.9, "markersize": 2.6}
            if first:
                look = {"linewidth": 1.8, "markersize": 3.4, "markeredgecolor": "white", "markeredgewidth": 0.4}
                look |= {"zorder": 4}
            look |= {"color": colour_of[row], "marker": "o", **dashes_of.get(row, {})}
            draw.curve(curves[row], f"{point['name']} ({place_words(record, point)})", series_of[row],
                       str(point["name"]), look)  # fmt: skip
            if first or len(search) <= MOST_BANDS:
                bands.append((row, colour_of[row], str(point["name"])))
            if first:
                handles.append(Line2D([], [], label=f"best ({shortened(str(point['name']), SHORT)})", **look))
                if row in tested:
                    look = {"color": colour_of[row], "linewidth": 1.1, "linestyle": (0, (3, 1.5)), "zorder": 4}
                    look |= {"marker": "s", "markersize": 2}
                    draw.curve(tested[row], f"{point['name']}, test split", "test split", str(point["name"]), look)
                    handles.append(Line2D([], [], label="best, test split", **look))
                at = over.star_at(record, point, curves[row])
                handles += draw.star(at, float(point.get(collapsed, math.nan)), colour_of[row], str(point["name"]))
        handles += _confirmed(record, draw, frame, curves, bands)
        labels = _beside(draw, frame, curves, "control", {"color": style.GREY, "linestyle": (0, (4, 2))})
        dotted = {"color": style.INK, "linestyle": (0, (1, 1.5)), "linewidth": 0.8}
        labels += _beside(draw, frame, curves, "reference", dotted)
        labels += references(axes, frame[~frame.index.isin(list(curves))], collapsed)
        number_axis(axes, {float(step) for curve in curves.values() for step in curve.index}, logarithmic=True)
        axes.set_xlabel(over.label)
        value_axis(axes)
        _bands(axes, curves, bands)
        _points(record, axes, frame, metric, curves, bands)
        axes.set_ylabel(metric_words(record, collapsed, name))
        legend(figure, handles, 3, handlelength=2.2)
        uncrowd(figure)
        label_lines(figure, axes, labels)
    return figure


def curve_metric(record: Record, metric: str | None, over: Over) -> str:
    """The key of a curve, given in full or by the part after the slash; by default the first objective's."""
    known = curve_keys(record, over.begins)
    if metric is not None:
        return record.checked(metric if metric.startswith(over.begins) else f"{over.begins}{metric}", known, "curve")
    if not known:
        raise RecordError(f"{record.names}: no trial has a curve yet")
    objective = first_objective(record)[0].partition("/")[2]
    matching = [name for name in known if objective.startswith(f"{name.removeprefix(over.begins)}_")]
    return max(matching, key=len, default=known[0])


def _colours(
    record: Record, figure: Figure, axes: Axes, search: pd.DataFrame
) -> tuple[dict[int, str], dict[int, str], list[Line2D]]:
    """Row of ``search`` → colour and → series, and legend entries, which are empty if there is a colour bar instead."""
    axis = record.axes[0]
    name, values = str(label_of(record, axis)), search[axis]
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


def _dashes(record: Record, search: pd.DataFrame) -> tuple[dict[int, dict[str, Any]], list[Line2D]]:
    """Row of ``search`` → how its line is dashed, by the second axis, and legend entries.

    Both are empty if there is only one axis, or if there are more values than dashes.
    """
    if len(record.axes) < 2:
        return {}, []
    axis = record.axes[1]
    levels = categories(record, axis, search[axis])
    names = list(levels.cat.categories)
    if not 1 < len(names) <= MOST_COLOURS:
        return {}, []
    looks: dict[Any, dict[str, Any]] = {}
    for place, name in enumerate(names):
        looks[name] = {"linestyle": DASHES[place % len(DASHES)], "marker": style.MARKERS[place]}
    grey: dict[str, Any] = {"color": style.GREY, "linewidth": 1.0, "markersize": 2.6}
    label = str(label_of(record, axis))
    handles = [Line2D([], [], label=f"{label} {name}", **grey | look) for name, look in looks.items()]
    return {int(row): looks[level] for row, level in zip(search.index, levels, strict=True)}, handles


def _points(
    record: Record,
    axes: Axes,
    frame: pd.DataFrame,
    metric: str,
    curves: Curves,
    bands: Sequence[tuple[int, str, str]],
) -> None:
    """Draw the seeds themselves if a line has too few of them for a band."""
    for row, colour, item in bands:
        if 1 < curves[row]["seeds"].max() < FEWEST_SEEDS:
            values = curves_by_trial(record, frame.loc[row].to_dict(), metric)
            look: dict[str, Any] = {"linestyle": "none", "marker": ".", "markersize": 2.5, "alpha": 0.6, "zorder": 2}
            for trial in values:
                dots = axes.plot(values.index, values[trial], color=colour, **look)
                marked(axes, dots[0], "seeds", item, [])


@dataclass(frozen=True)
class _Lines:
    """Draws lines of a metric in a panel, with their tooltips."""

    axes: Axes
    over: Over
    name: str

    def curve(self, curve: pd.DataFrame, who: str, series: str, item: str, look: Mapping[str, Any]) -> None:
        line = self.axes.plot(curve.index, curve["mean"], **look)
        points = zip(curve.index, curve["mean"], curve["half"], strict=True)
        told = [
            f"{who}: {self.name} {number(mean, half)} at {self.over.place}{step}"
            for step, mean, half in points
            if math.isfinite(mean)
        ]
        marked(self.axes, line[0], series, item, told)

    def star(self, at: float, value: float, colour: str, item: str) -> list[Line2D]:
        """Draw the star at the best configuration's final sampling setting; returns its legend entry."""
        if not math.isfinite(value) or not math.isfinite(at):
            return []
        star: dict[str, Any] = {"marker": "*", "markersize": 9, "linestyle": "none", "color": colour}
        star |= {"markeredgecolor": style.INK, "markeredgewidth": 0.6}
        drawn = self.axes.plot([at], [value], zorder=5, **star)
        told = [f"{item}, {self.over.star.removeprefix('best, ')}: {number(value)}"]
        marked(self.axes, drawn[0], self.over.star, item, told)
        return [Line2D([], [], label=self.over.star, **star)]


def _confirmed(
    record: Record, draw: _Lines, frame: pd.DataFrame, curves: Curves, bands: list[tuple[int, str, str]]
) -> list[Line2D]:
    look: dict[str, Any] = {"color": style.INK, "linewidth": 1.1, "marker": "s", "markersize": 2.4}
    handles = []
    for row, point in enumerate(frame.to_dict("records")):
        if point["kind"] == "confirm" and row in curves:
            who = f"{point['name']}, confirmed ({place_words(record, point)})"
            draw.curve(curves[row], who, "confirmed", str(point["name"]), look | {"zorder": 3.5})
            bands.append((row, style.INK, str(point["name"])))
            handles = [Line2D([], [], label="fresh seeds", **look)]
    return handles


def _beside(
    draw: _Lines, frame: pd.DataFrame, curves: Curves, kind: Literal["control", "reference"], look: Mapping[str, Any]
) -> list[Labelled]:
    labels = []
    look = {"marker": ".", "markersize": 2.5, **look}
    for row, point in enumerate(frame.to_dict("records")):
        if point["kind"] == kind and row in curves and curves[row]["mean"].notna().any():
            draw.curve(curves[row], floor_name(str(point["name"])), f"{kind}s", str(point["name"]), look)
            part = "" if point["state"] == "finished" else f" ({point['words']})"
            said = shortened(floor_name(str(point["name"])))
            labels.append((float(curves[row]["mean"].dropna().iloc[-1]), f"{said}{part}"))
    return labels


def _bands(axes: Axes, curves: Curves, bands: Sequence[tuple[int, str, str]]) -> None:
    """Draw intervals for three or more seeds, clipped to the range of the lines."""
    low, high = axes.get_ylim()
    for row, colour, item in bands:
        curve = curves[row][curves[row]["half"].notna() & (curves[row]["seeds"] >= FEWEST_SEEDS)]
        if len(curve):
            ends = (curve["mean"] - curve["half"]).clip(lower=low), (curve["mean"] + curve["half"]).clip(upper=high)
            band = axes.fill_between(curve.index, *ends, color=colour, alpha=0.16, linewidth=0, zorder=1.5)
            marked(axes, band, "intervals", item, [])
    axes.set_ylim(low, high)
