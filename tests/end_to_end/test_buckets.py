"""Sweeps by Ray whose record is in a bucket: an S3 server over HTTP, real processes, machines that share no files."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import linsweep as ls
from linearizer_core.experiment.journal import BY_HAND
from sweeps.record.lease import PERIOD as LEASE
from sweeps.record.upload import PERIOD
from tests.buckets import S3, Fault, Request, s3_server
from tests.end_to_end.audit import state_of
from tests.end_to_end.in_bucket import BUSY, SEARCH, SPEC, TRIALS, InBucket, texts, told_once
from tests.end_to_end.lab import Linsweep, last, ray_workers
from tests.sweeps.offline import offline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

AWAY = 60.0
"""Seconds for which the bucket answers nobody as it should."""


class Machines(InBucket):
    """Machines that share nothing but the bucket: each has its own home, cache, temporary and working folder."""

    def on(self, machine: str) -> Linsweep:
        """The command line on a machine, with the spec in its working folder."""
        home = self.folder / machine
        if not home.exists():
            (home / "tmp").mkdir(parents=True)
            (home / "small.yaml").write_text(SPEC)
        return Linsweep(home)

    def start(self, machine: str, *words: str) -> subprocess.Popen[str]:
        bench = self.on(machine)
        home = bench.folder
        places = {"HOME": str(home), "LINSWEEP_CACHE": str(home / "cache"), "TMPDIR": str(home / "tmp")}
        return bench.start(*words, env=self.env | places, module="tests.end_to_end.offline")

    def ended(self, process: subprocess.Popen[str], code: int = 0) -> str:
        return Linsweep(self.folder).ended(process, code, BUSY)

    def launch(self, machine: str, *sets: str) -> subprocess.Popen[str]:
        words = [word for text in (f"storage={self.storage}", *sets) for word in ("--set", text)]
        return self.start(machine, "launch", "small.yaml", *words)

    def resume(self, machine: str, *more: str) -> subprocess.Popen[str]:
        return self.start(machine, "resume", "small", "--storage", self.storage, *more)


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The tables of the sweep in a folder, carried out in one process."""
    place = Linsweep(tmp_path_factory.mktemp("folder"))
    (place.folder / "small.yaml").write_text(SPEC)
    runs = place.folder / "runs"
    with offline():
        assert ls.launch(place.folder / "small.yaml", set={"storage": str(runs)}, debug=True).state == "finished"
    ls.table("small", storage=runs)
    return texts(place)


