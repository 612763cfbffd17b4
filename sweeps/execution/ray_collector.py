"""The collector of a launch as an actor of Ray, and the way to it from the process of a trial on any node."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweeps.execution.collector import Answer, Collector, Opened
from sweeps.record.paths import SweepPaths

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

    from linearizer_core.experiment.workers import Workers
    from sweeps.execution.task import Results, Task

ANSWER_SECONDS = 60.0
"""How long a trial waits for one answer of the collector before it asks again."""


@contextmanager
def collecting(paths: SweepPaths) -> Iterator[str]:
    """A collector on this node, which has the sweep's folder, by the name under which trials of this driver find it.

    Ray starts it again if its process dies; it ends with the block, or with the driver.
    """
    name = f"collector-{secrets.token_hex(8)}"
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    kind = ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(Collector)
    actor = kind.options(name=name).remote(str(paths.root.resolve()), paths.holder_now())
    try:
        ray.get(actor.__ray_ready__.remote())
        yield name
    finally:
        ray.kill(actor)


class RaySink:
    """The way to the collector of a launch; raises ``ConnectionError`` while it does not answer."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._actor: Any = None

    def open(self, trial: str) -> Opened:
        opened: Opened = self._ask("open", trial)
        return opened

    def shared(self) -> Mapping[str, int]:
        shared: Mapping[str, int] = self._ask("shared")
        return shared

    def read(self, name: str) -> bytes:
        content: bytes = self._ask("read", name)
        return content

    def take(
        self,
        trial: str,
        attempt: int,
        begin: int,
        lines: bytes,
        artifacts: Mapping[str, Any] | None = None,
        states: list[dict[str, Any]] | None = None,
    ) -> Answer:
        answer: Answer = self._ask("take", trial, attempt, begin, lines, artifacts, states)
        return answer

    def _ask(self, method: str, *words: Any) -> Any:
        try:
            if self._actor is None:
                self._actor = ray.get_actor(self._name)
            return ray.get(getattr(self._actor, method).remote(*words), timeout=ANSWER_SECONDS)
        except RayTaskError:  # what the collector itself raised
            raise
        except (RayError, ValueError) as error:  # ValueError: there is no actor of this name
            self._actor = None
            raise ConnectionError(f"the launch does not answer: {type(error).__name__}") from None


def carried_out(task: Task, workers: Workers | None = None, store: Store | None = None) -> Results:
    """The results of a trial in this process of Ray's: of one that shares the launch's folder, or that sends to it."""
    if task.collector is None:
        from linearizer_core.experiment.workers import ALONE
        from sweeps.execution.trial import execute

        return execute(task, ALONE if workers is None else workers, store)
    from sweeps.execution.courier import execute_away

    return execute_away(task, RaySink(task.collector), workers, store)
