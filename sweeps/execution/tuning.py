"""Ray Tune, set up for a sweep's trials."""

from __future__ import annotations

import os

from ray import tune
from rich.console import Console

from sweeps.execution.plan import Plan
from sweeps.execution.progress import Progress
from sweeps.execution.ray_tune import Bridge, HalvingScheduler, ScheduleSearcher
from sweeps.execution.stop import INTERRUPTED, Ending, stopping_on_signals
from sweeps.execution.trainable import TrialTrainable, pack
from sweeps.record.ledger import Ledger, Meter
from sweeps.record.paths import SweepPaths


def run_trials(
    bridge: Bridge, plan: Plan, paths: SweepPaths, console: Console, trainable: type[TrialTrainable]
) -> str | None:
    """Run the trials that are missing; why they were cut short, if they were."""
    resources = plan.sweep.model.resources
    # As many trials may wait for a process as can run: by default Tune starts the processes one after the other.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(plan.concurrency)
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    schedule = bridge.schedule
    progress = Progress(schedule, paths, plan.sweep.base_leaves["train.epochs"], console)
    meter = Meter(Ledger.read(paths), resources)
    ending = Ending(paths, plan.sweep.model.budget, meter, progress.running)
    gang = pack(resources.workers, resources.cpus_per_worker, resources.gpus_per_worker)

    def tell() -> None:
        console.print("stopping: running trials save their state (a second signal ends them now)", style="yellow")

    def tuner() -> tune.Tuner:
        return tune.Tuner(
            tune.with_resources(trainable, gang),
            tune_config=tune.TuneConfig(
                search_alg=ScheduleSearcher(bridge, progress),
                scheduler=HalvingScheduler(bridge, progress),
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name=paths.tune.name,
                storage_path=str(paths.root.resolve()),
                stop=ending,
                failure_config=tune.FailureConfig(max_failures=resources.retries),
                # Trials save their own states: Tune is to keep no copies.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        )

    with stopping_on_signals(paths, tell), progress:
        try:
            tuner().fit()
            # A trial that was given back when Tune had been told that there are no more needs another Tuner.
            while not ending.reason and not paths.stop.exists() and schedule.has_next():
                tuner().fit()
        finally:
            meter.close(progress.running())
    return None if schedule.complete else ending.reason or INTERRUPTED
