"""Whether rungs rank as the end does, and what early stopping saves and costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis import RecordError, load
from analysis.tables.early_stopping import early_stopping
from tests.analysis.record_factory import FD, SweepFiles, frame_of, point

RUNGS = {1: (9.0, 4.0, 7.0, 3.0, 8.0, 2.0), 3: (8.0, 3.0, 7.5, 4.0, 6.0, 2.5), 9: (5.0, 2.0, 3.0, 4.0, 1.0, 6.0)}
"""Epoch → value of each trial: the best at the end, the fifth, stands fifth at the first rung."""


def whole(folder: Path, seeds: Sequence[int] = (0,), **search: object) -> SweepFiles:
    files = SweepFiles(folder, seeds=seeds)
    files.sweep["spec"]["search"] |= search
    files.write_sweep()
    for number in range(6):
        for seed in seeds:
            trial = f"t{number:03d}-s{seed}"
            files.begin(trial, number, point(number + 1), seed=seed)
            for epoch, values in RUNGS.items():
                # Another seed than the first has no say.
                files.epoch(trial, epoch, values[number] if seed == seeds[0] else 100.0)
            files.add(trial, "summary", metrics={FD: RUNGS[9][number]})
            files.end(trial, epoch=9)
    return files


@pytest.mark.parametrize("seeds", [(0,), (5, 2)])
def test_correlations_are_scipys_and_the_replay_is_by_hand(tmp_path: Path, seeds: Sequence[int]) -> None:
    table = early_stopping(load([whole(tmp_path, seeds).path]))
    frame = frame_of(table).set_index("rung")
    assert list(frame.index) == [1, 3]
    for rung in (1, 3):
        assert frame.loc[rung, "spearman"] == pytest.approx(stats.spearmanr(RUNGS[rung], RUNGS[9]).statistic)
        assert frame.loc[rung, "kendall"] == pytest.approx(stats.kendalltau(RUNGS[rung], RUNGS[9]).statistic)
    assert frame["place of the best"].tolist() == [5, 4]
    # One in three goes on, itself counted. 9 goes on alone, 4 as the best of two, 7 stops, 3 goes on as the best of
    # four, 8 stops; 2 goes on. At the next, 8 goes on alone, 3 before it, 4 is second of three and stops, 2.5 is best.
    assert frame["stopped"].tolist() == [2, 1]
    assert frame["epochs saved"].tolist() == [2 * 8, 6]
    assert frame["saved percent"].tolist() == pytest.approx([100 * 16 / 54, 100 * 6 / 54])
    assert "3 of 6 would have been stopped, and the best would have been 2 instead of 1" in table.notes[-1]


def test_a_gentler_rule_stops_less(tmp_path: Path) -> None:
    frame = frame_of(early_stopping(load([whole(tmp_path).path]), grace_epochs=3))
    assert frame["rung"].tolist() == [3]
    assert frame["stopped"].tolist() == [2]


def test_what_was_stopped_is_counted_where_it_was(tmp_path: Path) -> None:
    rule = {"scheduler": "asha", "grace_epochs": 1, "reduction": 3}
    files = whole(tmp_path, stop_early=rule)
    files.stopped(6, point(2, 8), 50.0, epoch=1)
    files.stopped(7, point(3, 8), 30.0, epoch=3)
    table = early_stopping(load([files.path]))
    frame = frame_of(table)
    assert frame["stopped"].tolist() == [1, 1]
    assert frame["epochs saved"].tolist() == [8, 6]
    assert frame["saved percent"].tolist() == pytest.approx([100 * 8 / 72, 100 * 6 / 72])
    assert any("Only trials that were good at the rungs have an end" in note for note in table.notes)
    with pytest.raises(RecordError, match="its trials were stopped early already"):
        early_stopping(load([files.path]), grace_epochs=2)


def test_what_has_no_rungs_is_refused(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, point(), 3.0)
    with pytest.raises(RecordError, match="no finished trial has a value of"):
        early_stopping(load([files.path]))
    with pytest.raises(RecordError, match="reduction 2 or more, got 1 and 1"):
        early_stopping(load([files.path]), reduction=1)
    other = SweepFiles(tmp_path, "other")
    other.sweep["spec"]["search"]["stop_early"] = {"grace_epochs": 5}
    other.write_sweep()
    other.finished(0, point(2), 3.0)
    with pytest.raises(RecordError, match="different rules"):
        early_stopping(load([files.path, other.path]))


def test_ends_of_equal_values_have_no_correlation(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    for number in range(3):
        trial = f"t{number:03d}-s0"
        files.begin(trial, number, point(number + 1))
        files.epoch(trial, 1, 5.0)
        files.add(trial, "summary", metrics={FD: float(number)})
        files.end(trial, epoch=2)
    frame = frame_of(early_stopping(load([files.path])))
    assert np.isnan(frame["spearman"]).all()
