"""The machine or cluster that trials run on."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch

from sweeps.spec import Resources
from sweeps.validation import InputError, Problem


@dataclass(frozen=True)
class Capacity:
    """What there is: whole CPUs and GPUs, and where."""

    cpus: float
    gpus: float
    where: str

    def concurrency(self, resources: Resources) -> int:
        """How many trials run at once; 0 when not even one fits."""
        fits = math.floor(self.cpus / (resources.workers * resources.cpus_per_worker) + 1e-9)
        if resources.gpus_per_worker:
            fits = min(fits, math.floor(self.gpus / (resources.workers * resources.gpus_per_worker) + 1e-9))
        return fits


def local_capacity() -> Capacity:
    """This machine's, as far as this process may use it."""
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(psutil.cpu_count() or 1)
    return Capacity(len(affinity), torch.cuda.device_count(), "this machine")


@contextmanager
def connected(address: str | None) -> Iterator[Capacity]:
    """A connection to Ray: a cluster at ``address``, or a private one on this machine that ends with the block.

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
    if address is None:
        here = local_capacity()
        ray.init(address="local", num_cpus=int(here.cpus), num_gpus=int(here.gpus), include_dashboard=False, **quiet)
    else:
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            hint = "is it up, and is RAY_AUTH_MODE here what it is there?"
            raise InputError("--address", [Problem("", f"no Ray cluster at {address}: {reason}; {hint}")]) from None
    try:
        total = ray.cluster_resources()
        yield Capacity(total.get("CPU", 0.0), total.get("GPU", 0.0), address or "this machine")
    finally:
        ray.shutdown()
