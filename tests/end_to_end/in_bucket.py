"""A small sweep whose record is in a bucket, as tests look at it."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import linsweep as ls
from analysis.record.copies import copied
from linearizer_core.bucket import Bucket, BucketError
from tests.buckets import S3
from tests.end_to_end.audit import Audit, count_redone, state_of
from tests.end_to_end.lab import Linsweep

ROOT = Path(__file__).parents[2]
BUSY = 600.0
"""Seconds that a launch of some seconds may take on a busy machine."""

SPEC = """
name: small
data: {name: digits}
recipe: learned
model: {flow: {depth: 2, width: 16}, operator: {kind: time_lowrank, rank: 2}}
train: {epochs: 72, batch_size: 128, lr: 1.0e-3}
evaluate: {steps: [1, 2], quality: [swd], every: 12, samples: 64}
search: {sampler: grid, space: {model.operator.rank: {grid: [2, 4, 8]}}, objective: {quality/swd_collapsed: min}}
resources: {checkpoint_seconds: 0.5}
"""
SEARCH = ["t000-s0", "t001-s0", "t002-s0"]
TRIALS = ["r000", "r001", "r002", *SEARCH]


@dataclass
class InBucket:
    """The sweep in a bucket; ``folder`` is for copies of its record."""

    folder: Path
    s3: S3
    storage: str

    @property
    def uri(self) -> str:
        return f"{self.storage}/small"

    @property
    def env(self) -> dict[str, str]:
        """What every machine has: this code, and nothing that lets trials wait for other programs."""
        return {**self.s3.environment, "PYTHONPATH": str(ROOT), "RAY_worker_niceness": "0"}

    def copy(self) -> Linsweep:
        """The record of the sweep as it is in the bucket now, as one that is in a folder ``runs``."""
        folder = copied(self.uri)
        runs = self.folder / "runs"
        if not runs.exists():
            runs.symlink_to(folder.parent)
        return Linsweep(self.folder)

    def tables(self) -> dict[str, str]:
        """The tables of the sweep in the bucket."""
        ls.table("small", storage=self.storage)
        return texts(self.copy())

    def names(self, below: str) -> list[str]:
        """The objects of the sweep in one of its folders."""
        return [entry.name for entry in Bucket(self.uri).entries(below)]

    def row(self, what: str, trial: str, since: float) -> str:
        """What came of a fault, as a row of the table in docs/reliability.md; printed too."""
        copy, found = self.copy(), Audit()
        there = copy.trials("small")
        found.lost, found.duplicated = len(set(TRIALS) - set(there)), len(set(there) - set(TRIALS))
        for each in there:
            count_redone(copy.events("small", each), found)
        events = copy.events("small", trial)
        before = max((e["epoch"] for e in events if e["event"] == "epoch" and e["time"] <= since), default=0)
        new = [e["time"] for e in events if e["time"] > since and (e["event"] == "end" or e.get("epoch", 0) > before)]
        redone = f"{found.redone_epochs} epochs, {found.redone_seconds:.1f} s" if found.redone_epochs else "nothing"
        row = f"| {what} | {found.lost} | {found.duplicated} | {redone} | {min(new) - since:.0f} |"
        print(row)
        return row

    def half_way(self, process: subprocess.Popen[str], epoch: int = 8) -> str:
        """Wait until the bucket has a state of a trial that is in the middle of its training; which."""
        found: list[str] = []

        def trains() -> bool:
            time.sleep(0.2)
            try:
                copy = self.copy()
            except (ls.LinsweepError, BucketError):
                return False
            for trial in SEARCH:
                events = copy.events("small", trial)
                reached = max((event["epoch"] for event in events if event["event"] == "epoch"), default=0)
                note = copy.folder / "runs" / "small" / "training" / f"{trial}.json"
                if reached >= epoch and state_of(events) is None and note.exists():
                    found[:] = [trial]
            return bool(found)

        Linsweep(self.folder).wait_for(f"a trial is at epoch {epoch}", trains, process, BUSY)
        return found[0]


def texts(place: Linsweep) -> dict[str, str]:
    made = (place.folder / "runs" / "small" / "tables").iterdir()
    return {path.name: path.read_text() for path in made if path.suffix in (".csv", ".md", ".tex")}


def told_once(events: list[dict[str, Any]], attempts: int = 1) -> bool:
    """Whether a journal tells of so many attempts, each of which goes on from a state, and of one end."""
    kinds = [event["event"] for event in events]
    epoch = 0
    for event in events:
        if event["event"] == "trial":
            epoch = event.get("resumed_epoch", 0)
        elif event["event"] == "epoch":
            if event["epoch"] != epoch + 1:
                return False
            epoch = event["epoch"]
    ends = [event for event in events if event["event"] == "end"]
    return kinds.count("trial") == attempts and len(ends) == 1 >= kinds.count("summary")
