"""Precision and recall, shown beside a distance, which alone does not reveal a loss of variety."""

from __future__ import annotations

from collections.abc import Collection

from analysis.record.runs import Record
from linearizer_core.experiment.directions import direction_of

BESIDE = ("precision", "recall")


def precision_and_recall(record: Record, key: str) -> list[str]:
    """The recorded keys of precision and recall for the samples of a distance ``<split>/<metric>_<how>``.

    Empty for a key that is not a distance.
    """
    return keys_beside(key, record.metrics)


def keys_beside(key: str, known: Collection[str]) -> list[str]:
    """The same, given the known metric keys instead of a record."""
    split, _, rest = key.partition("/")
    metric, _, how = rest.rpartition("_")
    if direction_of(key) != "min" or not metric:
        return []
    return [name for name in (f"{split}/{beside}_{how}" for beside in BESIDE) if name in known]
