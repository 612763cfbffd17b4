"""The connection to Ray: to a running cluster, or to a private Ray on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from sweeps.children import environment, shadows
from sweeps.execution import ray_internals
from sweeps.execution.cluster import Capacity, Node, local_capacity
from sweeps.execution.ray_environment import settled
from sweeps.spec.validation import InputError, Problem

START_TRIES = 3

SOCKET_LIMIT = 107
"""The longest path of a socket (AF_UNIX) in bytes."""

PROBE_SECONDS = 5.0
"""Seconds that a cluster's head has to answer."""


@contextmanager
def connected(address: str | None, potential: tuple[Node, ...] = ()) -> Iterator[Capacity]:
    """A connection to the cluster at ``address``, or to a private Ray on this machine that ends with the block.

    ``potential`` is what the cluster's autoscaler may add.

    Raises ``InputError`` if no cluster answers at the address, if a private Ray finds no folder for its files, or if
    Ray runs in this process already.
    """
    check_not_running()
    ray_internals.silence()
    if address is not None and address.startswith("ray://"):
        message = "Ray Client cannot run a sweep; run this on a node of the cluster with --address auto, or as a job"
        raise InputError("--address", [Problem("", message)])
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    # Ray puts the current folder first on its workers' import path, so give it a folder without any module.
    with settled(address is None), tempfile.TemporaryDirectory(prefix="linsweep-", ignore_cleanup_errors=True) as empty:
        try:
            with contextlib.chdir(empty), _whole_environment(), _without_the_scripts_folder():
                if address is None:
                    _start_private(quiet)
                else:
                    _join(address, quiet)
            yield _cluster_capacity(address, potential) if address else local_capacity()
        finally:
            ray.shutdown()


def check_not_running() -> None:
    """Raises ``InputError`` if Ray runs in this process: it is the user's, and would end with the sweep."""
    if ray.is_initialized():
        message = "is running in this process; call ray.shutdown() first, or launch with debug=True"
        raise InputError("Ray", [Problem("", message)])


def _start_private(quiet: dict[str, Any]) -> None:
    """Start a private Ray on this machine, in several tries: on a busy machine Ray may exceed its own time limit."""
    here, folder = local_capacity(), ray_folder()
    for left in reversed(range(START_TRIES)):
        try:
            ray_internals.start_private(int(here.cpus), int(here.gpus), folder, **quiet)
            return
        except Exception:  # Ray has no class for this error
            ray.shutdown()
            if not left:
                raise


def _join(address: str, quiet: dict[str, Any]) -> None:
    """Connect to a cluster; raises ``InputError`` if none answers, or one on another version of Ray or Python.

    Ray compares versions before this process registers with the cluster, so nothing has been sent by then.
    """
    hint = "is it up, and does RAY_AUTH_MODE have the same value here and there?"
    try:
        _probe(os.environ.get("RAY_ADDRESS") or address if address == "auto" else address)
        ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        other = ray_internals.other_versions(error)
        if other is not None:
            raise InputError("--address", [Problem("", f"the cluster at {address} {other}")]) from None
        reason = " ".join(str(error).split())[:300]
        raise InputError("--address", [Problem("", f"no Ray cluster at {address}: {reason}; {hint}")]) from None


def _probe(address: str) -> None:
    """Raise ``OSError`` if nothing listens at a head's HOST:PORT; Ray itself would try for a quarter of an hour."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS):
            pass


def ray_folder() -> Path:
    """The folder for a private Ray's files: in the folder for temporary files, unless socket paths below it would be
    too long, as they often are in a SLURM job. If ``TMPDIR`` names a folder that does not exist, it is ignored.

    Raises ``InputError`` if no folder is short enough.
    """
    candidates = [os.environ.get("RAY_TMPDIR", ""), tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"]
    for folder in [Path(name) for name in candidates if name]:
        short = len(os.fsencode(folder / ray_internals.SOCKET)) <= SOCKET_LIMIT
        if short and folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
            return folder / "ray"
    message = (
        f"{tempfile.gettempdir()} is too long for Ray's sockets, and /tmp is not writable; "
        "set TMPDIR to a writable folder with a path of at most "
        f"{SOCKET_LIMIT - len(ray_internals.SOCKET) - 1} bytes"
    )
    raise InputError("TMPDIR", [Problem("", message)])


@contextmanager
def _whole_environment() -> Iterator[None]:
    """Give the processes that Ray starts a ``PYTHONPATH`` that does not depend on the folder they run in."""
    before, whole = os.environ.get("PYTHONPATH"), environment().get("PYTHONPATH")
    try:
        if whole is not None:
            os.environ["PYTHONPATH"] = whole
        yield
    finally:
        if before is None:
            os.environ.pop("PYTHONPATH", None)
        else:
            os.environ["PYTHONPATH"] = before


@contextmanager
def _without_the_scripts_folder() -> Iterator[None]:
    """Take the running script's folder off ``sys.path`` if it holds another package with one of our names.

    Ray puts that folder first on its workers' import path, if it is on ours. This process has imported our packages
    already, but a worker would import the ones in that folder.
    """
    before, script = list(sys.path), Path(os.path.realpath(sys.argv[0])).parent
    if shadows(script):
        sys.path[:] = [entry for entry in before if entry != str(script)]
    try:
        yield
    finally:
        sys.path[:] = before


def _cluster_capacity(address: str, potential: tuple[Node, ...]) -> Capacity:
    """The capacity of the cluster that this process is connected to."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return Capacity(tuple(Node(have.get("CPU", 0), have.get("GPU", 0)) for have in alive), address, potential)