@pytest.fixture
def machines(server: S3, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Machines:
    """A bucket of the test's own."""
    server.fault = lambda request: None
    server.requests.clear()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LINSWEEP_CACHE", str(tmp_path / "cache"))
    name = request.node.name.replace("_", "-")[:60].strip("-")
    return Machines(tmp_path, server, f"{server.new_bucket(name)}/runs")


def test_a_sweep_in_a_bucket_is_that_of_a_folder(machines: Machines, undisturbed: dict[str, str]) -> None:
    begun = time.monotonic()
    output = machines.ended(machines.launch("one"))
    assert "small finished: 3 finished" in output
    asked = dict(machines.s3.requests)
    print(f"{time.monotonic() - begun:.0f} s", asked)
    copy = machines.copy()
    assert copy.trials("small") == TRIALS
    assert all(told_once(copy.events("small", trial)) for trial in TRIALS)
    assert machines.tables() == undisturbed
    # A trial costs its artifacts, its states, and one question; its events cost nothing of their own.
    assert asked["PUT artifacts"] == len(machines.names("artifacts"))
    saved = [e for each in SEARCH for e in copy.events("small", each) if e["event"] == "saved"]
    assert asked["PUT training"] <= len(saved)
    assert asked.get("GET training", 0) == asked.get("GET artifacts", 0) == 0
    seconds = time.monotonic() - begun
    assert asked["PUT pieces"] <= seconds / PERIOD + 3
    assert asked["PUT lease"] <= seconds / LEASE + 4
    assert machines.names("training") == []
    assert len(machines.names("pieces")) == 1
    assert list((machines.folder / "one" / "tmp").rglob("t00*")) == []
    assert "small finished: 3 finished" in machines.ended(machines.resume("two"))


def trial_process(process: subprocess.Popen[str], trial: str) -> psutil.Process:
    """The process of Ray's below a launch that carries out a trial: it has its journal open, in a folder of its own."""
    for worker in ray_workers(psutil.Process(process.pid), "Trainable|Worker"):
        if any(Path(file.path).name == f"{trial}.jsonl" for file in worker.open_files()):
            return worker
    raise AssertionError(f"no process carries out {trial}")


@pytest.mark.long
def test_a_trial_that_is_killed_goes_on_and_one_launch_holds_the_sweep(
    machines: Machines, undisturbed: dict[str, str]
) -> None:
    process = machines.launch("one")
    trial = machines.half_way(process)
    victim = trial_process(process, trial)
    victim.suspend()
    refused = machines.ended(machines.resume("two"), code=2)
    assert "is being carried out already, by a launch that may be on another machine" in " ".join(refused.split())
    victim.kill()
    since = time.time()
    assert "small finished: 3 finished" in machines.ended(process)
    copy = machines.copy()
    events = copy.events("small", trial)
    assert told_once(events, attempts=2)
    assert last(events, "trial")["resumed_epoch"] > 0
    assert machines.row("SIGKILL to a trial's process", trial, since).count("| 0 | 0 |") == 1
    assert all(told_once(copy.events("small", each)) for each in TRIALS if each != trial)
    assert machines.tables() == undisturbed
    assert machines.names("training") == []
    # What the killed process worked in is gone: the next one on this machine has removed it.
    assert list((machines.folder / "one" / "tmp").rglob("t00*")) == []


@pytest.mark.long
def test_a_launch_that_is_killed_goes_on_on_another_machine(machines: Machines, undisturbed: dict[str, str]) -> None:
    process = machines.launch("one")
    trial = machines.half_way(process)
    process.kill()
    process.communicate()
    killed = time.time()
    output = machines.ended(machines.resume("two"))
    assert "another launch holds" in output
    assert "small finished: 3 finished" in output
    copy = machines.copy()
    events = copy.events("small", trial)
    assert told_once(events, attempts=2)
    assert last(events, "trial")["resumed_epoch"] > 0
    assert last(events, "trial")["time"] > killed + 20  # nobody takes over from a launch that may live
    what = "SIGKILL to the launch; `linsweep resume` on another machine"
    assert machines.row(what, trial, killed).count("| 0 | 0 |") == 1
    assert machines.tables() == undisturbed
    assert machines.names("training") == []
    assert len(machines.names("pieces")) == 1


@pytest.mark.long
def test_the_bucket_is_away_for_a_minute(machines: Machines, undisturbed: dict[str, str]) -> None:
    """Refused, cut, late and unanswered in turn: the launch waits, and nothing is lost or done twice."""
    process = machines.launch("one")
    trial = machines.half_way(process, 4)
    begun, since = time.monotonic(), time.time()
    faults: tuple[Fault, ...] = ("gone", "busy", "cut", "half", "slow")

    def away(request: Request) -> Fault | None:
        passed = time.monotonic() - begun
        return faults[int(passed / AWAY * len(faults))] if passed < AWAY else None

    machines.s3.fault = away
    output = machines.ended(process)
    assert "small finished: 3 finished" in output
    assert time.monotonic() - begun > AWAY
    copy = machines.copy()
    assert all(told_once(copy.events("small", trial)) for trial in TRIALS)
    assert machines.tables() == undisturbed
    assert machines.names("training") == []
    assert machines.row("the bucket away for a minute", trial, since).count("| 0 | 0 | nothing |") == 1
    artifacts = [name.split("/", 3) for name in machines.names("artifacts")]
    assert len({(trial, name) for _, trial, _, name in artifacts}) == len(artifacts)


@pytest.mark.long
def test_credentials_that_expire_end_the_launch_and_others_go_on(
    machines: Machines, undisturbed: dict[str, str]
) -> None:
    process = machines.launch("one")
    trial = machines.half_way(process, 4)
    since = time.time()
    machines.s3.fault = lambda request: "expired"
    output = " ".join(machines.ended(process, code=130).split())
    assert "the credentials have expired: renew them in the environment" in output
    assert "Traceback" not in output
    assert "not all of the record is in" in output
    assert f"To continue: linsweep resume small --storage {machines.storage}" in output
    machines.s3.fault = lambda request: None
    # On the same machine nothing is lost that trials had told the launch.
    assert "small finished: 3 finished" in machines.ended(machines.resume("one"))
    what = "credentials that expire; `linsweep resume` with new ones"
    assert machines.row(what, trial, since).count("| 0 | 0 |") == 1
    assert machines.tables() == undisturbed
    assert machines.names("training") == []


@pytest.mark.long
def test_another_machine_stops_retries_and_deletes(machines: Machines) -> None:
    there = ("--storage", machines.storage)
    process = machines.launch("one", "train.epochs=100000", "resources.retries=0")
    trial = machines.half_way(process, 4)
    machines.ended(machines.start("two", "stop", f"small/{trial}", *there))
    stopped = last(machines.copy().events("small", trial), "end")
    assert (stopped["state"], stopped["reason"]) == ("stopped", BY_HAND)
    refused = machines.ended(machines.start("two", "delete", "small", "--yes", *there), code=2)
    assert "is being carried out already" in " ".join(refused.split())
    told = machines.ended(machines.start("two", "stop", "small", *there))
    assert "small has stopped. To continue: linsweep resume small --storage" in told
    assert "interrupted (linsweep stop)" in machines.ended(process, code=130)
    assert "is not running" in machines.ended(machines.start("two", "stop", "small", *there), code=2)
    told = machines.ended(machines.start("two", "retry", f"small/{trial}", *there))
    assert f"small/{trial} will be retried with linsweep resume small --storage" in told
    process = machines.resume("three")

    def goes_on() -> bool:
        return state_of(machines.copy().events("small", trial)) is None

    Linsweep(machines.folder).wait_for("the trial goes on", goes_on, process, BUSY)
    assert last(machines.copy().events("small", trial), "trial")["resumed_epoch"] == stopped["epoch"]
    machines.ended(machines.start("two", "stop", "small", *there))
    machines.ended(process, code=130)
    listed = machines.ended(machines.start("two", "delete", "small", "--yes", *there))
    assert "saved states of trials that have not ended" in listed
    assert f"removed {machines.uri}: " in listed
    assert machines.names("") == []
    assert "no sweep of this name" in machines.ended(machines.start("two", "status", "small", *there), code=2)
