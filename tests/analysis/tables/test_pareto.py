"""The front of a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis import RecordError, load
from analysis.tables.pareto import front
from tests.analysis.record_factory import DEPTH, FD, RANK, SweepFiles, frame_of
from tests.analysis.tables.grids import GRID, PARAMS


def test_the_front_of_a_sweep(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space=GRID, seeds=(0, 1))
    # Mean quality 10, 20, 15, 30 at sizes 400, 100, 200, 300: the last is worse than the third in both.
    for number, (values, size) in enumerate([((9, 11), 400), ((20, 20), 100), ((10, 20), 200), ((30, 30), 300)]):
        for seed, value in enumerate(values):
            files.finished(number, {DEPTH: 1, RANK: 4}, float(value), seed=seed, **{PARAMS: float(size)})
    table = front(load([files.path]))
    frame = frame_of(table)
    assert frame["configuration"].tolist() == ["t000", "t002", "t001"]
    # At seed 1, t001 is as good as t002, and smaller.
    assert frame["front of seeds"].tolist() == ["2 of 2", "1 of 2", "2 of 2"]
    # From (30, 400): 10 × 300 of t001, and 5 × 200 more of t002; t000 is at the edge of the box of 20 × 300.
    assert "Hypervolume 4000 from" in table.notes[1]
    assert "66.7 % of the box" in table.notes[1]
    assert "Hypervolume 6000" not in table.to_markdown()


def test_a_maximised_objective_and_an_own_reference(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space=GRID, objective={FD: "max"})
    for number, (value, size) in enumerate([(1.0, 1.0), (3.0, 2.0), (2.0, 3.0)]):
        files.finished(number, {DEPTH: 1, RANK: 4}, value, **{PARAMS: size})
    record = load([files.path])
    table = front(record, {FD: "max", PARAMS: "min"}, reference={FD: 0.0, PARAMS: 4.0})
    assert frame_of(table)["configuration"].tolist() == ["t001", "t000"]
    # (3 - 0) × (4 - 2) and (1 - 0) × (2 - 1).
    assert "Hypervolume 7 from" in table.notes[1]
    with pytest.raises(RecordError, match="two objectives"):
        front(record, {FD: "max"})
    with pytest.raises(RecordError, match="the reference must have"):
        front(record, {FD: "max", PARAMS: "min"}, reference={FD: 0.0})
