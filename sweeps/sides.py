"""The sides of a comparison: trials, configurations over their seeds, and sweeps by their best configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from analysis.record.journal_files import journal_files
from linearizer_core.experiment.directions import Direction, direction_of
from linearizer_core.experiment.journal import TrialState, state_of
from linearizer_core.experiment.nested import flatten
from sweeps.record.lookup import SEED, no_trial, trials_of
from sweeps.record.paths import SweepPaths
from sweeps.record.sweep_json import read_record
from sweeps.record.writers import running
from sweeps.spec.validation import InputError, Problem
from sweeps.words import trial_state


@dataclass(frozen=True)
class Side:
    """A trial, a configuration over its finished seeds, or a sweep represented by its best configuration.

    ``seeds`` holds the metrics of each seed, ``objectives`` those of the sweep and ``directions`` those of its plugins'
    metrics, by name. ``chosen`` is true if the side was selected for its value, ``whole`` if it is a sweep, and
    ``reference`` if it is a reference, which has no model.
    """

    name: str
    state: str
    leaves: Mapping[str, Any]
    seeds: Mapping[int | None, Mapping[str, float]]
    objectives: Mapping[str, Direction] = field(default_factory=dict)
    directions: Mapping[str, Direction] = field(default_factory=dict)
    chosen: bool = False
    whole: bool = False
    reference: bool = False

    @property
    def objective(self) -> str:
        """The first objective of the sweep, or an empty string."""
        return next(iter(self.objectives), "")

    def plugin_metric(self, key: str) -> str | None:
        """The name of the plugin's metric that a key is a value of, or None."""
        split, _, rest = key.partition("/")
        named = (name for name in self.directions if split in ("quality", "test") and rest.startswith(f"{name}_"))
        return next(named, None)

    def way(self, key: str) -> Direction | None:
        """Which direction of a metric is better: what the sweep asks for, or its plugin, or else what its key says."""
        if key in self.objectives:
            return self.objectives[key]
        name = self.plugin_metric(key)
        return direction_of(key) if name is None else self.directions[name]

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


def beside_best(text: str, find: Callable[[str], Path]) -> list[Side]:
    """The best configuration of a sweep, and a configuration or trial of it that was named alone.

    Raises ``InputError`` for a sweep, for the best configuration itself and where there is none yet.
    """
    side = side_of(text, find)
    name, _, part = text.rstrip("/").rpartition("/")
    if side.whole:
        example = f"{text.rstrip('/')}/t001"
        message = f"needs at least two names to compare; alone, a configuration such as {example} is enough"
        raise InputError(text, [Problem("", f"{message}: it is compared with the best one of its sweep")])
    folder = find(name)
    paths = SweepPaths(folder)
    best = (read_record(paths) or {}).get("best") or ()
    if not best:
        message = f"is named alone, and {name} has no best configuration yet to compare it with; add a second name"
        raise InputError(text, [Problem("", message)])
    known = [path.stem for path in journal_files(paths.journals)]
    given = {_configuration(paths, trial) for trial in ([part] if part in known else trials_of(part, known))}
    chosen = SEED.sub("", best[0])
    if _configuration(paths, best[0]) in given:
        is_it = "is" if part == chosen else f"belongs to {chosen}," if SEED.search(part) else f"is that of {chosen},"
        message = f"{is_it} the best configuration of {name}; add a second name to compare it with"
        raise InputError(text, [Problem("", message)])
    return [replace(_part(f"{name}/{chosen}", folder, chosen), chosen=True), side]


def _configuration(paths: SweepPaths, trial: str) -> str:
    """The hash of a trial's configuration; of a trial that has not begun, its name."""
    identity = state_of(paths.journal(trial)).identity
    return trial if identity is None else identity.config_hash


def _sweep(folder: Path) -> Side:
    paths = SweepPaths(folder)
    record = read_record(paths)
    assert record is not None, f"{folder} holds no sweep"
    best = [state_of(paths.journal(trial)) for trial in record.get("best") or ()]
    died = record["state"] == "running" and not running(paths)
    state = "interrupted" if died else record["state"]
    return Side(
        record["name"], state, flatten(record["spec"]), _by_seed(best), **_goals(record), chosen=bool(best), whole=True
    )


def _part(text: str, folder: Path, name: str) -> Side:
    """A trial, or the trials of a configuration."""
    paths = SweepPaths(folder)
    goals = _goals(read_record(paths) or {})
    known = [path.stem for path in journal_files(paths.journal(name).parent)]
    if name in known:
        state = state_of(paths.journal(name))
        if state.head is not None:
            told = trial_state(state.state, running(paths))
            leaves = flatten(state.head["config"])
            reference = state.head["kind"] == "reference"
            return Side(text, told, leaves, _by_seed([state]), **goals, reference=reference)
    trials = trials_of(name, known)
    if not trials:
        raise InputError(text, [Problem("", no_trial(name, folder, known))])
    states = [state for trial in trials if (state := state_of(paths.journal(trial))).head is not None]
    finished = [state for state in states if state.state == "finished"]
    words = f"{len(finished)} of {len(states)} finished" if len(finished) < len(states) else "finished"
    leaves = flatten(states[0].head["config"]) if states and states[0].head else {}
    leaves.pop("seed", None)
    return Side(text, words, leaves, _by_seed(finished), **goals)


def _by_seed(states: Sequence[TrialState]) -> dict[int | None, Mapping[str, float]]:
    return {state.identity.seed: state.metrics for state in states if state.identity is not None and state.metrics}


def _goals(record: Mapping[str, Any]) -> dict[str, Any]:
    return {"objectives": record.get("objective") or {}, "directions": record.get("directions") or {}}
