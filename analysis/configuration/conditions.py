"""Axes that are there for some configurations only: where their condition does not hold, they take part in nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.configuration.levels import plain
from analysis.record.runs import Record, SweepInfo


def active_axes(record: Record, runs: pd.DataFrame) -> pd.DataFrame:
    """The columns of the axes of trials (rows of ``record.runs``), missing where an axis takes no part in a trial.

    Its configuration has a value there as well, the base's, which nothing reads. An axis takes part where the spec's
    ``when`` holds, and in a point of the search only where the point has it.
    """
    points = [_point(kind, text) for kind, text in zip(runs["kind"], runs["overrides"], strict=True)]
    columns: dict[str, Any] = {}
    for axis in record.axes:
        conditions = {sweep.name: _condition(record, sweep, axis) for sweep in record.sweeps}
        searched = {sweep.name for sweep in record.sweeps if axis in sweep.axes}
        held = np.ones(len(runs), dtype=np.bool_)
        for name, condition in conditions.items():
            here = (runs["sweep"] == name).to_numpy()
            for leaf, wanted in condition.items():
                held &= ~here | _among(record.sweep(name), runs, leaf, wanted)
        for place, (name, point) in enumerate(zip(runs["sweep"], points, strict=True)):
            if point and name in searched and axis not in point:
                held[place] = False
        columns[axis] = runs[axis].where(pd.Series(held, runs.index))
    return pd.DataFrame(columns, index=runs.index)


def _point(kind: str, overrides: Any) -> Mapping[str, Any]:
    """What a trial of the search sets; empty if that is not recorded, and for what is no point of the space."""
    if kind not in ("search", "confirm") or not isinstance(overrides, str):
        return {}
    found: Mapping[str, Any] = json.loads(overrides)
    return found


def _condition(record: Record, sweep: SweepInfo, axis: str) -> Mapping[str, Any]:
    """When an axis is there: as its own sweep says, or as another one does that searches it."""
    dimension = sweep.dimension(axis) or next(filter(None, (other.dimension(axis) for other in record.sweeps)), {})
    return dimension.get("when") or {}


def _among(sweep: SweepInfo, runs: pd.DataFrame, leaf: str, wanted: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """For which trials a leaf has a wanted value, or one of those; all of them where nobody says what it has."""
    listed = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
    told = _of_spec(sweep.spec, leaf)
    values = plain(runs[leaf]) if leaf in runs else [None] * len(runs)
    values = [told if value is None else value for value in values]
    # A column of mixed values is text.
    texts = [json.dumps(value) for value in listed]
    return np.array([value is None or value in listed or value in texts for value in values], dtype=np.bool_)


def _of_spec(spec: Mapping[str, Any], name: str) -> Any:
    value: Any = spec
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
