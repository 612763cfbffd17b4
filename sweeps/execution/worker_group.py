"""The workers of one trial: actors in the bundles of its placement group, which are kept from trial to trial."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import ray
from ray.actor import ActorHandle
from ray.util import get_current_placement_group, get_node_ip_address
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from sweeps.execution.ray_collector import carried_out
from sweeps.execution.task import Results, Task

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

LOOPBACK = "lo"
RENDEZVOUS_SECONDS = 300.0
"""How long workers wait for each other at the start of a trial: longer than they wait for an earlier process of it."""


@dataclass(frozen=True)
class Rendezvous:
    """Where the workers of a trial meet: in a file if they share a node, else at rank 0's host and port."""

    path: str | None
    host: str
    port: int


class Worker:
    """One process of a worker group; it yields a trial's results one at a time."""

    def __init__(self) -> None:
        self._results: Results | None = None
        self._store: Store | None = None
        self._folder: TemporaryDirectory[str] | None = None

    def where(self) -> tuple[str, str]:
        """The id and the address of its node."""
        return ray.get_runtime_context().get_node_id(), get_node_ip_address()

    def open_rendezvous(self, workers: int, shared_node: bool) -> Rendezvous:
        """As rank 0, open the rendezvous of the next trial's workers."""
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        host = get_node_ip_address()
        if shared_node:
            self._folder = TemporaryDirectory(prefix="workers-")
            return Rendezvous(str(Path(self._folder.name) / "store"), host, 0)
        # With port 0 the system picks a free port, and the store holds it from then on.
        store = TCPStore(
            host, 0, workers, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=RENDEZVOUS_SECONDS)
        )
        self._store = store
        return Rendezvous(None, host, store.port)

    def begin(self, task: Task, rank: int, rendezvous: Rendezvous) -> None:
        """Take up a trial, without running any of it yet."""
        from torch.distributed import FileStore, TCPStore  # type: ignore[attr-defined]

        if rendezvous.path:
            # The workers share a node, so nothing has to listen on the network.
            os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
            self._store = FileStore(rendezvous.path, task.workers)
        # Otherwise NCCL's watchdog ends the process instead of raising when a worker does not answer.
        os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")
        if not rendezvous.path and rank:
            limit = timedelta(seconds=RENDEZVOUS_SECONDS)
            self._store = TCPStore(rendezvous.host, rendezvous.port, task.workers, is_master=False, timeout=limit)
        assert self._store is not None, "rank 0 has opened the rendezvous"
        self._results = self.results(task, rank, self._store)

    def results(self, task: Task, rank: int, store: Store) -> Results:
        """This worker's results of a trial, as ``sweeps.execution.ray_collector.carried_out`` returns them."""
        from linearizer_core.experiment.workers import Workers

        return carried_out(task, Workers(rank, task.workers), store)

    def advance(self) -> dict[str, Any] | None:
        """The trial's next result, or None after the last."""
        assert self._results is not None
        return next(self._results, None)

    def leave(self) -> None:
        """Abandon the trial between two results."""
        if self._results is not None:
            self._results.close()
        self._results = self._store = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


class WorkerGroup:
    """The workers in bundles 0, 1, … of this process's placement group, with their CPUs and GPUs."""

    def __init__(self, workers: int, cpus: float, gpus: float, kind: type[Worker] = Worker) -> None:
        self._count = workers
        self._kind = kind
        self._cpus = cpus
        self._gpus = gpus
        self._actors: list[ActorHandle[Worker]] = []

    def results(self, task: Task) -> Results:
        """Rank 0's results of a trial; all workers advance together.

        An error or death of one worker is raised at once and ends the others, which would wait for it for ever.
        """
        try:
            workers = self._started()
            nodes = together([worker.where.remote() for worker in workers])
            shared = len({node for node, _ in nodes}) == 1
            rendezvous = ray.get(workers[0].open_rendezvous.remote(self._count, shared))
            together([worker.begin.remote(task, rank, rendezvous) for rank, worker in enumerate(workers)])
            while (result := together([worker.advance.remote() for worker in workers])[0]) is not None:
                yield result
        except GeneratorExit:
            self._leave()
            raise
        except BaseException:
            self.close()
            raise

    def _leave(self) -> None:
        try:
            together([worker.leave.remote() for worker in self._actors])
        except ray.exceptions.RayError:
            self.close()

    def _started(self) -> list[ActorHandle[Worker]]:
        if not self._actors:
            group = get_current_placement_group()
            actor = ray.remote(num_cpus=self._cpus, num_gpus=self._gpus)(self._kind)
            self._actors = [
                actor.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, bundle)).remote()
                for bundle in range(self._count)
            ]
        return self._actors

    def close(self) -> None:
        """End the workers."""
        for worker in self._actors:
            ray.kill(worker)
        self._actors = []


def together(answers: Sequence[Any]) -> list[Any]:
    """The results of several calls; raises the first error as soon as there is one."""
    waiting = list(answers)
    while waiting:
        done, waiting = ray.wait(waiting)
        ray.get(done)
    return list(ray.get(list(answers)))
