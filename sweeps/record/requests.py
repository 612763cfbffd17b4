"""Requests to stop or retry single trials, or to stop a sweep: files or objects that its launch looks for."""

from __future__ import annotations

from pathlib import Path

from linearizer_core.bucket import Bucket
from linearizer_core.files import write_whole
from sweeps.record.paths import SweepPaths

STOP, RETRY = "stop", "retry"
"""What is asked for trials, by the endings of files or objects; in a bucket the first alone is for the sweep."""


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


def request_stop(paths: SweepPaths, reason: str) -> None:
    """Ask the sweep's trials to stop, wherever they run; the first reason is kept."""
    if not paths.stop.exists():
        write_whole(paths.stop, reason + "\n")


def _ask(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    write_whole(path, "")


class Requests:
    """What is asked of a launch in the bucket that has its record: it is taken over into the launch's folder.

    An object goes once its request is met, so that the next launch meets what this one cannot. All methods raise
    ``BucketError``.
    """

    def __init__(self, bucket: Bucket, paths: SweepPaths) -> None:
        self._bucket = bucket
        self._paths = paths
        self._taken: set[str] = set()

    @property
    def _folder(self) -> str:
        return self._paths.requests.name

    def ask(self, name: str, reason: str = "") -> None:
        """Ask for ``stop``, ``<trial>.stop`` or ``<trial>.retry``; of the last two the later one counts."""
        trial, _, what = name.rpartition(".")
        self._bucket.write(f"{self._folder}/{name}", reason.encode())
        if trial:
            self._bucket.remove([f"{self._folder}/{trial}.{RETRY if what == STOP else STOP}"])

    def begin(self) -> None:
        """Take over what was asked of no launch in particular: to stop, an earlier one was asked."""
        self.withdraw()
        self.take_over()

    def withdraw(self) -> None:
        """Take back the request to stop the sweep."""
        self._bucket.remove([f"{self._folder}/{STOP}"])

    def take_over(self) -> None:
        """Take over what is asked, and remove the requests that have been met."""
        met = []
        for entry in self._bucket.entries(self._folder):
            name = entry.name.rpartition("/")[2]
            trial, _, what = name.rpartition(".")
            if name == STOP:
                request_stop(self._paths, self._bucket.read(entry.name).decode() or name)
            elif name not in self._taken:
                ask = ask_to_stop if what == STOP else ask_to_retry
                self._paths.root.mkdir(exist_ok=True)
                ask(self._paths, trial)
                self._taken.add(name)
            elif not (self._paths.requests / name).exists():
                met.append(entry.name)
                self._taken.discard(name)
        self._bucket.remove(met)

    def end(self) -> None:
        """Remove the requests that this launch has met."""
        self.take_over()
        self.withdraw()
