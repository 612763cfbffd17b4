"""The question that a sweep asks and its answer, in a sentence each."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.labels import label_of
from analysis.configuration.objective import against_its_direction, first_objective
from analysis.configuration.variety import precision_and_recall
from analysis.configuration.words import words_of
from analysis.record.runs import Record, SweepInfo
from analysis.render.cells import Cell, Column, number_format
from analysis.report.claims import claim, no_control
from analysis.report.known import known
from analysis.statistics.fronts import nondominated
from linearizer_core.words import counted

WAYS = {"min": "lower is better", "max": "higher is better"}
MOST_VALUES = 6


def question(record: Record) -> str:
    """A question that names what was searched and measured."""
    axes = [f"{label_of(record, axis)}{_range(record, axis)}" for axis in record.axes]
    asked = f"how {'does' if len(axes) == 1 else 'do'} {joined(axes)} affect" if axes else "what is"
    targets = [f"{label_of(record, key)} ({WAYS[direction]})" for key, direction in record.objective.items()]
    models = joined(list(dict.fromkeys(sweep.family for sweep in record.sweeps if sweep.family)))
    data = joined(list(dict.fromkeys(filter(None, map(_data, record.sweeps)))))
    text = f"{asked} {joined(targets)} of {models} models{f' on {data}' if data else ''}?".replace("  ", " ")
    return text[0].upper() + text[1:]


def summary(record: Recorded) -> str:
    """What is known and may be claimed, then the ``values`` of the best configuration and of others."""
    configurations = Configurations.of(record)
    if configurations.best is None:
        return answer(configurations)
    return " ".join(filter(None, [known(configurations), claim(configurations), values(configurations)]))


def answer(record: Recorded) -> str:
    """The best configuration, what is known about it, what is undecided and what it beats; or why there is none yet.

    If trials measured controls, the claims about rank and depth that these allow come last.
    """
    configurations = Configurations.of(record)
    record = configurations.record
    if configurations.best is None:
        lacking = (configurations.of_kinds(["search"])["state"] == "finished").any()
        what = (
            f"has finished with a finite {label_of(record, first_objective(record)[0])}" if lacking else "has finished"
        )
        return f"There is no answer yet: no configuration of the search {what} ({record.counts})."
    return " ".join(filter(None, [_in_short(configurations), known(configurations), claim(configurations)]))


def _in_short(configurations: Configurations) -> str:
    """The best configuration with its values on validation, on test, and on test at fresh seeds."""
    record, row, top = configurations.record, configurations.best_row, configurations.best
    if row is None or top is None:
        return ""
    frame, test = configurations.frame, top.metric.replace("quality/", "test/", 1)
    where = ", ".join(f"{label_of(record, axis)} {_word(value)}" for axis, value in top.overrides.items())
    tested = test != top.metric and test in record.metrics
    told = [_number(record, row, top.metric) + (" on validation" if tested else "")]
    if tested and not pd.isna(row[test]):
        told.append(f"{_number(record, row, test)} on test")
    for _, other in _fresh(frame, row).iterrows():
        if tested and not pd.isna(other[test]):
            told.append(f"{_number(record, other, test)} on test at {counted(int(other['seeds']), 'fresh seed')}")
    return f"{top.name}{f' ({where})' if where else ''} has the best {label_of(record, top.metric)}: {', '.join(told)}."


def values(record: Recorded) -> str:
    """The values of the best configuration on both splits and at fresh seeds, of the next best, and of controls and
    references; empty if there is no best one yet."""
    configurations = Configurations.of(record)
    record = configurations.record
    top = configurations.best
    if top is None:
        return ""
    order = configurations.ranked
    found = order[(order["kind"] == "search") & (order["rank"] <= 1)]
    row, finished = found.iloc[0], int((configurations.of_kinds(["search"])["state"] == "finished").sum())
    seeds = len(top.trials)
    where = ", ".join(f"{label_of(record, axis)} = {_word(value)}" for axis, value in top.overrides.items())
    called = label_of(record, top.metric)
    several = len(record.objective) > 1
    text = f"Of {finished} finished configuration{'' if finished == 1 else 's'} {top.name} is best"
    text += f" by {called}, the first of {len(record.objective)} objectives" if several else ""
    text += f", with {where}," if where else "," if several else ""
    text += f" and reaches {called} = {_number(record, row, top.metric)}"
    # Readers assume that lower is better unless told otherwise.
    told = [WAYS[top.direction]] if several or top.direction == "max" else []
    told += _variety(configurations, row, top.metric)
    told.append(f"mean of {seeds} seeds, 95 % confidence interval" if seeds > 1 else "one seed")
    beside = [
        *(note.removesuffix(".") for note in against_its_direction(record)),
        *_constraints(record, found), *_others(record, found), *_splits(configurations, row),
        *_next(configurations, found), *_controls(configurations), *no_control(configurations),
    ]  # fmt: skip
    return f"{text} ({'; '.join(told)}){''.join(f'; {each}' for each in beside)}."


def _constraints(record: Record, found: pd.DataFrame) -> list[str]:
    """The effect of constraints on the choice: no configuration meets them, or a better one breaks one."""
    key, direction = first_objective(record)
    top = found.iloc[0]
    if top["broken"]:
        return [f"no configuration meets the constraints, and this one breaks {_broken(record, top)}"]
    sign = 1 if direction == "min" else -1
    beyond = found[(found["broken"] != "") & (sign * found[key] < sign * top[key])]
    if beyond.empty:
        return []
    first = beyond.iloc[0]
    return [f"{_name(record, first)}, which breaks {_broken(record, first)}, would have {_number(record, first, key)}"]


def _others(record: Record, found: pd.DataFrame) -> list[str]:
    """The further objectives: the best one's values, the best values, and the size of the Pareto front."""
    objectives = list(record.objective.items())
    told = []
    kept = found[found["rank"] == found["rank"].iloc[0]]
    for key, direction in objectives[1:]:
        if key not in record.metrics:
            continue
        values = kept[key].astype("float64")
        values = values[np.isfinite(values)]
        top, words = found.iloc[0], f"for {label_of(record, key)} ({WAYS[direction]}),"
        here = "it has no value" if pd.isna(top[key]) else f"it has {_number(record, top, key)}"
        if len(values):
            best = kept.loc[values.idxmin() if direction == "min" else values.idxmax()]
            same = values.get(top.name) == values[best.name]
            here += " and is best" if same else f", and {_name(record, best)} is best with {_number(record, best, key)}"
        told.append(f"{words} {here}")
    keys = [key for key, _ in objectives if key in record.metrics]
    points = kept[keys].to_numpy(dtype=np.float64)
    points = points[np.isfinite(points).all(axis=1)]
    if len(keys) > 1 and len(points):
        signs = np.array([1.0 if record.objective[key] == "min" else -1.0 for key in keys])
        count = int(nondominated(points * signs).sum())
        told.append(f"{count} of {len(points)} are on the Pareto front of all objectives")
    return told


