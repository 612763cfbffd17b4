"""Trials that need not run because an identical one has: its journal is reused, and says so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from analysis.record.copies import copied, kept_by_launches, origin_of
from analysis.record.journal_files import journal_files
from linearizer_core.bucket import Bucket
from linearizer_core.experiment.journal import TrialState, as_line, fold, head_of, lines, state_of
from linearizer_core.experiment.journal_lines import TrialEvent
from linearizer_core.files import write_whole
from sweeps.record.artifacts import copy_artifacts
from sweeps.record.paths import SweepPaths
from sweeps.search.schedule import PlannedTrial

AT_ONCE = 8
"""Records in a bucket that are read at the same time."""

SAME_PACKAGES = ("linearizer-sweeps", "torch", "numpy")
"""Packages whose version may change the numbers."""


class FinishedTrials:
    """The finished trials of other sweeps in the storage folder that were made in the same way from the same data."""

    def __init__(self, paths: SweepPaths, origin: Mapping[str, Any]) -> None:
        self._paths = paths
        self._origin = _comparable(origin)

    def find(self, planned: PlannedTrial) -> Path | None:
        """The journal of a finished trial with the same configuration and seed."""
        return self._known.get((planned.identity.config_hash, planned.identity.seed))

    @cached_property
    def _known(self) -> dict[tuple[str, int | None], Path]:
        found: dict[tuple[str, int | None], Path] = {}
        if self._origin is None:
            return found
        for folder in _others(self._paths):
            for path in journal_files(SweepPaths(folder).journals):
                first = head_of(path)
                if first and first["kind"] != "reference" and self._alike(first) and self._finished(path):
                    found.setdefault((first["config_hash"], first["seed"]), path)
        return found

    def _finished(self, path: Path) -> bool:
        """Whether a trial finished or diverged, its journal is complete, and the same code ran every attempt."""
        state = fold(lines(path, path.read_bytes()))
        alike = all(self._alike(attempt.event) for attempt in state.attempts)
        return (state.state == "finished" or state.diverged) and alike and not state.damage

    def _alike(self, attempt: TrialEvent) -> bool:
        """Whether the same code ran an attempt, and ran it there: reused trials are found at their origin."""
        return "reused_from" not in attempt and _comparable(attempt["provenance"]) == self._origin


def _others(paths: SweepPaths) -> list[Path]:
    """The folders of the other sweeps in a sweep's storage; of one in a bucket, the copies of those that launches keep.

    Raises ``BucketError``.
    """
    storage = origin_of(paths.storage)
    if storage is None:
        return [path.parent for path in sorted(paths.storage.glob("*/sweep.json")) if path.parent != paths.root]
    names = [name for name in Bucket(storage).top()[0] if name != paths.root.name]

    def copy(name: str) -> Path | None:
        uri = f"{storage}/{name}"
        return copied(uri) if kept_by_launches(Bucket(uri)) else None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [folder for folder in pool.map(copy, names) if folder is not None]


def _comparable(origin: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """What must agree for two trials to be alike; None if uncommitted code may have run one."""
    packages, git = origin.get("packages", {}), origin.get("git", {})
    if git.get("dirty"):
        return None
    return (
        git.get("commit"),
        origin.get("data_checksum"),
        origin.get("processes"),
        *(packages.get(name) for name in SAME_PACKAGES),
    )


def reuse(paths: SweepPaths, planned: PlannedTrial, source: Path, stopped: tuple[int, str] | None = None) -> TrialState:
    """Write a trial's journal from that of its duplicate, with the duplicate's artifacts, and return its state.

    ``stopped`` holds the epoch at which early stopping would have ended it here, and the reason; later events are
    dropped.
    """
    state = state_of(source)
    first = state.head
    assert first is not None, f"{source} tells of no trial"
    own = {"attempt": 1, "resumed_epoch": 0, "reused_from": f"{first['sweep']}/{first['trial']}"}
    kept: list[Mapping[str, Any]] = [{**first, **asdict(planned.identity), **own}]
    kept += [event for epoch, event in sorted(state.epochs.items()) if stopped is None or epoch <= stopped[0]]
    if stopped:
        end = {"event": "end", "time": kept[-1]["time"], "state": "stopped", "reason": stopped[1], "epoch": stopped[0]}
        kept.append(end)
    else:
        kept += [*state.artifacts.values(), *state.curves.values()]
        kept += [event for event in (state.summary, state.end) if event]
        _take_artifacts(SweepPaths(source.parents[1]), source.stem, paths, planned.identity.trial)
    path = paths.journal(planned.identity.trial)
    write_whole(path, "".join(as_line(event) for event in kept))
    return state_of(path)


def _take_artifacts(source: SweepPaths, trial: str, paths: SweepPaths, own: str) -> None:
    """Have the artifacts of a trial as those of another one: in a bucket they are copied there, and noted."""
    note = source.artifacts_note(trial)
    if not note.exists():
        _link(source.artifacts(trial), paths.artifacts(own))
    elif source.root == paths.root:
        write_whole(paths.artifacts_note(own), note.read_bytes())
    else:
        storage = origin_of(paths.storage)
        assert storage is not None, f"{note} is in no bucket"
        write_whole(paths.artifacts_note(own), copy_artifacts(storage, source.root.name, note, paths.root.name, own))


def _link(source: Path, target: Path) -> None:
    """Copy a folder, by hard links if the file system has them."""
    if not source.is_dir():
        return
    shutil.rmtree(target, ignore_errors=True)

    def copy(one: str, other: str) -> None:
        try:
            os.link(one, other)
        except OSError:
            shutil.copy2(one, other)

    shutil.copytree(source, target, copy_function=copy)
