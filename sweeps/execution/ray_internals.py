"""Every use of Ray's private interface, with the reason for it and what happens if an upgrade removes it.

tests/sweeps/execution/test_ray_internals.py names whatever an upgrade has removed. pyproject.toml bounds Ray's
version.
"""

from __future__ import annotations

import logging
import pickle
import re
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial

LOOPBACK = "127.0.0.1"
"""The address on which a private Ray listens: nobody else needs to reach it."""

SOCKET = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""The longest path that Ray creates for a socket below its temporary folder."""

PENDING_LIMIT = "TUNE_MAX_PENDING_TRIALS_PG"
"""The variable for how many trials may wait for a process; by default Tune starts processes one after the other."""

LOGGER = "ray.tune.tune"
"""Tune's logger of failed trials and interrupts, which the sweep reports itself; unless silenced, both do."""


def silence() -> None:
    """Silence Tune's logger."""
    logging.getLogger(LOGGER).setLevel(logging.CRITICAL)


def start_private(cpus: int, gpus: int, folder: Path, **options: Any) -> None:
    """Start a Ray on this machine that listens only on its loopback address and keeps its files in a folder.

    ``_node_ip_address`` and ``_temp_dir`` are undocumented arguments of ``ray.init``; if an upgrade removes one, it
    raises an error that names it.
    """
    import ray
    from ray._private import ray_constants

    # Otherwise Ray replaces a loopback address by the machine's own and listens to the whole network. If an upgrade
    # removes the constant, it does so.
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
    """Whether a trial of Tune's has a place and runs.

    Only the trial's status says so. If an upgrade removes it, every trial counts as placed, and budgets are spent
    sooner.
    """
    # A trial that Tune has ended at its deadline still has its place until its process is gone.
    return getattr(trial, "status", None) not in (Trial.PENDING, Trial.PAUSED)


def next_to_run(trials: dict[str, Trial]) -> Trial | None:
    """The first of these trials that Tune may start, as its ``FIFOScheduler`` picks it; those that are over are
    dropped.

    Tune walks through all trials of an experiment each time, the ended ones too. If an upgrade removes the status, no
    trial is over, and the first is started.
    """
    status = {name: getattr(trial, "status", Trial.PENDING) for name, trial in trials.items()}
    for name in [name for name, now in status.items() if now in (Trial.TERMINATED, Trial.ERROR)]:
        del trials[name]
    for wanted in (Trial.PENDING, Trial.PAUSED):
        for name, trial in trials.items():
            if status[name] == wanted:
                return trial
    return None


def given_up(trial: Trial) -> bool:
    """Whether a trial that failed was put back into Tune's queue, where it is not tried again.

    That happens if its process died before it took the trial up; Tune then reports it twice. If an upgrade removes the
    status, such a trial counts as failed.
    """
    return getattr(trial, "status", None) == Trial.PENDING


def error_of(trial: Trial) -> Exception | None:
    """The error that ended a trial's last attempt, or None if unknown; a trial that began has it in its journal too.

    ``get_error`` reads the storage, where the error is still missing when a scheduler hears of it. Tune has just
    written it to the trial's local folder, and this process reads that file. Without the file, a trial with an empty
    journal is reported as a process that died.
    """
    path = getattr(trial, "pickled_error_file", None)
    if path is None:
        return None
    try:
        found = pickle.loads(Path(path).read_bytes())
    except Exception:  # noqa: BLE001 - some exceptions cannot be unpickled here
        return None
    return found if isinstance(found, Exception) else None


MISMATCH = re.compile(r"^Version mismatch: .*?Ray: (\S+)\s+Python: (\S+).*?Ray: (\S+)\s+Python: (\S+)", re.DOTALL)
"""Ray's error about versions: those of the cluster, then those here."""


def other_versions(error: Exception) -> str | None:
    """What is said of a cluster that runs on another version of Ray or Python than this process; None otherwise.

    Ray has no class for this error, only words. If an upgrade changes them, they are shown as they are.
    """
    found = MISMATCH.match(str(error))
    if found is None:
        return None
    ray, python, ray_here, python_here = found.groups()
    return (
        f"runs Ray {ray} on Python {python}, and here is Ray {ray_here} on Python {python_here}; "
        "both must be the same: install this package from the same lock there and here, or use the same image"
    )
