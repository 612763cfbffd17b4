"""The end of a launch: what the record says of the sweep and of trials that were interrupted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from analysis.record.journal_files import journal_files
from linearizer_core.experiment.journal import Journal, state_of
from sweeps.record.paths import SweepPaths
from sweeps.record.sweep_json import write_record
from sweeps.result import LaunchResult
from sweeps.search.schedule import Schedule


def close(
    schedule: Schedule, paths: SweepPaths, record: Mapping[str, Any], reason: str | None, ended: float | None = None
) -> LaunchResult:
    """Record how the sweep ended: first in sweep.json, then in the journals of trials that were still running.

    ``ended`` is the time in UNIX seconds, by default now.
    """
    best = schedule.best()
    state = "interrupted" if reason else "finished" if best else "failed"
    end = {
        "state": state,
        "reason": reason,
        "ended": ended or time.time(),
        "best": [identity.trial for identity in best] or None,
        "best_value": schedule.best_value(),
    }
    write_record(paths, {**record, **end})
    if schedule.complete:
        _set_aside(schedule, paths)
    counts = _end_open_trials(paths, reason)
    return LaunchResult(
        schedule.sweep, state, reason, best, schedule.best_value(), counts.states, counts.reused, counts.failure
    )


def _set_aside(schedule: Schedule, paths: SweepPaths) -> None:
    """Move away trials that a search no longer needs because it has grown: confirmations of configurations that are no
    longer among the best, and seeds of configurations that now leave a race earlier."""
    kinds = ("k", "t") if schedule.sweep.search.race else ("k",)
    for path in journal_files(paths.journals):
        if path.stem.startswith(kinds) and not schedule.has(path.stem):
            paths.superseded.mkdir(exist_ok=True)
            path.replace(paths.superseded / path.name)


@dataclass
class _Counts:
    states: dict[str, int] = field(default_factory=dict)
    reused: int = 0
    failure: str | None = None


def _end_open_trials(paths: SweepPaths, reason: str | None) -> _Counts:
    """Mark trials that were running as interrupted in their journals, and count the trials by state."""
    counts = _Counts()
    for path in journal_files(paths.journals):
        result = state_of(path)
        if result.state is None and result.begun:  # a journal without its first line starts from scratch
            Journal(path).end("interrupted", result.epoch, reason)
        if not path.stem.startswith("r") and result.begun:
            state = result.state or "interrupted"
            counts.states[state] = counts.states.get(state, 0) + 1
            counts.reused += result.reused_from is not None
            if state == "failed" and counts.failure is None:
                counts.failure = f"{path.stem}: {result.reason}"
    return counts
