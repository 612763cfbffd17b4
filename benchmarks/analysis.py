"""How fast recorded sweeps become frames and tables.

- ``load_10k_seconds_journals``: reading the journals of 10,000 trials, with 40 final metrics and 200 curve points each
  (2 million), for the first time; ``load_10k_seconds_parquet``: the same record from an exported file;
  ``load_10k_seconds``: the slower of the two. Each runs in a fresh process, and imports are not counted.
- ``reload_10k_seconds``: reading the journals again after one of them has grown.
- ``table_10k_seconds``: the table of all 10,000 configurations or a pivot table of two axes, whichever is slower.
- ``peak_memory_gb``: the peak memory of any of these processes, libraries included.
- ``load_vs_mlflow``: reading 1,000 runs from their journals for the first time, compared with ``mlflow.search_runs``
and
  ``get_metric_history`` on a SQLite store that the journals were sent to; ``load_uri_vs_mlflow``: the same from the
  tracking URI. Both sides must return the same numbers. The store is read in process: a server in between would cost
  MLflow's side more.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

# This file has the same name as the package that it measures, and its folder comes first on the path.
sys.path[:] = [path for path in sys.path if Path(path).resolve() != Path(__file__).resolve().parent]

EPOCHS, TERMS, EVERY = 40, 4, 5
STEPS = (1, 2, 4, 8, 16, 32, 64, 100)
CURVES = ("nfe/swd", "nfe/classifier_fd", "nfe/precision", "nfe/recall")
OBJECTIVE = "quality/classifier_fd_collapsed"
POINTS = EPOCHS * TERMS + (EPOCHS // EVERY) + len(CURVES) * len(STEPS)
SCALARS = 40
DEPTH, RANK, LR = "model.flow.depth", "model.operator.rank", "train.lr"


def configuration(depth: int, rank: int, lr: float) -> dict[str, Any]:
    """A resolved configuration with about as many leaves as a real one."""
    leaves = {f"option_{number}": number / 7 for number in range(20)} | {
        f"kind_{number}": "coupling" for number in range(15)
    }
    switches = {f"switch_{number}": bool(number % 2) for number in range(10)}
    return {
        "family": "diffusion",
        "data": {"name": "digits", "root": "", "size": 0, "download": False},
        "model": {"flow": {"depth": depth, **leaves}, "operator": {"kind": "time_lowrank", "rank": rank}},
        "train": {"lr": lr, "epochs": EPOCHS, **switches},
        "evaluate": {"steps": list(STEPS), "quality": ["swd", "classifier_fd"]},
        "seed": 0,
    }


def write_sweep(folder: Path, trials: int) -> None:
    """A finished sweep of ``trials`` trials with curve points, in the form in which a launch writes it."""
    (folder / "journal").mkdir(parents=True)
    space = {DEPTH: {"int": [1, 8]}, RANK: {"int": [1, 100_000]}, LR: {"float": [1e-4, 1e-2], "log": True}}
    start = 1_700_000_000.0
    sweep = {
        "id": "0" * 32,
        "name": folder.name,
        "family": "diffusion",
        "spec": {
            "name": folder.name,
            "search": {"space": space, "seeds": [0], "sampler": "random"},
            "tracking": {"uri": None, "experiment": None},
        },
        "axes": list(space),
        "objective": {OBJECTIVE: "min"},
        "state": "finished",
        "started": start,
        "ended": start + 1e6,
        "provenance": {},
        "best": None,
        "best_value": 0.0,
    }
    (folder / "sweep.json").write_text(json.dumps(sweep))
    generator = np.random.default_rng(0)
    scalars = [OBJECTIVE, *(f"quality/classifier_fd_k{step}" for step in STEPS), "cost/params"]
    scalars += [f"linearity/check_{number}" for number in range(SCALARS - len(scalars))]
    for number in range(trials):
        values = iter(generator.lognormal(size=POINTS + SCALARS).tolist())
        depth, rank, lr = int(generator.integers(1, 9)), 1 + number, float(10 ** generator.uniform(-4, -2))
        head = {
            "sweep": folder.name,
            "trial": f"t{number:05d}-s0",
            "kind": "search",
            "label": None,
            "number": number,
            "config_hash": f"{number:012x}",
            "seed": 0,
            "overrides": {DEPTH: depth, RANK: rank, LR: lr},
            "attempt": 1,
            "resumed_epoch": 0,
            "config": configuration(depth, rank, lr),
            "provenance": {"git": {"commit": None, "dirty": None}},
        }
        events: list[dict[str, Any]] = [{"event": "trial", **head}]
        for epoch in range(1, EPOCHS + 1):
            metrics = {f"train/term_{term}": next(values) for term in range(TERMS)}
            if epoch % EVERY == 0:
                metrics[OBJECTIVE] = next(values)
            events.append({"event": "epoch", "epoch": epoch, "metrics": metrics})
        for key in CURVES:
            events.append({"event": "curve", "metric": key, "steps": STEPS, "values": [next(values) for _ in STEPS]})
        events.append({"event": "summary", "metrics": {key: next(values) for key in scalars}})
        events.append({"event": "end", "state": "finished", "reason": None, "epoch": EPOCHS})
        lines = [json.dumps({**event, "time": start + number + line / 100}) for line, event in enumerate(events)]
        (folder / "journal" / f"{head['trial']}.jsonl").write_text("\n".join(lines) + "\n")


def in_fresh_process(work: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """The result of ``work``, run in its own process, whose peak memory is added as ``peak_memory_gb``."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_with_peak, work, *arguments).result()


