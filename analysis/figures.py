"""Figures of a sweep: quality against solver steps, and the objective over two axes."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from analysis import style
from analysis.levels import distinct_values, is_number, levels, short_names, words_of
from analysis.ranking import best, better, by_configuration, first_objective
from analysis.runs import Record, RecordError
from analysis.tables import MISSING

MOST_COLOURS = 8
LABEL_WIDTH = 18

Curves = Mapping[int, "pd.Series[Any]"]
"""A configuration's row to quality by steps."""


def steps_versus_quality(record: Record, metric: str | None = None) -> Figure:
    """Quality against the number of solver steps, a line for each finished configuration of the search.

    Lines are coloured by the first axis; the best has markers, and a star where its collapsed operator is;
    controls are dashed, references horizontal. ``metric`` is a curve (``nfe/<quality metric>``, or what is
    behind the slash), by default that of the first objective. Raises ``RecordError`` where nobody has it.
    """
    metric = _curve_metric(record, metric)
    name = metric.removeprefix("nfe/")
    frame = by_configuration(record)
    frame = frame[frame["state"] == "finished"].reset_index(drop=True)
    curves = _mean_curves(record, frame, metric)
    search = frame[(frame["kind"] == "search") & frame.index.isin(list(curves))]
    if search.empty:
        raise RecordError(f"{record.names}: no finished configuration of the search has the curve {metric}")
    with style.applied():
        figure = style.figure()
        axes = figure.add_subplot()
        colour_of, handles = _colours(record, figure, axes, search)
        for row, colour in colour_of.items():
            axes.plot(curves[row].index, curves[row], color=colour, linewidth=0.9, alpha=0.85)
        handles += _best_line(record, axes, search, curves, colour_of, f"quality/{name}_collapsed")
        labels = _controls(axes, frame, curves) + _references(axes, frame, f"quality/{name}_collapsed")
        _step_axis(axes, sorted({step for curve in curves.values() for step in curve.index}))
        _value_axis(axes)
        hint = {"min": " (lower is better)", "max": " (higher is better)", None: ""}
        axes.set_ylabel(name + hint[better(record, f"quality/{name}_collapsed")])
        handles = [handle for start in range(4) for handle in handles[start::4]]  # legends fill by columns
        figure.legend(handles=handles, loc="outside upper left", ncols=4, columnspacing=1.2, handlelength=1.6)
        _label_lines(figure, axes, labels)
    return figure


def axes_versus_objective(record: Record, x: str, y: str, metric: str | None = None) -> Figure:
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
        xs, ys = _positions(record, axes, x, frame[x]), _positions(record, axes, y, frame[y], vertical=True)
        norm, colormap = _norm(values.dropna(), logarithmic=_wide(values.dropna())), style.sequential()
        for point in frame.assign(_x=xs, _y=ys, _value=values).to_dict("records"):
            colour = colormap(norm(point["_value"]))
            look: dict[str, Any] = {"s": 38, "facecolors": "none", "edgecolors": [colour], "linewidths": 1.4}
            if point["state"] == "failed" or math.isnan(point["_value"]):
                look = {"s": 28, "marker": "x", "color": style.GREY, "linewidths": 1.2}
            elif point["state"] == "finished":
                look |= {"facecolors": [colour], "edgecolors": "white", "linewidths": 0.5}
            axes.scatter(point["_x"], point["_y"], zorder=3, **look)
            if top is not None and (point["sweep"], point["trials"]) == (top.sweep, top.trials):
                ring: dict[str, Any] = {"facecolors": "none", "edgecolors": style.INK, "linewidths": 1.2}
                axes.scatter(point["_x"], point["_y"], s=130, zorder=3, **ring)
        axes.set_xlabel(short[x])
        axes.set_ylabel(short[y])
        bar = figure.colorbar(ScalarMappable(norm, colormap), ax=axes, label=key, aspect=30)
        if isinstance(norm, LogNorm):
            _plain_ticks(bar.ax)
        figure.legend(handles=_state_handles(frame, top is not None), loc="outside upper left", ncols=4)
    return figure


