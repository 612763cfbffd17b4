"""Precision and recall beside a distance that is printed."""

from __future__ import annotations

from pathlib import Path

from sweeps.record.paths import SweepPaths
from sweeps.record.variety import variety
from tests.analysis.record_factory import FD, SweepFiles, point

PRECISION, RECALL = "quality/precision_collapsed", "quality/recall_collapsed"


def test_they_are_means_over_the_trials_that_a_distance_is_of(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    trials = [
        files.finished(0, point(), 5.0, seed=seed, **{PRECISION: 0.9, RECALL: recall, "quality/recall_k1": 0.1})
        for seed, recall in enumerate((0.5, 0.6))
    ]
    paths = SweepPaths(files.path)
    assert variety(paths, trials, FD) == ", precision 0.9, recall 0.55"
    assert variety(paths, trials[:1], FD) == ", precision 0.9, recall 0.5"
    assert variety(paths, trials, RECALL) == ""  # no distance
    assert variety(paths, ["gone"], FD) == ""


def test_what_not_all_trials_have_is_left_out(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    trials = [files.finished(0, point(), 5.0, **{PRECISION: 0.9}), files.finished(1, point(), 5.0, **{RECALL: 0.5})]
    assert variety(SweepPaths(files.path), trials, FD) == ""
