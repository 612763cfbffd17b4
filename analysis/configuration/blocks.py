"""The values of configurations, or of an axis's levels, on several data sets, for comparison across the sets."""

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
"""The references that define scores 1 and 0."""
SWEEP = "sweep"
"""A value of ``across`` that is not a leaf: each sweep counts as a data set of its own."""


@dataclass(frozen=True)
class Blocks:
    """The values of methods on data sets; every method has a value on every data set.

    ``values`` are replicates by method and data set. Their ``unit`` is seeds if each pair is one configuration,
    otherwise configurations, each by its mean. A score is 0 and 1 at the ends of its data set's ``scale``, which
    ``scaled`` describes, and higher is better. ``notes`` say what was left out.
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
        """The means, negated if necessary so that lower is better."""
        return self.means if self.direction == "min" else -self.means

    def in_order(self, ranks: Array) -> list[int]:
        """The indices of the methods sorted by mean rank, ties by mean score."""
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
    """The values of each method on each value of a leaf (``data.name``), or in each ``sweep``.

    Methods are configurations, matched by their axes and by whatever else differs within a data set, or the values of
    one ``axis`` (any leaf), over all configurations that have it. Methods missing on a data set are left out. Scores
    go from the Gaussian fitted to the training pixels (0) to real images (1) if both were measured on every data set,
    otherwise from the worst to the best mean. Raises ``RecordError`` for an unknown leaf or metric, a metric without a
    better direction, unequal training on one data set (unless ``unequal``), and fewer than two data sets or methods.
    """
    record = configurations.record
    key = metric_of(record, metric)
    direction = way_of(record, key, "there is nothing to rank")
    record.checked(across, [SWEEP, *record.leaves], "key of a configuration")
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
        found = f"{across} is always {names[0]}" if names else f"nothing has finished with a finite {key}"
        raise RecordError(f"{record.names}: a comparison across {across} needs two data sets or more, but {found}")
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
        count = "no" if not whole else "only one"
        raise RecordError(f"{record.names}: {count} {what} values on all of {', '.join(names)}{hint}")
    values = {(method, name): values[method, name] for method in whole for name in names}
    left = len(every) - len(whole)
    notes = (
        [f"Left out: {left} that {'does' if left == 1 else 'do'} not have a value for every {across}."] if left else []
    )
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
    """Whether the record's sweeps searched on more than one named data set."""
    runs = record.runs
    return "data.name" in runs and runs.loc[runs["kind"] == "search", "data.name"].nunique() > 1


def _leaves_of(record: Record, frame: pd.DataFrame) -> pd.DataFrame:
    """The leaves of each configuration, taken from its first trial."""
    runs = record.runs.set_index(["sweep", "trial"])[record.leaves]
    keys = [(sweep, trials[0]) for sweep, trials in zip(frame["sweep"], frame["used"], strict=True)]
    return runs.loc[keys].set_axis(frame.index)


def _methods(
    record: Record, frame: pd.DataFrame, leaves: pd.DataFrame, sets: pd.Series[Any], across: str, axis: str | None
) -> pd.Series[Any]:
    """Each configuration's method: the values that distinguish it within its data set, or its value of one axis."""
    if axis is not None:
        values = frame[axis] if axis in record.axes else leaves[axis]
        name = short_names(record.leaves)[axis]
        levels = categories(record, axis, values).astype("object")
        return (name + " " + levels)[values.notna()]
    columns = {}
    for name in record.leaves:  # the axes first
        column = frame[name] if name in record.axes else leaves[name]
        # A leaf that differs only between data sets belongs to the data set.
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
    """The scale of each data set from its two references; None if any lacks one or has them in the wrong order."""
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
