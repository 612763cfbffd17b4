"""Faults done to a running sweep, and what follows each: what was lost, what was done again, how long it took."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from tests.end_to_end.audit import ENDED, Audit, audit, state_of
from tests.end_to_end.disk import FailingDisk
from tests.end_to_end.lab import Linsweep, MlflowServer, PostgresServer, free_port, last, ray_workers, wait_until

STEADY = """
name: steady
recipe: learned
data: {name: npz, root: digits.npz}
model:
  flow: {depth: 2, width: 32}
  operator: {rank: 8}
train: {epochs: 30, batch_size: 96}
evaluate: {steps: [1, 16], quality: [classifier_fd], every: 6, samples: 128, held_out: 64}
search:
  trials: 4
  space:
    model.flow.depth: {int: [1, 4]}
    model.operator.rank: {int: [4, 32], log: true}
resources: {checkpoint_seconds: 0.5}
"""
"""Trials long enough to be hit half-way, and saved so often that little is done again."""

TRIALS = ["r000", "r001", "r002", *(f"t00{number}-s0" for number in range(4))]
SEARCH = TRIALS[3:]


@dataclass(frozen=True)
class Survival:
    """What came of a fault; ``seconds`` from the fault to the first progress after it."""

    audit: Audit
    seconds: float


@dataclass
class Laboratory:
    """A sweep that is launched again and again, each time with another fault."""

    linsweep: Linsweep
    server: MlflowServer
    reference: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, server: MlflowServer) -> Laboratory:
        """With the undisturbed sweep in it, whose tables all others must give."""
        (folder / "steady.yaml").write_text(STEADY)
        laboratory = cls(Linsweep.with_digits(folder), server)
        laboratory.linsweep.run("launch", "steady.yaml", "--set", f"tracking.uri={server.uri}")
        laboratory.reference = laboratory.linsweep.tables("steady")
        return laboratory

    def words(self, name: str, *more: str) -> list[str]:
        """The launch of the sweep under another name."""
        sets = (f"name={name}", f"tracking.uri={self.server.uri}", *more)
        return ["launch", "steady.yaml", "--fresh", *(word for text in sets for word in ("--set", text))]

    def half_way(self, name: str, process: subprocess.Popen[str], epoch: int = 10, seconds: float = 180) -> str:
        """Wait until a trial of the search is in the middle of its training; which."""
        hit: list[str] = []

        def trains() -> bool:
            hit[:] = [trial for trial in SEARCH if _open(self.linsweep.events(name, trial), epoch)]
            return bool(hit)

        self.linsweep.wait_for(f"a trial of {name} is at epoch {epoch}", trains, process, seconds)
        return hit[0]

    def recovered(self, name: str, trial: str, since: float) -> float:
        """Seconds from the fault to the first epoch, or end, of the trial that it had not reached before.

        Where another attempt at it follows the fault, that is the one that counts.
        """
        before = [event for event in self.linsweep.events(name, trial) if event["time"] <= since]
        reached = max((event["epoch"] for event in before if event["event"] == "epoch"), default=0)
        attempts = [e["time"] for e in self.linsweep.events(name, trial) if e["event"] == "trial" and e["time"] > since]
        for event in self.linsweep.events(name, trial):
            if attempts and event["time"] < attempts[0]:
                continue
            new = event["event"] == "epoch" and event["epoch"] > reached
            if event["time"] > since and (new or (event["event"] == "end" and event["state"] in ENDED)):
                return float(event["time"] - since)
        raise AssertionError(f"{name}/{trial} made no progress after the fault")

    def survival(
        self, name: str, trial: str, since: float, same_tables: bool = True, study: str | None = None
    ) -> Survival:
        """The audit of a sweep that has ended, with its tables beside those of the undisturbed one."""
        found = audit(self.linsweep, name, TRIALS, self.server.uri, study)
        if same_tables and self.linsweep.tables(name) != self.reference:
            found.problems.append("its tables are not those of the undisturbed sweep")
        return Survival(found, self.recovered(name, trial, since))


def _open(events: list[dict[str, Any]], epoch: int) -> bool:
    reached = max((event["epoch"] for event in events if event["event"] == "epoch"), default=0)
    return reached >= epoch and state_of(events) is None


Fault = Callable[[Laboratory, str], Survival]


def trial_killed(laboratory: Laboratory, name: str) -> Survival:
    """SIGKILL to a trial's process"""
    process = laboratory.linsweep.start(*laboratory.words(name))
    trial = laboratory.half_way(name, process)
    _kill_trial(laboratory, name, process, trial)
    since = time.time()
    laboratory.linsweep.ended(process)
    return laboratory.survival(name, trial, since)


