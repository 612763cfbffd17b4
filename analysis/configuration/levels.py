"""The values of an axis as the ordered categories or bins that tables and figures compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.configuration.words import word
from analysis.record.runs import Record
from analysis.render.cells import MISSING

MOST_BINS = 5
MOST_VALUES = 8

Numbers = np.ndarray[tuple[int], np.dtype[np.float64]]


def categories(record: Record, axis: str, values: pd.Series[Any]) -> pd.Series[Any]:
    """``values`` of an axis as an ordered category: the values themselves, or bins if there are too many to compare.

    Values listed in the spec stay as they are. So do integers, and the values of a range with steps, if there are at
    most eight (five if the range is logarithmic). Other numbers are put into at most five bins, of equal width in the
    logarithm if the range is logarithmic, otherwise of equal counts. A bin includes its lower end; the last also its
    upper end.
    """
    dimensions = [sweep.dimension(axis) for sweep in record.sweeps]
    listed = _listed(record, axis)
    logarithmic = any(dimension.get("log") for dimension in dimensions)
    present = values.dropna()
    distinct = distinct_values(record, axis, values)
    few = MOST_BINS if logarithmic and not listed else MOST_VALUES
    stepped = any(dimension.get("step") for dimension in dimensions)
    exact = bool(listed) or stepped or pd.api.types.is_integer_dtype(values)
    # Numbers that differ only by rounding are one value.
    labels = list(dict.fromkeys(map(word, distinct)))
    others = set(labels) - set(map(word, listed))
    if is_number(values) and others and (len(labels) > few or not exact):
        codes, labels = _bins(present, logarithmic)
    else:
        codes = [labels.index(word(value)) for value in present]
    named = pd.Series([labels[code] for code in codes], index=present.index, dtype="object")
    words = named.reindex(values.index, fill_value=MISSING)
    seen = set(words)
    categories = [label for label in [*labels, MISSING] if label in seen]
    return words.astype(pd.CategoricalDtype(categories, ordered=True))


def distinct_values(record: Record, axis: str, values: pd.Series[Any]) -> list[Any]:
    """The values of an axis, in the order of the spec's list if there is one, otherwise sorted."""
    places: dict[str, int] = {}
    for place, value in enumerate(_listed(record, axis)):
        places.setdefault(word(value), place)
    return sorted(values.dropna().unique(), key=lambda value: (places.get(word(value), -1), value))


def _listed(record: Record, axis: str) -> list[Any]:
    dimensions = [sweep.dimension(axis) for sweep in record.sweeps]
    return [value for found in dimensions for value in found.get("choice") or found.get("grid") or ()]


def is_number(values: pd.Series[Any]) -> bool:
    """Whether a column holds numbers; booleans do not count."""
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _bins(values: pd.Series[Any], logarithmic: bool) -> tuple[list[int], list[str]]:
    """Each value's bin, and the bins' names."""
    whole = pd.api.types.is_integer_dtype(values)
    numbers = values.to_numpy(dtype="float64")
    low, high = float(numbers.min()), float(numbers.max())
    count = min(MOST_BINS, len(np.unique(numbers)))
    if logarithmic and low > 0:
        edges = np.geomspace(low, high, count + 1)
    else:
        edges = np.quantile(numbers, np.linspace(0, 1, count + 1))
    inner = np.unique(np.ceil(edges[1:-1].round(9)) if whole else edges[1:-1])
    inner = inner[(inner > low) & (inner <= high)]
    codes = np.searchsorted(inner, numbers, side="right").tolist()
    starts = [low, *inner.tolist()]
    ends = [*(inner - 1 if whole else inner).tolist(), high]
    return codes, _intervals(starts, ends, whole)


def _intervals(starts: Sequence[float], ends: Sequence[float], whole: bool) -> list[str]:
    """``a to b`` for each pair, with enough digits to distinguish the ends, at least three."""
    digits = 17 if whole else 3
    while digits < 17 and len({f"{end:.{digits}g}" for end in [*starts, ends[-1]]}) <= len(starts):
        digits += 1
    return [
        f"{start:.{digits}g} to {end:.{digits}g}" if start != end else f"{start:.{digits}g}"
        for start, end in zip(starts, ends, strict=True)
    ]


def plain(column: pd.Series[Any]) -> list[Any]:
    """The values of a column as plain Python objects, with None for missing ones."""
    return column.astype("object").where(column.notna(), None).tolist()
