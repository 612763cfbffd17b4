"""Builds the frame with one row per configuration, over its seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.configuration.conditions import active_axes
from analysis.configuration.constraints import Constraint, parse_constraint
from analysis.record.runs import Record, RecordError, SweepInfo
from analysis.statistics.intervals import student
from linearizer_core.experiment.journal import DIVERGED

GROUP = ["sweep", "kind", "number"]
COLUMNS = ["name", "label", "config_hash", "overrides", "trials", "used", "finished", "state", "words"]
COLUMNS += ["broken", "seeds"]


def build(record: Record) -> pd.DataFrame:
    """One row per configuration, over its seeds, in the order of ``record.runs``, as ``by_configuration`` describes."""
    runs, metrics = _counted_once(record.runs), record.metrics
    members: dict[tuple[Any, ...], list[_Trial]] = {}
    for trial in _trials(runs):
        members.setdefault((trial.sweep, trial.kind, trial.number), []).append(trial)
    sweeps = {sweep.name: sweep for sweep in record.sweeps}
    rows: list[dict[str, Any]] = []
    taken: list[Any] = []
    for group in members.values():
        row, used = _state(sweeps[group[0].sweep], group)
        rows.append(row)
        taken += used
    frame = pd.DataFrame(rows, columns=[*GROUP, *COLUMNS]).set_index(GROUP)
    frame["seeds"] = frame["seeds"].astype("Int64")
    if len(record.sweeps) > 1:  # each has a t000
        tried = frame.index.get_level_values("kind").isin(["search", "confirm"])
        of_sweep = frame.index.get_level_values("sweep").astype("str") + "/" + frame["name"]
        frame["name"] = frame["name"].mask(tried, of_sweep)
    axes = pd.concat([runs[GROUP], active_axes(record, runs)], axis=1)
    frame[record.axes] = axes.groupby(GROUP, sort=False, dropna=False)[record.axes].first()
    values = runs.loc[taken].groupby(GROUP, sort=False, dropna=False)[metrics]
    # If a seed has no value, the configuration has none: the mean of the other seeds would be too good.
    with np.errstate(invalid="ignore"):
        means, spread = values.mean(skipna=False), values.std(skipna=False)
    count = values.size().astype("float64")
    reach = pd.Series(student(count), index=count.index)
    parts = [frame, means, spread.mul(reach, axis=0).add_suffix(" ci95")]
    frame = pd.concat([part.reindex(frame.index) for part in parts], axis=1).reset_index()
    if any(sweep.constraints for sweep in record.sweeps):
        frame["broken"] = [_broken(record, row) for _, row in frame.iterrows()]
    return frame


def _counted_once(runs: pd.DataFrame) -> pd.DataFrame:
    """The trials without those that repeat another of the search, each under its point's first number.

    If a sampler draws a point again, that is not another configuration, whether its trials ran or were reused.
    """
    repeats = runs["duplicate_of"].notna() & (runs["kind"] == "search")
    if not repeats.any():
        return runs
    searched = runs["kind"] == "search"
    first = runs[searched].groupby(["sweep", "config_hash"], observed=True)["number"].transform("first")
    return runs.assign(number=runs["number"].mask(searched, first))[~repeats]


class _Trial(NamedTuple):
    """The fields of a row of ``Record.runs`` that determine the state of its configuration."""

    index: Any
    sweep: str
    kind: str
    number: Any
    trial: str
    label: Any
    config_hash: Any
    seed: Any
    state: str
    reason: Any
    epoch: Any
    overrides: Any


def _trials(runs: pd.DataFrame) -> Iterator[_Trial]:
    columns = (runs[name].tolist() for name in _Trial._fields[1:])
    return map(_Trial._make, zip(runs.index, *columns, strict=True))


def _state(sweep: SweepInfo, group: Sequence[_Trial]) -> tuple[dict[str, Any], list[Any]]:
    """A configuration's row without its values, and the rows of the trials that give its values."""
    first = group[0]
    expected = {"search": sweep.seeds, "confirm": sweep.confirm_seeds, "control": sweep.seeds}.get(first.kind, 1)
    whole = max(expected, len(group))
    left = [trial for trial in group if trial.state != "failed"]
    finished = [trial for trial in group if trial.state == "finished"]
    stopped = [trial for trial in group if trial.state == "stopped"]
    # A stopped trial is complete; the epoch at which another was interrupted says nothing of the configuration.
    chosen = finished or _furthest(stopped or left)
    if len(finished) == whole:
        state, words = "finished", "finished"
    elif not left:
        diverged = all(str(trial.reason).startswith(DIVERGED) for trial in group)
        state, words = "failed", "diverged" if diverged else "failed"
    else:
        state = "stopped" if stopped else "unfinished"
        told = [f"{len(finished)} of {whole} finished"] if finished else []
        if stopped:
            told.append(f"{f'{len(stopped)} ' if finished else ''}stopped @ {_epochs(stopped)}")
        elif not finished:
            # While the sweep runs, an interrupted trial is waiting for its next attempt.
            said = {"waiting" if sweep.state == "running" and t.state == "interrupted" else t.state for t in left}
            told.append(f"{'/'.join(sorted(said))} @ {_epochs(left)}")
        words = ", ".join(told)
    row = {name: getattr(first, name) for name in [*GROUP, "label", "config_hash", "overrides"]}
    row |= {"name": _name(group), "trials": tuple(trial.trial for trial in group), "state": state, "words": words}
    seeds = None if first.kind == "reference" else len(chosen)
    row |= {"broken": "", "seeds": seeds, "finished": len(finished), "used": tuple(trial.trial for trial in chosen)}
    return row, [trial.index for trial in chosen]


def _furthest(group: Sequence[_Trial]) -> list[_Trial]:
    """The trials that came furthest, since values at different epochs cannot be averaged."""
    epochs = [-1 if pd.isna(trial.epoch) else int(trial.epoch) for trial in group]
    return [trial for trial, epoch in zip(group, epochs, strict=True) if epoch == max(epochs)]


def _epochs(group: Sequence[_Trial]) -> str:
    epochs = [int(trial.epoch) for trial in group if not pd.isna(trial.epoch)]
    if not epochs:
        return "0"
    return str(min(epochs)) if min(epochs) == max(epochs) else f"{min(epochs)}…{max(epochs)}"


def _name(group: Sequence[_Trial]) -> str:
    """The label, or the common prefix of the trial ids of all seeds, or the number."""
    first = group[0]
    if isinstance(first.label, str):
        return first.label
    names = {trial.trial.removesuffix(f"-s{trial.seed}") for trial in group}
    return names.pop() if len(names) == 1 else str(first.number)


def _broken(record: Record, row: pd.Series[Any]) -> str:
    """The constraints that a finished configuration of the search breaks."""
    if row["kind"] != "search" or row["state"] != "finished":
        return ""
    sweep = record.sweep(row["sweep"])
    found = constraints(sweep)
    broken = [key for key in found if not found[key].holds(row.get(key, math.nan))]
    return ", ".join(f"{key} {sweep.constraints[key]}" for key in broken)


def constraints(sweep: SweepInfo) -> dict[str, Constraint]:
    """A sweep's constraints by metric key; raises ``RecordError`` for one that cannot be parsed."""
    try:
        return {key: parse_constraint(rule) for key, rule in sweep.constraints.items()}
    except ValueError as error:
        raise RecordError(f"{sweep.source}: search.constraints: {error}") from None
