"""A trial as Ray Tune runs it. Light to import: where workers train, this process does not need torch."""

from __future__ import annotations

from typing import Any

from ray import tune

from sweeps.execution.task import Task
from sweeps.execution.worker_group import Results, Worker, WorkerGroup


class TrialTrainable(tune.Trainable):  # type: ignore[misc]
    """Reports every evaluated epoch, and the end scalars with the last one; a process goes from trial to trial.

    A trial of one worker trains here, one of several in a group of actors.
    """

    worker: type[Worker] = Worker
    """What the processes of a worker group are."""

    _group: WorkerGroup | None = None
    _results: Results

    def setup(self, config: dict[str, Any]) -> None:
        self._results = self.results(Task.of_text(config["task"]))

    def results(self, task: Task) -> Results:
        """The results of a trial, as ``sweeps.execution.trial.execute`` gives them."""
        if task.workers > 1:
            if self._group is None:
                self._group = WorkerGroup(task.workers, task.threads, task.gpus, self.worker)
            return self._group.results(task)
        from sweeps.execution.trial import execute

        return execute(task)

    def step(self) -> dict[str, Any]:
        result = next(self._results)
        ended = "state" in result
        if ended:
            self._results.close()
        return {**result, "done": ended}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._results.close()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        self._results.close()
        if self._group is not None:
            self._group.close()


def pack(workers: int, cpus: float, gpus: float) -> tune.PlacementGroupFactory:
    """What a trial reserves, all or nothing; where there are several workers this process itself takes nothing."""
    bundle = {name: amount for name, amount in (("CPU", cpus), ("GPU", gpus)) if amount}
    return tune.PlacementGroupFactory([bundle] if workers == 1 else [{}, *[bundle] * workers])
