"""The cost of MLflow to a sweep, with a separate server over HTTP.

``sync_vs_log_batch``: metrics per second sent from journals by a sync, relative to a bare loop that creates the same
runs, calls ``log_batch`` with the same metrics, 1,000 per request, and ends the runs. The sync also reads the journals,
sends parameters, tags and the data set, uploads every run's configuration and environment as a file, and records its
progress. The two alternate many times; the result is the median ratio.

``training_overhead``: the relative increase in the time of an epoch of real training while its journal is written and
sent, compared with the same epochs without either. As in a sweep, another process sends. The two alternate; medians
over all epochs.

    python benchmarks/tracking.py [--trials 20] [--rounds 12] [--epochs 100] [--store URI]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import linsweep  # noqa: F401 - from here on analysis is the package, and not the script beside this one
from linearizer_core.experiment import data as datasets
from linearizer_core.experiment.configuration import TrialConfig, from_mapping, to_mapping
from linearizer_core.experiment.journal import Journal, TrialIdentity, read
from linearizer_core.experiment.training import Trainer
from sweeps.record.paths import SweepPaths
from sweeps.record.provenance import provenance
from sweeps.tracking.process import BackgroundSync
from sweeps.tracking.sync import Sync

EPOCHS, TERMS = 30, 20
BATCH = 1000
TURNS = 3
"""Number of rounds of training with a record that is sent, each between two without."""
TRAINED: dict[str, Any] = {
    "data": {"name": "digits"},
    "model": {"flow": {"depth": 4, "width": 64}, "operator": {"rank": 16}},
    "train": {"batch_size": 128},
}


@contextmanager
def mlflow_server(folder: Path, store: str | None) -> Iterator[str]:
    """The address of an MLflow server with the given store, by default SQLite in the folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store or f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    uri = f"http://127.0.0.1:{port}"
    quiet = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", *command], stdout=log, stderr=subprocess.STDOUT, env=quiet)
    try:
        deadline = time.monotonic() + 120
        while not _healthy(uri):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit((folder / "server.log").read_text())
            time.sleep(0.2)
        yield uri
    finally:
        process.terminate()
        process.wait()


