"""Figures of trials' artifacts: the spectra of operators, and samples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
from matplotlib.ticker import NullFormatter

from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.labels import axis_labels, label_of
from analysis.configuration.objective import first_objective
from analysis.configuration.words import words_of
from analysis.figures import style
from analysis.figures.drawing import marked, metric_words, number, place_words, shortened
from analysis.figures.style import Chart
from analysis.record.artifacts import SAMPLES, SPECTRA, sample_grids, spectra
from analysis.record.runs import Record, RecordError

TIME = re.compile(r"A\(t=(?P<time>[^)]*)\)")
COLLAPSED = "collapsed"
NOTHING = 1e-7
"""Singular values below this share of the largest are rounding."""
MOST_SPECTRA = 12
MOST_TOLD = 64
MOST_GRIDS = 12
COLUMNS = 8
"""Images per row of a trial's sample grid."""
SIDE = 4
"""Rows and columns of the grid that a figure shows."""


def spectrum(record: Recorded) -> Chart:
    """Singular values of each operator by label or cluster; or of A at several t and of B, to which A collapses.

    The figure shows the best configuration at its first seed; if there is no best, the first one with spectra. If there
    is a B, a second panel below shows that of every configuration. Raises ``RecordError`` if no finished trial of the
    search has a ``spectra.csv``.

    >>> import analysis
    >>> try:
    ...     analysis.spectrum(analysis.example())
    ... except analysis.RecordError as error:
    ...     print(error)
    digits: no finished trial of the search has a spectra.csv among its artifacts
    """
    configurations = Configurations.of(record)
    record = configurations.record
    found = _with_spectra(configurations)
    if not found:
        raise RecordError(f"{record.names}: no finished trial of the search has a {SPECTRA} among its artifacts")
    top = configurations.best
    chosen = next((each for each in found if top is not None and each[0]["name"] == top.name), found[0])
    several = sum(COLLAPSED in values for _, values in found) > 1
    with style.applied():
        figure = style.figure(4.4 if several else 2.6)
        upper = figure.add_subplot(2, 1, 1) if several else figure.add_subplot()
        _operators(upper, chosen[1], str(chosen[0]["name"]))
        figure.suptitle(
            f"{'above: ' * several}{shortened(str(chosen[0]['name']))}, {place_words(record, chosen[0])}", fontsize=7
        )
        upper.set_ylabel("singular value")
        if several:
            lower = figure.add_subplot(2, 1, 2, sharex=upper)
            _collapsed(record, lower, [(row, values[COLLAPSED]) for row, values in found if COLLAPSED in values])
            lower.set_ylabel("singular value of B")
        (lower if several else upper).set_xlabel("index")
        for axes in figure.axes:
            axes.set_yscale("log")
            axes.set_xscale("log", base=2)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(lambda value, _: f"{value:g}")
                axis.set_minor_formatter(NullFormatter())
            look: dict[str, Any] = {
                "handlelength": 1.4,
                "columnspacing": 1.0,
                "labelspacing": 0.3,
                "borderaxespad": 0.2,
            }
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, **look)
    return figure


