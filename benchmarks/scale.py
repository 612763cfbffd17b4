"""What a sweep costs by the number of its trials, from the launch to the report.

Sweeps of trials that compute nothing (a function of one's own that reports three steps) run on a private Ray, with
Optuna, early stopping and MLflow (SQLite) on. Every measurement is of a command as a user types it. CPU seconds count,
not wall-clock seconds, which depend on what else the machine does.

- ``launch``: the process that runs the sweep, its ``peak_mb`` too; ``ray``: Ray's servers and the processes of the
  trials; ``mlflow``: the process that sends to MLflow, with its ``mlflow_peak_mb``.
- ``status``, ``list``, ``table`` (twice: the journals are read for the first time, and from the cache), ``report``,
  ``check``, ``export``, ``plan``: each command by itself, of the sweep when it has ended.
- ``resume``: going on with it when nothing is missing, which replays every trial; ``sync``: when MLflow has everything.
- ``view``: the best configuration, which the view of a running sweep shows anew twice a second.
- ``page``: the first 100 runs of the experiment by the objective, as MLflow's page asks for them.
- ``megabytes_…``: the journals, the whole record, and MLflow's database.

``growth``, for each of these: the cost of a further trial between the two largest sweeps, relative to that between the
two smallest. It is 1 where the cost grows linearly, however much of it is fixed; and more where it grows faster.

Sweeps ``--in-process`` run the same trials without Ray (``linsweep launch --debug``), and with an MLflow server that is
away, which is faster; their records are alike, and so is what the other commands do with them.

    python benchmarks/scale.py [--trials 300 1000 3000] [--in-process 10000] [--sampler random] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil

# The benchmark of the package of the same name lies beside this file.
sys.path[:] = [place for place in sys.path if Path(place).resolve() != Path(__file__).resolve().parent]

OBJECTIVE = "quality/value"
SPEC = """
name: nothing
function: ./nothing.py:nothing
train: {{epochs: 3}}
search:
  sampler: {sampler}
  trials: {trials}
  space:
    settings.x: {{float: [0.0, 1.0]}}
    settings.y: {{float: [0.0, 1.0]}}
  objective: {{quality/value: min}}
  stop_early: {{grace_epochs: 1}}
storage: runs
tracking: {{uri: {tracking}}}
"""
FUNCTION = '''
from dataclasses import dataclass

from linearizer_core import plugins
from linearizer_core.experiment.function import Report


@dataclass(frozen=True)
class Settings:
    x: float = plugins.setting(0.5, "first coordinate", ge=0, le=1)
    y: float = plugins.setting(0.5, "second coordinate", ge=0, le=1)


def nothing(config: Settings, report: Report) -> dict[str, float]:
    """A paraboloid, three times."""
    for step in range(1, report.steps + 1):
        report(step=step, value=(config.x - 0.3) ** 2 + (config.y - 0.6) ** 2 + 1 / step)
    return {}
'''
PERIOD = 0.5
"""Seconds between two looks at the processes of a launch."""
PAGE = 100
"""Runs on a page of MLflow."""

ROLES = {
    "mlflow": ("sweeps.tracking.process",),
    "ray": ("raylet", "gcs_server", "ray/", "ray::"),
}
"""Words in the command lines of a launch's processes, by what they do."""


@dataclass
class Used:
    """CPU seconds and the largest resident memory in MiB of one process."""

    role: str
    seconds: float = 0.0
    peak: float = 0.0


def role_of(process: psutil.Process) -> str:
    """What a process below a launch is for."""
    told = " ".join(process.cmdline())
    return next((role for role, words in ROLES.items() if any(word in told for word in words)), "other")


def watched(command: Sequence[str], folder: Path, log: Path) -> dict[str, Used]:
    """Run a launch and return what its processes used, by role."""
    used: dict[tuple[int, float], Used] = {}
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=out, stderr=out)
        root = psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                look(root, used)
            time.sleep(PERIOD)
    if process.returncode != 0:
        raise SystemExit(log.read_text()[-3000:])
    roles: dict[str, Used] = {}
    for each in used.values():
        total = roles.setdefault(each.role, Used(each.role))
        total.seconds += each.seconds
        total.peak = max(total.peak, each.peak)
    return roles


def look(root: psutil.Process, used: dict[tuple[int, float], Used]) -> None:
    """Note what a launch and the processes below it have used so far."""
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            with process.oneshot():
                key = process.pid, process.create_time()
                times, memory = process.cpu_times(), process.memory_info().rss / 2**20
                if process.nice() > 0:  # in the end it is waited for, and a busy machine would leave it no time
                    process.nice(0)
                if key not in used or used[key].role == "other":
                    role = "launch" if process.pid == root.pid else role_of(process)
                    used[key] = Used(role, peak=used[key].peak if key in used else 0.0)
            used[key].seconds = times.user + times.system
            used[key].peak = max(used[key].peak, memory)