def save(figure: Figure, path: Path) -> list[Path]:
    """Write ``path`` (without ending) as PNG (200 dpi) and SVG, the same bytes each time; clears it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = []
    with style.applied():
        for ending, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
            content = io.BytesIO()
            figure.savefig(content, format=ending, dpi=200, metadata=metadata)
            target = path.with_name(f"{path.name}.{ending}")
            target.write_bytes(content.getvalue())
            written.append(target)
    figure.clear()
    return written


def _curve_metric(record: Record, metric: str | None) -> str:
    known = sorted(str(name) for name in record.curves["metric"].unique())
    if metric is not None:
        return record.checked(metric if metric.startswith("nfe/") else f"nfe/{metric}", known, "curve")
    if not known:
        raise RecordError(f"{record.names}: no trial has a curve yet")
    objective = first_objective(record)[0].partition("/")[2]
    matching = [name for name in known if objective.startswith(f"{name.removeprefix('nfe/')}_")]
    return max(matching, key=len, default=known[0])


def _mean_curves(record: Record, frame: pd.DataFrame, metric: str) -> Curves:
    """Row of ``frame`` to its mean curve over seeds, by steps; where a seed has no value there is a gap."""
    rows = frame["trials"].explode()
    place = pd.DataFrame({"sweep": frame["sweep"].reindex(rows.index), "trial": rows, "row": rows.index})
    curves = record.curves[record.curves["metric"] == metric].merge(place, on=["sweep", "trial"])
    finite = curves["value"].where(np.isfinite(curves["value"]))
    means = finite.groupby([curves["row"], curves["step"]]).mean(skipna=False)
    found = {row: means[means.index.get_level_values("row") == row] for row in frame.index}
    return {row: curve.droplevel("row").sort_index() for row, curve in found.items() if not curve.empty}


def _colours(record: Record, figure: Figure, axes: Axes, search: pd.DataFrame) -> tuple[dict[int, str], list[Line2D]]:
    """Row of ``search`` to its colour, and legend entries: none where a colour bar says it better."""
    axis = record.axes[0]
    name, values = short_names(record.axes)[axis], search[axis]
    rows = [int(row) for row in search.index]
    if is_number(values) and values.nunique() > MOST_COLOURS:
        logarithmic = any(sweep.dimension(axis).get("log") for sweep in record.sweeps)
        numbers, colormap = values.astype("float64"), style.sequential()
        norm = _norm(numbers.dropna(), logarithmic)
        bar = figure.colorbar(ScalarMappable(norm, colormap), ax=axes, location="top", label=name, aspect=40, pad=0.02)
        if isinstance(norm, LogNorm):
            _plain_ticks(bar.ax, vertical=False)
        pairs = zip(rows, numbers, strict=True)
        return {row: style.GREY if math.isnan(n) else to_hex(colormap(norm(n))) for row, n in pairs}, []
    words = words_of(values)
    order = list(words_of(pd.Series(distinct_values(record, axis, values), dtype="object")))
    order += [MISSING] if MISSING in set(words) else []
    named = dict(zip(order, style.colours(len(order)), strict=True))
    handles = [Line2D([], [], color=named[word], linewidth=1.6, label=f"{name} {word}") for word in order]
    return {row: named[word] for row, word in zip(rows, words, strict=True)}, handles


def _best_line(
    record: Record,
    axes: Axes,
    search: pd.DataFrame,
    curves: Curves,
    colour_of: Mapping[int, str],
    collapsed: str,
) -> list[Line2D]:
    top = best(record)
    for row, point in zip(colour_of, search.to_dict("records"), strict=True):
        if top is None or (point["sweep"], point["trials"]) != (top.sweep, top.trials):
            continue
        look: dict[str, Any] = {"color": colour_of[row], "marker": "o", "markersize": 4, "linewidth": 2}
        look |= {"markeredgecolor": "white", "markeredgewidth": 0.6}
        axes.plot(curves[row].index, curves[row], zorder=4, **look)
        handles = [Line2D([], [], label=f"best ({top.name})", **look)]
        if math.isfinite(point.get(collapsed, math.nan)):
            star: dict[str, Any] = {"marker": "*", "markersize": 12, "linestyle": "none"}
            star |= {"color": colour_of[row], "markeredgecolor": style.INK, "markeredgewidth": 0.8}
            axes.plot([curves[row].index[-1]], [point[collapsed]], zorder=5, **star)
            handles.append(Line2D([], [], label="best, collapsed", **star))
        return handles
    return []


Labelled = tuple[float, str]
"""Where on the vertical axis a line ends, and what it is."""


def _controls(axes: Axes, frame: pd.DataFrame, curves: Curves) -> list[Labelled]:
    labels = []
    for row, point in enumerate(frame.to_dict("records")):
        if point["kind"] == "control" and row in curves and curves[row].notna().any():
            axes.plot(curves[row].index, curves[row], color=style.GREY, linestyle=(0, (4, 2)), linewidth=1.1)
            labels.append((float(curves[row].dropna().iloc[-1]), str(point["name"])))
    return labels


def _references(axes: Axes, frame: pd.DataFrame, collapsed: str) -> list[Labelled]:
    labels = []
    for point in frame.to_dict("records"):
        value = float(point.get(collapsed, math.nan))
        if point["kind"] == "reference" and math.isfinite(value):
            axes.axhline(value, color=style.INK, linewidth=0.8, linestyle=(0, (1, 1.5)))
            labels.append((value, str(point["name"])))
    return labels


def _step_axis(axes: Axes, steps: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("solver steps k")
    low, high = math.log(steps[0]), math.log(steps[-1])
    # The last step is named in any case; another only where it is far enough from those that are.
    named: list[int] = []
    for step in [steps[-1], *steps]:
        if all(abs(math.log(step) - math.log(other)) >= 0.08 * (high - low) for other in named):
            named.append(step)
    axes.xaxis.set_major_locator(FixedLocator(sorted(named)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:g}"))
    margin = 0.04 * (high - low) or 0.1
    axes.set_xlim(math.exp(low - margin), math.exp(high + margin))


def _value_axis(axes: Axes) -> None:
    """Logarithmic where what is drawn spans more than a factor of ten."""
    axes.autoscale(axis="y")  # a horizontal line just inside the limits has not moved them
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype="float64") for line in axes.get_lines()])
    if _wide(drawn[np.isfinite(drawn)]):
        axes.set_yscale("log")
        _plain_ticks(axes)


def _wide(values: Any) -> bool:
    return bool(len(values) and np.min(values) > 0 and np.max(values) > 10 * np.min(values))


def _plain_ticks(axes: Axes, *, vertical: bool = True) -> None:
    """1, 2, 5, 10 … instead of powers of ten."""
    axis = axes.yaxis if vertical else axes.xaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _norm(values: pd.Series[Any], logarithmic: bool) -> Normalize:
    low, high = float(values.min()), float(values.max())
    return LogNorm(low, high) if logarithmic and 0 < low < high else Normalize(low, high)


def _label_lines(figure: Figure, axes: Axes, labels: Iterable[Labelled]) -> None:
    """Name lines in the right margin, each as near to its line as the others let it be."""
    placed = sorted(labels)
    if not placed:
        return
    beside = axes.get_yaxis_transform()
    leader = {"arrowstyle": "-", "color": style.GREY, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 0}
    look: dict[str, Any] = {"va": "center", "fontsize": 7, "linespacing": 1.1, "annotation_clip": False}
    notes = [
        axes.annotate(
            _wrapped(name),
            xy=(1, value),
            xycoords=beside,
            xytext=(1.06, value),
            textcoords=beside,
            arrowprops=leader | {"relpos": (0, 0.5)},
            **look,
        )
        for value, name in placed
    ]
    figure.draw_without_rendering()
    height = axes.get_window_extent().height
    sizes = [(Text.get_window_extent(note).height + 3) / height for note in notes]
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = [float(to_axes.transform((1, value))[1]) for value, _ in placed]
    for note, position in zip(notes, spread(wanted, sizes), strict=True):
        note.xyann = (1.06, position)
        note.set_anncoords(axes.transAxes)


def spread(wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Centres in [0, 1], near ``wanted`` (ascending), of intervals of those sizes that do not overlap.

    Neighbours that would overlap are stacked around the mean of where they want to be.
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
    """Where a stack begins so that its members are on average where they want to be, inside of [0, 1]."""
    size = np.array([sizes[index] for index in group])
    offsets = np.cumsum(size) - size / 2
    start = float(np.mean([wanted[index] for index in group] - offsets))
    return max(0.0, min(start, 1.0 - float(size.sum())))


def _wrapped(text: str) -> str:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= LABEL_WIDTH:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def _positions(
    record: Record, axes: Axes, name: str, values: pd.Series[Any], *, vertical: bool = False
) -> pd.Series[Any]:
    """Where the values of an axis are drawn: numbers as they are, words side by side."""
    axis = axes.yaxis if vertical else axes.xaxis
    if not is_number(values):
        words = levels(record, name, values)
        axis.set_major_locator(FixedLocator(range(len(words.cat.categories))))
        axis.set_major_formatter(FuncFormatter(lambda place, _: str(words.cat.categories[round(place)])))
        return pd.Series(words.cat.codes, dtype="float64")
    if any(sweep.dimension(name).get("log") for sweep in record.sweeps):
        (axes.set_yscale if vertical else axes.set_xscale)("log")
        _plain_ticks(axes, vertical=vertical)
    return values.astype("float64")


def _state_handles(frame: pd.DataFrame, ringed: bool) -> list[Line2D]:
    dot: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 6, "color": style.GREY}
    handles = [Line2D([], [], label="finished", **dot)]
    if frame["state"].isin(["stopped", "unfinished"]).any():
        handles.append(Line2D([], [], label="stopped or unfinished", markerfacecolor="none", **dot))
    if (frame["state"] == "failed").any():
        handles.append(Line2D([], [], label="failed", **dot | {"marker": "x"}))
    if ringed:
        ring = {"markersize": 11, "color": style.INK}
        handles.append(Line2D([], [], label="best", markerfacecolor="none", **dot | ring))
    return handles