def _kill_trial(laboratory: Laboratory, name: str, process: subprocess.Popen[str], trial: str) -> None:
    """SIGKILL the process that has the trial's journal open."""
    journal = str(laboratory.linsweep.journal(name, trial))
    for worker in ray_workers(psutil.Process(process.pid), "Trainable|Worker"):
        if journal in [file.path for file in worker.open_files()]:
            worker.kill()
            return
    raise AssertionError(f"no process writes {journal}")


def worker_killed(laboratory: Laboratory, name: str) -> Survival:
    """SIGKILL to one of a trial's two workers"""
    process = laboratory.linsweep.start(*laboratory.words(name, "resources.workers=2"))
    trial = laboratory.half_way(name, process, 6)
    workers = ray_workers(psutil.Process(process.pid), r"ray::Worker\b")
    assert len(workers) >= 2, workers
    workers[-1].kill()
    since = time.time()
    laboratory.linsweep.ended(process)
    # Two workers add up a batch in another order: the tables agree to rounding, not to the last digit.
    return laboratory.survival(name, trial, since, same_tables=False)


def launcher_killed(laboratory: Laboratory, name: str) -> Survival:
    """SIGKILL to the launch; `linsweep resume`"""
    process = laboratory.linsweep.start(*laboratory.words(name))
    trial = laboratory.half_way(name, process)
    process.kill()
    process.communicate()
    since = time.time()
    laboratory.linsweep.run("resume", name)
    return laboratory.survival(name, trial, since)


def launcher_interrupted(laboratory: Laboratory, name: str) -> Survival:
    """SIGTERM to the launch; `linsweep resume`"""
    process = laboratory.linsweep.start(*laboratory.words(name))
    trial = laboratory.half_way(name, process)
    process.send_signal(signal.SIGTERM)
    output = laboratory.linsweep.ended(process, code=130)
    assert f"To continue: linsweep resume {name}" in output, output
    since = time.time()
    laboratory.linsweep.run("resume", name)
    survival = laboratory.survival(name, trial, since)
    if survival.audit.redone_epochs:
        survival.audit.problems.append("work was done again, though there was time to save it")
    return survival


def mlflow_down(laboratory: Laboratory, name: str, seconds: float = 60) -> Survival:
    """SIGKILL to the MLflow server, back after a minute; `linsweep sync` for what it missed"""
    process = laboratory.linsweep.start(*laboratory.words(name))
    trial = laboratory.half_way(name, process, 6)
    laboratory.server.kill()
    since = time.time()
    time.sleep(seconds)
    laboratory.server.start()
    laboratory.linsweep.ended(process)
    laboratory.linsweep.run("sync", name)
    return laboratory.survival(name, trial, since)


