"""Trials that need not run, since an identical one has: its journal is reused, and says so."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from linearizer_core.experiment.journal import Outcome, outcome, read
from linearizer_core.files import write_whole
from sweeps.record.paths import SweepPaths
from sweeps.search.schedule import PlannedTrial
from sweeps.tracking.committed import RESULTS

SAME_PACKAGES = ("linearizer-sweeps", "torch", "numpy")
"""Packages of which other versions may give other numbers."""


class FinishedTrials:
    """The finished trials of a storage folder's other sweeps, made alike from the same data."""

    def __init__(self, paths: SweepPaths, origin: Mapping[str, Any]) -> None:
        self._paths = paths
        self._origin = _comparable(origin)

    def find(self, planned: PlannedTrial) -> Path | None:
        """The journal of a finished trial of the same configuration and seed."""
        return self._known.get((planned.identity.config_hash, planned.identity.seed))

    @cached_property
    def _known(self) -> dict[tuple[str, int | None], Path]:
        found: dict[tuple[str, int | None], Path] = {}
        if self._origin is None:
            return found
        for folder in sorted(path.parent for path in self._paths.storage.glob("*/sweep.json")):
            if folder == self._paths.root:
                continue
            for path in sorted(SweepPaths(folder).journals.glob("*.jsonl")):
                first = _first_event(path)
                if first and first["kind"] != "reference" and _finished(path) and self._same(path, first):
                    found.setdefault((first["config_hash"], first["seed"]), path)
        return found

    def _same(self, path: Path, first: Mapping[str, Any]) -> bool:
        """Whether the same code made every attempt, and here: what was reused is found where it was made."""
        if "reused_from" in first or _comparable(first["provenance"]) != self._origin:
            return False
        attempts = [event for event in read(path) if event["event"] == "trial"]
        return all(_comparable(attempt["provenance"]) == self._origin for attempt in attempts)


def _comparable(origin: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """What decides whether two trials were made alike; None where code that no commit has may have made one."""
    packages, git = origin.get("packages", {}), origin.get("git", {})
    if git.get("dirty"):
        return None
    return (
        git.get("commit"),
        origin.get("data_checksum"),
        origin.get("processes"),
        *(packages.get(name) for name in SAME_PACKAGES),
    )


def _first_event(path: Path) -> dict[str, Any] | None:
    with path.open("rb") as file:
        line = file.readline()
    try:
        event: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return event if event.get("event") == "trial" else None


def _finished(path: Path) -> bool:
    """Whether the last line says so: a journal goes on after an end only when the trial is started anew."""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 4096))
        lines = file.read().splitlines()
    try:
        event = json.loads(lines[-1])
    except (IndexError, ValueError):
        return False
    return bool(event["event"] == "end" and event["state"] == "finished")


def reuse(paths: SweepPaths, planned: PlannedTrial, source: Path, stopped: tuple[int, str] | None = None) -> Outcome:
    """Write the journal of a trial from that of its duplicate, with the duplicate's artifacts; what the trial came to.

    ``stopped`` is the epoch at which early stopping would have ended it here, and why: nothing later is taken.
    """
    events = list(read(source))
    last = max(i for i, event in enumerate(events) if event["event"] == "trial")
    first = events[last]
    lines = [
        {
            **first,
            **asdict(planned.identity),
            "attempt": 1,
            "resumed_epoch": 0,
            "reused_from": f"{first['sweep']}/{first['trial']}",
        }
    ]
    lines += _epochs(events, stopped[0] if stopped else None)
    if stopped:
        end = {"event": "end", "time": lines[-1]["time"], "state": "stopped", "reason": stopped[1], "epoch": stopped[0]}
        lines.append(end)
    else:
        lines += [event for event in events[last:] if event["event"] in (*RESULTS, "end")]
        _link(SweepPaths(source.parents[1]).artifacts(source.stem), paths.artifacts(planned.identity.trial))
    path = paths.journal(planned.identity.trial)
    write_whole(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return outcome(path)


def _epochs(events: Sequence[dict[str, Any]], last: int | None) -> list[dict[str, Any]]:
    """Each epoch once, as the attempt that counts trained it, up to ``last``."""
    epochs: dict[int, dict[str, Any]] = {}
    for event in events:
        if event["event"] == "trial":
            epochs = {epoch: kept for epoch, kept in epochs.items() if epoch <= event["resumed_epoch"]}
        elif event["event"] == "epoch":
            epochs[event["epoch"]] = event
    return [event for epoch, event in sorted(epochs.items()) if last is None or epoch <= last]


def _link(source: Path, target: Path) -> None:
    """A copy of a folder, by hard links where the file system has them."""
    if not source.is_dir():
        return
    shutil.rmtree(target, ignore_errors=True)

    def copy(one: str, other: str) -> None:
        try:
            os.link(one, other)
        except OSError:
            shutil.copy2(one, other)

    shutil.copytree(source, target, copy_function=copy)
