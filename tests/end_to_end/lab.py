"""Real processes to test with, and to break: the command line, MLflow and PostgreSQL servers, and what they left."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from sklearn.datasets import load_digits


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass(frozen=True)
class Linsweep:
    """The command line in a folder of its own."""

    folder: Path

    @classmethod
    def with_digits(cls, folder: Path) -> Linsweep:
        """With an archive of the digits in the folder, ``digits.npz``: one that workers find by its whole path only."""
        digits = load_digits()
        np.savez(folder / "digits.npz", images=(digits.images * 15).astype(np.uint8), labels=digits.target)
        return cls(folder)

    def start(
        self,
        *arguments: str,
        background: bool = False,
        env: dict[str, str] | None = None,
        module: str = "linsweep",
    ) -> subprocess.Popen[str]:
        """Start the command; in the ``background`` it ignores SIGINT at first, as what a script starts there does."""
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | (env or {}),
            preexec_fn=_ignore_interrupts if background else None,
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        """The command's output; it must end with the exit code."""
        return self.ended(self.start(*arguments), code)

    def ended(self, process: subprocess.Popen[str], code: int = 0, seconds: float = 400) -> str:
        """The output of a command that must end with the exit code, in time."""
        output, _ = process.communicate(timeout=seconds)
        assert process.returncode == code, output
        return output

    def journal(self, sweep: str, trial: str) -> Path:
        return self.folder / "runs" / sweep / "journal" / f"{trial}.jsonl"

    def events(self, sweep: str, trial: str) -> list[dict[str, Any]]:
        """A journal's events; a line that is being written is left out."""
        path = self.journal(sweep, trial)
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def trials(self, sweep: str) -> list[str]:
        return sorted(path.stem for path in (self.folder / "runs" / sweep / "journal").glob("*.jsonl"))

    def record(self, sweep: str) -> dict[str, Any]:
        values: dict[str, Any] = json.loads((self.folder / "runs" / sweep / "sweep.json").read_text())
        return values

    def tables(self, name: str) -> dict[str, str]:
        """Every table of a sweep, its name taken out."""
        self.run("table", name)
        folder = self.folder / "runs" / name / "tables"
        texts = [path for path in folder.iterdir() if path.suffix in (".csv", ".md", ".tex")]
        return {path.name: path.read_text().replace(name, "NAME") for path in texts}

    def wait_for(
        self, condition: str, check: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 120
    ) -> None:
        wait_until(condition, check, seconds, lambda: process.poll() is None or f"ended: {process.communicate()[0]}")


def wait_until(
    condition: str, check: Callable[[], Any], seconds: float, alive: Callable[[], bool | str] = lambda: True
) -> None:
    """Wait for a condition; ``alive`` is True or says why it can never come."""
    deadline = time.monotonic() + seconds
    while not check():
        assert (why := alive()) is True, f"before {condition}: {why}"
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(0.05)


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class MlflowServer:
    """An MLflow server process that can be killed and started again at the same address."""

    folder: Path
    store: str
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = ["mlflow", "server", "--backend-store-uri", self.store, "--host", "127.0.0.1"]
        command += ["--artifacts-destination", str(self.folder / "artifacts"), "--port", str(self.port)]
        with (self.folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command, "--workers", "1"],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                start_new_session=True,
            )
        process = self._process
        wait_until(
            "the server is healthy",
            self._healthy,
            90,
            lambda: process.poll() is None or (self.folder / "log").read_text(),
        )

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """SIGKILL the server with its workers."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def mlflow_server(folder: Path, store: str | None = None) -> Iterator[MlflowServer]:
    """A server on SQLite in the folder, or on another store."""
    server = MlflowServer(folder, store or f"sqlite:///{folder}/mlflow.db")
    server.start()
    try:
        yield server
    finally:
        server.kill()


@dataclass
class PostgresServer:
    """A PostgreSQL server of its own, on 127.0.0.1, that can be restarted."""

    folder: Path
    binaries: Path
    port: int = field(default_factory=free_port)

    def _control(self, *arguments: str) -> None:
        # The server refuses to run as root.
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        subprocess.run(
            [*user, str(self.binaries / "pg_ctl"), "-D", str(self.folder / "data"), "-w", *arguments],
            check=True, capture_output=True, cwd="/", timeout=60,
        )  # fmt: skip

    def create(self) -> None:
        if os.geteuid() == 0:
            subprocess.run(["chown", "postgres", str(self.folder)], check=True)
        self._control("init", "-o", "-A trust -U postgres")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        self._control("start", "-l", str(self.folder / "log"), "-o", options)

    def stop(self, mode: str = "immediate") -> None:
        self._control("stop", "-m", mode)

    def uri(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"


def postgres_binaries() -> Path | None:
    """The folder of the newest installed server's programs, None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parents[1].name))
    return found[-1].parent if found else None


@contextmanager
def postgres_server(folder: Path, binaries: Path) -> Iterator[PostgresServer]:
    """A server whose files are in the folder, which its user must be able to reach."""
    server = PostgresServer(folder, binaries)
    server.create()
    server.start()
    try:
        yield server
    finally:
        server.stop()


def last(events: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The last event of a kind."""
    return [event for event in events if event["event"] == kind][-1]


def has_summary(events: list[dict[str, Any]]) -> bool:
    return any(event["event"] == "summary" for event in events)


def ray_workers(root: psutil.Process, name: str) -> list[psutil.Process]:
    """Ray's worker processes below a process that now run what has ``name`` in its title."""
    found = []
    for child in root.children(recursive=True):
        try:
            title = " ".join(child.cmdline())
        except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            continue
        if title.startswith("ray::") and re.search(name, title):
            found.append(child)
    return found
