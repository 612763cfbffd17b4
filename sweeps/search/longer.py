"""Trials of a sweep that must train longer than before: which of them continue, and which start from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from linearizer_core.experiment.configuration import EXTENSIBLE, config_hash
from linearizer_core.experiment.journal import ENDED, Journal, TrialState, state_of
from linearizer_core.experiment.nested import flatten, with_leaves
from sweeps.record.paths import SweepPaths

EPOCHS = "train.epochs"


def is_longer(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether one nested configuration equals another except for having more epochs."""
    epochs, more = (flatten(config).get(EPOCHS, 0) for config in (before, now))
    return epochs < more and config_hash(with_leaves(before, {EPOCHS: more})) == config_hash(now)


def goes_on(config: Mapping[str, Any]) -> bool:
    """Whether a longer training starts in the same way: its learning rate does not depend on the last epoch."""
    return flatten(config).get("train.schedule") in EXTENSIBLE


def comes_to_the_same(state: TrialState) -> bool:
    """Whether a longer training would have ended like the shorter one: it was stopped early, or diverged."""
    return state.head is not None and goes_on(state.head["config"]) and (state.state == "stopped" or state.diverged)


def reopen(paths: SweepPaths, trial: str, epochs: int) -> None:
    """Reopen a trial that has ended, so that it continues to more epochs in the next launch."""
    path = paths.journal(trial)
    state = state_of(path)
    if state.state in ENDED:
        Journal(path).end("interrupted", state.epoch, f"to be trained up to epoch {epochs}")