def cost(arguments: Sequence[str], folder: Path, log: Path) -> tuple[float, float]:
    """CPU seconds and peak memory in MiB of a command, with the processes that it has waited for."""
    with log.open("w") as out:
        process = subprocess.Popen(linsweep(*arguments), cwd=folder, env=environment(), stdout=out, stderr=out)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):  # 1: `check` has found something
        raise SystemExit(f"{arguments[0]}: {log.read_text()[-3000:]}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def linsweep(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "linsweep", *arguments]


def environment() -> dict[str, str]:
    """This process's environment, with one thread for arithmetic, and this checkout's packages."""
    here = str(Path(__file__).resolve().parent.parent)
    places = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": places, "RAY_worker_niceness": "0"}


def measure(folder: Path, trials: int, sampler: str, by_ray: bool) -> dict[str, float]:
    """Run a sweep of so many trials in an empty folder, and each command on it."""
    (folder / "nothing.py").write_text(FUNCTION)
    tracking = "null" if by_ray else "http://127.0.0.1:9"  # where nothing listens
    (folder / "spec.yaml").write_text(SPEC.format(trials=trials, sampler=sampler, tracking=tracking))
    started = time.perf_counter()
    how = () if by_ray else ("--debug",)
    roles = watched(linsweep("launch", "spec.yaml", "--fresh", *how), folder, folder / "launch.log")
    found = {"launch_wall": time.perf_counter() - started}
    if by_ray:
        found |= {name: used.seconds for name, used in roles.items()}
        found |= {"peak_mb": roles["launch"].peak, "mlflow_peak_mb": roles["mlflow"].peak}
    else:
        found |= {"launch_in_process": roles["launch"].seconds, "in_process_peak_mb": roles["launch"].peak}
    tell(trials, found)

    record = folder / "runs" / "nothing"
    found |= sizes(record)
    commands = {
        "status": ["status", "nothing"],
        "list": ["list"],
        "table": ["table", "nothing"],
        "table_again": ["table", "nothing"],
        "report": ["report", "nothing"],
        "check": ["check", "nothing"],
        "export": ["export", "nothing", "--to", "nothing.parquet"],
        "plan": ["plan", "spec.yaml"],
        "resume": ["resume", "nothing"],
    }
    if by_ray:
        commands["sync"] = ["sync", "nothing"]
    for name, arguments in commands.items():
        found[name], found[f"{name}_mb"] = cost(arguments, folder, folder / f"{name}.log")
        tell(trials, {name: found[name], f"{name}_mb": found[f"{name}_mb"]})
    # In a process of its own: what this one holds counts as the memory of every command that it starts.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        found["view"] = pool.submit(view, record).result()
        if by_ray:
            found["page"] = pool.submit(page, folder / "runs" / "mlflow.db").result()
    tell(trials, {name: found[name] for name in ("view", "page") if name in found})
    return found


def sizes(record: Path) -> dict[str, float]:
    """Megabytes of the parts of a record that grow with its trials, and of MLflow's database."""
    parts = {
        "journals": sum(file.stat().st_size for file in record.glob("journal/*.jsonl")),
        "record": sum(file.stat().st_size for file in record.rglob("*") if file.is_file()),
        "mlflow": sum(file.stat().st_size for file in record.parent.glob("mlflow.db")),
    }
    return {f"megabytes_{name}": size / 1e6 for name, size in parts.items()}


def view(record: Path) -> float:
    """CPU seconds to find the best configuration, once all trials are known."""
    from sweeps.execution.replay import replayed
    from sweeps.record.paths import SweepPaths
    from sweeps.record.sweep_json import read_record
    from sweeps.spec.load import recorded

    paths = SweepPaths(record)
    written = read_record(paths)
    if written is None:
        raise SystemExit(f"{record}: no sweep")
    schedule = replayed(recorded(written, record), paths, written).schedule
    schedule.best()
    started = time.process_time()
    for _ in range(10):
        schedule.best()
        schedule.best_value()
    return (time.process_time() - started) / 10


def page(database: Path) -> float:
    """CPU seconds until MLflow has answered what its page of runs asks for."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{database}")
    experiments = [each.experiment_id for each in client.search_experiments()]
    started = time.process_time()
    runs = client.search_runs(experiments, order_by=[f"metrics.`{OBJECTIVE}` ASC"], max_results=PAGE)
    if len(runs) != PAGE:
        raise SystemExit(f"{len(runs)} runs on a page of {PAGE}")
    return time.process_time() - started


def growth(found: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    """How much more a further trial costs between the largest two sweeps than between the smallest two."""
    ratios = {}
    for name in sorted({name for row in found.values() for name in row}):
        costs = [(trials, row[name]) for trials, row in sorted(found.items()) if name in row]
        slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(costs)]
        if len(slopes) > 1 and slopes[0] > 0:
            ratios[name] = slopes[-1] / slopes[0]
    return ratios


def tell(trials: int, figures: Mapping[str, float]) -> None:
    told = ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
    print(f"{trials:,} trials: {told}", flush=True)


@contextmanager
def place(chosen: Path | None) -> Iterator[Path]:
    """The folder of the sweeps: one that is kept if it was asked for."""
    if chosen is not None:
        chosen.mkdir(parents=True, exist_ok=True)
        yield chosen.resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="scale-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Print measurements as they are made, and one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="*", default=[300, 1000, 3000], help="sizes of the sweeps")
    parser.add_argument("--in-process", type=int, nargs="*", default=[], help="sizes of sweeps that run without Ray")
    parser.add_argument("--sampler", default="random", help="the sampler of the search")
    parser.add_argument("--folder", type=Path, help="where to keep the sweeps; by default they are deleted")
    chosen = parser.parse_args()
    found: dict[int, dict[str, float]] = {}
    with place(chosen.folder) as folder:
        for trials in sorted({*chosen.trials, *chosen.in_process}):
            (folder / str(trials)).mkdir()
            found[trials] = measure(folder / str(trials), trials, chosen.sampler, trials in chosen.trials)
    rounded = {str(trials): {name: round(value, 3) for name, value in row.items()} for trials, row in found.items()}
    print(json.dumps(rounded | {"growth": {name: round(value, 2) for name, value in growth(found).items()}}))


if __name__ == "__main__":
    main()