def checkpoint_damaged(laboratory: Laboratory, name: str) -> Survival:
    """the newest saved state overwritten with noise, then SIGKILL to the trial"""
    process = laboratory.linsweep.start(*laboratory.words(name))
    trial = laboratory.half_way(name, process, 16)
    victim = next(
        worker
        for worker in ray_workers(psutil.Process(process.pid), "Trainable")
        if str(laboratory.linsweep.journal(name, trial)) in [file.path for file in worker.open_files()]
    )
    victim.suspend()
    state = laboratory.linsweep.folder / "runs" / name / "training" / f"{trial}.pt"
    with state.open("r+b") as file:
        file.seek(state.stat().st_size // 2)
        file.write(os.urandom(64))
    victim.kill()
    since = time.time()
    laboratory.linsweep.ended(process)
    survival = laboratory.survival(name, trial, since)
    events = laboratory.linsweep.events(name, trial)
    if not any(event["event"] == "warning" and "could not be read" in event["message"] for event in events):
        survival.audit.problems.append("nothing is said of the damaged state")
    if last(events, "trial")["resumed_epoch"] == 0:
        survival.audit.problems.append("it did not go on from the state before")
    return survival


def disk_full(laboratory: Laboratory, name: str) -> Survival:
    """no space left for saved states (a tmpfs of 64 KiB)"""
    folder = laboratory.linsweep.folder / "runs" / name / "training"
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)
    try:
        since = time.time()
        laboratory.linsweep.run(*laboratory.words(name))
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    survival = laboratory.survival(name, SEARCH[0], since)
    warned = [
        event for trial in SEARCH for event in laboratory.linsweep.events(name, trial) if event["event"] == "warning"
    ]
    if not any("No space left" in event["message"] for event in warned):
        survival.audit.problems.append("nothing is said of the full disk")
    return survival


def disk_without_space(laboratory: Laboratory, name: str) -> Survival:
    """every write of every process fails for 5 s with ENOSPC; `linsweep resume`"""
    return _disk_fails(laboratory, name, "no space", "No space left on device")


def disk_with_errors(laboratory: Laboratory, name: str) -> Survival:
    """every write of every process fails for 5 s with EIO; `linsweep resume`"""
    return _disk_fails(laboratory, name, "an error", "Input/output error")


def disk_that_writes_by_half(laboratory: Laboratory, name: str) -> Survival:
    """every write of every process arrives by half for 5 s, and the next fails; `linsweep resume`"""
    return _disk_fails(laboratory, name, "by half", "No space left on device")


def _disk_fails(laboratory: Laboratory, name: str, kind: str, words: str) -> Survival:
    """Let the disk fail under a running sweep; whatever the launch comes to, the next one ends in order."""
    with TemporaryDirectory(prefix="disk-") as place:
        disk = FailingDisk(laboratory.linsweep.folder / "runs" / name, Path(place))
        process = laboratory.linsweep.start(*laboratory.words(name), env=disk.env())
        trial = laboratory.half_way(name, process)
        since = time.time()
        disk.fail(kind, 5)
        output, _ = process.communicate(timeout=400)
    laboratory.linsweep.run("resume", name)
    survival = laboratory.survival(name, trial, since)
    events = [event for each in SEARCH for event in laboratory.linsweep.events(name, each)]
    told = [str(event.get("message") or event.get("reason")) for event in events]
    if not any(words in text for text in (output, *told)):
        survival.audit.problems.append("nothing is said of the disk")
    if process.returncode not in (0, 1, 130) or "unexpected error" in output:
        survival.audit.problems.append(f"the launch ended with {process.returncode}: {output[-300:]}")
    return survival


def postgres_restarted(laboratory: Laboratory, name: str, postgres: PostgresServer) -> Survival:
    """PostgreSQL, which holds the study, stopped at once and started again"""
    uri = postgres.uri()
    process = laboratory.linsweep.start(*laboratory.words(name, f"search.storage={uri}"))
    trial = laboratory.half_way(name, process, 6)
    postgres.stop("immediate")
    since = time.time()
    time.sleep(5)
    postgres.start()
    laboratory.linsweep.ended(process)
    return laboratory.survival(name, trial, since, study=uri)


