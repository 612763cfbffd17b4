"""Trials of several workers on a cluster of several Ray nodes, and what a launch listens on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
import ray

from sweeps.record.provenance import git_state
from tests.end_to_end.audit import state_of
from tests.end_to_end.faults import left_in, two_nodes
from tests.end_to_end.lab import Linsweep, free_port, last, ray_workers, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]

PAIRS = [
    "name=pairs", "controls=[]", "search.trials=6",
    "resources={workers: 2, gpus_per_worker: 1, device: cpu, cpus_per_worker: 1}",
]  # fmt: skip


def sets(*texts: str) -> list[str]:
    return [word for text in texts for word in ("--set", text)]


def test_pairs_of_workers_on_two_nodes_of_two_gpus(linsweep: Linsweep) -> None:
    with two_nodes("pairs", cpus=2, gpus=2) as cluster:
        words = ["tiny.yaml", *sets(*PAIRS), "--address", cluster.address]
        plan = linsweep.ended(linsweep.start("plan", *words, env=cluster.env))
        assert "2 workers of 1 CPU and 1 GPU, each worker on one machine per trial" in " ".join(plan.split())
        assert "on 3 machines, the largest with 2 CPUs and 2 GPUs: 2 at a time" in " ".join(plan.split())
        refused = linsweep.ended(
            linsweep.start("plan", *words, *sets("resources.gpus_per_worker=3"), env=cluster.env), code=2
        )
        assert "resources: a trial needs 2 workers of 1 CPU and 3 GPUs" in " ".join(refused.split())
        process = linsweep.start("launch", "--fresh", *words, env=cluster.env)
        packed: list[bool] = []

        def both_nodes_train() -> bool:
            each = [len(ray_workers(psutil.Process(cluster.processes[n].pid), r"ray::Worker\b")) for n in ("a", "b")]
            packed.append(all(count in (0, 2) for count in each))
            return each == [2, 2]

        linsweep.wait_for("two pairs run at once", both_nodes_train, process, 240)
        output = linsweep.ended(process)
        assert "pairs finished: " in output
        assert left_in(cluster) == []
    searched = [trial for trial in linsweep.trials("pairs") if trial.startswith("t")]
    assert len(searched) == 6
    assert {state_of(linsweep.events("pairs", trial)) for trial in searched} <= {"finished", "stopped"}
    # A pair that is starting has one worker for a moment; half of those looked at were whole, at the least.
    assert sum(packed) >= len(packed) / 2


OLD_HEAD = """
import sys
import ray
ray.__version__ = "2.59.0"
from ray.scripts.scripts import main
sys.argv[1:] = ["start", "--head", *sys.argv[1:]]
main()
"""


def test_a_cluster_on_another_ray_is_refused_before_anything_is_sent(linsweep: Linsweep) -> None:
    address = f"127.0.0.1:{free_port()}"
    with TemporaryDirectory(prefix="lin-old-") as folder:  # paths of sockets may not be longer
        options = [f"--port={address.rpartition(':')[2]}", "--node-ip-address=127.0.0.1", "--num-cpus=1", "--block"]
        options += ["--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={folder}"]
        log, off = Path(folder, "head.log"), {"RAY_AUTH_MODE": "disabled"}
        with log.open("w") as out:
            head = subprocess.Popen([sys.executable, "-c", OLD_HEAD, *options], stdout=out, env=os.environ | off)
        try:
            wait_until("the head is up", lambda: "Ray runtime started" in log.read_text(), 240)
            words = ["launch", "tiny.yaml", *sets("name=old"), "--address", address]
            told = " ".join(linsweep.ended(linsweep.start(*words, env=off), code=2).split())
        finally:
            for each in psutil.Process(head.pid).children(recursive=True):
                each.kill()
            head.kill()
            head.wait()
    here = f"Ray {ray.__version__} on Python {platform.python_version()}"
    python = platform.python_version()
    assert f"--address: the cluster at {address} runs Ray 2.59.0 on Python {python}, and here is {here}; both" in told
    assert not (linsweep.folder / "runs" / "old").exists()


def test_two_trials_share_each_gpu(linsweep: Linsweep) -> None:
    halves = ["name=halves", "controls=[]", "search.trials=6", "resources={gpus_per_worker: 0.5, device: cpu}"]
    with two_nodes("halves", cpus=4, gpus=1) as cluster:
        words = ["tiny.yaml", *sets(*halves), "--address", cluster.address]
        plan = linsweep.ended(linsweep.start("plan", *words, env=cluster.env))
        assert "1 CPU and 0.5 GPUs per trial" in " ".join(plan.split())
        assert ": 4 at a time" in " ".join(plan.split())
        process = linsweep.start("launch", "--fresh", *words, env=cluster.env)
        nodes = [psutil.Process(cluster.processes[node].pid) for node in ("a", "b")]
        most = [0, 0]
        while process.poll() is None:
            most = [
                max(count, len(ray_workers(node, "TrialTrainable"))) for count, node in zip(most, nodes, strict=True)
            ]
            time.sleep(0.1)
        assert "halves finished: " in linsweep.ended(process)
        # Each node has CPUs for four: what kept the others waiting was its GPU.
        assert most == [2, 2]
        assert left_in(cluster) == []
    searched = [trial for trial in linsweep.trials("halves") if trial.startswith("t")]
    assert {state_of(linsweep.events("halves", trial)) for trial in searched} <= {"finished", "stopped"}


def test_a_local_sweep_listens_on_loopback_alone(linsweep: Linsweep) -> None:
    process = linsweep.start("launch", "tiny.yaml", "--fresh", *sets("name=quiet", "resources.workers=2"))
    heard: set[str] = set()

    def trains() -> bool:
        root = psutil.Process(process.pid)
        for each in [root, *root.children(recursive=True)]:
            heard.update(_listening(each))
        return any(event["event"] == "epoch" for event in linsweep.events("quiet", "t000-s0"))

    linsweep.wait_for("a trial trains", trains, process, 240)
    linsweep.ended(process)
    assert heard
    assert {address.removeprefix("::ffff:") for address in heard} <= {"127.0.0.1", "::1"}, heard


def _listening(process: psutil.Process) -> set[str]:
    try:
        return {found.laddr.ip for found in process.net_connections("inet") if found.status == psutil.CONN_LISTEN}
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return set()


def test_stop_status_and_a_budget_that_is_extended(linsweep: Linsweep) -> None:
    name = "spent"
    words = ["launch", "tiny.yaml", "--fresh", *sets(f"name={name}", "train.epochs=20000", "search.stop_early=null")]
    words += sets("controls=[]", "search.trials=2", "budget.hours=0.015", "resources.checkpoint_seconds=600")
    output = linsweep.ended(linsweep.start(*words), code=130)
    assert "interrupted (budget.hours = 0.015 spent): 2 interrupted" in output
    assert "with a higher budget: --set budget.hours=…" in output
    assert "cap 54 s" in linsweep.run("status", name)
    reached = {trial: _epoch(linsweep.events(name, trial)) for trial in ("t000-s0", "t001-s0")}
    assert all(epoch > 0 for epoch in reached.values())
    process = linsweep.start("resume", name, *sets("budget.hours=1"))

    def goes_on() -> bool:
        return all(_epoch(linsweep.events(name, trial)) > epoch for trial, epoch in reached.items())

    linsweep.wait_for("both trials go on", goes_on, process, 240)
    assert "running" in linsweep.run("status", name)
    assert f"{name} has stopped. To continue: linsweep resume {name}" in linsweep.run("stop", name)
    linsweep.ended(process, code=130)
    for trial, epoch in reached.items():
        events = linsweep.events(name, trial)
        # Nothing was saved but when it was asked to stop, and nothing is done again.
        assert last(events, "trial")["resumed_epoch"] == epoch
        assert last(events, "end")["state"] == "interrupted"
        epochs = [event["epoch"] for event in events if event["event"] == "epoch"]
        assert epochs == sorted(set(epochs))
    assert "is not running" in linsweep.run("stop", name, code=2)


def _epoch(events: list[dict[str, Any]]) -> int:
    return max((event["epoch"] for event in events if event["event"] == "epoch"), default=0)


def test_a_launch_of_identical_trials_runs_none(linsweep: Linsweep) -> None:
    if git_state()["dirty"]:
        pytest.skip("the code has changes that no commit has, and is not taken for the same")
    common = sets("controls=[]", "search.trials=2")
    linsweep.run("launch", "tiny.yaml", "--fresh", *common, *sets("name=first"))
    started = time.monotonic()
    output = linsweep.run("launch", "tiny.yaml", *common, *sets("name=second"))
    assert "(2 reused from identical trials)" in output
    assert time.monotonic() - started < 300
    assert linsweep.tables("second") == linsweep.tables("first")
    assert linsweep.events("second", "t000-s0")[0]["reused_from"] == "first/t000-s0"


def test_a_supervised_launch_that_is_killed_is_launched_again(linsweep: Linsweep) -> None:
    name = "supervised"
    words = ["tiny.yaml", "--fresh", *sets(f"name={name}", "train.epochs=60", "search.trials=2", "controls=[]")]
    process = linsweep.start("supervise", *words)

    def trains() -> bool:
        return _epoch(linsweep.events(name, "t000-s0")) > 3

    linsweep.wait_for("a trial trains", trains, process, 240)
    (launch,) = [child for child in psutil.Process(process.pid).children() if "linsweep" in " ".join(child.cmdline())]
    launch.kill()
    output = linsweep.ended(process)
    assert "the launch was killed by SIGKILL; relaunching from the record in " in output
    assert f"{name} finished: 2 " in output


def test_optuna_dashboard_shows_the_study_while_it_runs(linsweep: Linsweep) -> None:
    name = "watched"
    storage = f"sqlite:///{linsweep.folder}/study.db"
    linsweep.run(
        "launch", "tiny.yaml", "--fresh", *sets(f"name={name}", "search.trials=2", "controls=[]"),
        *sets(f"search.storage={storage}"),
    )  # fmt: skip
    from optuna_dashboard import wsgi
    from werkzeug.test import Client

    shown = Client(wsgi(storage)).get("/api/studies").get_json()
    assert [study["study_name"] for study in shown["study_summaries"]] == [name]
    done = subprocess.run(
        [str(Path(sys.executable).with_name("optuna-dashboard")), "--help"],
        capture_output=True,
        env=os.environ | {"COLUMNS": "200"},
        text=True,
    )
    assert done.returncode == 0
