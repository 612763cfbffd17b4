"""Which way each metric is better, by its key: the one place that tables, figures and the checks of a spec ask."""

from __future__ import annotations

import re
from typing import Literal

Direction = Literal["min", "max"]

NEITHER = (
    "spectrum/", "sampling/", "operators/", "linearity/noise_", "linearity/lipschitz_", "linearity/inversion_images",
)  # fmt: skip
"""What the keys of metrics begin with of which neither more nor less is better."""
HIGHER = re.compile(r"^controls/|psnr|ssim|precision|recall|density|coverage|accuracy")
"""In the keys of metrics that are better the higher they are: how many times worse a control is among them."""


def direction_of(metric: str) -> Direction | None:
    """Which way a metric is better by its key, ``min`` where less is; None if neither is.

    >>> direction_of("quality/ssim_collapsed"), direction_of("cost/params"), direction_of("spectrum/condition")
    ('max', 'min', None)
    >>> direction_of("controls/random"), direction_of("sampling/rank")
    ('max', None)
    """
    if metric.startswith(NEITHER):
        return None
    return "max" if HIGHER.search(metric) else "min"