def samples(record: Recorded, name: str | None = None, most: int = MOST_GRIDS) -> Chart:
    """Sixteen samples of each configuration, the best first; ``name`` says how they were drawn (``k100``, …).

    It shows at most ``most`` configurations of the search, in the order of a table, each by its first seed with sample
    grids. The default is the collapsed operator's samples or, for a family without one, the first that there are.
    Raises ``RecordError`` if no trial has the grid.

    >>> import analysis
    >>> try:
    ...     analysis.samples(analysis.example())
    ... except analysis.RecordError as error:
    ...     print(error)
    digits: the trials of the search have no sample grid
    """
    configurations = Configurations.of(record)
    record = configurations.record
    key = first_objective(record)[0]
    frame = configurations.ranked
    shown: list[tuple[dict[Any, Any], Path]] = []
    for row in frame[frame["kind"] == "search"].to_dict("records"):
        seeds = [sample_grids(record, str(row["sweep"]), trial) for trial in row["trials"]]
        grids = next(filter(None, seeds), {})
        name = name or next(iter(grids), None)
        if name in grids and len(shown) < most:
            shown.append((row, grids[name]))
    if not shown:
        wanted = "no sample grid" if name is None else f"no sample grid {SAMPLES}{name}.png"
        raise RecordError(f"{record.names}: the trials of the search have {wanted}")
    across = min(3, len(shown))
    down = -(-len(shown) // across)
    axes_names = axis_labels(record)
    with style.applied():
        figure = style.figure(0.15 + down * 1.48, style.WIDTH if across == 3 else style.WIDTH * across / 3)
        for place, (row, path) in enumerate(shown):
            axes = figure.add_subplot(down, across, place + 1)
            axes.imshow(corner(path), interpolation="nearest", cmap="gray")
            axes.set_axis_off()
            pairs = [f"{axes_names[axis]} {_word(row[axis])}" for axis in record.axes[:2]]
            value = float(row[key])
            title = f"{shortened(str(row['name']))}  {number(value)}\n{', '.join(pairs)}"
            axes.set_title(title, fontsize=style.SMALL, loc="left", pad=2, linespacing=1.2)
        figure.suptitle(metric_words(record, key), fontsize=6.5)
    return figure


def corner(path: Path) -> np.ndarray[Any, Any]:
    """The first rows and columns of a grid with eight images per row, ``(height, width, channels)``."""
    try:
        pixels = matplotlib.image.imread(path)
    except (OSError, SyntaxError, ValueError) as error:
        raise RecordError(f"{path}: not an image ({error})") from None
    side = pixels.shape[1] // COLUMNS
    return np.asarray(pixels[: SIDE * side, : SIDE * side])


def _word(value: Any) -> str:
    return str(words_of(pd.Series([value], dtype="object"))[0])


def _with_spectra(configurations: Configurations) -> list[tuple[dict[Any, Any], dict[str, pd.Series[float]]]]:
    """The finished configurations of the search, in order, with the spectra of the first seed that has any."""
    record, frame = configurations.record, configurations.ranked
    frame = frame[(frame["kind"] == "search") & (frame["state"] == "finished")]
    found = []
    for row in frame.to_dict("records"):
        seeds = [spectra(record, str(row["sweep"]), trial) for trial in row["trials"]]
        values = next((each for each in seeds if each), None)
        if values is not None:
            found.append((row, values))
    return found


def _operators(axes: Any, found: dict[str, pd.Series[float]], item: str) -> None:
    """Draw each operator's singular values: A(t) from dark to light in the order of t, the collapsed one black."""
    others = [name for name in found if name != COLLAPSED]
    named = dict(zip(others, style.colours(len(others)), strict=True))
    for name in others:
        match = TIME.fullmatch(name)
        label = name if match is None else f"A at t = {match['time']}"
        _line(axes, found[name], label, item, {"color": named[name], "linewidth": 1.0})
    if COLLAPSED in found:
        _line(axes, found[COLLAPSED], "B, collapsed", item, {"color": style.INK, "linewidth": 1.8})


def _collapsed(record: Record, axes: Any, found: Sequence[tuple[dict[Any, Any], pd.Series[float]]]) -> None:
    """Draw B of the best configurations, from dark to light in the order of the last searched axis."""
    shown = list(found[:MOST_SPECTRA])
    axis = next((name for name in record.axes if name.endswith(".rank")), record.axes[-1])
    values = sorted({row[axis] for row, _ in shown}, key=lambda value: (isinstance(value, str), value))
    colour_of = dict(zip(values, style.colours(len(values)), strict=True))
    named: set[str] = set()
    for row, singular in sorted(shown, key=lambda pair: values.index(pair[0][axis])):
        label = f"{label_of(record, axis)} {_word(row[axis])}"
        look = {"color": colour_of[row[axis]], "linewidth": 0.9}
        _line(axes, singular, label, str(row["name"]), look, quiet=label in named)
        named.add(label)


def _line(
    axes: Any, singular: pd.Series[float], label: str, item: str, look: dict[str, Any], quiet: bool = False
) -> None:
    """Draw one spectrum over the index from 1, without values that are rounding."""
    values = singular[singular > NOTHING * float(singular.iloc[0])]
    marker = {"marker": "o", "markersize": 1.6} if len(values) <= MOST_TOLD else {}
    line = axes.plot(values.index + 1, values, label="_" if quiet else label, **marker, **look)
    told = [f"{item}, {label}: {value:.4g} at index {index}" for index, value in enumerate(values, start=1)]
    marked(
        axes, line[0], label, item, told if marker else [f"{item}, {label}: the largest {float(values.iloc[0]):.4g}"]
    )
