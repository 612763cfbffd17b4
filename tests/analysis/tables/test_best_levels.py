"""The values of an axis, each at its own best."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis import RecordError, load
from analysis.tables.best_levels import best_levels
from tests.analysis.record_factory import DEPTH, FD, LR, SweepFiles, frame_of

TEST = "test/classifier_fd_collapsed"
SPACE = {DEPTH: {"grid": [1, 4]}, LR: {"grid": [0.001, 0.01]}}
VALIDATION = {(1, 0.001): 9.0, (1, 0.01): 6.0, (4, 0.001): 5.0, (4, 0.01): 30.0}
"""Depth 4 is worse in the mean and better at its own learning rate."""
ON_TEST = {(1, 0.001): 8.0, (1, 0.01): 7.0, (4, 0.001): 6.5, (4, 0.01): 31.0}


def tuned(folder: Path, seeds: int = 4) -> SweepFiles:
    files = SweepFiles(folder, space=SPACE, seeds=range(seeds))
    for number, (depth, lr) in enumerate(VALIDATION):
        for seed in range(seeds):
            shift, own = 0.5 * seed, 0.1 * ((seed * (number + 1)) % 3)
            more = {TEST: ON_TEST[depth, lr] + shift + own}
            files.finished(number, {DEPTH: depth, LR: lr}, VALIDATION[depth, lr] + shift, seed=seed, **more)
    return files


def test_each_value_is_taken_at_its_best_and_told_by_what_had_no_part_in_that(tmp_path: Path) -> None:
    record = load([tuned(tmp_path).path])
    frame = frame_of(best_levels(record, "depth")).set_index(DEPTH)
    assert frame["configuration"].to_dict() == {4: "lr 0.001", 1: "lr 0.01"}
    assert list(frame.index) == [4, 1]
    runs = record.runs.set_index([DEPTH, LR, "seed"])
    better, worse = (runs.loc[place, TEST].to_numpy(dtype=np.float64) for place in ((4, 0.001), (1, 0.01)))
    assert frame.loc[1, FD] == pytest.approx(6.75)
    assert frame.loc[1, TEST] == pytest.approx(worse.mean())
    assert frame.loc[1, "p"] == pytest.approx(stats.ttest_rel(worse, better).pvalue)
    assert frame.loc[1, "difference from the best"] == pytest.approx((worse - better).mean())


def test_unequal_numbers_of_tries_are_said(tmp_path: Path) -> None:
    files = tuned(tmp_path)
    assert not any("by chance alone" in note for note in best_levels(load([files.path]), DEPTH).notes)
    for seed in range(4):
        files.finished(4, {DEPTH: 4, LR: 0.003}, 40.0, seed=seed, **{TEST: 40.0})
    assert any("by chance alone" in note for note in best_levels(load([files.path]), DEPTH).notes)


def test_what_is_not_measured_on_both_splits_is_refused(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, space=SPACE)
    files.finished(0, {DEPTH: 1, LR: 0.001}, 1.0, **{"cost/params": 5.0})
    record = load([files.path])
    for metric in (None, "cost/params"):
        with pytest.raises(RecordError, match="chosen on validation and compared on test"):
            best_levels(record, DEPTH, metric)
    files.finished(1, {DEPTH: 1, LR: 0.01}, 1.0, **{TEST: 5.0})
    with pytest.raises(RecordError, match=f"{DEPTH} is 1 wherever {FD} was measured"):
        best_levels(load([files.path]), DEPTH)
    with pytest.raises(RecordError, match="no axis 'dept'"):
        best_levels(record, "dept")
