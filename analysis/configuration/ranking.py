"""The order of configurations, and which of them is best."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.configuration.frame import by_configuration
from analysis.configuration.objective import first_objective
from analysis.record.runs import KINDS, Direction, Record


@dataclass(frozen=True)
class Best:
    """The best configuration: its place in the space, the mean of its first objective, and its trials."""

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


def ranked(record: Record) -> pd.DataFrame:
    """The configurations that have not failed, in the order of a table, with ``rank``.

    The search by rank (0 finished, 1 finished but breaking a constraint, 2 finished without a finite value,
    3 stopped, 4 not done) and there by the first objective; confirmed ones by the first objective; controls
    and references by number.
    """
    key, direction = first_objective(record)
    frame = by_configuration(record)
    frame = frame[frame["state"] != "failed"]
    finished, finite = frame["state"] == "finished", np.isfinite(frame[key].astype("float64"))
    rank = pd.Series(4, index=frame.index).mask(frame["state"] == "stopped", 3).mask(finished & ~finite, 2)
    rank = rank.mask(finished & finite, (frame["broken"] != "").astype("int64"))
    beside = frame["kind"].isin(["control", "reference"])
    value = frame[key] if direction == "min" else -frame[key]
    order = frame.assign(
        rank=rank.mask(beside, 0),
        _kind=frame["kind"].map(KINDS.index),
        _value=value.mask(beside, 0.0),
    )
    return order.sort_values(["_kind", "rank", "_value", "number", "sweep"]).drop(columns=["_kind", "_value"])


def best(record: Record) -> Best | None:
    """The best configuration by the first objective, among those of the search that finished at every seed.

    Those that keep to the constraints come first; None while no configuration has finished.
    """
    return best_of(record, ranked(record))


def best_of(record: Record, order: pd.DataFrame) -> Best | None:
    """``best``, where the configurations are ``ranked`` already."""
    key, direction = first_objective(record)
    order = order[(order["kind"] == "search") & (order["rank"] <= 1)]
    if order.empty:
        return None
    row = order.iloc[0]
    notes = []
    if len(record.objective) > 1:
        notes.append(f"by {key}, the first of {len(record.objective)} objectives")
    if row["broken"]:
        notes.append(f"no configuration keeps to the constraints; this one breaks {row['broken']}")
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
