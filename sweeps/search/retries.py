"""Retries of trials that have ended, at the user's request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from linearizer_core.experiment.journal import Journal, TrialState, state_of
from sweeps.record.paths import SweepPaths
from sweeps.record.requests import to_retry
from sweeps.search.drawn import Drawn
from sweeps.search.growth import recorded_trials, taken_up
from sweeps.spec.model import Sweep


def why_not(state: TrialState) -> str | None:
    """Why a trial cannot be retried; None if it can: it failed, or was stopped by hand."""
    if state.state == "failed" or state.by_hand:
        return None
    if state.state == "stopped":
        return "was stopped early by the search; a retry would stop it again"
    if state.state == "finished":
        return "has finished; linsweep reproduce runs it again beside its record"
    return "has not ended; linsweep resume continues it"


def with_retries(sweep: Sweep, paths: SweepPaths, record: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The record of a sweep with the requested retries, and the names of the trials to retry.

    The search keeps what it drew: it knew how these trials had ended. Nothing is written.
    """
    trials = [name for name in to_retry(paths) if why_not(state_of(paths.journal(name))) is None]
    if not trials:
        return dict(record), []
    known = Drawn.of_json(record.get("drawn"))
    drawn = taken_up(sweep, recorded_trials(paths), known.following, known.learnt)
    return {**record, "drawn": drawn.as_json()}, trials


def let_go_on(paths: SweepPaths, trials: list[str]) -> None:
    """Let trials continue from their saved state, or start from scratch without one; their journals record it."""
    for trial in trials:
        state = state_of(paths.journal(trial))
        Journal(paths.journal(trial)).end("interrupted", state.epoch, "to be tried again")
    for path in paths.requests.glob("*.retry"):
        path.unlink()
