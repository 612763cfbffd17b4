"""The machine or cluster that trials run on."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass

import psutil
import torch

from sweeps.spec.model import Resources


@dataclass(frozen=True)
class Node:
    """CPUs and GPUs of one machine, or of ``count`` like it."""

    cpus: float
    gpus: float
    count: int = 1

    def workers(self, resources: Resources) -> int:
        """How many workers of a trial's fit on it: a worker is on one machine, whatever the others are on."""
        fits = math.floor(self.cpus / resources.cpus_per_worker + 1e-9)
        if resources.gpus_per_worker:
            fits = min(fits, math.floor(self.gpus / resources.gpus_per_worker + 1e-9))
        return self.count * fits


@dataclass(frozen=True)
class Capacity:
    """What there is, machine by machine, and what an autoscaler could make of it, where there is one."""

    nodes: tuple[Node, ...]
    where: str
    potential: tuple[Node, ...] = ()

    @property
    def cpus(self) -> float:
        return sum(node.count * node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        return sum(node.count * node.gpus for node in self.nodes)

    def concurrency(self, resources: Resources) -> int:
        """How many trials run at once, on all that an autoscaler can add; 0 when not even one ever fits."""
        return max(_trials(self.nodes, resources), _trials(self.potential, resources))

    def now(self, resources: Resources) -> int:
        """How many trials the machines that there are can run at once."""
        return _trials(self.nodes, resources)


def _trials(nodes: Iterable[Node], resources: Resources) -> int:
    return sum(node.workers(resources) for node in nodes) // resources.workers


def local_capacity() -> Capacity:
    """This machine's, as far as this process may use it."""
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(psutil.cpu_count() or 1)
    return Capacity((Node(len(affinity), torch.cuda.device_count()),), "this machine")
