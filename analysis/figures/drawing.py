"""Shared parts of figures: axes, logarithmic scales, reference lines, and names beside lines."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from analysis.configuration.labels import axis_labels, label_of
from analysis.configuration.levels import categories, is_number
from analysis.configuration.objective import better
from analysis.configuration.words import HINTS, word_or_missing
from analysis.figures import style
from analysis.record.runs import Record

LABEL_WIDTH = 14
LINE = 36
"""Characters per line of an axis label."""
WORDINGS = ((LABEL_WIDTH, 60), (18, 60), (18, 36), (18, 18), (12, 12))
"""Characters per line and per name beside lines; the first pair at which all names fit above one another is used."""
MOST_NAMED = 8
"""Up to so many values, an axis labels each."""
LONGEST_NAME = 40
"""The longest name in a figure, in characters; those of references have up to 38."""

MOST_APART = 500
"""Up to so many configurations, each is drawn by itself, and pointing at it in one figure of a page shows it in the
others. Of more, those that look alike are drawn in one piece: matplotlib takes milliseconds for each that it draws."""

Labelled = tuple[float, str]
"""The height at which a line ends, and its name."""


def number(value: float, half_width: float = math.nan) -> str:
    """A value in a few digits, with its half width if it has one."""
    spread = "" if math.isnan(half_width) else f" ± {half_width:.2g}"
    digits = f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"
    return f"{digits}{spread}"


def place_words(record: Record, row: Mapping[Any, Any]) -> str:
    """A configuration's point in the space, as ``depth 3, rank 16``."""
    short = axis_labels(record)
    return ", ".join(f"{short[axis]} {word_or_missing(row[axis])}" for axis in record.axes)


def metric_words(record: Record, metric: str, name: str | None = None) -> str:
    """An axis label for a metric, with its better direction, wrapped to fit."""
    words, hint = name or str(label_of(record, metric)), HINTS[better(record, metric)]
    return words + hint if len(words + hint) <= LINE else f"{wrapped(words, LINE)}\n{hint.strip()}".strip()


def references(axes: Axes, frame: pd.DataFrame, metric: str) -> list[Labelled]:
    """Draw a dotted horizontal line for each reference with the metric; that of real images is the floor."""
    labels = []
    for point in frame.to_dict("records"):
        value = float(point.get(metric, math.nan))
        if point["kind"] == "reference" and math.isfinite(value):
            line = axes.axhline(value, color=style.INK, linewidth=0.8, linestyle=(0, (1, 1.5)))
            marked(axes, line, "references", "", [f"{point['name']}: {number(value)}"])
            labels.append((value, shortened(str(point["name"]))))
    return labels


def floor_name(name: str) -> str:
    """The name of a reference drawn over ranks, without its rank: ``real images in r principal components``."""
    return re.sub(r" in \d+ principal", " in r principal", name)


def shortened(name: str, most: int = LONGEST_NAME) -> str:
    """A name of at most ``most`` characters; of a longer one the beginning and the end.

    >>> from analysis.figures.drawing import shortened
    >>> shortened("t011"), shortened("a-sweep-with-a-name-that-is-longer-than-a-figure/t011")
    ('t011', 'a-sweep-with-a-name-…er-than-a-figure/t011')
    """
    return name if len(name) <= most else f"{name[: most // 2]}…{name[len(name) - (most - 1) // 2 :]}"


def marked(axes: Axes, artist: Any, series: str, item: str, told: Sequence[str]) -> None:
    """Record the tooltips of an artist if its figure supports them."""
    figure = axes.get_figure()
    if isinstance(figure, style.Chart):
        figure.mark(artist, series, item, told)


def value_axis(axes: Axes) -> None:
    """Make the vertical axis logarithmic if the drawn lines span more than a factor of ten."""
    axes.autoscale(axis="y")  # a horizontal line just inside the limits has not moved them
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype="float64") for line in axes.get_lines()])
    if wide(drawn[np.isfinite(drawn)]):
        axes.set_yscale("log")
        plain_ticks(axes)


