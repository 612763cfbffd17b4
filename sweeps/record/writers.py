"""Exclusive writing: one launch per sweep, and one process per journal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from analysis.record import launches
from analysis.record.journal_files import journal_files
from linearizer_core.experiment.journal import state_of
from sweeps.record.lock import take
from sweeps.record.paths import SweepPaths
from sweeps.spec.validation import InputError, Problem

MOMENT = 1.0
"""Seconds to wait for a sweep's lock."""

PATIENCE = 180.0
"""Seconds to wait for an earlier process of the same trial: Ray ends the rest of a dead launch sooner than this."""


@contextmanager
def only_launch(source: str, paths: SweepPaths) -> Iterator[None]:
    """Hold the sweep's lock; the operating system releases it when the process ends, however it ends.

    Raises ``InputError`` if another process holds it, or if the folder is not writable.
    """
    if (paths.root / launches.ELSEWHERE).exists():
        raise InputError(source, [Problem("name", f"{paths.root.name} is being carried out already, elsewhere")])
    try:
        paths.root.mkdir(parents=True, exist_ok=True)
        file = paths.lock.open("w")
    except OSError as error:
        raise InputError(
            source, [Problem("storage", f"{error.filename or paths.root} cannot be written: {error.strerror}")]
        ) from None
    with file:
        try:
            # Commands that check whether a launch is running hold it for a moment.
            take(file, MOMENT)
        except TimeoutError:
            message = f"{paths.root.name} is running already"
            raise InputError(source, [Problem("name", message)]) from None
        except OSError as error:
            message = f"{paths.lock} cannot be locked: {error.strerror}; use a file system with locks (flock)"
            raise InputError(source, [Problem("storage", message)]) from None
        yield


def running(paths: SweepPaths) -> bool:
    """Whether a launch holds the sweep's lock."""
    return launches.running(paths.root)


@contextmanager
def only_writer(journal: Path) -> Iterator[None]:
    """Hold a journal's lock, so that no two processes write it; the system releases it when the process ends.

    Raises ``TimeoutError`` if another process keeps it.
    """
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a") as file:
        try:
            take(file, PATIENCE)
        except TimeoutError:
            raise TimeoutError(f"another process has been writing {journal} for {PATIENCE:g} s") from None
        yield


def await_writers(source: str, paths: SweepPaths, console: Console) -> None:
    """Wait for the remaining processes of a dead launch, which may still be writing.

    Raises ``InputError`` if they do not end.
    """
    for path in journal_files(paths.journals):
        try:
            if state_of(path).state is None:
                with console.status(f"waiting for an earlier process of {path.stem} to end"), only_writer(path):
                    pass
        except TimeoutError as error:
            raise InputError(source, [Problem("name", str(error))]) from None
