"""A metric against one axis, with one line per value of another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import pandas as pd
from matplotlib.axes import Axes

from analysis.configuration.budget import check_equal
from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.curves import mean_curves
from analysis.configuration.labels import axis_labels, label_of
from analysis.configuration.levels import categories
from analysis.configuration.names import axis_of, metric_of
from analysis.configuration.replicates import population, replicates
from analysis.configuration.sampled import stem
from analysis.figures import style
from analysis.figures.curves import FEWEST_SEEDS
from analysis.figures.drawing import (
    Labelled,
    floor_name,
    is_logarithmic,
    label_lines,
    marked,
    metric_words,
    number,
    number_axis,
    references,
    value_axis,
)
from analysis.figures.maps import depth_and_rank
from analysis.figures.room import legend, uncrowd
from analysis.figures.style import Chart
from analysis.record.frames import RANKS
from analysis.record.runs import RecordError

DODGE = 0.018
"""The horizontal offset between lines, as a share of the axis."""


def rank_curves(
    record: Recorded, x: str | None = None, by: str | None = None, metric: str | None = None, *, unequal: bool = False
) -> Chart:
    """A metric against one axis (rank by default), with one line per value or bin of another (depth by default).

    Lines go through means of the finished configurations of the search. Small dots are the replicates (seeds, or
    configurations if these differ in other axes); bars are 95 % Student t intervals of three or more. References are
    dotted; real images in r principal components, which have a value at each rank, are a curve. Raises ``RecordError``
    for unknown names, if nothing has a value, and for unequal training (unless ``unequal``).

    >>> import analysis
    >>> figure = analysis.rank_curves(analysis.example())
    >>> figure.axes[0].get_xlabel()
    'rank'
    """
    configurations = Configurations.of(record)
    record = configurations.record
    if x is None or by is None:
        by, x = depth_and_rank(record)
    x, by, key = axis_of(record, x), axis_of(record, by), metric_of(record, metric)
    searched = record.runs[record.runs["kind"] == "search"]
    if not unequal:
        check_equal(record, searched[searched["state"] == "finished"], f"{key} by {by} and {x}")
    frame = population(configurations, key, unequal)
    frame = frame[frame["counts"] & frame[x].notna()]
    if frame.empty:
        raise RecordError(f"{record.names}: no finished configuration has a finite {key}")
    lines = categories(record, by, frame[by])
    keys = pd.Series(list(zip(lines.astype("object"), frame[x], strict=True)), frame.index, dtype="object")
    compared = replicates(record, frame, key, keys, [x, by], unequal)
    pairs = [cast(tuple[str, Any], pair) for pair in compared.groups]
    groups = {pair: compared.groups[pair] for pair in sorted(pairs, key=lambda pair: pair[1])}
    short, known = axis_labels(record), sorted(float(value) for value in frame[x].unique())
    logarithmic = known[0] > 0 and (is_logarithmic(record, x) or known[-1] >= 4 * known[0])
    with style.applied():
        figure = style.figure()
        axes = figure.add_subplot()
        bars: list[tuple[float, float, float, str, str]] = []
        shown = list(lines.cat.categories)
        for place, (colour, level) in enumerate(zip(style.colours(len(shown)), shown, strict=True)):
            series, told, means = f"{short[by]} {level}", [], []
            places = [value for name, value in groups if name == level]
            # Bars at the same position would hide each other.
            step = DODGE * (place - (len(shown) - 1) / 2)
            across = known[-1] - known[0]
            beside = {
                value: value * (known[-1] / known[0]) ** step if logarithmic else value + step * across
                for value in places
            }
            for value in places:
                replicated, cell = groups[level, value].values, compared.cell((level, value), "t")
                half = math.nan if cell.half_width is None else cell.half_width
                means.append(float(replicated.mean()))
                if len(replicated) < FEWEST_SEEDS:
                    half = math.nan  # dots are clearer than a bar that leaves the figure
                bars.append((beside[value], means[-1], half, colour, series))
                unit = compared.unit if len(replicated) > 1 else compared.unit[:-1]
                numbers = f"{label_of(record, key).name} {number(means[-1], half)} ({len(replicated)} {unit})"
                told.append(f"{series}, {short[x]} {value:g}: {numbers}")
                if len(replicated) > 1:
                    look: dict[str, Any] = {"linestyle": "none", "marker": ".", "markersize": 2.5, "alpha": 0.5}
                    dots = axes.plot([beside[value]] * len(replicated), replicated, color=colour, **look)
                    marked(axes, dots[0], series, series, [])
            look = {"marker": style.MARKERS[place % len(style.MARKERS)], "markersize": 4, "label": series}
            look |= {"markeredgecolor": "white", "markeredgewidth": 0.4, "zorder": 4}
            line = axes.plot(list(beside.values()), means, color=colour, **look)
            marked(axes, line[0], series, series, told)
        labels = _floor(configurations, axes, key, x, known)
        labels += references(axes, configurations.frame[~_over_ranks(configurations, key, x)], key)
        number_axis(axes, known, logarithmic=logarithmic)
        axes.set_xlabel(short[x])
        value_axis(axes)
        low, high = axes.get_ylim()
        for value, mean, half, colour, series in bars:
            if not math.isnan(half):
                bar = axes.vlines(value, max(mean - half, low), min(mean + half, high), color=colour, linewidth=0.8)
                marked(axes, bar, series, series, [])
        axes.set_ylim(low, high)
        axes.set_ylabel(metric_words(record, key))
        legend(figure, axes.get_legend_handles_labels()[0], 4, handlelength=1.4)
        uncrowd(figure)
        label_lines(figure, axes, labels)
    return figure


def _over_ranks(configurations: Configurations, key: str, x: str) -> pd.Series[Any]:
    """Which rows of ``frame`` are references with a value at each rank, such as real images in r components."""
    frame = configurations.frame
    curves = mean_curves(configurations.record, frame, _curve(key)) if x.endswith(".rank") else {}
    return (frame["kind"] == "reference") & frame.index.isin(list(curves))


def _floor(configurations: Configurations, axes: Axes, key: str, x: str, known: Sequence[float]) -> list[Labelled]:
    """Draw a dotted line through the references' values at each rank: the loss due to the few dimensions alone."""
    frame = configurations.frame
    labels = []
    for row in frame.index[_over_ranks(configurations, key, x)]:
        curve = mean_curves(configurations.record, frame.loc[[row]], _curve(key))[row]["mean"].dropna()
        curve = curve[(curve.index >= known[0]) & (curve.index <= known[-1])]
        if curve.empty:
            continue
        name = floor_name(str(frame["name"][row]))
        line = axes.plot(curve.index, curve, color=style.INK, linewidth=0.8, linestyle=(0, (1, 1.5)), marker=".",
                         markersize=2.5)  # fmt: skip
        told = [f"{name}: {number(float(value))} at r = {rank:g}" for rank, value in curve.items()]
        marked(axes, line[0], "references", "", told)
        labels.append((float(curve.iloc[-1]), name))
    return labels


def _curve(key: str) -> str:
    """The key of the curve over ranks that contains a metric's value."""
    return f"{RANKS}{'test_' if key.startswith('test/') else ''}{stem(key)}"
