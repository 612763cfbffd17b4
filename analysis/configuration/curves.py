"""Curves of configurations over solver steps or rank, both varied when sampling from one trained model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.record.runs import Record
from analysis.statistics.intervals import student

Curves = Mapping[int, pd.DataFrame]
"""Row of a configuration → ``mean``, ``half`` the width of its interval and number of ``seeds``, by step (or rank)."""


def curve_keys(record: Record, begins: str) -> list[str]:
    """The keys ``<begins><metric>`` of the record's curves, without those of the test split."""
    return _keys(record.curves, begins)


def searched_curve_keys(record: Record, begins: str) -> list[str]:
    """The ``curve_keys`` of finished trials of the search; a control of another family may have others."""
    runs = record.runs[(record.runs["kind"] == "search") & (record.runs["state"] == "finished")]
    return _keys(record.curves.merge(runs[["sweep", "trial"]], on=["sweep", "trial"]), begins)


def _keys(curves: pd.DataFrame, begins: str) -> list[str]:
    names = (str(name) for name in curves["metric"].unique())
    return sorted(name for name in names if name.startswith(begins) and not name.startswith(f"{begins}test_"))


def mean_curves(record: Record, frame: pd.DataFrame, metric: str) -> Curves:
    """Row of ``frame`` → its curve over seeds, by step; there is a gap where a seed has no value.

    Intervals are 95 % Student t intervals of the mean, NaN for one seed.
    """
    rows = frame["used"].explode()
    place = pd.DataFrame({"sweep": frame["sweep"].reindex(rows.index), "trial": rows, "row": rows.index})
    curves = record.curves[record.curves["metric"] == metric].merge(place, on=["sweep", "trial"])
    finite = curves["value"].where(np.isfinite(curves["value"]))
    groups = finite.groupby([curves["row"], curves["step"]])
    count = groups.size()
    half = groups.std(skipna=False) * pd.Series(student(count.astype("float64")), count.index)
    means = pd.DataFrame({"mean": groups.mean(skipna=False), "half": half, "seeds": count})
    found = {row: means[means.index.get_level_values("row") == row] for row in frame.index}
    return {row: curve.droplevel("row").sort_index() for row, curve in found.items() if not curve.empty}


def curves_by_trial(record: Record, row: Mapping[Any, Any], metric: str) -> pd.DataFrame:
    """A configuration's curve with one row per step (or rank) and one column per trial in its means."""
    used = list(row["used"])
    points = record.curves
    mine = points[(points["metric"] == metric) & (points["sweep"] == row["sweep"]) & points["trial"].isin(used)]
    table = mine.pivot_table(index="step", columns="trial", values="value", observed=True, dropna=False)
    return table.reindex(columns=[trial for trial in used if trial in table.columns])
