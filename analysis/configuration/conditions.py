"""Conditional axes: they are inactive in configurations in which their condition does not hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.configuration.levels import plain
from analysis.record.runs import Record, SweepInfo


def active_axes(record: Record, runs: pd.DataFrame) -> pd.DataFrame:
    """The axes of trials (rows of ``record.runs``) as columns, with missing values where an axis is inactive.

    The configuration has a value there too, the base's, which nothing reads. An axis is active where the spec's
    ``when`` holds; in a point of the search, only if the point has it.
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
    """The values that a trial of the search sets; empty if they were not recorded or it is not a point of the space."""
    if kind not in ("search", "confirm") or not isinstance(overrides, str):
        return {}
    found: Mapping[str, Any] = json.loads(overrides)
    return found


def _condition(record: Record, sweep: SweepInfo, axis: str) -> Mapping[str, Any]:
    """The condition of an axis in its own sweep, or in another that searches it."""
    dimension = sweep.dimension(axis) or next(filter(None, (other.dimension(axis) for other in record.sweeps)), {})
    return dimension.get("when") or {}


def _among(sweep: SweepInfo, runs: pd.DataFrame, leaf: str, wanted: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which trials have a wanted value (or one of a list) of a leaf; trials whose value is unknown count as well."""
    listed = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
    told = _of_spec(sweep.spec, leaf)
    values = plain(runs[leaf]) if leaf in runs else [None] * len(runs)
    values = [told if value is None else value for value in values]
    # A column of mixed types holds text.
    texts = [json.dumps(value) for value in listed]
    return np.array([value is None or value in listed or value in texts for value in values], dtype=np.bool_)


def _of_spec(spec: Mapping[str, Any], name: str) -> Any:
    value: Any = spec
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
