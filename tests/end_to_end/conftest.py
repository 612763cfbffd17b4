"""Real processes: the command line, Ray below it, and an MLflow server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

TINY = """
name: tiny
data: {name: npz, root: digits.npz}
model:
  flow: {depth: 1, width: 16}
  operator: {rank: 8}
train: {epochs: 6, batch_size: 512}
evaluate: {steps: [1, 4, 16], quality: [swd, classifier_fd], every: 1, samples: 128}
controls:
  - {name: g = identity, set: {model.flow.kind: identity}}
  - {name: flow matching, set: {family: flow_matching}}
search:
  trials: 4
  space:
    model.flow.depth: {int: [1, 2]}
    model.operator.rank: {int: [4, 32], log: true}
  stop_early: {scheduler: asha, grace_epochs: 2, reduction: 2}
"""


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass(frozen=True)
class Linsweep:
    """The command line in a folder of its own."""

    folder: Path

    def start(self, *arguments: str, background: bool = False) -> subprocess.Popen[str]:
        """Start the command; in the ``background`` it ignores SIGINT at first, as what a script starts there does."""
        return subprocess.Popen(
            [sys.executable, "-m", "sweeps.cli", *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            preexec_fn=_ignore_interrupts if background else None,
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == code, output
        return output

    def events(self, sweep: str, trial: str) -> list[dict[str, Any]]:
        path = self.folder / "runs" / sweep / "journal" / f"{trial}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def trials(self, sweep: str) -> list[str]:
        return sorted(path.stem for path in (self.folder / "runs" / sweep / "journal").glob("*.jsonl"))

    def wait_for(self, condition: str, check: Any, process: subprocess.Popen[str], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not check():
            assert process.poll() is None, f"ended before {condition}: {process.communicate()[0]}"
            assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
            time.sleep(0.05)


@pytest.fixture(scope="session")
def linsweep(tmp_path_factory: pytest.TempPathFactory) -> Linsweep:
    """One storage folder for all tests, so that the classifier is trained once; sweeps differ by name."""
    folder = tmp_path_factory.mktemp("sweeps")
    (folder / "tiny.yaml").write_text(TINY)
    # Below the folder that the commands run in, which is not that of the workers.
    digits = load_digits()
    np.savez(folder / "digits.npz", images=(digits.images * 15).astype(np.uint8), labels=digits.target)
    return Linsweep(folder)


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of an MLflow server process on SQLite."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    command = ["mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--host", "127.0.0.1"]
    artifacts = ["--artifacts-destination", str(folder / "artifacts"), "--port", str(port), "--workers", "1"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, *artifacts],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )
    try:
        _wait_until_healthy(uri, process, folder / "log")
        yield uri
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_until_healthy(uri: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError(f"no healthy server within a minute: {log.read_text()}")
