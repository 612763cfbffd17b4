"""What configurations are ranked by, and which way a metric is better."""

from __future__ import annotations

import re

from analysis.record.runs import Direction, Record, RecordError


def first_objective(record: Record) -> tuple[str, Direction]:
    """The key and direction that configurations are ranked by; raises ``RecordError`` where nobody has it."""
    if not record.objective:
        raise RecordError(f"{record.names or 'the record'}: there is no objective")
    key, direction = next(iter(record.objective.items()))
    return record.checked(key, record.metrics, "value yet of the objective"), direction


NEITHER = ("spectrum/", "linearity/noise_", "linearity/lipschitz_", "linearity/inversion_images")
"""What the keys of metrics begin with of which neither more nor less is better."""
HIGHER = re.compile(r"psnr|ssim|precision|recall|density|coverage")
"""In the keys of metrics that are better the higher they are."""


def better(record: Record, metric: str) -> Direction | None:
    """Which way a metric is better; None where neither is."""
    if metric in record.objective:
        return record.objective[metric]
    if metric.startswith(NEITHER):
        return None
    return "max" if HIGHER.search(metric) else "min"
