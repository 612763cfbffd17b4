"""Trials that train together on Ray: a job of several, whose process may die."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.end_to_end.lab import Linsweep, last, ray_workers

pytestmark = pytest.mark.slow

SPEC = """
name: seeds
recipe: learned
data: {name: npz, root: digits.npz}
model: {flow: {depth: 1, width: 8}, operator: {rank: 4}}
train: {epochs: 20, batch_size: 64, steps: 8}
evaluate: {steps: [1, 2], quality: [swd], every: 5, samples: 64, held_out: 32}
search:
  sampler: grid
  space: {train.lr: {grid: [0.001, 0.004]}}
  seeds: [0, 1, 2]
  objective: {quality/swd_collapsed: min}
  stop_early: {scheduler: asha, grace_epochs: 5, reduction: 2}
resources: {together: auto, checkpoint_seconds: 0.5}
"""


def test_trials_of_a_process_that_is_killed_go_on_together(tmp_path: Path) -> None:
    (tmp_path / "seeds.yaml").write_text(SPEC)
    linsweep = Linsweep.with_digits(tmp_path)
    process = linsweep.start("launch", "seeds.yaml")
    victims: list[psutil.Process] = []

    def two_have_begun() -> bool:
        victims[:] = ray_workers(psutil.Process(process.pid), "TrialTrainable")
        events = [linsweep.events("seeds", f"t000-s{seed}") for seed in (0, 1)]
        return bool(victims) and all(any(event["event"] == "saved" for event in each) for each in events)

    linsweep.wait_for("the seeds train", two_have_begun, process, seconds=400)
    for victim in victims:
        victim.kill()
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    attempts = []
    for number in (0, 1):
        names = [f"t00{number}-s{seed}" for seed in (0, 1, 2)]
        for name in names:
            events = linsweep.events("seeds", name)
            begun: list[dict[str, Any]] = [event for event in events if event["event"] == "trial"]
            attempts.append(len(begun))
            assert last(events, "end")["state"] in ("finished", "stopped")
            for event in begun:
                assert set(event["provenance"].get("together", names)) <= set(names)
    assert max(attempts) == 2
    assert sum(last(linsweep.events("seeds", f"t000-s{seed}"), "end")["state"] == "finished" for seed in (0, 1, 2)) == 3
    assert "seeds finished" in output
