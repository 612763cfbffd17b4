"""Where the trials of a launch send what they have to say, if they do not see its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from linearizer_core.experiment.journal import ENDED, append, state_of
from linearizer_core.files import write_whole
from sweeps.record.artifacts import as_note, states_in
from sweeps.record.paths import SweepPaths


class Superseded(Exception):
    """Another attempt at the trial has begun, or another launch: nothing more of this one counts."""


@dataclass(frozen=True)
class Opened:
    """What an attempt begins with: its number, the journal so far, the states in the bucket, and what
    ``Collector.shared`` gives."""

    attempt: int
    journal: bytes
    states: list[dict[str, Any]]
    files: Mapping[str, int]


@dataclass(frozen=True)
class Answer:
    """How long the journal is that the launch has, on its disk, and whether the trial is asked to stop."""

    end: int
    stop: bool


class Sink(Protocol):
    """A ``Collector``, or the way to one."""

    def open(self, trial: str) -> Opened: ...

    def shared(self) -> Mapping[str, int]: ...

    def read(self, name: str) -> bytes: ...

    def take(
        self,
        trial: str,
        attempt: int,
        begin: int,
        lines: bytes,
        artifacts: Mapping[str, Any] | None = None,
        states: list[dict[str, Any]] | None = None,
    ) -> Answer: ...


class Collector:
    """Takes the lines of journals, in their order and each once, into the folder of a sweep.

    All that it knows is in that folder: one that has died is started again, and goes on. ``holder`` is who held the
    lease when its launch began: when another launch has begun in this folder, it takes nothing more.
    """

    def __init__(self, root: str, holder: str = "") -> None:
        self._paths = SweepPaths(Path(root))
        self._holder = holder

    def open(self, trial: str) -> Opened:
        """Begin an attempt: what an earlier one still sends is refused from here on.

        Raises ``Superseded`` where another launch has begun.
        """
        self._check()
        attempt = self._attempt(trial) + 1
        write_whole(self._paths.writer(trial), str(attempt))
        path = self._paths.journal(trial)
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        return Opened(attempt, whole, states_in(self._paths.state_note(trial)), self.shared())

    def shared(self) -> Mapping[str, int]:
        """The files for all trials, feature classifiers and plugins, by their names in the storage, and their sizes."""
        folders = (self._paths.plugins, self._paths.cache)
        found = [path for folder in folders if folder.is_dir() for path in folder.rglob("*") if path.is_file()]
        base = self._paths.storage
        return {path.relative_to(base).as_posix(): path.stat().st_size for path in found if path.name[0] != "."}

    def read(self, name: str) -> bytes:
        """A file for all trials, by the name that ``open`` has told."""
        return (self._paths.storage / name).read_bytes()

    def take(
        self,
        trial: str,
        attempt: int,
        begin: int,
        lines: bytes,
        artifacts: Mapping[str, Any] | None = None,
        states: list[dict[str, Any]] | None = None,
    ) -> Answer:
        """Take whole lines that begin at a byte of the journal; those that are there already count once.

        Raises ``Superseded`` where the journal has gone on otherwise, or in another attempt.
        """
        self._check()
        if self._attempt(trial) != attempt:
            raise Superseded(f"{trial}: another attempt has begun")
        path = self._paths.journal(trial)
        path.parent.mkdir(parents=True, exist_ok=True)
        if artifacts is not None:  # before the lines that tell of them
            write_whole(self._paths.artifacts_note(trial), as_note(artifacts))
        with path.open("ab+") as file:
            file.seek(0, 2)
            size = file.tell()
            file.seek(begin)
            known = file.read(len(lines)) if begin <= size else b""
        if begin > size or lines[: len(known)] != known:
            raise Superseded(f"{trial}: its journal has gone on without it")
        if len(known) < len(lines):
            append(path, lines[len(known) :], flush=True)
        if states is not None and not self._needs_none(trial):  # after the lines of the epochs before
            write_whole(self._paths.state_note(trial), as_note({"states": states}))
        stop = self._paths.stop.exists() or self._paths.stop_of(trial).exists()
        return Answer(begin + len(lines), stop)

    def _check(self) -> None:
        if self._paths.holder_now() != self._holder:
            raise Superseded("another launch has begun")

    def _needs_none(self, trial: str) -> bool:
        """Whether a trial has ended, so that it will never go on from a state: the launch has ended it meanwhile."""
        state = state_of(self._paths.journal(trial))
        return state.state in ENDED and not state.extensible and not state.by_hand

    def _attempt(self, trial: str) -> int:
        try:
            return int(self._paths.writer(trial).read_text())
        except (FileNotFoundError, ValueError):
            return 0


def events_in(lines: bytes) -> set[str]:
    """The names of the events in whole lines."""
    return {json.loads(line)["event"] for line in lines.splitlines()}
