"""Figures of one trial, drawn from its artifacts and shown in its MLflow run."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from analysis.figures import style
from analysis.figures.drawing import number_axis, value_axis, wide
from analysis.figures.style import Chart
from analysis.record.artifacts import CURVES, RANKS, SPECTRA
from analysis.record.frames import RANKS as OVER_RANK

COLUMNS = 3
PANEL = 2.2, 1.9
"""Width and height in inches."""
MOST_NAMED = 8
"""The most operators named in a legend."""

Line = tuple[list[float], list[float]]


def trial_figures(folder: Path) -> dict[str, bytes]:
    """PNG files by name: ``steps.png`` and ``ranks.png``, each metric against solver steps and against the rank used
    for sampling, and ``spectrum.png``, singular values.

    ``folder`` has a trial's artifacts; figures without numbers are left out. Raises ``ValueError``, ``TypeError`` or
    ``KeyError`` for a malformed table.
    """
    curves = _lines(folder / CURVES, ("metric", "steps", "value"))
    # Older records have both in one table.
    ranks = {name: curves.pop(name) for name in list(curves) if name.startswith(OVER_RANK)}
    ranks |= _lines(folder / RANKS, ("metric", "rank", "value"))
    spectra = _lines(folder / SPECTRA, ("operator", "index", "singular_value"))
    drawn: dict[str, Chart] = {}
    with style.applied():
        if curves:
            drawn["steps.png"] = _panels(curves, "sampling steps")
        if ranks:
            drawn["ranks.png"] = _panels(ranks, "rank")
        if spectra:
            drawn["spectrum.png"] = _spectrum(spectra)
    return {name: style.rendered(chart, "png") for name, chart in drawn.items()}


def _lines(path: Path, columns: Sequence[str]) -> dict[str, Line]:
    """The lines of a table, by its first column and against its second; empty if there is no such table."""
    lines: dict[str, Line] = {}
    if not path.exists():
        return lines
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            name, x, y = (row[column] for column in columns)
            line = lines.setdefault(name, ([], []))
            line[0].append(float(x))
            line[1].append(float(y))
    return lines


def _panels(curves: dict[str, Line], across_what: str) -> Chart:
    """One panel per metric, with its values against the steps or ranks at which it was measured."""
    across = min(COLUMNS, len(curves))
    down = -(-len(curves) // across)
    chart = style.figure(PANEL[1] * down, PANEL[0] * across)
    panels = chart.subplots(down, across, squeeze=False).flatten()
    for panel, (metric, (places, values)) in zip(panels, curves.items(), strict=False):
        panel.plot(places, values, color=style.INK, marker=style.MARKERS[0], markersize=3)
        panel.set_title(metric.partition("/")[2].replace("_", " "))
        number_axis(panel, places, logarithmic=wide(places))
        value_axis(panel)
    for panel in panels[len(curves) :]:
        panel.remove()
    chart.supxlabel(across_what, fontsize=style.RC["axes.labelsize"])
    return chart


def _spectrum(spectra: dict[str, Line]) -> Chart:
    chart = style.figure()
    panel = chart.subplots()
    colours = style.colours(len(spectra))
    for colour, (operator, (index, values)) in zip(colours, spectra.items(), strict=True):
        panel.plot([1 + i for i in index], values, color=colour, label=operator)
    panel.set_xlabel("index")
    panel.set_ylabel("singular value")
    value_axis(panel)
    if 1 < len(spectra) <= MOST_NAMED:
        panel.legend()
    return chart