def _variety(configurations: Configurations, row: pd.Series[Any], key: str) -> list[str]:
    """Precision and recall of a distance's samples, and how recall compares with that of real images."""
    record, frame = configurations.record, configurations.of_kinds(["reference"])
    real = frame[(frame["name"] == "real against real") & (frame["sweep"] == row["sweep"])]
    told = []
    for name in precision_and_recall(record, key):
        if pd.isna(row[name]):
            continue
        words = f"{name.partition('/')[2].partition('_')[0]} {_number(record, row, name)}"
        floor = float(real[name].iloc[0]) if name in real and len(real) else math.nan
        if "/recall_" in name and math.isfinite(floor) and row["kind"] != "reference":
            lost = floor - float(row[name])
            words += f", {abs(lost):.2g} {'below' if lost >= 0 else 'above'} real images'"
        told.append(words)
    return told


def _quoted(configurations: Configurations, row: pd.Series[Any], key: str) -> str:
    """A value; if it is a distance, with the recorded precision and recall in brackets."""
    beside = _variety(configurations, row, key)
    return _number(configurations.record, row, key) + (f" ({'; '.join(beside)})" if beside else "")


def _splits(configurations: Configurations, row: pd.Series[Any]) -> list[str]:
    """The best configuration's value on the test split, and its values at fresh seeds, each with its split."""
    record, frame = configurations.record, configurations.frame
    key, _ = first_objective(record)
    test = key.replace("quality/", "test/", 1)
    tested = test != key and test in record.metrics and not pd.isna(row[test])
    told = []
    if tested:
        told.append(f"on the test split, which took no part in the choice, it has {_quoted(configurations, row, test)}")
    for _, other in _fresh(frame, row).iterrows():
        seeds = "one fresh seed" if other["seeds"] == 1 else f"{int(other['seeds'])} fresh seeds"
        if tested and not pd.isna(other[test]):
            beside = f"{_quoted(configurations, other, test)} on test, {_number(record, other, key)} on validation"
        else:
            beside = _quoted(configurations, other, key)
        told.append(f"at {seeds} it has {beside}")
    return told


