"""Builds tidy frames from trials. There is one builder for all sources, so that equal trials give equal frames."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any, cast

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from analysis.record.sweep_info import KINDS, STATES, SweepInfo

FIXED = {
    "sweep": "category",
    "trial": "str",
    "kind": "category",
    "label": "str",
    "number": "Int64",
    "config_hash": "str",
    "seed": "Int64",
    "attempt": "Int64",
    "state": "category",
    "reason": "str",
    "epoch": "Int64",
    "started": "float64",
    "ended": "float64",
    "seconds": "float64",
    "overrides": "str",
    "reused_from": "str",
    "duplicate_of": "str",
    "warnings": "str",
}
"""The columns that ``runs`` has in every record, and their types."""

EPOCHS, STEPS, RANKS = "train/", "nfe/", "rank/"
"""Prefixes of metric keys: per epoch, by number of solver steps, and by the rank used for sampling."""
CURVES = (STEPS, RANKS)
"""Prefixes of curves measured at the end of a trial, whose step is not an epoch."""
MACHINE = "system/"
"""Prefix of metrics about the machine, which are not read into frames."""

Integers = np.ndarray[tuple[int], np.dtype[np.integer[Any]]]
Numbers = np.ndarray[tuple[int], np.dtype[np.float64]]
Series = dict[str, tuple[Sequence[int], Sequence[float]]]
"""Metric key → steps in ascending order, and values."""


@dataclass(frozen=True)
class Points:
    """The points of a trial's curves, sorted by metric (natural order), then step; ``metric`` holds key numbers."""

    metric: Integers
    step: Integers
    value: Numbers

    @classmethod
    def of(cls, series: Series, numbers: dict[str, int]) -> Points:
        """The points of ``series``; ``numbers`` maps metric keys to numbers, and new keys are added to it."""
        keys = sorted(series, key=natural)
        steps = [step for key in keys for step in series[key][0]]
        values = [value for key in keys for value in series[key][1]]
        codes = [numbers.setdefault(key, len(numbers)) for key in keys]
        metric = np.repeat(np.array(codes, dtype=np.int32), [len(series[key][0]) for key in keys])
        return cls(metric, np.array(steps, dtype=np.int64), np.array(values, dtype=np.float64))


@dataclass(frozen=True)
class Trial:
    """A trial as read from its source; ``started`` and ``ended`` are in milliseconds, the precision of MLflow.

    ``worked`` is how many milliseconds the attempts took, None if that is ``ended`` − ``started``. ``attempts`` has
    the start and duration of each, and is empty if the source does not say. ``leaves`` is the configuration by dotted
    names. ``scalars`` are the final metrics, or the values that the study saw instead. ``state`` is None if the trial
    has no end.
    """

    trial: str
    kind: str
    label: str | None
    number: int | None
    config_hash: str
    seed: int | None
    attempt: int
    reused_from: str | None
    overrides: Mapping[str, Any]
    leaves: Mapping[str, Any]
    started: int
    ended: int | None
    state: str | None
    reason: str | None
    epoch: int | None
    scalars: Mapping[str, float]
    warnings: Sequence[str]
    points: Points
    worked: int | None = None
    attempts: Sequence[tuple[int, int]] = ()

    def order(self) -> tuple[int, int, int, str]:
        """A sort key: search, confirm, control, reference; then by number and seed."""
        number, seed = (-1 if value is None else value for value in (self.number, self.seed))
        return KINDS.index(self.kind), number, seed, self.trial

    @property
    def seconds(self) -> float:
        """The seconds its attempts took; NaN if neither the attempts nor an end give it."""
        if self.worked is not None:
            return self.worked / 1000
        # If the clock was set back and the run does not say how long it took, the duration is unknown.
        worked = -1 if self.ended is None else self.ended - self.started
        return worked / 1000 if worked >= 0 else math.nan

    def state_in(self, sweep: SweepInfo) -> tuple[str, str | None]:
        """The state and its reason; a trial without an end was interrupted if its sweep is over."""
        if self.state is not None:
            return self.state, self.reason
        return ("running", None) if sweep.state == "running" else ("interrupted", "its journal has no end")