def number_axis(axes: Axes, values: Iterable[float], *, logarithmic: bool, vertical: bool = False) -> None:
    """Label an axis at the values that occur, except those too close to another."""
    known = sorted(set(values))
    axis = axes.yaxis if vertical else axes.xaxis
    if logarithmic:
        (axes.set_yscale if vertical else axes.set_xscale)("log")
    scaled = [math.log(value) if logarithmic else value for value in known]
    low, high = scaled[0], scaled[-1]
    # The last value is always labelled; others only if they are far enough from labelled ones.
    named: list[int] = []
    for place in [len(known) - 1, *range(len(known))]:
        if all(abs(scaled[place] - scaled[other]) >= 0.08 * (high - low) for other in named):
            named.append(place)
    axis.set_major_locator(FixedLocator([known[place] for place in sorted(set(named))]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    margin = 0.04 * (high - low) or 0.1
    ends = (low - margin, high + margin)
    first, last = (math.exp(ends[0]), math.exp(ends[1])) if logarithmic else ends
    if vertical:
        axes.set_ylim(first, last)
    else:
        axes.set_xlim(first, last)


def wide(values: Any) -> bool:
    """Whether values are positive and span more than a factor of ten."""
    return len(values) > 0 and min(values) > 0 and max(values) > 10 * min(values)


def plain_ticks(axes: Axes, *, vertical: bool = True) -> None:
    """Tick labels at 1, 2 and 5 times powers of ten, written out."""
    axis = axes.yaxis if vertical else axes.xaxis
    axis.set_major_locator(LogLocator(base=10, subs=[1, 2, 5]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def norm_of(values: Any, logarithmic: bool) -> Normalize:
    """The normalisation of values for a colour map."""
    low, high = float(values.min()), float(values.max())
    return (LogNorm if logarithmic and low > 0 else Normalize)(low, high)


def positions(
    record: Record, axes: Axes, name: str, values: pd.Series[Any], *, vertical: bool = False
) -> pd.Series[Any]:
    """The positions of an axis's values: numbers as they are, words side by side."""
    axis = axes.yaxis if vertical else axes.xaxis
    if not is_number(values):
        words = categories(record, name, values)
        axis.set_major_locator(FixedLocator(range(len(words.cat.categories))))
        axis.set_major_formatter(FuncFormatter(lambda place, _: str(words.cat.categories[round(place)])))
        return pd.Series(words.cat.codes, dtype="float64")
    known = values.dropna().astype("float64")
    if 1 < known.nunique() <= MOST_NAMED:
        number_axis(axes, known, logarithmic=is_logarithmic(record, name), vertical=vertical)
    elif is_logarithmic(record, name):
        (axes.set_yscale if vertical else axes.set_xscale)("log")
        plain_ticks(axes, vertical=vertical)
    elif pd.api.types.is_integer_dtype(values):
        axis.set_major_locator(MaxNLocator(integer=True))
    return values.astype("float64")


def is_logarithmic(record: Record, axis: str) -> bool:
    """Whether a sweep searched an axis on a logarithmic scale."""
    return any(sweep.dimension(axis).get("log") for sweep in record.sweeps)


def label_lines(figure: Figure, axes: Axes, labels: Iterable[Labelled]) -> None:
    """Name lines in the right margin, each once and as close to its line as the other names allow."""
    placed = sorted(set(labels))
    if not placed:
        return
    beside = axes.get_yaxis_transform()
    leader = {"arrowstyle": "-", "color": style.GREY, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 0}
    look: dict[str, Any] = {"va": "center", "fontsize": style.SMALL, "linespacing": 1.1, "annotation_clip": False}
    notes = [
        axes.annotate(
            name,
            xy=(1, value),
            xycoords=beside,
            xytext=(1.06, value),
            textcoords=beside,
            arrowprops=leader | {"relpos": (0, 0.5)},
            **look,
        )
        for value, name in placed
    ]
    for letters, most in WORDINGS:
        for note, (_, name) in zip(notes, placed, strict=True):
            note.set_text(wrapped(shortened(name, most), letters))
        figure.draw_without_rendering()
        height = axes.get_window_extent().height
        sizes = [(Text.get_window_extent(note).height + 3) / height for note in notes]
        if sum(sizes) <= 1:
            break
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = [float(to_axes.transform((1, value))[1]) for value, _ in placed]
    for note, position in zip(notes, spread(wanted, sizes), strict=True):
        note.xyann = (1.06, position)
        note.set_anncoords(axes.transAxes)


def spread(wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Centres in [0, 1], close to ``wanted`` (ascending), of non-overlapping intervals with these sizes.

    Neighbours that would overlap are stacked around the mean of their wanted centres.
    """
    groups: list[list[int]] = []
    starts: list[float] = []
    for index in range(len(wanted)):
        groups.append([index])
        starts.append(_start(groups[-1], wanted, sizes))
        while len(groups) > 1 and starts[-2] + sum(sizes[i] for i in groups[-2]) > starts[-1]:
            groups[-2:] = [groups[-2] + groups[-1]]
            starts[-2:] = [_start(groups[-1], wanted, sizes)]
    centres: list[float] = []
    for group, start in zip(groups, starts, strict=True):
        edges = start + np.cumsum([0.0, *(sizes[index] for index in group)])
        centres += ((edges[:-1] + edges[1:]) / 2).tolist()
    return centres


def _start(group: Sequence[int], wanted: Sequence[float], sizes: Sequence[float]) -> float:
    """The start of a stack whose members are on average at their wanted centres, within [0, 1]."""
    size = np.array([sizes[index] for index in group])
    offsets = np.cumsum(size) - size / 2
    start = float(np.mean([wanted[index] for index in group] - offsets))
    return max(0.0, min(start, 1.0 - float(size.sum())))


def wrapped(text: str, width: int = LABEL_WIDTH) -> str:
    """Text wrapped to lines of at most ``width`` characters; longer words are broken."""
    return "\n".join(textwrap.wrap(text, width))


def configuration_words(record: Record, point: Mapping[Any, Any], key: str) -> str:
    """The tooltip of a configuration."""
    value = float(point[key])
    words = (
        "no value"
        if math.isnan(value)
        else f"{label_of(record, key).name} {number(value, float(point[f'{key} ci95']))}"
    )
    state = "" if point["state"] == "finished" else f" [{point['words']}]"
    return f"{point['name']} ({place_words(record, point)}){state}: {words}"
