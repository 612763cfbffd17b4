"""The difference of a metric that does not matter: by default, one that its own error hides."""

from __future__ import annotations

import math

import numpy as np

from analysis.configuration.sampled import stem
from analysis.record.runs import Record, RecordError

DEVIATIONS = 1.96
"""Of a metric's own error that its 95 % interval reaches to."""


def margin_of(record: Record, metric: str, asked: float | None = None) -> float | None:
    """The margin within which two values of a metric are the same, as asked for or from the metric's own error.

    The metric's own error is what chance in the samples and in the held-out images moves it by, where trials have
    recorded it (``<split>/<metric>_error``): its 95 % interval, the median over the trials. None if there is none.
    Raises ``RecordError`` for a margin that is no positive number.

    >>> import analysis
    >>> from analysis.configuration.margin import margin_of
    >>> record = analysis.example()
    >>> margin_of(record, "quality/classifier_fd_collapsed", 5.0), margin_of(record, "quality/classifier_fd_collapsed")
    (5.0, None)
    """
    if asked is not None:
        if not (math.isfinite(asked) and asked > 0):
            raise RecordError(f"{record.names}: a margin is a number above 0, got {asked:g}")
        return asked
    split = metric.partition("/")[0]
    key = f"{split}/{stem(metric)}_error"
    if key not in record.metrics:
        return None
    runs = record.runs
    values = runs.loc[(runs["state"] == "finished") & (runs["kind"] != "reference"), key].astype("float64")
    finite = values[np.isfinite(values)]
    return None if finite.empty or finite.median() <= 0 else DEVIATIONS * float(finite.median())
