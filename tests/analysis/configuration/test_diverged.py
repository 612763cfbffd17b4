"""What diverged is told from what died, and what a seed did after its configuration was decided does not count."""

from __future__ import annotations

from pathlib import Path

from analysis import load
from analysis.configuration.frame import build
from tests.analysis.record_factory import FD, SweepFiles, point


def test_what_diverged_is_called_so(tmp_path: Path) -> None:
    sweep = SweepFiles(tmp_path)
    sweep.finished(0, point(1), 1.0)
    sweep.failed(1, point(2), "diverged: in epoch 1: the loss is not finite")
    sweep.failed(2, point(3), "its process died")
    assert build(load(sweep.path))["words"].tolist() == ["finished", "diverged", "failed"]


def test_what_came_after_the_epoch_of_a_stop_does_not_count(tmp_path: Path) -> None:
    sweep = SweepFiles(tmp_path, seeds=(0, 1))
    sweep.stopped(0, point(1), 9.0, epoch=2)
    late = sweep.finished(0, point(1), 1.0, seed=1)
    sweep.end(late, "stopped", 0, reason="stopped: seed 0 of its configuration was stopped at epoch 2")
    runs = load(sweep.path).runs.set_index("trial")
    assert runs.loc[late, "state"] == "stopped"
    assert runs[FD].dropna().to_dict() == {"t000-s0": 9.0}
