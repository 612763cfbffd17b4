"""Two metrics and their front."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis import RecordError, load, pareto
from tests.analysis.record_factory import SweepFiles, gridded, point


def test_the_front_has_what_nothing_is_better_than_in_both(tmp_path: Path) -> None:
    figure = pareto(gridded(tmp_path))
    axes = figure.axes[0]
    assert axes.get_xlabel() == "parameters (lower is better)"
    series = {mark.item: mark.series for mark in figure.marks if mark.told}
    # Size grows with rank within a depth, and every model of depth 2 is larger than all of depth 1.
    front = [name for name, where in series.items() if where == "front"]
    assert front == ["t000", "t001", "t002", "t005"]
    stair = next(line for line in axes.get_lines() if line.get_drawstyle().startswith("steps"))
    np.testing.assert_allclose(stair.get_xdata(), [1004, 1008, 1016, 2016])
    assert stair.get_drawstyle() == "steps-post"


def test_a_front_needs_two_metrics(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, point(), 3.0)
    record = load([files.path])
    with pytest.raises(RecordError, match="no second objective and no cost"):
        pareto(record)
    with pytest.raises(RecordError, match="no metric 'cost/param'"):
        pareto(record, "cost/param")
