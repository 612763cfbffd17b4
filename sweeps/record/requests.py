"""Requests to stop or retry single trials: files that the sweep's launch looks for."""

from __future__ import annotations

from pathlib import Path

from linearizer_core.files import write_whole
from sweeps.record.paths import SweepPaths


def ask_to_stop(paths: SweepPaths, trial: str) -> None:
    """Ask a trial to save its state and stop, wherever it runs."""
    _ask(paths.stop_of(trial))
    paths.retry_of(trial).unlink(missing_ok=True)


def ask_to_retry(paths: SweepPaths, trial: str) -> None:
    """Ask for a retry of a trial that has ended."""
    _ask(paths.retry_of(trial))
    paths.stop_of(trial).unlink(missing_ok=True)


def to_retry(paths: SweepPaths) -> list[str]:
    """The names of the trials to retry."""
    return sorted(path.stem for path in paths.requests.glob("*.retry"))


def _ask(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    write_whole(path, "")
