"""The cost of running a sweep beyond its trials, compared with plain Ray Tune and Ray Train on the same machine.

``trials_vs_ray_tune``: no-op trials per minute, with three reports each, with journals, deterministic scheduling and
results sent to MLflow (SQLite), relative to ``ray.tune.Tuner`` with ``OptunaSearch`` and none of these. Both reuse
their processes, have Tune's own loggers off, and alternate. MLflow accepts fewer such trials per second than Tune runs,
so ``trials_and_sync_vs_ray_tune`` also counts the time until it has them all.

``worker_group_vs_ray_train``: the time from launching trials of two workers to their first report, one trial after the
other: a ``TorchTrainer`` nested in a trainable, relative to a worker group. Both join gloo and all-reduce once.

``plan_1000_seconds``: planning 1,000 configurations and printing the plan. ``launcher_memory_growth_mb``: growth of the
launching process's resident memory from a quarter of the no-op trials of the first turn to the last;
``launcher_memory_growth_vs_ray_tune``: relative to the plain ``Tuner``, which keeps its trials.

``scaling_efficiency_2_workers``: training time of one worker on one core, relative to twice that of two workers on one
core each, for the same batches.

    python benchmarks/orchestration.py [--trials 2000] [--turns 3] [--worker-groups 3]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import ray
import torch
import torch.distributed as dist
from ray import train, tune
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.search.optuna import OptunaSearch
from rich.console import Console
from torch import multiprocessing

import linsweep  # noqa: F401 - from here on analysis is the package, and not the script beside this one
from linearizer_core.experiment import data as datasets
from linearizer_core.experiment.configuration import (
    DataConfig,
    FlowConfig,
    ModelConfig,
    OperatorConfig,
    TrainConfig,
    TrialConfig,
)
from linearizer_core.experiment.journal import Journal
from linearizer_core.experiment.training import Trainer
from linearizer_core.experiment.workers import Workers, joined
from sweeps.execution.cluster import local_capacity
from sweeps.execution.plan import make_plan, render
from sweeps.execution.ray_tune import RayTune
from sweeps.execution.task import Task
from sweeps.execution.trainable import TrialTrainable
from sweeps.execution.worker_group import Results, Worker
from sweeps.launch import launch
from sweeps.spec.load import load
from sweeps.spec.model import Sweep

QUIET = {"log_to_driver": False, "logging_level": "ERROR"}
REPORTS = 3
STEPS = 40
BATCH = 512
KEY = "quality/swd_collapsed"

SPEC = """
name: no-op
family: diffusion
data: {{name: digits}}
model: {{flow: {{depth: 1, width: 8}}}}
train: {{epochs: {epochs}, batch_size: 128}}
evaluate: {{steps: [1], quality: [swd], every: 1, samples: 64, held_out: 32}}
search:
  sampler: random
  trials: {trials}
  space:
    train.lr: {{float: [1.0e-5, 1.0e-1], log: true}}
    train.sigma: {{float: [0.1, 1.0]}}
  objective: {{quality/swd_collapsed: min}}
