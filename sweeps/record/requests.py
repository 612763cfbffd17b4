"""What is asked of single trials, as files that whoever carries the sweep out finds: to stop, or to be tried again."""

from __future__ import annotations

from pathlib import Path

from linearizer_core.files import write_whole
from sweeps.record.paths import SweepPaths


def ask_to_stop(paths: SweepPaths, trial: str) -> None:
    """Ask a trial to save its state and stop, wherever it runs."""
    _ask(paths.stop_of(trial))
    paths.retry_of(trial).unlink(missing_ok=True)


def ask_to_retry(paths: SweepPaths, trial: str) -> None:
    """Ask for another try of a trial that has ended."""
    _ask(paths.retry_of(trial))
    paths.stop_of(trial).unlink(missing_ok=True)


def to_retry(paths: SweepPaths) -> list[str]:
    """The trials that are to be tried again, by name."""
    return sorted(path.stem for path in paths.requests.glob("*.retry"))


def _ask(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    write_whole(path, "")