def nan_loss(laboratory: Laboratory, name: str) -> Survival:
    """a loss that is not finite: the trial fails, with its reason, and the others go on"""
    sets = ("search.space.train.sigma={choice: [0.3, 1.0e+30]}", "train.loss.data=1.0", "search.sampler=random")
    since = time.time()
    laboratory.linsweep.run(*laboratory.words(name, *sets))
    return _with_failed(laboratory, name, since, "diverged: not finite in epoch 1")


def trial_raises(laboratory: Laboratory, name: str) -> Survival:
    """a trial that raises every time: it fails after its retries, and the others go on"""
    folder = laboratory.linsweep.folder / "runs" / name / "artifacts"
    folder.mkdir(parents=True)
    (folder / "t001-s0").write_text("a file where the trial's folder should be")
    since = time.time()
    laboratory.linsweep.run(*laboratory.words(name))
    return _with_failed(laboratory, name, since, "FileExistsError: ")


def out_of_memory(laboratory: Laboratory, name: str) -> Survival:
    """a trial that asks for more memory than there is: it fails, with its reason, and the others go on"""
    samples = "search.space.evaluate.samples={choice: [128, 10000000000]}"
    sets = (samples, "search.sampler=random", "resources.retries=0")
    since = time.time()
    laboratory.linsweep.run(*laboratory.words(name, *sets))
    return _with_failed(laboratory, name, since, "RuntimeError: ")


def _with_failed(laboratory: Laboratory, name: str, since: float, reason: str) -> Survival:
    """The audit of a sweep in which some, and not all, trials must have failed for the reason."""
    ends = {trial: last(laboratory.linsweep.events(name, trial), "end") for trial in SEARCH}
    failed = {trial: end for trial, end in ends.items() if end["state"] == "failed"}
    found = audit(laboratory.linsweep, name, TRIALS, laboratory.server.uri)
    if not failed or len(failed) == len(SEARCH):
        found.problems.append(f"{len(failed)} of {len(SEARCH)} trials failed")
    found.problems += [f"{trial}: {end['reason']}" for trial, end in failed.items() if reason not in end["reason"]]
    others = [trial for trial in SEARCH if trial not in failed]
    return Survival(found, laboratory.recovered(name, others[0], since) if others else float("nan"))


JOINED = """
import time, ray
ray.init(address=%r, logging_level="ERROR", log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) < %d:
    time.sleep(0.2)
"""