def _healthy(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def record_of(paths: SweepPaths, uri: str) -> dict[str, Any]:
    """Write sweep.json of a running sweep."""
    name = paths.root.name
    spec = {"name": name, "tracking": {"uri": uri, "experiment": None}, "evaluate": {"quality": ["swd"]}}
    record = {
        "id": name.encode().hex().ljust(32, "0"),
        "name": name,
        "axes": ["train.lr"],
        "objective": {"quality/swd_collapsed": "min"},
        "started": time.time(),
        "ended": None,
        "state": "running",
        "spec": spec,
    }
    paths.root.mkdir(parents=True)
    paths.sweep_json.write_text(json.dumps(record))
    return record


def write_journals(paths: SweepPaths, trials: int) -> int:
    """Write journals of finished trials; returns the number of their metric points."""
    config = to_mapping(from_mapping(TrialConfig, TRAINED))
    origin = provenance("0" * 64)
    for number in range(trials):
        point = {"train.lr": 0.001 * (1 + number)}
        identity = TrialIdentity(
            paths.root.name, f"t{number:03d}-s0", "search", None, number, f"{number:012x}", 0, overrides=point
        )
        journal = Journal(paths.journal(identity.trial))
        journal.trial(identity, config, origin)
        for epoch in range(1, EPOCHS + 1):
            journal.epoch(epoch, {f"train/term_{term}": (term + 1) / epoch for term in range(TERMS)})
        journal.end("finished", EPOCHS)
    return trials * EPOCHS * TERMS


def synced(paths: SweepPaths, uri: str, record: dict[str, Any]) -> float:
    """Seconds to send a sweep's journals; each epoch's additions are sent together."""
    sync = Sync(paths, uri, paths.root.name, record)
    sync.connect()
    started = time.perf_counter()
    sync.send()
    return time.perf_counter() - started


def bare(paths: SweepPaths, uri: str) -> float:
    """Seconds to send the metrics of the same journals, already read, by MLflow's client alone."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient(uri)
    experiment = client.create_experiment(f"{paths.root.name}-bare")
    journals = [list(read(path)) for path in sorted(paths.journals.glob("*.jsonl"))]
    started = time.perf_counter()
    for events in journals:
        run = client.create_run(experiment).info.run_id
        metrics = [
            Metric(key, value, int(event["time"] * 1000), event["epoch"])
            for event in events
            if event["event"] == "epoch"
            for key, value in event["metrics"].items()
        ]
        for first in range(0, len(metrics), BATCH):
            client.log_batch(run, metrics=metrics[first : first + BATCH])
        client.set_terminated(run)
    return time.perf_counter() - started


def epochs_of(trainer: Trainer, journal: Journal | None, epochs: int, first: int) -> list[float]:
    """Seconds of epochs of training, each written to the journal if there is one."""
    seconds = []
    for epoch in range(first, first + epochs):
        started = time.perf_counter()
        result = trainer.train_epoch()
        if journal is not None:
            journal.epoch(epoch, {**result.metrics, **{f"train/term_{term}": 1 / epoch for term in range(TERMS)}})
        seconds.append(time.perf_counter() - started)
    return seconds


def training_overhead(folder: Path, uri: str, rounds: int, epochs: int) -> tuple[float, float]:
    """Median seconds of an epoch without a record, and with one that is sent."""
    torch.set_num_threads(1)
    values = {**TRAINED, "train": {**TRAINED["train"], "epochs": 4 * rounds * epochs + 2}}
    config: TrialConfig = from_mapping(TrialConfig, values)
    trainer = Trainer(config, datasets.load(config.data), "cpu")
    epochs_of(trainer, None, 2, 1)
    plain: list[float] = []
    sent: list[float] = []
    for turn in range(rounds):
        # Half of the epochs without a record come before and half after, so that a slowing machine affects both.
        plain += epochs_of(trainer, None, epochs, 1)
        paths = SweepPaths(folder / f"training-{turn}")
        record = record_of(paths, uri)
        identity = TrialIdentity(paths.root.name, "t000-s0", "search", None, 0, "0" * 12, 0)
        journal = Journal(paths.journal("t000-s0"))
        journal.trial(identity, values, {})
        background = BackgroundSync(Sync(paths, uri, paths.root.name, record))
        while not paths.cursors.exists():  # it has begun
            time.sleep(0.1)
        sent += epochs_of(trainer, journal, 2 * epochs, 1)
        if not background.close():
            raise SystemExit(background.error)
        plain += epochs_of(trainer, None, epochs, 1)
    return statistics.median(plain), statistics.median(sent)


def main() -> None:
    """Print measurements as they are made, and one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20, help="trials per side and round")
    parser.add_argument("--rounds", type=int, default=12, help="number of rounds in which both sides alternate")
    parser.add_argument("--epochs", type=int, default=100, help="epochs of training before, and after, those sent")
    parser.add_argument("--store", help="the server's store; SQLite by default")
    chosen = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="tracking-") as place, mlflow_server(Path(place), chosen.store) as uri:
        folder = Path(place)
        rates: dict[str, list[float]] = {"sync": [], "log_batch": []}
        for turn in range(chosen.rounds):
            paths = SweepPaths(folder / f"sent-{turn}")
            record = record_of(paths, uri)
            points = write_journals(paths, chosen.trials)
            # Each side goes first in every other round, since a store gets slower as it fills.
            sides = {"sync": lambda p=paths, r=record: synced(p, uri, r), "log_batch": lambda p=paths: bare(p, uri)}
            for name in sides if turn % 2 == 0 else reversed(sides):
                rates[name].append(points / sides[name]())
            shown = ", ".join(f"{name} {values[-1]:,.0f}" for name, values in rates.items())
            print(f"round {turn + 1}, {chosen.trials} runs, metrics a second: {shown}", flush=True)
        figures["sync_metrics_per_second"] = statistics.median(rates["sync"])
        ratios = [ours / theirs for ours, theirs in zip(*rates.values(), strict=True)]
        figures["sync_vs_log_batch"] = statistics.median(ratios)
        plain, sent = training_overhead(folder, uri, TURNS, chosen.epochs)
        print(f"an epoch: {plain:.3f} s alone, {sent:.3f} s with its journal sent", flush=True)
        figures["training_overhead"] = sent / plain - 1
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
