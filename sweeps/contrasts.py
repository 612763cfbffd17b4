"""One side of a comparison against the first: the difference by a metric, its test and its verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from analysis.statistics.intervals import LEVEL, Estimate
from analysis.statistics.superiority import superiority
from analysis.statistics.tests import compare
from linearizer_core.experiment.directions import Direction
from sweeps.shown_metrics import same
from sweeps.sides import Side


@dataclass(frozen=True)
class Contrast:
    """A side against the first one by a metric: the difference of their means, and the probability of being better.

    ``half_width`` is half of the difference's 95 % Student t interval, ``p`` is two-sided and corrected, ``better`` is
    P(better) with its interval; all are None with too few seeds. ``n`` counts pairs, or the seeds of the smaller side.
    ``rounding`` is true where the two differ only by rounding, so that there is nothing to test.
    """

    difference: float
    n: int
    paired: bool
    half_width: float | None = None
    p: float | None = None
    better: Estimate | None = None
    verdict: str = ""
    rounding: bool = False


def contrast_of(key: str, way: Direction | None, base: Side, side: Side) -> Contrast | None:
    """A side against the base by a metric, paired by seed if they have at least two in common."""
    a, b = side.values(key), base.values(key)
    if not a or not b:
        return None
    common = [seed for seed in a if seed in b and seed is not None]
    paired = len(common) > 1
    x, y = ([found[seed] for seed in common] if paired else list(found.values()) for found in (a, b))
    found = compare(x, y, paired=paired)
    if all(same(key, one, other) for one in x for other in y):
        return Contrast(found.difference, found.n, paired, found.half_width, rounding=True)
    if found.n < 2 or found.p is None:
        return Contrast(found.difference, found.n, paired)
    more, less = (x, y) if way == "max" else (y, x)
    probable = superiority(np.array(more), np.array(less), paired=paired) if way else None
    return Contrast(found.difference, found.n, paired, found.half_width, found.p, probable)


def judged(way: Direction | None, found: Contrast, p: float | None) -> Contrast:
    """The contrast with its corrected p-value and the verdict."""
    verdict = ""
    if way is not None and not found.rounding and found.difference and math.isfinite(found.difference):
        verdict = "better" if (found.difference > 0) == (way == "max") else "worse"
        verdict = f"({verdict})" if p is None else verdict if p < LEVEL else "undecided"
    return replace(found, p=p, verdict=verdict)
