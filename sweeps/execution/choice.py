"""The choice of the executor that runs a sweep's trials."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.execution.ray_environment import settled
from sweeps.spec.validation import InputError, Problem

if TYPE_CHECKING:
    from sweeps.execution.executor import Executor


def executor_for(address: str | None, cluster: str | os.PathLike[str] | None, debug: bool = False) -> Executor:
    """The executor: Ray on this machine, Ray on the cluster at ``address``, or this process with ``debug``.

    ``cluster`` is the file that says what the cluster's autoscaler may add. Raises ``InputError`` if it cannot be
    read, and if ``debug`` is combined with either of the two.
    """
    if debug:
        if address or cluster:
            message = "runs the trials in this process; leave out --address and --cluster"
            raise InputError("--debug", [Problem("", message)])
        from sweeps.execution.in_process import InProcess

        return InProcess()
    with settled(private=address is None):  # Ray reads some of these settings on import
        from sweeps.execution.autoscaler import potential_nodes
        from sweeps.execution.ray_tune import RayTune  # imports Ray, which a launch in this process does not need
    return RayTune(address, potential_nodes(Path(cluster)) if cluster else ())
