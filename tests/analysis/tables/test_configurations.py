"""Every configuration in a table."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from analysis import (
    RecordError,
    best,
    by_configuration,
    configurations,
    load,
)
from tests.analysis.record_factory import FD, SweepFiles, frame_of, point
from tests.analysis.tables.ablations import half_width, small


def test_seeds_are_averaged_with_a_student_interval(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, seeds=(0, 1, 2))
    values = [10.0, 12.0, 17.0]
    for seed, value in enumerate(values):
        files.finished(0, point(), value, seed=seed, **{"cost/params": 500.0})
    row = frame_of(configurations(load([files.path]))).iloc[0]
    assert row[FD] == pytest.approx(13.0)
    assert row[f"{FD} ci95"] == pytest.approx(half_width(values))
    assert row["seeds"] == 3
    assert (row["configuration"], row["state"]) == ("t000", "finished")
    assert "cost/params ci95" not in row.index


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, point(), 10.0)
    table = configurations(load([files.path]))
    assert f"{FD} ci95" not in frame_of(table)
    assert "±" not in table.to_markdown()


def test_a_seed_without_a_value_leaves_its_configuration_without_one(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, seeds=(0, 1))
    files.finished(0, point(), 10.0, seed=0)
    files.finished(0, point(), "NaN", seed=1)
    files.finished(1, point(), 50.0, seed=0)
    files.finished(1, point(), "Infinity", seed=1)
    files.finished(2, point(), 80.0, seed=0)
    files.finished(2, point(), 90.0, seed=1)
    record = load([files.path])
    frame = by_configuration(record)
    assert math.isnan(frame[FD][0])
    assert frame[FD][1] == math.inf
    top = best(record)
    assert top is not None
    assert top.name == "t002"
    assert "Finished without a finite collapsed classifier FD: t001, t000." in configurations(record).notes


def test_maximised_objectives_are_ranked_from_the_top(tmp_path: Path) -> None:
    files = small(tmp_path, objective={FD: "max"})
    top = best(load([files.path]))
    assert top is not None
    assert (top.name, top.mean, top.direction) == ("t000", 20.5, "max")
    assert "collapsed ↑" in configurations(load([files.path])).to_markdown()


def test_the_best_says_where_it_is(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, seeds=(0, 1))
    for seed in (0, 1):
        files.finished(0, point(4, 32), 8.0 + seed, seed=seed)
        files.finished(1, point(5, 32), 9.0 + seed, seed=seed)
    top = best(load([files.path]))
    assert top is not None
    assert (top.sweep, top.config_hash, top.trials) == ("demo", "s00000000000", ("t000-s0", "t000-s1"))
    assert top.overrides == point(4, 32)
    assert top.mean == 8.5
    assert top.half_width == pytest.approx(half_width([8.0, 9.0]))
    assert top.note is None


def test_a_configuration_without_all_seeds_is_not_the_best(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, seeds=(0, 1))
    files.finished(0, point(), 1.0, seed=0)
    files.failed(0, point(), "out of memory", seed=1)
    files.finished(1, point(), 2.0, seed=0)
    files.finished(2, point(), 6.0, seed=0)
    files.finished(2, point(), 8.0, seed=1)
    record = load([files.path])
    top = best(record)
    assert top is not None
    assert top.name == "t002"
    table = configurations(record)
    assert [table.columns[0].text(row.cells[0]) + row.marker for row in table.rows] == ["t002", "t000‡", "t001‡"]
    assert frame_of(table)["state"].tolist() == ["finished", "1 of 2 finished", "1 of 2 finished"]
    assert "Failed and left out: 1 of 5 trials: t000-s1 (out of memory)." in table.notes


def test_nothing_finished_nothing_best(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.stopped(0, point(), 5.0)
    record = load([files.path])
    assert best(record) is None
    assert "**" not in configurations(record).to_markdown()


def test_constraints_come_before_the_objective(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, constraints={"linearity/roundtrip": "<= 1e-3"})
    files.finished(0, point(), 1.0, **{"linearity/roundtrip": 0.5})
    record = load([files.path])
    alone = best(record)
    assert alone is not None
    assert alone.note == "no configuration meets the constraints; this one breaks linearity/roundtrip <= 1e-3"
    files.finished(1, point(), 2.0, **{"linearity/roundtrip": 1e-6})
    record = load([files.path])
    top = best(record)
    assert top is not None
    assert (top.name, top.note) == ("t001", None)
    table = configurations(record)
    assert [row.marker for row in table.rows] == ["", "§"]
    assert "§ breaks a constraint: linearity/roundtrip <= 1e-3." in table.notes


def test_several_objectives_are_ranked_by_the_first(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, objective={FD: "min", "linearity/collapse_psnr": "max"})
    files.finished(0, point(), 1.0, **{"linearity/collapse_psnr": 10.0})
    files.finished(1, point(), 2.0, **{"linearity/collapse_psnr": 90.0})
    top = best(load([files.path]))
    assert top is not None
    assert (top.name, top.note) == ("t000", f"by {FD}, the first of 2 objectives")


def test_confirmed_configurations_have_a_block_of_their_own(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, point(), 8.0)
    for seed, value in ((1, 10.0), (2, 12.0)):
        files.begin(f"k000-s{seed}", 0, point(), kind="confirm", seed=seed)
        files.complete(f"k000-s{seed}", value)
    frame = frame_of(configurations(load([files.path])))
    assert frame["configuration"].tolist() == ["t000", "k000"]
    assert frame["block"].fillna("").tolist() == ["", "confirmed at fresh seeds"]
    assert frame[FD].tolist() == [8.0, 11.0]


def test_default_columns_leave_timings_out(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(
        0,
        point(),
        8.0,
        curve={1: 30.0, 2: 20.0, 16: 9.0},
        **{"cost/params": 1200.0, "cost/train_seconds": 3.0, "linearity/collapse_psnr": 60.0, "quality/swd_k1": 1.0},
    )
    table = configurations(load([files.path]))
    assert [column.header for column in table.columns][6:] == [
        "collapsed ↓", "k=1 ↓", "k=16 ↓", "collapse PSNR (dB) ↑", "parameters ↓",
    ]  # fmt: skip


def test_metrics_can_be_chosen_and_an_unknown_one_is_told_of(tmp_path: Path) -> None:
    record = load([small(tmp_path).path])
    assert configurations(record, ["test/classifier_fd_collapsed"]).columns[-1].header == "test ↓"
    with pytest.raises(RecordError, match=r"no metric 'quality/clasifier_fd_colapsed'; did you mean quality/classif"):
        configurations(record, ["quality/clasifier_fd_colapsed"])


def test_two_sweeps_get_a_column(tmp_path: Path) -> None:
    first, second = SweepFiles(tmp_path, "first"), SweepFiles(tmp_path, "second")
    first.finished(0, point(), 8.0)
    second.finished(0, point(), 7.0)
    frame = frame_of(configurations(load([first.path, second.path])))
    assert frame["sweep"].tolist() == ["second", "first"]


def test_a_sweep_without_a_value_says_so(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, state="running")
    with pytest.raises(RecordError, match=f"demo: no value yet of the objective '{FD}'"):
        configurations(load([files.path]))
