"""The machine or cluster that runs the trials."""

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
    """The CPUs and GPUs of one machine, or of ``count`` machines like it."""

    cpus: float
    gpus: float
    count: int = 1

    def workers(self, resources: Resources) -> int:
        """How many of a trial's workers fit on it; each worker needs its resources on one machine."""
        fits = math.floor(self.cpus / resources.cpus_per_worker + 1e-9)
        if resources.gpus_per_worker:
            fits = min(fits, math.floor(self.gpus / resources.gpus_per_worker + 1e-9))
        return self.count * fits


@dataclass(frozen=True)
class Capacity:
    """The machines there are, and the ones that an autoscaler may add up to."""

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
        """How many trials can run at once when the autoscaler has added all it can; 0 if not even one fits."""
        return max(_trials(self.nodes, resources), _trials(self.potential, resources))

    def now(self, resources: Resources) -> int:
        """How many trials the present machines can run at once."""
        return _trials(self.nodes, resources)


def _trials(nodes: Iterable[Node], resources: Resources) -> int:
    return sum(node.workers(resources) for node in nodes) // resources.workers


def local_capacity() -> Capacity:
    """The capacity of this machine, as far as this process may use it."""
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(psutil.cpu_count() or 1)
    return Capacity((Node(len(affinity), torch.cuda.device_count()),), "this machine")