@dataclass
class Cluster:
    """A Ray head without CPUs and nodes with them, as processes of this machine, reached by address."""

    folder: Path
    port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _options: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        return {"RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": str(self.folder)}

    def _start(self, name: str, *options: str) -> None:
        self._options[name] = options
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats", *options]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, env=os.environ | self.env, start_new_session=True
            )

    def start_head(self) -> None:
        self._start(
            "head", "--head", f"--port={self.port}", "--node-ip-address=127.0.0.1", "--num-cpus=0",
            "--include-dashboard=false", f"--temp-dir={self.folder}/ray",
        )  # fmt: skip
        wait_until("the head answers", self._answers, 60)

    def _answers(self) -> bool:
        command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", self.address]
        return subprocess.run(command, env=os.environ | self.env, capture_output=True, timeout=60).returncode == 0

    def start_node(self, name: str, cpus: int = 1, gpus: int = 0) -> None:
        self._start(
            name, f"--address={self.address}", "--node-ip-address=127.0.0.1", f"--num-cpus={cpus}", f"--num-gpus={gpus}"
        )

    def await_nodes(self, count: int) -> None:
        """Wait until so many nodes, the head among them, have joined."""
        command = [sys.executable, "-c", JOINED % (self.address, count)]
        joined = subprocess.Popen(
            command, env=os.environ | self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

        def done() -> bool:
            for name, process in list(self.processes.items()):
                if process.poll() is not None:  # a busy machine is not as fast as Ray's own limit
                    self._start(name, *self._options[name])
            return joined.poll() is not None

        try:
            wait_until(f"{count} nodes have joined", done, 240)
        finally:
            joined.kill()
        assert joined.returncode == 0

    def kill(self, name: str) -> None:
        """SIGKILL all processes of a node, or of the head."""
        process = self.processes.pop(name)
        below = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for each in below:
            try:
                each.kill()
            except psutil.NoSuchProcess:
                continue
        process.wait()

    def close(self) -> None:
        for name in list(self.processes):
            self.kill(name)


def node_killed(laboratory: Laboratory, name: str) -> Survival:
    """SIGKILL to a node of the cluster, with the trial on it"""
    with two_nodes(name) as cluster:
        process = laboratory.linsweep.start(*laboratory.words(name), "--address", cluster.address, env=cluster.env)
        trial = laboratory.half_way(name, process)
        journal = str(laboratory.linsweep.journal(name, trial))
        where = next(node for node in ("a", "b") if _writes_below(cluster.processes[node].pid, journal))
        cluster.kill(where)
        since = time.time()
        laboratory.linsweep.ended(process)
        survival = laboratory.survival(name, trial, since)
        survival.audit.problems += left_in(cluster)
    return survival


def head_killed(laboratory: Laboratory, name: str) -> Survival:
    """SIGKILL to the head under `linsweep supervise`, and a new head at its address"""
    with two_nodes(name) as cluster:
        words = ["supervise", *laboratory.words(name)[1:], "--address", cluster.address, "--stall", "60"]
        process = laboratory.linsweep.start(*words, env=cluster.env)
        trial = laboratory.half_way(name, process)
        cluster.close()
        since = time.time()
        cluster.start_head()
        for node in ("a", "b"):
            cluster.start_node(node)
        cluster.await_nodes(3)
        laboratory.linsweep.ended(process)
        survival = laboratory.survival(name, trial, since)
        survival.audit.problems += left_in(cluster)
    return survival


@contextmanager
def two_nodes(name: str, cpus: int = 1, gpus: int = 0) -> Iterator[Cluster]:
    """A head without CPUs and two nodes, ended with the block."""
    # Paths of sockets may have no more than 107 characters: pytest's own folders are too deep.
    with TemporaryDirectory(prefix=f"lin-{name[:8]}-") as folder:
        cluster = Cluster(Path(folder))
        try:
            cluster.start_head()
            for node in ("a", "b"):
                cluster.start_node(node, cpus, gpus)
            cluster.await_nodes(3)
            yield cluster
        finally:
            cluster.close()


def _writes_below(pid: int, journal: str) -> bool:
    for process in psutil.Process(pid).children(recursive=True):
        try:
            if journal in [file.path for file in process.open_files()]:
                return True
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return False


LEFT = """
import json, ray
from ray.util import placement_group_table
ray.init(address=%r, logging_level="ERROR", log_to_driver=False)
print(json.dumps([group["state"] for group in placement_group_table().values() if group["state"] != "REMOVED"]))
"""


def left_in(cluster: Cluster) -> list[str]:
    """What a sweep that has ended must not leave in a cluster: placement groups."""
    command = [sys.executable, "-c", LEFT % cluster.address]
    done = subprocess.run(
        command, env=os.environ | cluster.env, capture_output=True, text=True, timeout=120, check=True
    )
    left = json.loads(done.stdout.splitlines()[-1])
    return [f"placement groups are left: {left}"] if left else []


FAULTS: dict[str, Fault] = {
    "trial": trial_killed,
    "worker": worker_killed,
    "launcher": launcher_killed,
    "interrupt": launcher_interrupted,
    "mlflow": mlflow_down,
    "damaged": checkpoint_damaged,
    "nospace": disk_without_space,
    "errors": disk_with_errors,
    "half": disk_that_writes_by_half,
    "nan": nan_loss,
    "raises": trial_raises,
    "memory": out_of_memory,
    "node": node_killed,
    "head": head_killed,
}
"""Those that need nothing but this machine; ``disk_full`` needs a mount, ``postgres_restarted`` a PostgreSQL."""
