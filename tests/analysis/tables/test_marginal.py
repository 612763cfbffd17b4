"""The effect of one axis."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis import (
    load,
    marginal,
)
from tests.analysis.record_factory import DEPTH, FD, LR, RANK, SweepFiles, frame_of, point
from tests.analysis.tables.ablations import half_width


def test_marginal_counts_what_was_stopped_or_failed(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    values = [4.0, 5.0, 9.0]
    for number, value in enumerate(values):
        files.finished(number, point(2), value)
    files.finished(3, point(3), 7.0)
    files.stopped(4, point(2), 1.0)
    files.failed(5, point(5), "out of memory")
    files.control(0, "g = identity", point(2), 0.1)
    table = marginal(load([files.path]), DEPTH)
    frame = frame_of(table)
    assert frame[DEPTH].tolist() == [2, 3, 5]
    assert frame["finished"].tolist() == [3, 1, 0]
    assert frame[f"best {FD}"].tolist()[:2] == [4.0, 7.0]
    assert frame[FD].tolist()[:2] == [6.0, 7.0]
    assert frame[f"{FD} ci95"][0] == pytest.approx(half_width(values))
    assert frame["stopped"].tolist() == [1, 0, 0]
    assert frame["failed"].tolist() == [0, 0, 1]
    assert "unfinished" not in frame
    assert (
        "Left out of means: 1 configuration that was stopped early. Cells with many of these look better than they are."
        in table.notes
    )


def test_marginal_averages_seeds_before_configurations(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, seeds=(0, 1))
    for number, pair in enumerate([(1.0, 3.0), (10.0, 20.0)]):
        for seed, value in enumerate(pair):
            files.finished(number, point(2), value, seed=seed)
    frame = frame_of(marginal(load([files.path]), DEPTH))
    assert frame["finished"].tolist() == [2]
    assert frame[FD].tolist() == [8.5]
    assert frame[f"{FD} ci95"][0] == pytest.approx(half_width([2.0, 15.0]))


def test_marginal_bins_a_logarithmic_axis(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    for number, rank in enumerate([4, 5, 8, 16, 17, 31, 33, 64, 128]):
        files.finished(number, point(rank=rank), float(rank))
    frame = frame_of(marginal(load([files.path]), RANK))
    # 4 to 128 in five bins, each a factor of two.
    assert frame[RANK].tolist() == ["4 to 7", "8 to 15", "16 to 31", "32 to 63", "64 to 128"]
    assert frame["finished"].tolist() == [2, 1, 3, 1, 2]
    assert frame[FD].tolist() == pytest.approx([4.5, 8.0, 64 / 3, 33.0, 96.0])


def test_an_edge_that_is_a_whole_number_begins_its_bin(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    # In floating point, 3 · 2² comes out just above 12.
    for number, rank in enumerate([3, 6, 12, 24, 48, 96]):
        files.finished(number, point(rank=rank), 1.0)
    frame = frame_of(marginal(load([files.path]), RANK))
    assert frame[RANK].tolist() == ["3 to 5", "6 to 11", "12 to 23", "24 to 47", "48 to 96"]
    assert frame["finished"].tolist() == [1, 1, 1, 1, 2]


def test_marginal_bins_many_whole_numbers_by_quantiles(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"int": [1, 20]}})
    for number in range(10):
        files.finished(number, {DEPTH: number + 1}, float(number))
    frame = frame_of(marginal(load([files.path]), DEPTH))
    assert frame[DEPTH].tolist() == ["1 to 2", "3 to 4", "5 to 6", "7 to 8", "9 to 10"]
    assert frame["finished"].tolist() == [2, 2, 2, 2, 2]


def test_marginal_keeps_what_the_spec_lists(tmp_path: Path) -> None:
    space = {"model.kind": {"choice": ["mlp", "conv"]}, LR: {"grid": [1e-2, 1e-3]}}
    files = SweepFiles(tmp_path, space=space)
    files.finished(0, {"model.kind": "conv", LR: 1e-3}, 1.0)
    files.finished(1, {"model.kind": "mlp", LR: 1e-2}, 2.0)
    record = load([files.path])
    assert frame_of(marginal(record, "model.kind"))["model.kind"].tolist() == ["mlp", "conv"]
    assert frame_of(marginal(record, LR))[LR].tolist() == [0.01, 0.001]


def test_marginal_bins_tell_close_values_apart(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    for number, lr in enumerate([0.0010001, 0.0010002, 0.0010003]):
        files.finished(number, point(lr=lr), 1.0)
    labels = frame_of(marginal(load([files.path]), LR))[LR].tolist()
    assert len(set(labels)) == len(labels) == 3