def latest(series: Series) -> dict[str, float]:
    """Stands in for missing final metrics: each evaluated metric at the last epoch that has it."""
    return {key: values[-1] for key, (_, values) in series.items() if not key.startswith((EPOCHS, *CURVES))}


@dataclass(frozen=True)
class Frames:
    """``runs``, ``curves`` and ``attempts`` as ``analysis.Record`` describes them."""

    runs: pd.DataFrame
    curves: pd.DataFrame
    attempts: pd.DataFrame = field(default_factory=lambda: attempted("", ()))


@dataclass(frozen=True)
class Part:
    """The sweeps of one source, and their frames."""

    sweeps: list[SweepInfo]
    frames: Frames

    def only(self, names: Sequence[str]) -> Part:
        """Only the sweeps of these names, without columns that are empty for all of them."""
        sweeps = [sweep for sweep in self.sweeps if sweep.name in names]
        if len(sweeps) == len(self.sweeps):
            return self
        runs, curves, attempts = (
            frame[frame["sweep"].isin(list(names))].reset_index(drop=True)
            for frame in (self.frames.runs, self.frames.curves, self.frames.attempts)
        )
        axes = {axis for sweep in sweeps for axis in sweep.axes}
        kept = [name for name in runs.columns if name in FIXED or name in axes or runs[name].notna().any()]
        return Part(sweeps, categorised(Frames(runs[kept].copy(), curves, attempts), [sweep.name for sweep in sweeps]))


def build(sweep: SweepInfo, trials: Sequence[Trial], metrics: Sequence[str]) -> Frames:
    """The frames of one sweep; ``metrics`` maps the key numbers in the trials' points to keys."""
    ordered = sorted(trials, key=Trial.order)
    return Frames(_runs(sweep, ordered), _curves(sweep, ordered, metrics), attempted(sweep.name, ordered))


def attempted(sweep: str, trials: Sequence[Trial]) -> pd.DataFrame:
    """The attempts at a sweep's trials that the source knows of: one row each, times in seconds."""
    rows = [(sweep, trial.trial, began / 1000, took / 1000) for trial in trials for began, took in trial.attempts]
    frame = pd.DataFrame(rows, columns=["sweep", "trial", "started", "seconds"])
    return frame.astype({"sweep": "str", "trial": "str", "started": "float64", "seconds": "float64"})


def joined(frames: Sequence[Frames], sweeps: Sequence[SweepInfo]) -> Frames:
    """The frames of several sweeps, concatenated, with the columns of all."""
    if len(frames) == 1:
        return frames[0]
    names = {name: None for part in frames for name in part.runs.columns if name not in FIXED}
    axes = [axis for sweep in sweeps for axis in sweep.axes]
    columns = {name: _joined_column([part.runs for part in frames], name) for name in [*FIXED, *_in_order(names, axes)]}
    curves = pd.DataFrame(
        {
            name: union_categoricals([part.curves[name] for part in frames])
            if name in ("sweep", "trial", "metric")
            else pd.concat([part.curves[name] for part in frames], ignore_index=True)
            for name in ("sweep", "trial", "metric", "step", "value")
        }
    )
    attempts = pd.concat([part.attempts for part in frames], ignore_index=True)
    return categorised(Frames(pd.DataFrame(columns), curves, attempts), [sweep.name for sweep in sweeps])


