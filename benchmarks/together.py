"""Seeds an hour of a sweep: trials that train together beside a process for each, by the same launch, on this machine.

The quickstart's model at six seeds of two learning rates, on two places of a private Ray, MLflow on. Needs the digits
that scikit-learn brings, and three minutes. Prints one line of JSON.

- ``seconds_apart``, ``seconds_together``: wall time in which the trials ran, after Ray had started.
- ``cpu_apart``, ``cpu_together``: CPU seconds of the processes that carried them out.
- ``seeds_per_hour``: by how much more trials end in an hour together than apart, by wall time; ``seeds_per_cpu_hour``:
  by CPU time, which says the same on a machine that others use as well.
- ``apart_by``: the largest difference of an objective between the two, relative.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

# This folder would stand before the package: its analysis.py is no package.
sys.path[:] = [path for path in sys.path if Path(path).resolve() != Path(__file__).resolve().parent]

import psutil
from rich.console import Console

from linearizer_core.experiment.journal import state_of
from sweeps.execution.ray_tune import RayTune
from sweeps.launch import launch
from sweeps.record.paths import SweepPaths
from sweeps.spec.load import load

SEEDS = 6
KEY = "quality/swd_sampled"
SETS = ("controls=[]", "search.sampler=grid", "search.trials=null", "search.confirm=null", "search.stop_early=null",
        "search.space={train.lr: {grid: [0.002, 0.003]}}", f"search.seeds={list(range(SEEDS))}",
        f"search.objective={{{KEY}: min}}", "train.epochs=60", "evaluate.every=60",
        "evaluate.quality=[swd]")  # fmt: skip


class Watch:
    """The CPU seconds of the processes below this one that carry trials out, as long as it is open."""

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        return sum(self._seen.values())

    def _look(self) -> None:
        while not self._done.wait(0.25):
            for process in psutil.Process(os.getpid()).children(recursive=True):
                try:
                    # Ray calls a process by what it runs.
                    if "TrialTrainable" in " ".join(process.cmdline()):
                        times = process.cpu_times()
                        self._seen[process.pid] = times.user + times.system
                except psutil.Error:
                    continue


def swept(folder: Path, together: str) -> tuple[float, float, dict[str, float]]:
    """Wall seconds and CPU seconds of the trials of a sweep, and the objective of each."""
    name = "apart" if together == "off" else "together"
    sets = [*SETS, f"name={name}", f"resources.together={together}", f"storage={folder / 'runs'}"]
    sweep = load("quickstart", sets)
    with Watch() as watch:
        result = launch(sweep, Console(file=io.StringIO()), RayTune(), fresh=True)
    if result.state != "finished":
        raise SystemExit(f"the sweep has not finished: {result.reason}")
    paths = SweepPaths(sweep.folder)
    found = {path.stem: state_of(path).metrics[KEY] for path in sorted(paths.journals.glob("t*.jsonl"))}
    return result.seconds["trials"], watch.seconds, found


def main() -> None:
    """Print the ratios."""
    with tempfile.TemporaryDirectory() as name:
        apart, together = (swept(Path(name), way) for way in ("off", "auto"))
    found: dict[str, Any] = {
        "trials": len(apart[2]),
        "seconds_apart": apart[0],
        "seconds_together": together[0],
        "cpu_apart": apart[1],
        "cpu_together": together[1],
        "seeds_per_hour": apart[0] / together[0],
        "seeds_per_cpu_hour": apart[1] / together[1],
        "apart_by": max(abs(together[2][trial] / value - 1) for trial, value in apart[2].items()),
    }
    print(json.dumps({key: round(value, 4) for key, value in found.items()}))


if __name__ == "__main__":
    main()
