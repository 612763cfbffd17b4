"""All axes at once."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from analysis import load, parallel_coordinates
from analysis.figures import parallel
from analysis.report.interactive import svg
from tests.analysis.record_factory import DEPTH, RANK, SweepFiles, gridded, point


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


def test_many_configurations_are_drawn_in_two_pieces_that_show_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {DEPTH: {"int": [1, 6]}, "model.flow.kernel": {"choice": [3, 5]}, RANK: {"int": [1, 64]}}
    files = SweepFiles(tmp_path, space=space)
    files.finished(0, {DEPTH: 1, RANK: 4}, 3.0)
    files.finished(1, {DEPTH: 2, "model.flow.kernel": 3, RANK: 8}, 5.0)
    files.finished(2, {DEPTH: 3, "model.flow.kernel": 5, RANK: 16}, 4.0)
    files.stopped(3, {DEPTH: 3, RANK: 60}, 50.0)
    record = load([files.path])
    apart = parallel_coordinates(record)
    monkeypatch.setattr(parallel, "MOST_APART", 2)
    together = parallel_coordinates(record)
    # A line by itself has three axes and one or more metrics, a tick two points.
    count = len(apart.axes[0].get_lines()[0].get_xdata())
    lines = [line for line in apart.axes[0].get_lines() if len(line.get_xdata()) == count]
    best = [line for line in together.axes[0].get_lines() if len(line.get_xdata()) == count]
    assert (len(lines), len(best)) == (4, 1)
    pieces = [path.vertices[:, 1] for each in together.axes[0].collections for path in each.get_paths()]
    drawn = [line.get_ydata() for line in best] + pieces
    key = partial(np.nan_to_num, nan=-1)
    ours, theirs = (sorted(key(row).tolist() for row in rows) for rows in (drawn, [line.get_ydata() for line in lines]))
    assert ours == theirs
    told = [sorted(text for mark in figure.marks for text in mark.told) for figure in (apart, together)]
    assert told[0] == told[1]
    assert [mark.series for mark in together.marks] == ["best", "not finished", "finished"]
    assert svg(together, "a", "lines").count("data-told") == 4
