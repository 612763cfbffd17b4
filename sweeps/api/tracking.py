"""Functions that send recorded sweeps to MLflow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.record.launches import DIED
from analysis.record.mlflow_errors import explain
from analysis.record.uri import without_password
from sweeps.record.ledger import Ledger
from sweeps.record.lookup import find_sweep, find_trial
from sweeps.record.paths import SweepPaths
from sweeps.record.sweep_json import read_record
from sweeps.record.writers import only_launch
from sweeps.spec.validation import InputError, Problem
from sweeps.tracking.model import promote as register
from sweeps.tracking.parent_run import finish
from sweeps.tracking.sync import Sync, sync_of


@dataclass(frozen=True)
class Synced:
    """What was sent to MLflow: the sweep, the number of events, and the server's URI (without its password)."""

    sweep: str
    events: int
    uri: str


@dataclass(frozen=True)
class ModelVersion:
    """A registered model: its name (the sweep's), version, trial, and server."""

    name: str
    version: str
    trial: str
    uri: str


def sync(sweep: str | os.PathLike[str], *, storage: str | os.PathLike[str] = "runs", to: str | None = None) -> Synced:
    """Send a sweep's missing data to MLflow: journals, tables, and the report if there is one.

    ``to`` is a tracking URI other than the sweep's own.

    Raises ``LinsweepError`` for a sweep that does not exist or is running (a running sweep sends by itself), or if the
    server refuses the data.

    >>> import linsweep as ls
    >>> ls.sync("cut", to="sqlite:///mlflow.db").events > 0
    True
    >>> ls.sync("cut", to="sqlite:///mlflow.db").events
    0
    """
    folder = find_sweep(sweep, Path(storage))
    with _syncing(os.fspath(sweep), folder, to) as sending:
        sent = sending.send()
        finish(sending.connect(), sending.paths, sending.sweep)
    return Synced(folder.name, sent, without_password(sending.uri))


def promote(
    trial: str | os.PathLike[str], *, storage: str | os.PathLike[str] = "runs", to: str | None = None
) -> ModelVersion:
    """Register the model of a finished trial, ``"SWEEP/TRIAL"``, in MLflow under the name of its sweep.

    Raises ``LinsweepError`` for a trial that does not exist, keeps no model or has not been sent, and if the server
    cannot be reached.

    >>> import linsweep as ls
    >>> try:
    ...     ls.promote("before")
    ... except ls.LinsweepError as error:
    ...     print(error)
    before: give the sweep and the trial, as SWEEP/TRIAL
    """
    paths, label = find_trial(trial, Path(storage))
    folder = paths.root
    with _syncing(os.fspath(trial), folder, to) as sending:
        version = register(sending.connect, sending.paths, label)
    return ModelVersion(folder.absolute().name, version, label, without_password(sending.uri))


@contextmanager
def _syncing(name: str, folder: Path, to: str | None) -> Iterator[Sync]:
    """The sync of a sweep that is not running; any failure of its server becomes one line."""
    sending = sync_of(folder, to)
    # A running launch sends by itself, and two writers would create every run twice.
    with only_launch(name, SweepPaths(folder)):
        sending.sweep = _as_left(sending.paths)
        try:
            yield sending
        except InputError:
            raise
        # The journals stay complete, whatever the server refuses.
        except Exception as error:
            raise InputError(without_password(sending.uri), [Problem("", explain(error, sending.uri))]) from error


def _as_left(paths: SweepPaths) -> dict[str, Any]:
    """The record of a sweep that is not running: holding the lock, we know that a "running" launch has died."""
    record = read_record(paths)
    assert record is not None, f"{paths.root} holds no sweep"
    if record["state"] != "running":
        return record
    return {**record, "state": "interrupted", "reason": DIED, "ended": Ledger.read(paths).seen or record["started"]}