resources: {{workers: {workers}}}
storage: {storage}
"""


def sweep_of(folder: Path, trials: int, workers: int = 1) -> Sweep:
    path = folder / "no-op.yaml"
    path.write_text(SPEC.format(trials=trials, workers=workers, storage=folder / "runs", epochs=REPORTS + 1))
    return load(str(path))


def no_op(task: Task, write: bool) -> Results:
    """A trial that trains nothing but writes a complete record."""
    journal = Journal(task.paths.journal(task.identity.trial) if write else None)
    journal.trial(task.identity, task.config, task.provenance)
    sigma = task.config["train"]["sigma"]
    for epoch in range(1, REPORTS + 1):
        value = sigma / epoch
        journal.epoch(epoch, {"train/loss": value, KEY: value})
        if epoch < REPORTS:
            yield {"epoch": epoch, KEY: value}
    journal.summary({KEY: value})
    journal.end("finished", REPORTS)
    yield {"epoch": REPORTS, "state": "finished", KEY: value}


class NoOp(TrialTrainable):
    """No-op trials instead of real ones."""

    def results(self, task: Task) -> Results:
        return no_op(task, write=True)


class Joining(Worker):
    """A worker that joins the others and sums one number with them."""

    def results(self, task: Task, rank: int, store: Any) -> Results:
        def reports() -> Results:
            with joined(Workers(rank, task.workers), store, "cpu", 60):
                _add_up()
                yield from no_op(task, write=rank == 0)

        return reports()


class WorkerGroups(TrialTrainable):
    """No-op trials of several workers."""

    worker = Joining


class Watch(tune.Callback):  # type: ignore[misc]
    """Records the memory at the end of each trial."""

    def __init__(self, memory: list[float]) -> None:
        self._memory = memory

    def __getstate__(self) -> dict[str, Any]:
        return {"_memory": []}

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._memory.append(resident())


def _add_up() -> None:
    one = torch.ones(1)
    dist.all_reduce(one)
    assert float(one) == dist.get_world_size()


def resident() -> float:
    """The resident memory of this process in MiB."""
    return float(psutil.Process().memory_info().rss / 2**20)


def growth(memory: Sequence[float]) -> float:
    """Growth in MiB between a quarter of the trials and the last one."""
    return memory[-1] - memory[len(memory) // 4]


def plain_tune(folder: Path, trials: int, cpus: int) -> tuple[float, list[float]]:
    """Seconds for the same no-op trials with Ray Tune and OptunaSearch alone, and the memory at the end of each."""

    def trial(config: dict[str, Any]) -> None:
        for epoch in range(1, REPORTS + 1):
            value = config["sigma"] / epoch
            tune.report({"epoch": epoch, "loss": value, KEY: value})

    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {"lr": tune.loguniform(1e-5, 1e-1), "sigma": tune.uniform(0.1, 1.0)}
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(cpus)
    searcher = OptunaSearch(metric=KEY, mode="min", sampler=optuna.samplers.RandomSampler(seed=0))
    memory: list[float] = []
    ray.init(address="local", num_cpus=cpus, include_dashboard=False, **QUIET)
    started = time.perf_counter()
    tune.Tuner(
        tune.with_resources(trial, {"CPU": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(search_alg=searcher, num_samples=trials, reuse_actors=True),
        run_config=tune.RunConfig(
            name="plain", storage_path=str(folder / "plain"), verbose=0, callbacks=[Watch(memory)]
        ),
    ).fit()
    seconds = time.perf_counter() - started
    ray.shutdown()
    return seconds, memory


def nested_train(folder: Path, trials: int) -> float:
    """Seconds for trials of two workers, each a TorchTrainer in a trainable, one after the other."""

    def work(config: dict[str, Any]) -> None:  # noqa: ARG001 - Train hands it over
        _add_up()
        for epoch in range(1, REPORTS + 1):
            train.report({"epoch": epoch, KEY: 1 / epoch})

    def driver(config: dict[str, Any]) -> None:  # noqa: ARG001 - Tune hands it over
        TorchTrainer(
            work,
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
            run_config=train.RunConfig(
                name=f"train-{tune.get_context().get_trial_id()}",
                storage_path=str(folder / "nested"),
                callbacks=[TuneReportCallback()],
            ),
        ).fit()

    started = time.perf_counter()
    tune.Tuner(
        tune.with_resources(driver, {"CPU": 0.01}),  # Tune rejects trials that need no resources
        param_space={"lr": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=1),
        run_config=tune.RunConfig(name="nested", storage_path=str(folder / "nested"), verbose=0),
    ).fit()
    return time.perf_counter() - started


def ours(
    folder: Path, trials: int, trainable: type[TrialTrainable], workers: int, memory: list[float]
) -> tuple[float, float]:
    """Seconds for a sweep's trials with MLflow on, and for sending what MLflow does not have by then."""

    class Watched(io.StringIO):
        def write(self, text: str) -> int:
            memory.append(resident())
            return len(text)

    folder.mkdir()
    executor = RayTune(trainable=trainable)
    result = launch(sweep_of(folder, trials, workers), Console(file=Watched()), executor, fresh=True)
    assert result.state == "finished", result
    assert result.not_sent is None, result.not_sent
    assert result.trials == {"finished": trials}, result.trials
    return result.seconds["trials"], result.seconds["sync"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000, help="no-op trials per side and turn")
    parser.add_argument("--turns", type=int, default=3, help="turns per side; the median counts")
    parser.add_argument("--worker-groups", type=int, default=3, help="trials of two workers per side")
    arguments = parser.parse_args()
    # A script's own folder comes first on the path, and this one contains another ``analysis``.
    sys.path[:] = [place for place in sys.path if Path(place) != Path(__file__).parent]
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    cpus = int(local_capacity().cpus)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        figures |= no_op_figures(folder, arguments.trials, arguments.turns, cpus)
        figures["plan_1000_seconds"] = plan_seconds(folder)
        print(f"a plan of 1,000 configurations: {figures['plan_1000_seconds']:.2f} s", flush=True)
        groups, _ = ours(folder / "worker-groups", arguments.worker_groups, WorkerGroups, 2, [])
        print(f"{arguments.worker_groups} trials of two workers, ours: {groups:.1f} s", flush=True)
        # Ray Train needs the dashboard to release placement groups.
        ray.init(address="local", num_cpus=cpus + 1, include_dashboard=True, dashboard_host="127.0.0.1", **QUIET)
        nested = nested_train(folder, arguments.worker_groups)
        ray.shutdown()
        print(
            f"{arguments.worker_groups} trials of two workers, TorchTrainer in a trainable: {nested:.1f} s", flush=True
        )
        figures["worker_group_vs_ray_train"] = nested / groups
    alone, two = training_seconds(1), training_seconds(2)
    figures["scaling_efficiency_2_workers"] = alone / (2 * two)
    print(f"{STEPS} training steps of {BATCH} images: one worker {alone:.1f} s, two workers {two:.1f} s", flush=True)
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


