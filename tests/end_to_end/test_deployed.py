"""Clusters that are brought up as the deployment files and docs/cluster.md say, on this machine's loopback."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

pytestmark = [pytest.mark.slow, pytest.mark.long]

ROOT = Path(__file__).parents[2]
SPEC = """
name: tiny
data: {name: digits}
model:
  flow: {depth: 1, width: 16}
  operator: {rank: 8}
train: {epochs: EPOCHS, batch_size: 512}
evaluate: {steps: [1, 4], quality: [swd, classifier_fd], samples: 128}
search:
  trials: 1
  space: {model.operator.rank: {int: [4, 32]}}
"""
SRUN = """#!/usr/bin/env bash
# One node: options away, and the command in this place, so that a signal to srun is one to the command.
echo "srun $*" >> "$CALLS"
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/usr/bin/env bash
echo "scontrol $*" >> "$CALLS"
if [ "$1 $2" = "show hostnames" ]; then tr , '\\n' <<< "$3"; fi
"""
SUDO = """#!/bin/sh
shift 2
exec env PGUSER=postgres "$@"
"""
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def free_port(low: int = 20000, high: int = 32000) -> int:
    """A port that the system does not hand out by itself, and Ray does not give to workers."""
    for port in range(low + os.getpid() % 5000, high):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise AssertionError("no free port")


def environment(**more: str) -> dict[str, str]:
    """This process's environment for commands of a cluster on loopback: nothing of another Ray in it."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_", "MLFLOW_"))
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # Without "clusters" Ray takes 127.0.0.1 as the node's address and listens there alone.
    return inherited | {"PATH": path, "OMP_NUM_THREADS": "1", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"} | more


def processes_of(temporary: Path) -> list[str]:
    """The command lines of the processes that work in a Ray's temporary folder."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if str(temporary) in line:
            found.append(line[:200])
    return found


def wait_until(
    condition: str, check: Callable[[], object], process: subprocess.Popen[str] | None = None, seconds: float = 240
) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert process is None or process.poll() is None, f"ended before: {condition}"
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(0.1)


def events(journal: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []


# SLURM


@dataclass
class Allocation:
    """One node of SLURM that is this machine."""

    folder: Path
    job: int

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    @property
    def ray(self) -> Path:
        return Path(f"/tmp/linsweep-{self.job}")

    def batch(self, *arguments: str) -> subprocess.Popen[str]:
        """What sbatch runs, in the folder that it was submitted from."""
        slurm = {"SLURM_JOB_ID": str(self.job), "SLURM_JOB_NODELIST": "localhost", "SLURM_CPUS_ON_NODE": "1"}
        own = environment(**slurm, CALLS=str(self.folder / "calls"))
        own["PATH"] = f"{self.folder / 'slurm'}{os.pathsep}{own['PATH']}"
        with (self.folder / "output").open("a") as output:
            return subprocess.Popen(
                [ROOT / "deploy/slurm.sh", *arguments],
                cwd=self.folder,
                env=own,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )


@pytest.fixture
def allocation(tmp_path: Path) -> Iterator[Allocation]:
    executable(tmp_path / "slurm/srun", SRUN)
    executable(tmp_path / "slurm/scontrol", SCONTROL)
    (tmp_path / "spec.yaml").write_text(SPEC.replace("EPOCHS", "150"))
    allocated = Allocation(tmp_path, os.getpid())
    yield allocated
    shutil.rmtree(allocated.ray, ignore_errors=True)


def test_a_slurm_job_stops_before_its_time_limit_and_goes_on_when_it_is_queued_again(allocation: Allocation) -> None:
    journal = allocation.folder / "runs/tiny/journal/t000-s0.jsonl"
    output = allocation.folder / "output"
    first = allocation.batch("spec.yaml")
    try:
        wait_until("an epoch", lambda: any(e["event"] == "epoch" for e in events(journal)), first)
        # What --signal=B:USR1@180 sends, to the batch script alone.
        first.send_signal(signal.SIGUSR1)
        assert first.wait(timeout=180) == 130, output.read_text()
    finally:
        if first.poll() is None:
            first.terminate()
            first.wait(timeout=120)
    assert f"scontrol requeue {allocation.job}" in allocation.calls
    assert events(journal)[-1]["event"] == "end"
    assert events(journal)[-1]["state"] == "interrupted"
    # The head of this job is gone, with all that it had started, and its folder.
    assert processes_of(allocation.ray) == []
    assert not allocation.ray.exists()

    (allocation.folder / "calls").unlink()
    second = allocation.batch("spec.yaml")
    assert second.wait(timeout=300) == 0, output.read_text()
    assert not any("requeue" in call for call in allocation.calls)
    trials = [event for event in events(journal) if event["event"] == "trial"]
    assert [trial["attempt"] for trial in trials] == [1, 2]
    assert events(journal)[-1]["state"] == "finished"
    assert processes_of(allocation.ray) == []


# SkyPilot


def test_the_task_of_skypilot_runs_a_sweep_on_two_nodes_and_leaves_no_ray(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC.replace("EPOCHS", "4"))
    run: str = yaml.safe_load((ROOT / "deploy/skypilot.yaml").read_text())["run"]
    assert run.count("diffusion-depth-rank --profile mnist") == 1
    # The port of another Ray here may be the same.
    port = free_port()
    run = run.replace("6379", str(port)).replace("diffusion-depth-rank --profile mnist", "spec.yaml")
    ray = Path(f"/tmp/ls-{os.getpid()}")
    own = environment(
        HOME=str(tmp_path), STORAGE=str(tmp_path / "runs"), DATA=str(tmp_path), RAY_AUTH_TOKEN="0123456789abcdef" * 4,
        RAY_TMPDIR=str(ray), RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="0", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="1",
        SKYPILOT_NUM_NODES="2", SKYPILOT_NODE_IPS="127.0.0.1\n127.0.0.1",
    )  # fmt: skip
    nodes: list[subprocess.Popen[bytes]] = []
    output = [tmp_path / f"output-{rank}" for rank in (0, 1)]
    try:
        for rank in (1, 0):  # the head comes last: the other waits for it
            with output[rank].open("w") as out:
                command = ["bash", "-c", run]
                env = own | {"SKYPILOT_NODE_RANK": str(rank)}
                nodes.append(subprocess.Popen(command, cwd=tmp_path, env=env, stdout=out, stderr=out))
        other, head = nodes
        assert head.wait(timeout=400) == 0, output[0].read_text()
        assert other.wait(timeout=150) == 0, output[1].read_text()
        assert events(tmp_path / "runs/tiny/journal/t000-s0.jsonl")[-1]["state"] == "finished"
        assert "tiny finished: 1 finished" in output[0].read_text()
        assert processes_of(ray) == []
    finally:
        for each in [each for node in nodes for each in psutil_tree(node.pid)]:
            each.kill()
        shutil.rmtree(ray, ignore_errors=True)


def psutil_tree(pid: int) -> list[psutil.Process]:
    """A process that may have ended, and all below it."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


# Jobs


@dataclass
class Head:
    """A head as docs/cluster.md starts it, with a token of its own."""

    folder: Path
    environment: Mapping[str, str]
    dashboard: str

    def run(self, line: str, code: int = 0) -> str:
        """A line of the shell, in the folder that jobs are submitted from."""
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    folder = tmp_path_factory.mktemp("submitted")
    (folder / "spec.yaml").write_text(SPEC.replace("EPOCHS", "4"))
    token = folder.parent / "token"
    token.write_text("0123456789abcdef" * 4)
    # Short: unix sockets lie below it.
    ray = Path(f"/tmp/lh-{os.getpid()}")
    port = free_port()
    dashboard = free_port(port + 2)
    own = environment(
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN_PATH=str(token),
        RAY_TMPDIR=str(ray),
        RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="0",
        RAY_ADDRESS=f"127.0.0.1:{port}",
        RAY_API_SERVER_ADDRESS=f"http://127.0.0.1:{dashboard}",
        STORAGE=str(folder.parent / "storage"),
    )
    ports = [f"--port={port}", f"--ray-client-server-port={port + 1}", f"--dashboard-port={dashboard}"]
    workers = ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0", "--num-cpus=1"]
    command = ["ray", "start", "--head", "--dashboard-host=127.0.0.1", *ports, *workers]
    log = folder.parent / "head.log"
    process = started_head(
        [*command, "--disable-usage-stats", "--block"],
        {name: value for name, value in own.items() if name != "RAY_ADDRESS"},
        log,
    )
    started = Head(folder, own, own["RAY_API_SERVER_ADDRESS"])
    try:
        wait_until("the dashboard answers", lambda: status(f"{started.dashboard}/api/version") is not None, process)
        yield started
    finally:
        process.terminate()
        process.wait(timeout=120)
        wait_until("Ray is gone", lambda: processes_of(ray) == [], seconds=60)
        shutil.rmtree(ray, ignore_errors=True)


def started_head(command: list[str], own: Mapping[str, str], log: Path) -> subprocess.Popen[str]:
    """A head that is up. Ray gives one thirty seconds and no more, which a busy machine can miss: three tries."""
    for _ in range(3):
        with log.open("w") as file:
            process = subprocess.Popen(command, env=own, stdout=file, stderr=subprocess.STDOUT, text=True)
        while process.poll() is None:
            if "Ray runtime started" in log.read_text():
                return process
            time.sleep(0.1)
    raise AssertionError(log.read_text())


def status(url: str, **headers: str) -> int | None:
    """The HTTP status of a page; None while nobody answers."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def documented(start: str) -> str:
    """The one command of docs/cluster.md that begins so."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "docs/cluster.md").read_text())
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return line


def test_a_head_with_the_token_listens_on_loopback_and_lets_nobody_in_without_it(head: Head) -> None:
    assert status(f"{head.dashboard}/api/jobs/") == 401
    token = Path(head.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
    assert status(f"{head.dashboard}/api/jobs/", Authorization=f"Bearer {token}") == 200
    addresses = set()
    for process in psutil.process_iter():
        try:
            if head.environment["RAY_TMPDIR"] in " ".join(process.cmdline()):
                connections = process.net_connections("inet")
                addresses |= {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
        except psutil.Error:
            continue
    assert addresses
    assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_the_documented_job_runs_a_sweep(head: Head) -> None:
    for name in ("runs/old/journal/t000.jsonl", ".venv/bin/python", "data/train.npy", "states/t000.pt", "note.txt"):
        path = head.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    output = head.run(documented("ray job submit "))
    assert "tiny finished" in output
    assert "succeeded" in output
    journal = Path(head.environment["STORAGE"]) / "tiny/journal/t000-s0.jsonl"
    assert events(journal)[-1]["state"] == "finished"
    # What the job was sent: the folder without what is recorded, installed or downloaded.
    (package,) = Path(head.environment["RAY_TMPDIR"]).glob(
        "ray/session_2*/runtime_resources/working_dir_files/_ray_pkg_*/"
    )
    sent = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert sent == {"spec.yaml", "note.txt"}


def test_a_job_without_the_token_is_refused(head: Head) -> None:
    output = head.run(f"RAY_AUTH_MODE=disabled {documented('ray job submit ')}", code=1)
    assert "Missing authentication token" in output


def test_what_the_autoscaler_may_add_counts_only_where_its_file_is_given(head: Head) -> None:
    plan = "linsweep plan spec.yaml --address auto --set resources.gpus_per_worker=1"
    assert "1 GPU; auto has 1 CPU and 0 GPUs" in " ".join(head.run(plan, code=2).split())
    shown = head.run(f"{plan} --cluster {ROOT / 'cluster.yaml'}")
    assert "0 at a time now, up to " in " ".join(shown.split())


# MLflow on PostgreSQL


def available(*modules: str) -> bool:
    return all(importlib.util.find_spec(name) for name in modules)


def listening_on(port: int) -> list[psutil.Process]:
    """MLflow's processes of a port: the command, and the server and workers below it."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if "server" in words and str(port) in words and "--app-name" in words:
            found += [process, *process.children(recursive=True)]
    return found


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The variables by which PostgreSQL's programs find a server of this test's own, on a socket alone."""
    if not POSTGRES or not available("flask_wtf", "psycopg"):
        pytest.skip("needs PostgreSQL")
    # Short, for the socket; PostgreSQL does not run as root.
    folder = Path(f"/tmp/lp-{os.getpid()}")
    folder.mkdir(mode=0o755)
    account = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        account = ["runuser", "-u", "postgres", "--"]
    tools = POSTGRES[-1].parent

    def control(*words: str) -> None:
        subprocess.run([*account, *words], check=True, cwd="/", stdout=subprocess.DEVNULL, timeout=120)

    control(str(tools / "initdb"), "-U", "postgres", "-A", "trust", "-D", str(folder / "data"))
    server = [str(tools / "pg_ctl"), "-D", str(folder / "data"), "-w"]
    try:
        control(*server, "-l", str(folder / "log"), "-o", f"-p 5432 -k {folder} -h ''", "start")
        try:
            yield {"PGHOST": str(folder), "PGPORT": "5432"}
        finally:
            control(*server, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def test_mlflow_of_a_cluster_keeps_its_runs_in_postgresql_and_asks_for_an_account(
    tmp_path: Path, postgres: dict[str, str]
) -> None:
    home, storage, port = tmp_path / "home", tmp_path / "storage", free_port()
    home.mkdir()
    executable(tmp_path / "bin/sudo", SUDO)
    own = environment(**postgres, HOME=str(home))
    own["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{own['PATH']}"
    command = [ROOT / "deploy/mlflow.sh", str(storage), str(port)]
    servers: list[psutil.Process] = []
    try:
        done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=240, check=False)
        servers = listening_on(port)
        assert done.returncode == 0, done.stderr
        again = subprocess.run(command, env=own, capture_output=True, text=True, timeout=60, check=True)
        assert again.stdout == f"MLflow answers on 127.0.0.1:{port} already\n"
        credentials = home / ".mlflow/credentials"
        assert credentials.stat().st_mode & 0o077 == 0
        (password,) = re.findall("^mlflow_tracking_password = (.+)$", credentials.read_text(), re.MULTILINE)
        page = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get?experiment_id=0"
        basic = {"Authorization": f"Basic {b64encode(f'admin:{password}'.encode()).decode()}"}
        assert status(page) == 401
        assert status(page, **basic) == 200
        assert status(page, Host=f"localhost:{port}", **basic) == 200
        assert status(page, Host="elsewhere.example", **basic) == 403
        rows = subprocess.run(
            ["psql", "-At", "-d", "mlflow", "-c", "SELECT name FROM experiments"],
            env=own | {"PGUSER": "postgres"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert rows.stdout == "Default\n"
        # Neither on the command line nor in the log.
        lines = " ".join(word for server in servers for word in server.cmdline())
        assert password not in lines + (home / ".linsweep/mlflow.log").read_text()
    finally:
        for server in servers or listening_on(port):
            server.terminate()
        psutil.wait_procs(servers, timeout=30)
