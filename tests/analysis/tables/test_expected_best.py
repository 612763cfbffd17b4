"""What a search of fewer trials would have found."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from analysis import RecordError, load
from analysis.tables.expected_best import expected_best
from tests.analysis.record_factory import FD, SweepFiles, frame_of, point

VALUES = (9.0, 4.0, 6.0, 5.0, 8.0)


def searched(folder: Path, sampler: str = "random", **options: object) -> SweepFiles:
    files = SweepFiles(folder, sampler=sampler, seeds=(0, 1), **options)  # type: ignore[arg-type]
    for number, value in enumerate(VALUES):
        for seed in (0, 1):
            files.finished(number, point(number + 1), value + 0.5 - seed, seed=seed)
    return files


def test_configurations_are_what_is_drawn_and_seeds_are_their_mean(tmp_path: Path) -> None:
    table = expected_best(load([searched(tmp_path).path]))
    frame = frame_of(table).set_index("configurations")
    assert list(frame.index) == [1, 2, 4, 5]
    pairs = [min(pair) for pair in itertools.product(VALUES, repeat=2)]
    assert frame.loc[2, f"expected best {FD}"] == pytest.approx(np.mean(pairs))
    assert frame.loc[2, "hours"] == pytest.approx(2 * 2 * 60 / 3600)  # two seeds of a minute
    assert not any("Drawn by" in note for note in table.notes)


def test_of_what_is_better_when_larger_the_best_is_the_largest(tmp_path: Path) -> None:
    files = searched(tmp_path, "tpe", objective={FD: "max"})
    table = expected_best(load([files.path]))
    pairs = [max(pair) for pair in itertools.product(VALUES, repeat=2)]
    assert frame_of(table).set_index("configurations").loc[2, f"expected best {FD}"] == pytest.approx(np.mean(pairs))
    low, high = table.rows[0].cells[1].interval or (0, 0)
    assert (low, high) == (4.0, 9.0)
    assert any("Drawn by tpe" in note for note in table.notes)


def test_early_stops_and_few_configurations_are_refused(tmp_path: Path) -> None:
    files = searched(tmp_path)
    files.stopped(7, point(6), 20.0)
    with pytest.raises(RecordError, match="stopped early"):
        expected_best(load([files.path]))
    few = SweepFiles(tmp_path, "few")
    few.finished(0, point(), 1.0)
    with pytest.raises(RecordError, match="needs 5 finished configurations, got 1"):
        expected_best(load([few.path]))