def categorised(frames: Frames, sweeps: Sequence[str]) -> Frames:
    """The same frames with the same categories in the same order, whatever the source."""
    runs, curves = frames.runs, frames.curves
    fixed = {"sweep": list(sweeps), "kind": list(KINDS), "state": list(STATES)}
    for name, categories in fixed.items():
        runs[name] = runs[name].astype("category").cat.set_categories(_words(categories))
    present = sorted(curves["metric"].cat.remove_unused_categories().cat.categories, key=natural)
    orders = {"sweep": list(sweeps), "trial": list(runs["trial"].unique()), "metric": present}
    for name, categories in orders.items():
        curves[name] = curves[name].cat.set_categories(_words(categories))
    return Frames(runs, curves, frames.attempts)


def _runs(sweep: SweepInfo, trials: Sequence[Trial]) -> pd.DataFrame:
    points = sweep.points
    states = [trial.state_in(sweep) for trial in trials]
    values: dict[str, Sequence[Any]] = {
        name: [getattr(trial, name) for trial in trials]
        for name in ("trial", "kind", "label", "number", "config_hash", "seed", "attempt", "epoch", "reused_from")
    }
    values |= {
        "sweep": [sweep.name] * len(trials),
        "state": [state for state, _ in states],
        "reason": [reason for _, reason in states],
        "started": [trial.started / 1000 for trial in trials],
        "ended": [math.nan if trial.ended is None else trial.ended / 1000 for trial in trials],
        "seconds": [trial.seconds for trial in trials],
        "overrides": [json.dumps(_overrides(trial, points), sort_keys=True) for trial in trials],
        "duplicate_of": _duplicates(trials, [state for state, _ in states]),
        "warnings": ["; ".join(trial.warnings) or None for trial in trials],
    }
    categories = {"sweep": (sweep.name,), "kind": KINDS, "state": STATES}
    columns: dict[str, Any] = {
        name: _category(values[name], categories[name]) if kind == "category" else _series(values[name], kind)
        for name, kind in FIXED.items()
    }
    leaves, scalars = _by_name([trial.leaves for trial in trials]), _by_name([trial.scalars for trial in trials])
    nothing = [None] * len(trials)
    for name in _in_order(dict.fromkeys([*sweep.axes, *leaves, *scalars]), sweep.axes):
        if name in scalars:
            columns[name] = pd.Series(np.array(scalars[name], dtype=np.float64))
        elif name not in FIXED:
            columns[name] = typed(leaves.get(name, nothing))
    return pd.DataFrame(columns)


def _overrides(trial: Trial, points: Mapping[int, Mapping[str, Any]]) -> Mapping[str, Any]:
    """A trial's point in the sweep's present space: some axes may have been added after it ran."""
    if trial.kind not in ("search", "confirm") or trial.number is None:
        return trial.overrides
    return points.get(trial.number, trial.overrides)


