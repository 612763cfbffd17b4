"""The margin within which two values of a metric count as equal; by default, the metric's own error."""

from __future__ import annotations

import math

import numpy as np

from analysis.configuration.sampled import stem
from analysis.record.runs import Record, RecordError

DEVIATIONS = 1.96
"""Standard errors in half a 95 % interval."""


def margin_of(record: Record, metric: str, asked: float | None = None) -> float | None:
    """The margin within which two values of a metric count as equal: ``asked``, or from the metric's own error.

    That error comes from the random choice of samples and held-out images; trials record it as
    ``<split>/<metric>_error``. The margin is half its 95 % interval, the median over the trials; None if none was
    recorded. Raises ``RecordError`` for a margin that is not a positive number.

    >>> import analysis
    >>> from analysis.configuration.margin import margin_of
    >>> record = analysis.example()
    >>> margin_of(record, "quality/classifier_fd_collapsed", 5.0), margin_of(record, "quality/classifier_fd_collapsed")
    (5.0, None)
    """
    if asked is not None:
        if not (math.isfinite(asked) and asked > 0):
            raise RecordError(f"{record.names}: the margin must be above 0, got {asked:g}")
        return asked
    split = metric.partition("/")[0]
    key = f"{split}/{stem(metric)}_error"
    if key not in record.metrics:
        return None
    runs = record.runs
    values = runs.loc[(runs["state"] == "finished") & (runs["kind"] != "reference"), key].astype("float64")
    finite = values[np.isfinite(values)]
    return None if finite.empty or finite.median() <= 0 else DEVIATIONS * float(finite.median())
