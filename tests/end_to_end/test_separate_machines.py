"""A sweep of gangs on machines that share nothing but a bucket: of which one dies, and then the head."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

import linsweep as ls
from tests.buckets import s3_server
from tests.end_to_end.in_bucket import BUSY, ROOT, SPEC, TRIALS, InBucket, texts, told_once
from tests.end_to_end.lab import Linsweep, last
from tests.end_to_end.separate import Machine, Machines, can_separate, separate_machines

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(3000)]

GANG = ("--set", "resources={workers: 2, checkpoint_seconds: 0.5}", "--set", "train.batch_size=32")
CODE = "tests.end_to_end.offline"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The tables of the sweep in a folder, on this machine alone."""
    place = Linsweep(tmp_path_factory.mktemp("folder"))
    (place.folder / "small.yaml").write_text(SPEC)
    done = place.start("launch", "small.yaml", *GANG, module=CODE, env={"PYTHONPATH": str(ROOT)})
    place.ended(done, seconds=BUSY)
    ls.table("small", storage=place.folder / "runs")
    return texts(place)


def command(machine: Machine, *words: str) -> subprocess.Popen[str]:
    return machine.start(sys.executable, "-m", CODE, *words)


def gang(machines: Machines) -> list[str]:
    """The machines that a worker of a trial is on."""
    return [
        name
        for name, machine in machines.machines.items()
        if any(" ".join(process.cmdline()).startswith("ray::Worker") for process in machine.processes())
    ]


@pytest.mark.skipif(not can_separate(), reason="needs the rights to make namespaces and mounts")
def test_gangs_on_machines_that_share_nothing(
    undisturbed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with separate_machines({}) as machines, s3_server(machines.here) as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("LINSWEEP_CACHE", str(tmp_path / "cache"))
        sweep = InBucket(tmp_path, s3, f"{s3.new_bucket('gangs')}/runs")
        machines.env |= sweep.env
        head = machines.start_ray("head", cpus=0)
        for name in ("a", "b", "c"):
            machines.start_ray(name, "head")
        machines.await_nodes("head", 4)
        head.write("small.yaml", SPEC)
        sets = (*GANG, "--set", f"storage={sweep.storage}")
        process = command(head, "launch", "small.yaml", *sets, "--address", f"{head.address}:6379")
        trial = sweep.half_way(process)
        on = gang(machines)
        assert len(on) == 2
        machines.machines.pop(on[1]).kill()
        killed = time.time()

        def goes_on() -> bool:
            events = sweep.copy().events("small", trial)
            return last(events, "trial")["time"] > killed and last(events, "trial")["resumed_epoch"] > 0

        Linsweep(tmp_path).wait_for("the trial goes on without the machine", goes_on, process, BUSY)
        other = sweep.half_way(process, 4)
        since = time.time()
        for machine in list(machines.machines):
            machines.machines.pop(machine).kill()
        process.communicate()
        head = machines.start_ray("another head", cpus=0)
        for name in ("d", "e"):
            machines.start_ray(name, "another head")
        machines.await_nodes("another head", 3)
        words = ("resume", "small", "--storage", sweep.storage, "--address", f"{head.address}:6379")
        output = sweep_ended(command(head, *words))
        assert "another launch holds" in output
        assert "small finished: 3 finished" in output
        rows = [
            sweep.row("SIGKILL to all that runs on a machine of a gang, whose disk is gone too", trial, killed),
            sweep.row("SIGKILL to all that runs on all machines; `linsweep resume` on new ones", other, since),
        ]
        assert all(row.count("| 0 | 0 |") == 1 for row in rows)
        copy = sweep.copy()
        assert copy.trials("small") == TRIALS
        attempts = {each: len([e for e in copy.events("small", each) if e["event"] == "trial"]) for each in TRIALS}
        assert all(told_once(copy.events("small", each), attempts[each]) for each in TRIALS)
        assert attempts[trial] >= 2
        assert last(copy.events("small", other), "trial")["resumed_epoch"] > 0
        assert sweep.tables() == undisturbed
        assert sweep.names("training") == []
        assert len(sweep.names("pieces")) == 1


def sweep_ended(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=BUSY)
    assert process.returncode == 0, output
    return output