def no_op_figures(folder: Path, trials: int, turns: int, cpus: int) -> dict[str, float]:
    """Alternate our trials and plain Ray Tune's; the median turn counts."""
    rows: list[dict[str, float]] = []
    for turn in range(turns):
        memory: list[float] = []
        seconds, rest = ours(folder / f"no-op-{turn}", trials, NoOp, 1, memory)
        print(
            f"{trials} no-op trials, ours: {seconds:.1f} s, and {rest:.1f} s until MLflow has all; memory "
            f"{memory[-1]:.0f} MiB, {growth(memory):.0f} of them since a quarter of the trials",
            flush=True,
        )
        # In its own process: otherwise memory freed by our launches would be reused before anything grows.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            plain, kept = pool.submit(plain_tune, folder / f"plain-{turn}", trials, cpus).result()
        print(
            f"{trials} no-op trials, Ray Tune with OptunaSearch: {plain:.1f} s; memory {kept[-1]:.0f} MiB, "
            f"{growth(kept):.0f} of them since a quarter of the trials",
            flush=True,
        )
        rows.append(
            {
                "trials_vs_ray_tune": plain / seconds,
                "trials_and_sync_vs_ray_tune": plain / (seconds + rest),
                "launcher_memory_growth_mb": growth(memory),
                "launcher_memory_growth_vs_ray_tune": growth(memory) / growth(kept),
            }
        )
    figures = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    # Only in the first turn has the launching process run no trials before.
    return figures | {name: rows[0][name] for name in figures if "memory" in name}


def training_seconds(workers: int) -> float:
    """Seconds for ``STEPS`` steps on digits of 32 × 32 by workers with one thread each; the slowest counts."""
    with tempfile.TemporaryDirectory() as folder:
        queue: Any = multiprocessing.get_context("spawn").SimpleQueue()
        multiprocessing.spawn(_train, (workers, f"{folder}/store", queue), nprocs=workers)
        return max(queue.get() for _ in range(workers))


def _train(rank: int, workers: int, store: str, queue: Any) -> None:
    torch.set_num_threads(1)
    config = TrialConfig(
        data=DataConfig(size=32),
        model=ModelConfig(flow=FlowConfig(depth=8, width=512), operator=OperatorConfig(rank=32)),
        train=TrainConfig(batch_size=BATCH, steps=2, epochs=2 * STEPS),
    )
    me = Workers(rank, workers)
    with joined(me, dist.FileStore(store, workers) if workers > 1 else None, "cpu", 120):
        trainer = Trainer(config, datasets.load(config.data), "cpu", me)
        trainer.train_epoch()  # the first steps include setup
        started = time.perf_counter()
        for _ in range(STEPS // 2):
            trainer.train_epoch()
        queue.put(time.perf_counter() - started)


def plan_seconds(folder: Path) -> float:
    """Seconds to read, check, plan and print 1,000 configurations, with the data set already loaded."""
    path = folder / "grid.yaml"
    text = SPEC.format(trials="null", workers=1, storage=folder / "runs", epochs=4).replace("random", "grid")
    values = ", ".join(f"{1e-4 * (1 + i):.4e}" for i in range(1000))
    head, _, rest = text.partition("    train.lr:")
    _, _, tail = rest.partition("train.sigma: {float: [0.1, 1.0]}\n")
    path.write_text(f"{head}    train.lr: {{grid: [{values}]}}\n{tail}")
    load(str(path))
    started = time.perf_counter()
    plan = make_plan(load(str(path)), local_capacity())
    Console(file=io.StringIO()).print(render(plan))
    assert plan.trials == 1000
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
