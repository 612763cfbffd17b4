"""Configurations, or the values of an axis, on each of several data sets: what is compared across them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.configuration.budget import check_equal
from analysis.configuration.configurations import Configurations
from analysis.configuration.levels import categories, distinct_values, plain
from analysis.configuration.names import axis_of, metric_of
from analysis.configuration.objective import way_of
from analysis.configuration.replicates import population, seed_values
from analysis.configuration.words import short_names, words_of
from analysis.record.runs import Direction, Record, RecordError
from analysis.statistics.intervals import Array

REAL, FITTED = "real against real", "Gaussian fitted to the training pixels"
"""The references between which scores are scaled."""
SWEEP = "sweep"
"""What ``across`` may be beside a leaf of the configuration: each sweep is a data set of its own."""


@dataclass(frozen=True)
class Blocks:
    """The values of methods on data sets: every method has a value on each.

    ``values`` are replicates by method and data set: seeds where each pair is one configuration, otherwise the means of
    its configurations (``unit``). A score is 0 and 1 at the two ends of its data set's ``scale``, described in
    ``scaled``, and higher is better. ``notes`` say what was left out.
    """

    across: str
    metric: str
    direction: Direction
    methods: tuple[str, ...]
    sets: tuple[str, ...]
    values: Mapping[tuple[str, str], Array]
    unit: str
    scale: Mapping[str, tuple[float, float]]
    scaled: str
    notes: tuple[str, ...] = ()

    @property
    def means(self) -> Array:
        """The mean of each method on each data set, ``(methods, data sets)``."""
        return np.array([[self.values[method, name].mean() for name in self.sets] for method in self.methods])

    @property
    def losses(self) -> Array:
        """The means, turned so that lower is better."""
        return self.means if self.direction == "min" else -self.means

    def in_order(self, ranks: Array) -> list[int]:
        """The places of the methods by their mean ranks, those of equal rank by their mean score."""
        mean = [float(np.mean([runs.mean() for runs in self.scores(method)])) for method in self.methods]
        return sorted(range(len(self.methods)), key=lambda place: (ranks[place], -mean[place]))

    def scores(self, method: str) -> list[Array]:
        """The scores of a method's replicates on each data set."""
        found = []
        for name in self.sets:
            zero, one = self.scale[name]
            values = self.values[method, name]
            found.append((values - zero) / (one - zero) if one != zero else np.ones_like(values))
        return found


def blocks_of(
    configurations: Configurations,
    across: str,
    axis: str | None = None,
    metric: str | None = None,
    *,
    unequal: bool = False,
) -> Blocks:
    """What there is of each method on each value of a leaf (``data.name``), or in each ``sweep``.

    Methods are configurations, matched by their axes and by whatever else differs within a data set, or the values of
    one ``axis`` (any leaf), over all configurations that have it. One that is missing on a data set is left out. Scores
    are scaled from the Gaussian fitted to the training pixels to real images where both were measured on every data
    set, otherwise from the worst to the best mean. Raises ``RecordError`` for an unknown leaf or metric, one that is
    better neither way, unequal training on one data set, unless ``unequal``, and fewer than two data sets or methods.
    """
    record = configurations.record
    key = metric_of(record, metric)
    direction = way_of(record, key, "nothing to rank")
    record.checked(across, [SWEEP, *record.leaves], "leaf of a configuration")
    if axis is not None:
        axis = axis if axis in record.leaves else axis_of(record, axis)
        if axis == across:
            raise RecordError(f"{record.names}: {axis} cannot be compared across itself")
    frame = population(configurations, key, unequal)
    frame = frame[frame["counts"]].reset_index(drop=True)
    leaves = _leaves_of(record, frame)
    sets: pd.Series[Any] = frame["sweep"].astype("object") if across == SWEEP else leaves[across]
    there = sets.notna()
    frame, leaves, sets = frame[there], leaves[there], sets[there]
    names = tuple(words_of(pd.Series(distinct_values(record, across, sets), dtype="object")))
    sets = words_of(sets)
    if len(names) < 2:
        found = f"{across} is {names[0]} everywhere" if names else f"nothing has finished with a finite {key}"
        raise RecordError(f"{record.names}: across {across} there must be two data sets or more, and {found}")
    if not unequal:
        for name in names:
            trials = {(row["sweep"], trial) for row in frame[sets == name].to_dict("records") for trial in row["used"]}
            runs = record.runs
            here = [pair in trials for pair in zip(runs["sweep"], runs["trial"], strict=True)]
            check_equal(record, runs[here], f"{key} on {name}")
    methods = _methods(record, frame, leaves, sets, across, axis)
    seeds = seed_values(record, frame, key, unequal)
    members: dict[tuple[str, str], list[Array]] = {}
    for index, method, name in zip(methods.index, methods, sets[methods.index], strict=True):
        members.setdefault((method, name), []).append(np.array([*seeds[index].values()]))
    unit = "seeds" if all(len(found) == 1 for found in members.values()) else "configurations"
    values = {
        pair: found[0] if unit == "seeds" else np.array([each.mean() for each in found])
        for pair, found in members.items()
    }
    every = list(dict.fromkeys(methods))
    whole = tuple(method for method in every if all((method, name) in values for name in names))
    if len(whole) < 2:
        what = "configuration has" if axis is None else f"value of {axis} has"
        hint = "; --rows AXIS compares the values of one axis" if axis is None else ""
        count = "no" if not whole else "one"
        raise RecordError(f"{record.names}: {count} {what} a value on each of {', '.join(names)}{hint}")
    values = {(method, name): values[method, name] for method in whole for name in names}
    left = len(every) - len(whole)
    notes = [f"Left out: {left} that {'is' if left == 1 else 'are'} not on every {across}."] if left else []
    scale = _of_references(record, configurations.of_kinds(["reference"]), across, names, key, direction)
    scaled = "0: the Gaussian fitted to the training pixels; 1: real against real"
    if scale is None:
        ends = {name: [values[method, name].mean() for method in whole] for name in names}
        scale = {name: (max(found), min(found)) for name, found in ends.items()}
        if direction == "max":
            scale = {name: (low, high) for name, (high, low) in scale.items()}
        scaled = "0: the worst mean on a data set; 1: the best"
    return Blocks(across, key, direction, whole, names, values, unit, scale, scaled, tuple(notes))


