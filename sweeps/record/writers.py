"""Who may write: one launch a sweep, and one process a journal."""

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
"""Seconds to wait for an earlier process of the same trial: Ray ends what is left of a launch that died in less."""


@contextmanager
def only_launch(source: str, paths: SweepPaths) -> Iterator[None]:
    """Hold the sweep's lock; the system lets go of it when the process ends, however it ends.

    Raises ``InputError`` when another process holds it, or the folder cannot be written.
    """
    try:
        paths.root.mkdir(parents=True, exist_ok=True)
        file = paths.lock.open("w")
    except OSError as error:
        raise InputError(
            source, [Problem("storage", f"{error.filename or paths.root} cannot be written: {error.strerror}")]
        ) from None
    with file:
        try:
            # Who only looks whether a launch runs holds it for a moment.
            take(file, MOMENT)
        except TimeoutError:
            message = f"{paths.root.name} is being carried out already"
            raise InputError(source, [Problem("name", message)]) from None
        except OSError as error:
            message = f"{paths.lock} cannot be locked: {error.strerror}; its file system must have locks (flock)"
            raise InputError(source, [Problem("storage", message)]) from None
        yield


def running(paths: SweepPaths) -> bool:
    """Whether a launch holds the sweep's lock."""
    return launches.running(paths.root)


@contextmanager
def only_writer(journal: Path) -> Iterator[None]:
    """Hold a journal's lock, which the system lets go of when a process ends: two must not write one journal.

    Raises ``TimeoutError`` when another process keeps it.
    """
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a") as file:
        try:
            take(file, PATIENCE)
        except TimeoutError:
            raise TimeoutError(f"another process has been writing {journal} for {PATIENCE:g} s") from None
        yield


def await_writers(source: str, paths: SweepPaths, console: Console) -> None:
    """Wait for what is left of a launch that died: its processes may still be writing.

    Raises ``InputError`` when they do not end.
    """
    for path in journal_files(paths.journals):
        try:
            if state_of(path).state is None:
                with console.status(f"waiting for the end of an earlier {path.stem}"), only_writer(path):
                    pass
        except TimeoutError as error:
            raise InputError(source, [Problem("name", str(error))]) from None
