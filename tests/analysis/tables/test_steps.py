"""Solver steps that a model needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis import RecordError, load
from analysis.tables.steps import steps_to_quality
from tests.analysis.record_factory import DEPTH, RANK, SweepFiles, frame_of
from tests.analysis.tables.grids import GRID


def test_the_steps_of_a_sweep(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space=GRID, seeds=(0, 1))
    for seed, last in enumerate((10.0, 10.4)):
        files.finished(0, {DEPTH: 1, RANK: 4}, last, seed=seed, curve={1: 100.0, 4: 20.0, 16: last})
        files.finished(1, {DEPTH: 2, RANK: 4}, 50.0, seed=seed, curve={1: 90.0, 4: 60.0, 16: 50.0})
    for seed in (0, 1):
        files.begin(f"c000-s{seed}", 0, {DEPTH: 1, RANK: 4}, kind="control", label="g = identity", seed=seed)
        files.complete(f"c000-s{seed}", 15.0, curve={1: 15.0, 4: 15.0, 16: 15.0})
    record = load([files.path])
    table = steps_to_quality(record, target=20.0)
    frame = frame_of(table)
    assert frame["configuration"].tolist() == ["t000", "t001", "g = identity"]
    assert frame["steps"].tolist() == ["4.0", "> 16", "1.0"]
    assert frame["reached"].tolist() == ["2 of 2", "0 of 2", "2 of 2"]
    assert frame["area"].tolist() == pytest.approx([(60 + 15.1) / 2, (75 + 55) / 2, 15.0])
    assert frame["block"].fillna("").tolist() == ["", "", "controls"]
    assert "steps to a classifier FD of 10.71" in steps_to_quality(record).title  # 5 % above 10.2
    with pytest.raises(RecordError, match="no curve 'nfe/swd'"):
        steps_to_quality(record, "swd")
