"""The sides of a comparison: trials, configurations over their seeds, and sweeps by their best configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from analysis.record.journal_files import journal_files
from linearizer_core.experiment.journal import TrialState, state_of
from linearizer_core.experiment.nested import flatten
from sweeps.record.paths import SweepPaths
from sweeps.record.sweep_json import read_record
from sweeps.record.writers import running
from sweeps.spec.validation import InputError, Problem, suggestion
from sweeps.words import trial_state

SEED = re.compile(r"-s\d+$")
"""The part of a trial's id after that of its configuration."""


@dataclass(frozen=True)
class Side:
    """A trial, a configuration over its finished seeds, or a sweep represented by its best configuration.

    ``seeds`` holds the metrics of each seed and ``objective`` the first objective of the sweep; ``chosen`` is true if
    the side was selected for its value.
    """

    name: str
    state: str
    leaves: Mapping[str, Any]
    seeds: Mapping[int | None, Mapping[str, float]]
    objective: str = ""
    chosen: bool = False

    @property
    def metrics(self) -> dict[str, float]:
        """The means over seeds of the metrics that every seed has."""
        first = next(iter(self.seeds.values()), {})
        return {key: fmean(values) for key in first if (values := list(self.values(key).values()))}

    def values(self, key: str) -> dict[int | None, float]:
        """A metric by seed; empty unless all seeds have it, since a mean over the others would be biased."""
        found = {seed: metrics[key] for seed, metrics in self.seeds.items() if key in metrics}
        return found if len(found) == len(self.seeds) else {}


def side_of(text: str, find: Callable[[str], Path]) -> Side:
    """The side that a text names: a sweep, a configuration ``SWEEP/CONFIGURATION`` or a trial ``SWEEP/TRIAL``.

    ``find`` returns the folder of a sweep by its name. Raises ``InputError`` if there is no such side.
    """
    try:
        return _sweep(find(text))
    except InputError:
        name, _, trial = text.rstrip("/").rpartition("/")
        if not name:
            raise
        return _part(text, find(name), trial)


def _sweep(folder: Path) -> Side:
    paths = SweepPaths(folder)
    record = read_record(paths)
    assert record is not None, f"{folder} holds no sweep"
    best = [state_of(paths.journal(trial)) for trial in record.get("best") or ()]
    died = record["state"] == "running" and not running(paths)
    state = "interrupted" if died else record["state"]
    return Side(record["name"], state, flatten(record["spec"]), _by_seed(best), _objective(record), bool(best))


def _part(text: str, folder: Path, name: str) -> Side:
    """A trial, or the trials of a configuration."""
    paths = SweepPaths(folder)
    objective = _objective(read_record(paths) or {})
    known = [path.stem for path in journal_files(paths.journal(name).parent)]
    if name in known:
        state = state_of(paths.journal(name))
        if state.head is not None:
            told = trial_state(state.state, running(paths))
            return Side(text, told, flatten(state.head["config"]), _by_seed([state]), objective)
    trials = [trial for trial in known if SEED.sub("", trial) == name != trial]
    if not trials:
        configurations = dict.fromkeys(SEED.sub("", trial) for trial in known)
        hint = suggestion(name, [*configurations, *known]) if known else "it has none yet"
        raise InputError(text, [Problem("", f"no trial {name} in {folder}; {hint}")])
    states = [state for trial in trials if (state := state_of(paths.journal(trial))).head is not None]
    finished = [state for state in states if state.state == "finished"]
    words = f"{len(finished)} of {len(states)} finished" if len(finished) < len(states) else "finished"
    leaves = flatten(states[0].head["config"]) if states and states[0].head else {}
    leaves.pop("seed", None)
    return Side(text, words, leaves, _by_seed(finished), objective)


def _by_seed(states: Sequence[TrialState]) -> dict[int | None, Mapping[str, float]]:
    return {state.identity.seed: state.metrics for state in states if state.identity is not None and state.metrics}


def _objective(record: Mapping[str, Any]) -> str:
    return next(iter(record.get("objective") or {}), "")