def has_several_sets(record: Record) -> bool:
    """Whether the search of a record's sweeps was done on more than one named data set."""
    runs = record.runs
    return "data.name" in runs and runs.loc[runs["kind"] == "search", "data.name"].nunique() > 1


def _leaves_of(record: Record, frame: pd.DataFrame) -> pd.DataFrame:
    """The leaves of each configuration, those of its first trial."""
    runs = record.runs.set_index(["sweep", "trial"])[record.leaves]
    keys = [(sweep, trials[0]) for sweep, trials in zip(frame["sweep"], frame["used"], strict=True)]
    return runs.loc[keys].set_axis(frame.index)


def _methods(
    record: Record, frame: pd.DataFrame, leaves: pd.DataFrame, sets: pd.Series[Any], across: str, axis: str | None
) -> pd.Series[Any]:
    """What each configuration is called: the values that tell it from others of its data set, or that of one axis."""
    if axis is not None:
        values = frame[axis] if axis in record.axes else leaves[axis]
        name = short_names(record.leaves)[axis]
        levels = categories(record, axis, values).astype("object")
        return (name + " " + levels)[values.notna()]
    columns = {}
    for name in record.leaves:  # the axes first
        column = frame[name] if name in record.axes else leaves[name]
        # What differs from one data set to another only goes with the data set.
        if name != across and (column.groupby(sets.to_numpy()).nunique() > 1).any():
            columns[name] = column
    short = short_names(list(columns))
    words = {
        name: [
            f"{short[name]} {word}" if value is not None else ""
            for value, word in zip(plain(column), words_of(column), strict=True)
        ]
        for name, column in columns.items()
    }
    if not words:
        return pd.Series("the configuration", frame.index, dtype="object")
    return pd.Series([", ".join(filter(None, row)) for row in zip(*words.values(), strict=True)], frame.index)


def _of_references(
    record: Record, frame: pd.DataFrame, across: str, names: tuple[str, ...], key: str, direction: Direction
) -> dict[str, tuple[float, float]] | None:
    """The ends of a score on each data set, from its references; None if one of them has not got both in order."""
    if key not in frame or frame.empty:
        return None
    sets = words_of(_leaves_of(record, frame)[across]) if across != SWEEP else frame["sweep"].astype("str")
    scale = {}
    for name in names:
        here = frame[sets == name]
        ends = [here.loc[here["label"] == label, key].astype("float64").dropna() for label in (FITTED, REAL)]
        if any(end.empty for end in ends):
            return None
        zero, one = (float(end.iloc[0]) for end in ends)
        if not (math.isfinite(zero) and math.isfinite(one)) or (zero > one) != (direction == "min") or zero == one:
            return None
        scale[name] = (zero, one)
    return scale
