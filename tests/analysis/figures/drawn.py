"""A small sweep, and what is drawn of it."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

from tests.analysis.record_factory import SweepFiles, point


def small(tmp_path: Path) -> SweepFiles:
    files = SweepFiles(tmp_path, seeds=(0, 1))
    for seed in (0, 1):
        files.finished(0, point(2, 8), 9.0, seed=seed, curve={1: 30.0 + 2 * seed, 10: 20.0, 100: 10.0})
        files.finished(1, point(4, 16), 4.5, seed=seed, curve={1: 20.0, 10: "NaN" if seed else 8.0, 100: 5.0})
        files.stopped(2, point(3, 60), 50.0, seed=seed)
        files.failed(3, point(3, 30), "out of memory", seed=seed)
    files.control(0, "g = identity", point(4, 64), 40.0, curve={1: 80.0, 10: 60.0, 100: 41.0})
    files.reference(0, "real against real", 1.0)
    files.reference(1, "Gaussian fitted to the training pixels", 40.0)
    files.reference(2, "noise", 42.0)
    return files


def lines(axes: Axes, style: str) -> list[Line2D]:
    return [line for line in axes.get_lines() if line.get_linestyle() == style]


def annotations_of(figure: Figure) -> list[Annotation]:
    return [text for text in figure.axes[0].texts if isinstance(text, Annotation)]
