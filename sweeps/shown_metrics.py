"""Which metrics a comparison shows unless it is asked for all, and when two values of one are the same."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from linearizer_core.experiment.directions import Direction, direction_of
from sweeps.sides import Side

SINGLE = 1e-6
"""The relative difference, eight times float32's, up to which two values are the same."""

ROUNDING, ROUNDING_DB = 1e-5, 100.0
"""Errors below the first, and PSNRs above the second, are rounding errors of a network in float32.

100 dB is an error of 1e-5 of the range.
"""

MAIN = re.compile(
    r"(quality|test)/(\w+_(infinite|error)|(precision|recall)_(sampled|collapsed)|(psnr|ssim)_collapsed|bits_per_dim)"
    r"|cost/(params|train_seconds|sample_ms_collapsed)"
)
"""Metrics that are shown beside the objective and its counterpart on the test split."""

LAST = ("linearity", "cost")
"""The metrics that come after the others."""

FAMILIES = (
    "quality", "test", "linearity", "cost", "spectrum", "sampling", "operators", "controls", "train", "system", "nfe",
    "rank",
)  # fmt: skip
"""The metrics that the families record; those of functions and plugins under other names are always shown."""


def main_metrics(keys: Sequence[str], sides: Sequence[Side]) -> list[str]:
    """The metrics to show: the objectives and their counterparts on the test split, other quality, linearity and cost.

    >>> side = Side("a", "finished", {}, {}, {"quality/swd_sampled": "min"})
    >>> main_metrics(["quality/swd_k4", "cost/params", "test/swd_sampled", "quality/swd_sampled", "mine/score"], [side])
    ['quality/swd_sampled', 'test/swd_sampled', 'mine/score', 'cost/params']
    """
    objectives = dict.fromkeys(objective for side in sides for objective in side.objectives)
    first = [key for each in objectives for key in (each, re.sub("^quality/", "test/", each)) if key in keys]
    rest = sorted(
        (key for key in keys if _is_main(key, sides)),
        key=lambda key: LAST.index(group) + 1 if (group := key.partition("/")[0]) in LAST else 0,
    )
    return list(dict.fromkeys([*first, *rest]))


def headline(keys: Sequence[str], objectives: Sequence[str]) -> list[str]:
    """The metrics that say how a trial ended: objectives, their counterparts on the test split, its own, and cost.

    >>> headline(["cost/params", "quality/swd_k4", "test/swd_sampled", "quality/swd_sampled"], ["quality/swd_sampled"])
    ['quality/swd_sampled', 'test/swd_sampled', 'cost/params']
    """
    first = [key for each in objectives for key in (each, re.sub("^quality/", "test/", each)) if key in keys]
    own = [key for key in keys if key.partition("/")[0] not in FAMILIES]
    return list(
        dict.fromkeys([*first, *own, *(key for key in keys if key.startswith("cost/") and MAIN.fullmatch(key))])
    )


def _is_main(key: str, sides: Sequence[Side]) -> bool:
    if key.startswith("linearity/"):
        return direction_of(key) is not None
    if MAIN.fullmatch(key) or key.partition("/")[0] not in FAMILIES:
        return True
    return key.endswith("_sampled") and any(side.plugin_metric(key) for side in sides)


def way_of(key: str, side: Side) -> Direction | None:
    """Which direction of a metric is better; neither for the standard error of one, which says how sure it is.

    >>> way_of("test/classifier_fd_error", Side("a", "finished", {}, {})), way_of("x/score", Side("a", "", {}, {}))
    (None, 'min')
    """
    return None if re.fullmatch(r"(quality|test)/\w+_error", key) and key not in side.objectives else side.way(key)


def repeats(sides: Sequence[Side], keys: Sequence[str], objective: str) -> dict[str, str]:
    """The metrics of sampling that repeat another one, with that one.

    A model that samples in one step has the same value as ``_sampled`` and as ``_collapsed``; the one that is kept is
    that of the objective.
    """
    kept, left = ("collapsed", "sampled") if objective.endswith("_collapsed") else ("sampled", "collapsed")
    pairs = {key: f"{key.removesuffix(left)}{kept}" for key in keys if key.endswith(f"_{left}")}
    return {
        key: other
        for key, other in pairs.items()
        if other in keys and all(side.values(key) == side.values(other) for side in sides)
    }


def same(key: str, a: float, b: float) -> bool:
    """Whether two values of a metric differ by no more than rounding.

    Whole numbers are exact. Of ``linearity/`` two errors that are both rounding are the same, whatever their ratio.

    >>> same("linearity/penrose_1", 6.81e-07, 2.3e-06), same("linearity/penrose_1", 6.81e-07, 2.3e-05)
    (True, False)
    >>> same("linearity/collapse_psnr", 137.9, 144.2), same("cost/params", 2_000_000.0, 2_000_001.0)
    (True, False)
    """
    if a == b or (math.isnan(a) and math.isnan(b)):
        return True
    if is_rounding(key, a) and is_rounding(key, b):
        return True
    return not (a.is_integer() and b.is_integer()) and abs(a - b) <= SINGLE * max(abs(a), abs(b))


def is_rounding(key: str, value: float) -> bool:
    """Whether a value of ``linearity/`` is what a network in float32 shows of an exact identity.

    >>> is_rounding("linearity/roundtrip", 6e-07), is_rounding("linearity/inversion_psnr", 41.0)
    (True, False)
    """
    if not key.startswith("linearity/") or direction_of(key) is None:
        return False
    return value > ROUNDING_DB if key.endswith("psnr") else abs(value) < ROUNDING


def known(values: Mapping[str, float], key: str) -> float | None:
    """A metric's value; None where it was not measured or is not a number."""
    value = values.get(key)
    return None if value is None or math.isnan(value) else value
