"""What a search had found by when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis import RecordError, load
from analysis.tables.anytime import anytime, best_so_far, mean_between
from tests.analysis.record_factory import DEPTH, FD, RANK, START, SweepFiles, frame_of
from tests.analysis.tables.grids import GRID


def timed(
    folder: Path, name: str, sampler: str, trials: Sequence[tuple[float, float, float]], gpus: float = 0
) -> SweepFiles:
    """A search whose trials begin and end at those seconds with those values."""
    files = SweepFiles(folder, name, space=GRID, sampler=sampler)
    files.sweep["spec"]["resources"] = {"workers": 1, "gpus_per_worker": gpus}
    files.write_sweep()
    for number, (begin, end, value) in enumerate(trials):
        trial = f"t{number:03d}-s0"
        files.begin(trial, number, {DEPTH: 1, RANK: 4}, time=START + begin)
        files.add(trial, "summary", metrics={FD: value}, time=START + end)
        files.add(trial, "end", time=START + end, state="finished", epoch=10, reason=None)
    return files


def test_the_best_so_far_is_told_when_trials_end(tmp_path: Path) -> None:
    # Two at once: the third ends before the second, which began before it.
    files = timed(tmp_path, "one", "tpe", [(0, 10, 5.0), (0, 40, 2.0), (10, 30, 3.0), (30, 50, 4.0)], gpus=0.5)
    record = load([files.path])
    frame = best_so_far(record)
    assert frame["spent"].tolist() == [10, 30, 70, 90]
    assert frame["best"].tolist() == [5, 3, 2, 2]
    assert best_so_far(record, unit="gpu_hours")["spent"].tolist() == pytest.approx(np.array([10, 30, 70, 90]) / 7200)
    assert best_so_far(record, unit="trials")["spent"].tolist() == [1, 2, 3, 4]
    assert mean_between(frame, 10, 90) == pytest.approx((20 * 5 + 40 * 3 + 20 * 2) / 80)


def test_a_resumed_trial_is_known_when_it_ends_and_costs_what_it_was_worked_on(tmp_path: Path) -> None:
    """The best value of all is of a trial that began first, died after 5 seconds, and was done an hour later."""
    files = timed(tmp_path, "one", "tpe", [(10, 30, 3.0), (40, 60, 2.0)])
    point = {DEPTH: 1, RANK: 4}
    files.begin("t002-s0", 2, point, time=START)
    files.epoch("t002-s0", 1, 9.0, time=START + 5)
    files.begin("t002-s0", 2, point, attempt=2, resumed_epoch=1, time=START + 3600)
    files.add("t002-s0", "summary", metrics={FD: 1.0}, time=START + 3610)
    files.add("t002-s0", "end", time=START + 3610, state="finished", epoch=10, reason=None)
    frame = best_so_far(load([files.path]))
    assert frame["spent"].tolist() == [20, 40, 55]
    assert frame["best"].tolist() == [3, 2, 1]


def test_a_reused_trial_is_known_when_its_turn_came(tmp_path: Path) -> None:
    """Its times are those of another sweep, a day before: they are no reason to have it first, nor last."""
    files = timed(tmp_path, "one", "tpe", [(10, 30, 3.0), (30, 50, 4.0)])
    day = -86_400
    for number, begin, end, value in ((2, day, day + 40, 2.0), (3, 60, 80, 1.0), (9, day, day + 40, 0.5)):
        trial, source = f"t{number:03d}-s0", {} if begin > 0 else {"reused_from": "other/t000-s0"}
        files.begin(trial, number, {DEPTH: 1, RANK: 4}, time=START + begin, **source)
        files.add(trial, "summary", metrics={FD: value}, time=START + end)
        files.add(trial, "end", time=START + end, state="finished", epoch=10, reason=None)
    frame = best_so_far(load([files.path]))
    assert frame["value"].tolist() == [3, 4, 2, 0.5, 1]


def test_samplers_are_compared_after_equal_spending(tmp_path: Path) -> None:
    folders = []
    for index in range(3):
        better = [(0, 10, 5.0 + index / 10), (10, 20, 1.0), (20, 40, 0.5)]
        worse = [(0, 10, 6.0 + index / 10), (10, 20, 5.0), (20, 30, 2.0)]
        folders += [timed(tmp_path, f"tpe{index}", "tpe", better).path]
        folders += [timed(tmp_path, f"random{index}", "random", worse).path]
    table = anytime(load(folders))
    frame = frame_of(table)
    assert frame["sampler"].tolist() == ["tpe", "random"]
    assert frame["sweeps"].tolist() == [3, 3]
    # Equal spending ends at 30: by then the third trial of tpe has not.
    assert frame["best at 30 seconds"].tolist() == [1.0, 2.0]
    assert frame["best at 15 seconds"].tolist() == pytest.approx([5.1, 6.1])
    assert frame["seconds to 2"].tolist() == [20.0, 30.0]
    means = [[(5 + i / 10 + 1) / 2 for i in range(3)], [(6 + i / 10 + 5) / 2 for i in range(3)]]
    assert frame["mean best so far"].tolist() == pytest.approx([np.mean(row) for row in means])
    assert frame["p holm"][1] == pytest.approx(stats.ttest_ind(*means, equal_var=False).pvalue)


def test_gpu_hours_without_gpus_are_refused(tmp_path: Path) -> None:
    files = timed(tmp_path, "one", "tpe", [(0, 10, 5.0)])
    files.reference(0, "noise", 400.0)
    record = load([files.path])
    with pytest.raises(RecordError, match="had no GPU"):
        best_so_far(record, unit="gpu_hours")
    with pytest.raises(RecordError, match="not an objective of the search"):
        best_so_far(record, "test/classifier_fd_collapsed")