def _by_name(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Each name's values, None for rows without it; rows with the same names (most of them) are handled together."""
    layouts: dict[tuple[str, ...], list[int]] = {}
    for number, row in enumerate(rows):
        layouts.setdefault(tuple(row), []).append(number)
    columns: dict[str, list[Any]] = {name: [None] * len(rows) for layout in layouts for name in layout}
    for layout, numbers in layouts.items():
        # Row by row, as they are in memory: going through all rows once per name takes three times as long.
        values = list(chain.from_iterable(rows[number].values() for number in numbers))
        for place, name in enumerate(layout):
            column = columns[name]
            for number, value in zip(numbers, values[place :: len(layout)], strict=True):
                column[number] = value
    return columns


def _in_order(names: Mapping[str, Any], axes: Sequence[str]) -> list[str]:
    """The axes as searched, the other leaves of the configuration by name, then the metrics in natural order."""
    leaves = sorted(name for name in names if "/" not in name)
    return [*dict.fromkeys([*axes, *leaves]), *sorted((name for name in names if "/" in name), key=natural)]


def _duplicates(trials: Sequence[Trial], states: Sequence[str]) -> list[str | None]:
    """For each trial, the trial of the same kind, configuration and seed that it repeats.

    That is one that finished in this sweep; if there is none, a reused one, then a stopped one, then the first.
    """
    firsts: dict[tuple[Any, ...], tuple[int, str]] = {}
    keys = [(trial.kind, trial.config_hash, trial.seed) for trial in trials]
    for key, trial, state in zip(keys, trials, states, strict=True):
        came = 3 if state == "finished" and trial.reused_from is None else {"finished": 2, "stopped": 1}.get(state, 0)
        if key not in firsts or came > firsts[key][0]:
            firsts[key] = came, trial.trial
    # References have no seed, so they cannot be drawn twice.
    found = [firsts[key][1] if key[-1] is not None else trial.trial for key, trial in zip(keys, trials, strict=True)]
    return [None if first == trial.trial else first for first, trial in zip(found, trials, strict=True)]


def _curves(sweep: SweepInfo, trials: Sequence[Trial], metrics: Sequence[str]) -> pd.DataFrame:
    points = [trial.points for trial in trials]
    codes = _concatenated([part.metric for part in points], np.int32)
    used = sorted((metrics[code] for code in np.unique(codes)), key=natural)
    place = np.array([used.index(key) if key in used else -1 for key in metrics], dtype=np.int32)
    trial = np.repeat(np.arange(len(trials), dtype=np.int32), [len(part.step) for part in points])
    return pd.DataFrame(
        {
            "sweep": _from_codes(np.zeros(len(codes), dtype=np.int8), [sweep.name]),
            "trial": _from_codes(trial, [trial.trial for trial in trials]),
            "metric": _from_codes(place[codes], used),
            "step": _concatenated([part.step for part in points], np.int64),
            "value": _concatenated([part.value for part in points], np.float64),
        }
    )


def _concatenated(parts: Sequence[Any], dtype: type[Any]) -> Any:
    return np.concatenate(parts) if parts else np.empty(0, dtype=dtype)


def _from_codes(codes: Any, categories: Sequence[str]) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, categories=_words(categories))


def _words(categories: Sequence[str]) -> pd.Index[Any]:
    return pd.Index(list(categories), dtype="str")


def _category(values: Sequence[Any], categories: Sequence[str]) -> pd.Categorical:
    return pd.Categorical(values, categories=_words(categories))


def _series(values: Sequence[Any], kind: str) -> pd.Series[Any]:
    series: pd.Series[Any] = pd.Series(values, dtype=cast(Any, kind))
    return series


def typed(values: Sequence[Any]) -> pd.Series[Any]:
    """A column of one type: integers stay integers if some are missing; mixed values and lists become text."""
    kinds = set(map(type, values)) - {type(None)}
    if kinds == {bool}:
        return _series(values, "boolean")
    if kinds == {int}:
        return _series(values, "Int64")
    if kinds <= {int, float}:
        return _series([np.nan if value is None else float(value) for value in values], "float64")
    if kinds == {str}:
        return _series(values, "str")
    return _series([v if v is None or isinstance(v, str) else json.dumps(v) for v in values], "str")


def _joined_column(frames: Sequence[pd.DataFrame], name: str) -> pd.Series[Any]:
    if name in FIXED:
        kind = FIXED[name]
        parts = [frame[name].astype(cast(Any, "str" if kind == "category" else kind)) for frame in frames]
        return pd.concat(parts, ignore_index=True)
    kinds = {str(frame[name].dtype) for frame in frames if name in frame and frame[name].notna().any()}
    missing = [pd.Series([None] * len(frame), dtype="object") for frame in frames]
    columns: list[pd.Series[Any]] = [frame.get(name, gap) for frame, gap in zip(frames, missing, strict=True)]
    if len(kinds) == 1:
        kind = kinds.pop()
        return pd.concat([column.astype(cast(Any, kind)) for column in columns], ignore_index=True)
    return typed([None if pd.isna(value) else value for column in columns for value in column.tolist()])


@lru_cache(maxsize=4096)
def natural(name: str) -> tuple[tuple[int, str], ...]:
    """A sort key that puts ``_k2`` before ``_k16``."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name))
