"""Sweeps by Ray whose record is in a bucket: an S3 server over HTTP, real processes, machines that share no files."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from linearizer_core.bucket import Bucket
from tests.buckets import S3, s3_server
from tests.end_to_end.lab import Linsweep

pytestmark = pytest.mark.slow

SPEC = """
name: small
data: {name: digits}
recipe: learned
model: {flow: {depth: 2, width: 16}, operator: {kind: time_lowrank, rank: 2}}
train: {epochs: 24, batch_size: 128, lr: 1.0e-3}
evaluate: {steps: [1, 2], quality: [swd], every: 4, samples: 64}
search: {sampler: grid, space: {model.operator.rank: {grid: [2, 4, 8]}}, objective: {quality/swd_collapsed: min}}
resources: {checkpoint_seconds: 0.5}
"""
TRIALS = ["r000", "r001", "r002", "t000-s0", "t001-s0", "t002-s0"]


@dataclass
class Machines:
    """A bucket, and machines that share nothing but it: each has its own home, folder of copies and working folder."""

    folder: Path
    s3: S3
    storage: str

    def on(self, machine: str) -> Linsweep:
        """The command line on a machine, with the spec in its working folder."""
        home = self.folder / machine
        if not home.exists():
            (home / "tmp").mkdir(parents=True)
            (home / "small.yaml").write_text(SPEC)
        return Linsweep(home)

    def env(self, machine: str) -> dict[str, str]:
        home = str(self.folder / machine)
        return {**self.s3.environment, "HOME": home, "XDG_CACHE_HOME": f"{home}/.cache", "TMPDIR": f"{home}/tmp"}

    def start(self, machine: str, *words: str) -> subprocess.Popen[str]:
        return self.on(machine).start(*words, env=self.env(machine))

    def run(self, machine: str, *words: str, code: int = 0) -> str:
        return Linsweep.ended(self.on(machine), self.start(machine, *words), code)

    def copy(self, name: str, machine: str = "reader") -> Linsweep:
        """The record of a sweep as a machine reads it from the bucket: where ``runs`` is the folder of its copies."""
        self.run(machine, "status", name, "--storage", self.storage)
        (copies,) = (self.folder / machine / ".cache" / "linsweep" / "copies").iterdir()
        runs = self.folder / machine / "runs"
        if not runs.exists():
            runs.symlink_to(copies)
        return self.on(machine)

    def tables(self, name: str, machine: str = "reader") -> dict[str, str]:
        """The tables of a sweep in the bucket, its name taken out."""
        copy = self.copy(name, machine)
        self.run(machine, "table", name, "--storage", self.storage)
        return texts(copy, name)


def texts(place: Linsweep, name: str) -> dict[str, str]:
    made = (place.folder / "runs" / name / "tables").iterdir()
    return {
        path.name: path.read_text().replace(name, "NAME") for path in made if path.suffix in (".csv", ".md", ".tex")
    }


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The tables of the sweep in a folder."""
    place = Linsweep(tmp_path_factory.mktemp("folder"))
    (place.folder / "small.yaml").write_text(SPEC)
    place.run("launch", "small.yaml")
    place.run("table", "small")
    return texts(place, "small")


@pytest.fixture
def machines(server: S3, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Machines]:
    """A bucket of the test's own."""
    server.fault = lambda request: None
    server.requests.clear()
    yield Machines(tmp_path, server, server.new_bucket(request.node.name.replace("_", "-")[:60].strip("-")) + "/runs")
    shutil.rmtree(tmp_path, ignore_errors=True)


def told_once(events: list[dict[str, Any]]) -> bool:
    """Whether a journal has each of its events once: one attempt, every epoch in order, one summary, one end."""
    epochs = [event["epoch"] for event in events if event["event"] == "epoch"]
    kinds = [event["event"] for event in events]
    return epochs == sorted(set(epochs)) and kinds.count("trial") == kinds.count("end") == 1 >= kinds.count("summary")


def test_a_sweep_in_a_bucket_is_that_of_a_folder(machines: Machines, undisturbed: dict[str, str]) -> None:
    output = machines.run("one", "launch", "small.yaml", "--set", f"storage={machines.storage}")
    assert "small finished: 3 finished" in output
    asked = dict(machines.s3.requests)
    copy = machines.copy("small")
    assert copy.trials("small") == TRIALS
    assert all(told_once(copy.events("small", trial)) for trial in TRIALS)
    assert machines.tables("small") == undisturbed
    names = [entry.name for entry in entries(machines)]
    assert asked["PUT artifacts"] == len([name for name in names if name.startswith("artifacts/")])
    assert not [name for name in names if name.startswith("training/")]
    assert len([name for name in names if name.startswith("pieces/")]) == 1
    assert list((machines.folder / "one" / "tmp").rglob("t00*")) == []
    again = machines.run("two", "resume", "small", "--storage", machines.storage)
    assert "small finished: 3 finished" in again


def entries(machines: Machines) -> list[Any]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in machines.s3.environment.items():
            patch.setenv(name, value)
        return Bucket(f"{machines.storage}/small").entries()
