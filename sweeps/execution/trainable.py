"""A trial as Ray Tune runs it. It imports little: with several workers, this process does not need torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray import tune

from sweeps.execution.ray_collector import carried_out
from sweeps.execution.task import Results, Task, of_text
from sweeps.execution.worker_group import Worker, WorkerGroup


class TrialTrainable(tune.Trainable):  # type: ignore[misc]
    """Reports every evaluated epoch, and the final metrics with the last one; one process runs trial after trial.

    A trial with one worker trains here; one with several trains in a group of actors. Several trials that train
    together train here.
    """

    worker: type[Worker] = Worker
    """The class of the worker processes in a group."""

    _group: WorkerGroup | None = None
    _results: Results
    _several: bool

    def setup(self, config: dict[str, Any]) -> None:
        tasks = of_text(config["tasks"])
        self._several = len(tasks) > 1
        self._results = self.results_together(tasks) if self._several else self.results(tasks[0])

    def results(self, task: Task) -> Results:
        """The results of a trial, as ``sweeps.execution.ray_collector.carried_out`` returns them."""
        if task.workers > 1:
            if self._group is None:
                self._group = WorkerGroup(task.workers, task.threads, task.gpus, self.worker)
            return self._group.results(task)
        return carried_out(task)

    def results_together(self, tasks: Sequence[Task]) -> Results:
        """The results of trials that train together, as ``sweeps.execution.trial.execute_together`` gives them."""
        from sweeps.execution.trial import execute_together

        return execute_together(tasks)

    def step(self) -> dict[str, Any]:
        result = next(self._results, None) if self._several else next(self._results)
        if result is None:  # all of them have ended
            return {"done": True}
        ended = "state" in result and not self._several
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
    """The resources that a trial reserves, all or nothing; with several workers this process itself takes none."""
    bundle = {name: amount for name, amount in (("CPU", cpus), ("GPU", gpus)) if amount}
    return tune.PlacementGroupFactory([bundle] if workers == 1 else [{}, *[bundle] * workers])
