"""The rank and temperature with which a configuration's operators are sampled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median_low
from typing import Any

import pandas as pd

from analysis.record.runs import Record

# Older records have the second name.
RANK = ("sampling/rank", "operators/rank")
TEMPERATURE = ("sampling/temperature", "operators/temperature")


def chosen(record: Record, row: Mapping[Any, Any]) -> pd.DataFrame:
    """The ``rank`` and ``temperature`` that each seed of a configuration chose, one row per trial; may be empty."""
    runs = record.runs
    mine = runs[(runs["sweep"] == row["sweep"]) & runs["trial"].isin(list(row["used"]))]
    columns = {}
    for name, keys in (("rank", RANK), ("temperature", TEMPERATURE)):
        found = [mine[key] for key in keys if key in mine]
        columns[name] = found[0].fillna(found[-1]) if found else pd.Series(math.nan, mine.index)
    return pd.DataFrame(columns).dropna().reset_index(drop=True)


def sampled_rank(record: Record, row: Mapping[Any, Any]) -> float:
    """The lower median of the ranks that a configuration's seeds chose; NaN if none chose any."""
    ranks = chosen(record, row)["rank"]
    return float(median_low(ranks)) if len(ranks) else math.nan