def _with_peak(work: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    found = work(*arguments)
    return {**found, "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def load_seconds(source: Path, trials: int) -> dict[str, float]:
    """Seconds to load a record, after imports."""
    from analysis import load

    started = time.perf_counter()
    record = load(source)
    seconds = time.perf_counter() - started
    if (len(record.runs), len(record.curves)) != (trials, trials * POINTS):
        raise SystemExit(f"{source}: {len(record.runs)} runs and {len(record.curves)} points")
    if len(record.metrics) != SCALARS or record.runs[record.metrics].isna().any().any():
        raise SystemExit(f"{source}: not {SCALARS} final metrics in every run")
    return {"seconds": seconds}


def export(source: Path, target: Path) -> dict[str, float]:
    """Seconds to export a record."""
    from analysis import load

    record = load(source)
    started = time.perf_counter()
    record.export(target)
    return {"seconds": time.perf_counter() - started}


def table_seconds(source: Path) -> dict[str, float]:
    """Seconds for the table of configurations and for a pivot table, from a loaded record."""
    from analysis import configurations, load, pivot

    record = load(source)
    started = time.perf_counter()
    table = configurations(record)
    found = {"configurations": time.perf_counter() - started}
    if len(table.rows) != len(record.runs):
        raise SystemExit(f"{len(table.rows)} rows of {len(record.runs)} configurations")
    started = time.perf_counter()
    pivot(record, DEPTH, RANK)
    return {**found, "pivot": time.perf_counter() - started}


def ship(folder: Path, uri: str) -> dict[str, float]:
    """Seconds to send a sweep's journals to MLflow."""
    from sweeps.record.paths import SweepPaths
    from sweeps.record.sweep_json import read_record
    from sweeps.tracking.parent_run import finish
    from sweeps.tracking.sync import Sync

    paths = SweepPaths(folder)
    sweep = read_record(paths)
    if sweep is None:
        raise SystemExit(f"{folder}: no sweep")
    started = time.perf_counter()
    sync = Sync(paths, uri, folder.name, sweep)
    sync.send()
    finish(sync.connect(), sync.paths)
    return {"seconds": time.perf_counter() - started}


def against_mlflow(folder: Path, uri: str) -> dict[str, float]:
    """Seconds of both sides for the same runs; exits unless they return the same numbers."""
    import mlflow

    from analysis import load
    from analysis.record.cache import FILE as CACHE

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    # Remove the cache of the journals, so that they are read again.
    (folder / CACHE).unlink(missing_ok=True)
    client = mlflow.MlflowClient(uri)
    mlflow.set_tracking_uri(uri)
    mlflow.search_experiments()  # both sides are connected before the clock starts

    started = time.perf_counter()
    record = load(folder)
    ours = time.perf_counter() - started

    started = time.perf_counter()
    from_uri = load(uri)
    ours_uri = time.perf_counter() - started
    pd.testing.assert_frame_equal(from_uri.runs, record.runs)
    pd.testing.assert_frame_equal(from_uri.curves, record.curves)

    keys = sorted(str(key) for key in record.curves["metric"].cat.categories)
    started = time.perf_counter()
    runs = mlflow.search_runs(
        experiment_names=[folder.name], filter_string="tags.`sweep.kind` = 'search'", max_results=50_000
    )
    histories = {
        (trial, key): client.get_metric_history(run, key)
        for run, trial in zip(runs["run_id"], runs["tags.sweep.trial_id"], strict=True)
        for key in keys
    }
    theirs = time.perf_counter() - started

    expected = record.runs.set_index("trial")[record.metrics]
    found = runs.set_index("tags.sweep.trial_id")[[f"metrics.{key}" for key in record.metrics]]
    np.testing.assert_array_equal(found.loc[expected.index].to_numpy(), expected.to_numpy())
    for (trial, key), curve in record.curves.groupby(["trial", "metric"], observed=True):
        # The final metric of the objective is the last point of its history.
        points = sorted((p.timestamp, p.step, p.value) for p in histories[trial, key])[: len(curve)]
        if [point[1:] for point in points] != list(zip(curve["step"], curve["value"], strict=True)):
            raise SystemExit(f"{trial}, {key}: MLflow has other points than the journals")
    return {"ours": ours, "ours_uri": ours_uri, "theirs": theirs}


def main() -> None:
    """Print measurements as they are made, and one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000, help="trials to load")
    parser.add_argument("--mlflow-trials", type=int, default=1000, help="trials to compare with MLflow on")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="analysis-"))
    try:
        figures = measure(folder, chosen.trials, chosen.mlflow_trials)
    finally:
        shutil.rmtree(folder)
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}))


def measure(folder: Path, trials: int, compared: int) -> dict[str, float]:
    """All measurements, in an empty folder."""
    sweep, exported = folder / "large", folder / "large.parquet"
    print(f"writing {trials:,} journals, {SCALARS} scalars and {POINTS} points each", flush=True)
    write_sweep(sweep, trials)
    size = sum(file.stat().st_size for file in sweep.glob("journal/*"))
    journals = in_fresh_process(load_seconds, sweep, trials)
    print(
        f"journals, {size / 2**20:.0f} MB: {journals['seconds']:.2f} s, {journals['peak_memory_gb']:.2f} GB", flush=True
    )
    with next(sweep.glob("journal/*")).open("a") as file:
        file.write(json.dumps({"event": "artifact", "time": 0.0, "path": "checkpoint"}) + "\n")
    again = in_fresh_process(load_seconds, sweep, trials)
    print(f"journals again, one of them longer: {again['seconds']:.2f} s, {again['peak_memory_gb']:.2f} GB", flush=True)
    exporting = in_fresh_process(export, sweep, exported)
    print(f"export: {exporting['seconds']:.2f} s, {exported.stat().st_size / 2**20:.0f} MB", flush=True)
    parquet = in_fresh_process(load_seconds, exported, trials)
    print(f"exported file: {parquet['seconds']:.2f} s, {parquet['peak_memory_gb']:.2f} GB", flush=True)
    tables = in_fresh_process(table_seconds, exported)
    print(f"configurations: {tables['configurations']:.2f} s, pivot: {tables['pivot']:.2f} s", flush=True)

    small, uri = folder / "small", f"sqlite:///{folder / 'mlflow.db'}"
    write_sweep(small, compared)
    shipping = in_fresh_process(ship, small, uri)
    print(f"shipping {compared:,} runs to a store in SQLite: {shipping['seconds']:.0f} s", flush=True)
    both = in_fresh_process(against_mlflow, small, uri)
    print(
        f"{compared:,} runs with equal numbers: journals {both['ours']:.2f} s, tracking URI {both['ours_uri']:.2f} s, "
        f"mlflow.search_runs and get_metric_history {both['theirs']:.2f} s",
        flush=True,
    )
    return {
        "load_10k_seconds": max(journals["seconds"], parquet["seconds"]),
        "load_10k_seconds_journals": journals["seconds"],
        "load_10k_seconds_parquet": parquet["seconds"],
        "reload_10k_seconds": again["seconds"],
        "table_10k_seconds": max(tables["configurations"], tables["pivot"]),
        "peak_memory_gb": max(part["peak_memory_gb"] for part in (journals, again, exporting, parquet, tables)),
        "load_vs_mlflow": both["theirs"] / both["ours"],
        "load_uri_vs_mlflow": both["theirs"] / both["ours_uri"],
    }


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
