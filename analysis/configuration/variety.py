"""Precision and recall: what stands beside a distance, which alone does not tell what variety was lost."""

from __future__ import annotations

from collections.abc import Collection

from analysis.record.runs import Record
from linearizer_core.experiment.directions import direction_of

BESIDE = ("precision", "recall")


def precision_and_recall(record: Record, key: str) -> list[str]:
    """The keys of precision and recall of the samples that a distance ``<split>/<metric>_<how>`` is of, as recorded.

    None for a key that is no distance.
    """
    return keys_beside(key, record.metrics)


def keys_beside(key: str, known: Collection[str]) -> list[str]:
    """The same of the metric keys that are known, without a record."""
    split, _, rest = key.partition("/")
    metric, _, how = rest.rpartition("_")
    if direction_of(key) != "min" or not metric:
        return []
    return [name for name in (f"{split}/{beside}_{how}" for beside in BESIDE) if name in known]
