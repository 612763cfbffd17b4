"""A metric against one axis."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from analysis import heat_map, load, rank_curves
from tests.analysis.record_factory import DEPTH, RANK, STUDENT, SweepFiles, gridded


def test_rank_curves_have_a_line_for_each_depth(tmp_path: Path) -> None:
    figure = rank_curves(gridded(tmp_path))
    axes = figure.axes[0]
    named = {line.get_label(): line for line in axes.get_lines() if line.get_label() in ("depth 1", "depth 2")}
    # The lines stand beside each other: bars at one place would hide each other.
    left, right = (np.asarray(named[name].get_xdata()) for name in ("depth 1", "depth 2"))
    np.testing.assert_allclose(left, [4, 8, 16], rtol=0.02)
    np.testing.assert_allclose(left * right, [4**2, 8**2, 16**2])
    assert (left < right).all()
    np.testing.assert_allclose(named["depth 2"].get_ydata(), [12.5, 6.25, 3.125])
    assert named["depth 1"].get_marker() != named["depth 2"].get_marker()
    assert axes.get_xscale() == "log"
    assert any(set(line.get_ydata()) == {1.0} for line in axes.get_lines())  # the floor
    bar = axes.collections[0].get_segments()[0]
    np.testing.assert_allclose(bar, [[left[0], 25 - STUDENT * 2.5], [left[0], 25 + STUDENT * 2.5]])


def test_unequal_training_is_not_drawn_unless_asked_for(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"int": [1, 6]}, RANK: {"int": [4, 64]}})
    files.finished(0, {DEPTH: 1, RANK: 4}, 3.0)
    files.stopped(1, {DEPTH: 2, RANK: 8}, 5.0)
    record = load([files.path])
    words = [text.get_text() for text in heat_map(record).axes[0].texts]
    assert sorted(words) == ["", "", "3", "stopped @ 20"]
    assert len(heat_map(record, unequal=True).axes[0].texts) == 4
    assert "depth 2" not in [mark.series for mark in rank_curves(record).marks]
