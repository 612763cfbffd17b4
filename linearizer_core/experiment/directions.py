"""Whether higher or lower values of a metric are better, by its key; tables, figures and spec checks all ask here."""

from __future__ import annotations

import re
from typing import Literal

Direction = Literal["min", "max"]

NEITHER = (
    "spectrum/", "sampling/", "operators/", "linearity/noise_", "linearity/lipschitz_", "linearity/inversion_images",
    "dynamics/degrees",
)  # fmt: skip
"""Prefixes of metrics for which neither higher nor lower is better."""
HIGHER = re.compile(r"^controls/|psnr|ssim|precision|recall|density|coverage|accuracy")
"""Matches metrics for which higher is better; ``controls/…`` is how many times worse a control is."""


def direction_of(metric: str) -> Direction | None:
    """Which direction of a metric is better, by its key: ``min`` for lower, ``max`` for higher, None for neither.

    >>> direction_of("quality/ssim_collapsed"), direction_of("cost/params"), direction_of("spectrum/condition")
    ('max', 'min', None)
    >>> direction_of("controls/random"), direction_of("sampling/rank")
    ('max', None)
    """
    if metric.startswith(NEITHER):
        return None
    return "max" if HIGHER.search(metric) else "min"
