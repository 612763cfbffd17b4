"""The machine or cluster that trials run on."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from sweeps.spec.model import Resources
from sweeps.spec.validation import InputError, Problem

LOOPBACK = "127.0.0.1"
"""What a private Ray listens on: nobody else has to reach it."""

START_TRIES = 3


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
        return max(_gangs(self.nodes, resources), _gangs(self.potential, resources))

    def now(self, resources: Resources) -> int:
        """How many trials the machines that there are can run at once."""
        return _gangs(self.nodes, resources)


def _gangs(nodes: Iterable[Node], resources: Resources) -> int:
    return sum(node.workers(resources) for node in nodes) // resources.workers


def local_capacity() -> Capacity:
    """This machine's, as far as this process may use it."""
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(psutil.cpu_count() or 1)
    return Capacity((Node(len(affinity), torch.cuda.device_count()),), "this machine")


def _cluster_capacity(address: str, potential: tuple[Node, ...]) -> Capacity:
    """That of the cluster that this process is connected to."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return Capacity(tuple(Node(have.get("CPU", 0), have.get("GPU", 0)) for have in alive), address, potential)


def _start_here(here: Capacity, quiet: Mapping[str, Any]) -> None:
    """A private Ray on this machine; a busy one may not have it up in the time that Ray gives itself."""
    import ray
    from ray._private import ray_constants

    # Otherwise Ray puts the machine's address in the place of a loopback one, and listens to all that reach it.
    ray_constants.ENABLE_RAY_CLUSTER = False
    for left in reversed(range(START_TRIES)):
        try:
            ray.init(
                address="local",
                num_cpus=int(here.cpus),
                num_gpus=int(here.gpus),
                include_dashboard=False,
                _node_ip_address=LOOPBACK,
                **quiet,
            )
            return
        except Exception:  # Ray has no class for it
            ray.shutdown()
            if not left:
                raise


@contextmanager
def connected(address: str | None, potential: tuple[Node, ...] = ()) -> Iterator[Capacity]:
    """A connection to Ray: a cluster at ``address``, or a private one on this machine that ends with the block.

    ``potential`` is what the cluster's autoscaler may add.

    Raises ``InputError`` when no cluster answers at the address.
    """
    # Tune's own loggers write a second record of everything, and its snapshots serve a restore that is not used.
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "600")
    # Ray's reporters print beside the sweep's own progress.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    # Of failed trials and interrupts the sweep itself tells.
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is not None and address.startswith("ray://"):
        message = "Ray Client cannot carry a sweep: run this on a node of the cluster with --address auto, or as a job"
        raise InputError("--address", [Problem("", message)])
    here = local_capacity()
    if address is None:
        _start_here(here, quiet)
    else:
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            hint = "is it up, and is RAY_AUTH_MODE here what it is there?"
            raise InputError("--address", [Problem("", f"no Ray cluster at {address}: {reason}; {hint}")]) from None
    try:
        yield _cluster_capacity(address, potential) if address else here
    finally:
        ray.shutdown()
