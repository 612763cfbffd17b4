"""What a sweep asks and what it answers, in a sentence each."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.objective import first_objective
from analysis.configuration.ranking import Best
from analysis.configuration.words import words_of
from analysis.record.runs import Record, SweepInfo
from analysis.render.cells import Cell, Column, number_format

WAYS = {"min": "the lower the better", "max": "the higher the better"}
MOST_VALUES = 6


def question(record: Record) -> str:
    """What was searched and measured, as a question."""
    axes = [f"{axis}{_range(record, axis)}" for axis in record.axes]
    asked = f"how {'does' if len(axes) == 1 else 'do'} {joined(axes)} decide" if axes else "what is"
    targets = [f"{key}, {WAYS[direction]}," for key, direction in record.objective.items()]
    models = joined(list(dict.fromkeys(sweep.family for sweep in record.sweeps if sweep.family)))
    data = joined(list(dict.fromkeys(filter(None, map(_data, record.sweeps)))))
    text = f"{asked} {joined(targets)} of {models} models{f' on {data}' if data else ''}?".replace("  ", " ")
    return text[0].upper() + text[1:]


def summary(record: Recorded) -> str:
    """Which configuration is best, by how much, and beside what; or why there is none yet."""
    configurations = Configurations.of(record)
    record = configurations.record
    top = configurations.best
    if top is None:
        return f"There is no answer yet: no configuration of the search has finished ({record.counts})."
    frame = configurations.frame
    search = frame[frame["kind"] == "search"]
    finished = int((search["state"] == "finished").sum())
    row = search[(search["sweep"] == top.sweep) & (search["trials"] == top.trials)].iloc[0]
    key, _ = first_objective(record)
    seeds = len(top.trials)
    where = ", ".join(f"{axis} = {_word(value)}" for axis, value in top.overrides.items())
    text = f"Of {finished} finished configuration{'' if finished == 1 else 's'} {top.name} is best"
    text += f", with {where}," if where else ""
    text += f" and reaches {key} = {_number(record, row, key)}"
    text += f" (mean of {seeds} seeds, 95 % confidence interval)" if seeds > 1 else " (one seed)"
    return f"{text}{''.join(f'; {each}' for each in _beside(record, frame, row, top))}."


def _beside(record: Record, frame: pd.DataFrame, row: pd.Series[Any], top: Best) -> list[str]:
    """What places the best value: another split, fresh seeds, the one after it, controls and references."""
    key, direction = first_objective(record)
    told = []
    test = key.replace("quality/", "test/", 1)
    if test != key and test in record.metrics and not pd.isna(row[test]):
        told.append(f"{test}, by which nothing was chosen, is {_number(record, row, test)}")
    fresh = frame[(frame["kind"] == "confirm") & (frame["number"] == row["number"]) & (frame["sweep"] == top.sweep)]
    for _, other in fresh[fresh["state"] == "finished"].iterrows():
        told.append(f"at {int(other['seeds'])} fresh seeds it is {_number(record, other, key)}")
    rest = frame[(frame["kind"] == "search") & (frame["state"] == "finished") & (frame["trials"] != top.trials)]
    rest = rest[rest[key].notna()].sort_values(key, ascending=direction == "min")
    if len(rest):
        second = rest.iloc[0]
        told.append(f"the next best, {second['name']}, has {_number(record, second, key)}")
    beside = frame[frame["kind"].isin(["control", "reference"]) & (frame["state"] == "finished")]
    for _, other in beside.iterrows():
        if not pd.isna(other[key]):
            told.append(f"{other['name']} has {_number(record, other, key)}")
    return told


def _number(record: Record, row: pd.Series[Any], key: str) -> str:
    value, half_width = float(row[key]), float(row[f"{key} ci95"])
    spec = number_format(record.runs[key].dropna())
    return Column(key, key, spec=spec).text(Cell(value, None if math.isnan(half_width) else half_width))


def _range(record: Record, axis: str) -> str:
    """The values of an axis, or their ends, in brackets."""
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
