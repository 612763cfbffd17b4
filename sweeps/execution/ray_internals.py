"""Whatever is used of Ray that Ray does not promise to keep: each with its reason, and what is done without it.

tests/sweeps/execution/test_ray_internals.py names the one that an upgrade takes away. Ray's version is bounded in
pyproject.toml.
"""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial

LOOPBACK = "127.0.0.1"
"""What a private Ray listens on: nobody else has to reach it."""

SOCKET = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""The longest path that Ray makes below its temporary folder for a socket."""

PENDING_LIMIT = "TUNE_MAX_PENDING_TRIALS_PG"
"""How many trials may wait for a process: by default Tune starts the processes one after the other."""

LOGGER = "ray.tune.tune"
"""Tune's logger of failed trials and interrupts, of which the sweep itself tells; without it both do."""


def silence() -> None:
    """Let Tune's logger tell nothing."""
    logging.getLogger(LOGGER).setLevel(logging.CRITICAL)


def start_private(cpus: int, gpus: int, folder: Path, **options: Any) -> None:
    """Start a Ray on this machine that listens on its loopback address alone, and keeps its files in a folder.

    ``_node_ip_address`` and ``_temp_dir`` are arguments that ``ray.init`` does not document; where they are gone it
    raises, and says which.
    """
    import ray
    from ray._private import ray_constants

    # Otherwise Ray puts the machine's address in the place of a loopback one, and listens to all that reach it. Where
    # the constant is gone, that is what it does.
    ray_constants.ENABLE_RAY_CLUSTER = False
    ray.init(
        address="local",
        num_cpus=cpus,
        num_gpus=gpus,
        include_dashboard=False,
        _node_ip_address=LOOPBACK,
        _temp_dir=str(folder),
        **options,
    )


def placed(trial: Trial) -> bool:
    """Whether a trial of Tune's has its place, and takes time.

    Tune says it nowhere but in the trial's status; where that is gone every trial counts as placed, and a budget is
    spent sooner.
    """
    # One that Tune has ended at its deadline is still here, and has its place until its process is gone.
    return getattr(trial, "status", None) not in (Trial.PENDING, Trial.PAUSED)


def given_up(trial: Trial) -> bool:
    """Whether a trial that failed was put back into Tune's queue, where it is not tried again.

    That happens to one whose process died before it took the trial up; Tune tells of it twice. Where the status is
    gone, such a trial has failed.
    """
    return getattr(trial, "status", None) == Trial.PENDING


def error_of(trial: Trial) -> Exception | None:
    """What ended a trial's last attempt, None if that cannot be known; its journal says it as well, if it began.

    ``get_error`` looks into the storage, where the error is not yet when a scheduler hears of it: Tune has just written
    it into the trial's local folder, and this process reads what it wrote. Without that file a trial whose journal is
    empty says that its process died.
    """
    path = getattr(trial, "pickled_error_file", None)
    if path is None:
        return None
    try:
        found = pickle.loads(Path(path).read_bytes())
    except Exception:  # noqa: BLE001 - an exception may be one that cannot be unpickled here
        return None
    return found if isinstance(found, Exception) else None
