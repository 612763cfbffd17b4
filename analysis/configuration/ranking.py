"""The order of configurations, and which is best."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.configuration.objective import first_objective
from analysis.record.runs import KINDS, Direction, Record


@dataclass(frozen=True)
class Best:
    """The best configuration: its point in the space, the mean of its first objective, and its trials.

    >>> import analysis
    >>> top = analysis.best(analysis.example())
    >>> top.metric, top.direction, top.trials
    ('quality/classifier_fd_collapsed', 'min', ('t011-s0', 't011-s1'))
    """

    sweep: str
    name: str
    config_hash: str
    overrides: dict[str, Any]
    metric: str
    direction: Direction
    mean: float
    half_width: float | None
    trials: tuple[str, ...]
    note: str | None


def in_order(record: Record, frame: pd.DataFrame) -> pd.DataFrame:
    """The configurations that have not failed, in the order of a table (see ``Configurations.ranked``)."""
    key, direction = first_objective(record)
    frame = frame[frame["state"] != "failed"]
    finished, finite = frame["state"] == "finished", np.isfinite(frame[key].astype("float64"))
    rank = pd.Series(4, index=frame.index).mask(frame["state"] == "stopped", 3).mask(finished & ~finite, 2)
    rank = rank.mask(finished & finite, (frame["broken"] != "").astype("int64"))
    beside = frame["kind"].isin(["control", "reference"])
    value = frame[key] if direction == "min" else -frame[key]
    order = frame.assign(
        rank=rank.mask(beside, 0),
        _left=_left_the_race(record, frame),
        _kind=frame["kind"].map(KINDS.index),
        _value=value.mask(beside, 0.0),
    )
    return order.sort_values(["_kind", "rank", "_left", "_value", "number", "sweep"]).drop(
        columns=["_kind", "_left", "_value"]
    )


def _left_the_race(record: Record, frame: pd.DataFrame) -> pd.Series[Any]:
    """Which configurations of a race have fewer seeds: they were eliminated, whatever the mean of their few seeds."""
    found = pd.Series(False, index=frame.index)
    for sweep in record.sweeps:
        mine = (frame["sweep"] == sweep.name) & (frame["kind"] == "search") & (frame["state"] == "finished")
        if sweep.races and mine.any():
            found |= mine & (frame["finished"] < frame.loc[mine, "finished"].max())
    return found


def best_of(record: Record, order: pd.DataFrame) -> Best | None:
    """The best of configurations sorted by ``in_order``; None while none of the search has finished."""
    key, direction = first_objective(record)
    order = order[(order["kind"] == "search") & (order["rank"] <= 1)]
    if order.empty:
        return None
    row = order.iloc[0]
    notes = []
    if len(record.objective) > 1:
        notes.append(f"by {key}, the first of {len(record.objective)} objectives")
    if row["broken"]:
        notes.append(f"no configuration meets the constraints; this one breaks {row['broken']}")
    half_width = float(row[f"{key} ci95"])
    return Best(
        sweep=row["sweep"],
        name=row["name"],
        config_hash=row["config_hash"],
        overrides=json.loads(row["overrides"]),
        metric=key,
        direction=direction,
        mean=float(row[key]),
        half_width=None if math.isnan(half_width) else half_width,
        trials=row["trials"],
        note="; ".join(notes) or None,
    )