def _fresh(frame: pd.DataFrame, row: Mapping[Any, Any] | pd.Series[Any]) -> pd.DataFrame:
    """The rows of a configuration at fresh seeds that have finished."""
    same = (frame["number"] == row["number"]) | (frame["config_hash"] == row["config_hash"])
    confirmed = (frame["kind"] == "confirm") & (frame["sweep"] == row["sweep"]) & (frame["state"] == "finished")
    return frame[same & confirmed]


def _next(configurations: Configurations, found: pd.DataFrame) -> list[str]:
    """The second-best configuration, among those that meet the constraints if the best one does."""
    record = configurations.record
    key, _ = first_objective(record)
    after = found[(found["rank"] == found["rank"].iloc[0])].iloc[1:]
    after = after[np.isfinite(after[key].astype("float64"))]
    if after.empty:
        return []
    second = after.iloc[0]
    by = f" by {label_of(record, key)}" if len(record.objective) > 1 else ""
    return [f"the next best{by}, {_name(record, second)}, has {_number(record, second, key)}"]


def _controls(configurations: Configurations) -> list[str]:
    """Controls and references, with the number of finished seeds of a control that lacks some."""
    record, told = configurations.record, []
    key, _ = first_objective(record)
    for _, other in configurations.of_kinds(["control", "reference"]).iterrows():
        if not pd.isna(other[key]):
            part = "" if other["state"] == "finished" else f" ({other['words']})"
            told.append(f"{other['name']} has {_number(record, other, key)}{part}")
    return told


def _broken(record: Record, row: pd.Series[Any]) -> str:
    """The constraints that a configuration breaks, by display names."""
    constraints = record.sweep(row["sweep"]).constraints
    broken = [key for key in constraints if f"{key} {constraints[key]}" in row["broken"].split(", ")]
    return ", ".join(f"{label_of(record, key)} {constraints[key]}" for key in broken)


def _name(record: Record, row: pd.Series[Any]) -> str:
    """The name of a configuration, with its sweep if there are several."""
    several = len(record.sweeps) > 1 and row["kind"] not in ("search", "confirm")
    return f"{row['sweep']}/{row['name']}" if several else str(row["name"])


def _number(record: Record, row: Mapping[Any, Any] | pd.Series[Any], key: str) -> str:
    value, half_width = float(row[key]), float(row[f"{key} ci95"])
    spec = number_format(record.runs[key].dropna())
    return Column(key, key, spec=spec).text(Cell(value, None if math.isnan(half_width) else half_width))


def _range(record: Record, axis: str) -> str:
    """The values of an axis, or its lowest and highest, in brackets."""
    dimensions = [sweep.dimension(axis) for sweep in record.sweeps if sweep.dimension(axis)]
    listed = [value for each in dimensions for value in each.get("choice") or each.get("grid") or ()]
    if listed and len(listed) <= MOST_VALUES:
        return f" ({', '.join(dict.fromkeys(map(_word, listed)))})"
    bounds = [each.get("int") or each.get("float") for each in dimensions]
    ends = [end for pair in bounds for end in pair or ()] or listed
    if not ends or any(isinstance(end, str) for end in ends):
        return f" ({len(listed)} values)" if listed else ""
    return f" ({_word(min(ends))} to {_word(max(ends))})"


def _word(value: Any) -> str:
    if isinstance(value, list | Mapping):
        return json.dumps(value)
    return f"{value:.4g}" if isinstance(value, float) else str(words_of(pd.Series([value], dtype="object"))[0])


def _data(sweep: SweepInfo) -> str:
    data = sweep.spec.get("data")
    return str(data.get("name") or "") if isinstance(data, Mapping) else ""


def joined(words: list[str]) -> str:
    """``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
