"""All axes at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from analysis import load, parallel_coordinates
from tests.analysis.record_factory import DEPTH, SweepFiles, gridded, point


def test_parallel_coordinates_go_through_every_axis(tmp_path: Path) -> None:
    figure = parallel_coordinates(gridded(tmp_path))
    axes = figure.axes[0]
    configurations = [line for line in axes.get_lines() if len(line.get_xdata()) == 4]
    assert len(configurations) == 6
    worst, best = configurations[0], configurations[-1]
    np.testing.assert_allclose(worst.get_ydata(), [0, 0, 1, 0], atol=1e-9)
    np.testing.assert_allclose(best.get_ydata(), [1, 1, 0, 1], atol=1e-9)
    assert best.get_linewidth() > worst.get_linewidth()
    names = [text.get_text() for text in axes.texts]
    assert {"depth", "rank", "parameters ↓", "collapsed\nclassifier FD\n↓"} <= set(names)


def test_parallel_coordinates_show_what_did_not_finish(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, point(2, 8), 9.0)
    files.finished(1, point(4, 16), 4.5)
    files.stopped(2, point(3, 60), 50.0)
    files.failed(3, point(3, 30), "out of memory")
    figure = parallel_coordinates(load([files.path]))
    assert [mark.series for mark in figure.marks] == ["not finished", "not finished", "finished", "best"]


def test_an_axis_that_was_never_used_is_left_out(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"int": [1, 6]}, "model.flow.kernel": {"choice": [3, 5]}})
    files.finished(0, {DEPTH: 1}, 3.0)
    files.finished(1, {DEPTH: 2}, 5.0)
    lines = parallel_coordinates(load([files.path])).axes[0].get_lines()
    assert lines[0].get_xdata().tolist() == [0, 1]
