"""Formatting of names and values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.render.cells import MISSING

ARROWS: dict[str | None, str] = {"min": " ↓", "max": " ↑", None: ""}
"""Arrow after a metric's name for its better direction."""
HINTS: dict[str | None, str] = {"min": " (lower is better)", "max": " (higher is better)", None: ""}
"""The same in words, where there is room."""


def words_of(values: pd.Series[Any]) -> pd.Series[Any]:
    """Each value of an axis as text."""
    return pd.Series([word_or_missing(value) for value in values], index=values.index, dtype="object")


def word_or_missing(value: Any) -> str:
    """A value of an axis as text, a dash if it has none."""
    return MISSING if pd.isna(value) else word(value)


def word(value: Any) -> str:
    """A value of an axis as text, to twelve digits."""
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    return value if isinstance(value, str) else f"{value:.12g}"


def short_names(axes: Sequence[str]) -> dict[str, str]:
    """The last part of each dotted name, with the part before it if two would be the same."""
    last = [axis.rpartition(".")[2] for axis in axes]
    return {
        axis: name if last.count(name) == 1 else ".".join(axis.split(".")[-2:])
        for axis, name in zip(axes, last, strict=True)
    }
