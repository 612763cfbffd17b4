"""Ray Tune as the executor: one process or several per trial, on this machine or on a cluster."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from ray import tune
from ray.exceptions import RayActorError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from sweeps.execution import ray_internals
from sweeps.execution.cluster import Capacity, Node, local_capacity
from sweeps.execution.executor import Work
from sweeps.execution.jobs import Jobs
from sweeps.execution.ray_collector import collecting
from sweeps.execution.ray_connection import check_not_running, connected
from sweeps.execution.stop import Ending, interrupted_by_sigterm
from sweeps.execution.task import as_text
from sweeps.execution.trainable import TrialTrainable, pack
from sweeps.spec.model import Sweep


class RayTune:
    """An ``Executor`` on the cluster at ``address``, or on a private Ray that lives as long as the trials.

    ``potential`` is what the cluster's autoscaler may add; ``trainable`` is the class that Tune runs.
    """

    name = "Ray"
    live = True

    def __init__(
        self,
        address: str | None = None,
        potential: tuple[Node, ...] = (),
        trainable: type[TrialTrainable] = TrialTrainable,
    ) -> None:
        self._address = address
        self._potential = potential
        self._trainable = trainable

    def check(self, sweep: Sweep) -> None:
        """Refuse a process in which Ray runs already; whether trials fit is checked by the plan."""
        check_not_running()

    @contextmanager
    def reached(self) -> Iterator[Capacity]:
        if self._address is None:
            yield local_capacity()
            return
        with connected(self._address, self._potential) as capacity, interrupted_by_sigterm():
            yield capacity

    @contextmanager
    def started(self) -> Iterator[None]:
        if self._address is not None:
            yield
            return
        # Ray replaces our SIGTERM handler by its own, which would abort the launch.
        with connected(None), interrupted_by_sigterm():
            yield

    def carry_out(self, work: Work) -> None:
        os.environ[ray_internals.PENDING_LIMIT] = str(work.plan.concurrency)
        bridge, ending = work.jobs.bridge, work.ending
        in_bucket = work.plan.sweep.bucket is not None
        with collecting(work.paths) if in_bucket else nullcontext() as collector:
            self._tuner(work, collector).fit()
            # A trial that is given back after Tune was told that there are no more trials needs another Tuner.
            while not ending.reason and not bridge.over and bridge.schedule.has_next():
                self._tuner(work, collector).fit()
        # A folder and twenty kilobytes of each trial, which the journals have better.
        shutil.rmtree(work.paths.tune, ignore_errors=True)

    def _tuner(self, work: Work, collector: str | None) -> tune.Tuner:
        resources = work.plan.sweep.model.resources
        group = pack(resources.workers, resources.cpus_per_worker, resources.gpus_per_worker)
        return tune.Tuner(
            tune.with_resources(self._trainable, group),
            tune_config=tune.TuneConfig(
                search_alg=ScheduleSearcher(work.jobs, collector),
                scheduler=HalvingScheduler(work.jobs),
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name=work.paths.tune.name,
                storage_path=str(work.paths.root.resolve()),
                stop=EndingStopper(work.ending),
                failure_config=tune.FailureConfig(max_failures=resources.retries),
                # Trials save their own states: Tune must not keep copies.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        )


class EndingStopper(tune.Stopper):
    """Tune's stopper: it checks many times a second whether the sweep is over."""

    def __init__(self, ending: Ending) -> None:
        self._ending = ending

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles these objects for its own restore, which is not used here: journals are replayed.
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._ending.over()


class ScheduleSearcher(Searcher):
    """Tune's searcher: it takes trials from the schedule and reports their ends.

    ``collector`` is the actor that takes their journals, where they do not see the sweep's folder.
    """

    def __init__(self, jobs: Jobs, collector: str | None = None) -> None:
        super().__init__()
        self._jobs = jobs
        self._collector = collector

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as for the stopper

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        tasks = [replace(task, collector=self._collector) for task in self._jobs.start(trial_id)]
        if tasks:
            return {"tasks": as_text(tasks)}
        over = self._jobs.bridge.schedule.exhausted or self._jobs.bridge.over
        return Searcher.FINISHED if over else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._jobs.end(trial_id, failed=error)

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the journals are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the journals are the state."""


class HalvingScheduler(FIFOScheduler):
    """Tune's scheduler: first come, first served, with early stopping by successive halving."""

    def __init__(self, jobs: Jobs) -> None:
        super().__init__()
        self._jobs = jobs
        self._unended: dict[str, Trial] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as for the stopper

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._unended[trial.trial_id] = trial
        self._jobs.wait(trial.trial_id, lambda: ray_internals.placed(trial))

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        return ray_internals.next_to_run(self._unended)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        return TrialScheduler.STOP if self._jobs.result(trial.trial_id, result) else TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        # A trial that raised has recorded it in its journal; this is for a process or worker that could not.
        self._jobs.error(trial.trial_id, why_failed(ray_internals.error_of(trial)))
        if ray_internals.given_up(trial):
            self._jobs.give_back(trial.trial_id)


def why_failed(error: Exception | None) -> str:
    """The error that ended a trial in one line: the last line of a worker's traceback.

    A process that could not be set up, for example because a module is missing there, counts as an exception too.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    died = isinstance(error, RayActorError) and not error.actor_init_failed
    if error is None or died or not lines:
        return "its process died"
    return lines[-1][:1000]
