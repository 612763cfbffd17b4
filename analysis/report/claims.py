"""Claims about the rank of A and the depth of g, limited to those that the best configuration's controls allow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.configuration.budget import check_equal
from analysis.configuration.configurations import Configurations
from analysis.configuration.controls import (
    TIMES,
    WORDS,
    Control,
    controls_of,
    judged,
    metric_of_controls,
    recorded_controls,
    spec_controls,
)
from analysis.configuration.curves import curves_by_trial
from analysis.configuration.labels import label_of, metric_label
from analysis.configuration.levels import categories
from analysis.configuration.objective import better, first_objective
from analysis.configuration.replicates import population, replicates
from analysis.record.frames import RANKS
from analysis.record.runs import RecordError
from analysis.statistics.intervals import LEVEL, Array, estimate
from analysis.statistics.tests import compare

DEPTH, RANK = "model.flow.depth", "model.operator.rank"
PLURAL = ("random", "swapped", "means")
"""The controls of ``WORDS`` whose descriptions are plurals."""


def claim(configurations: Configurations) -> str:
    """A sentence on the effects of rank and depth, or on why none is claimed; empty if no trial measured controls.

    A claim about the rank of A needs every control of A to be beaten; one about the depth of g, every control of g in
    the spec.
    """
    record = configurations.record
    row = judged(configurations)
    if row is None or not recorded_controls(record):
        return ""
    try:
        metric = metric_of_controls(record)
    except RecordError:
        return ""
    beside = spec_controls(configurations, row, metric)
    of_operators = [*controls_of(record, row, metric), *(each for each in beside if each.subject == "A")]
    parts = [_of_rank(configurations, row, metric, of_operators)]
    if DEPTH in record.axes:
        parts.append(_of_depth(configurations, [each for each in beside if each.subject == "g"]))
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts)


def no_control(configurations: Configurations) -> list[str]:
    """A remark that no control was recorded, if rank was searched."""
    record = configurations.record
    controlled = bool(recorded_controls(record)) or not configurations.of_kinds(["control"]).empty
    return [] if controlled or RANK not in record.axes else ["no control was recorded"]


def times(control: Control) -> str:
    """The ratio of a control, as ``1.8 ± 0.2 times``."""
    half = control.half_width
    if half is None:
        return f"{control.ratio.mean:.3g} times"
    digits = max(0, 1 - math.floor(math.log10(half))) if half > 0 else 2
    digits = min(digits, 2)
    return f"{control.ratio.mean:.{digits}f} ± {half:.{digits}f} times"


def lost(controls: Sequence[Control]) -> str:
    """Which controls are not beaten, and what follows from it; empty if all are beaten."""
    told = [each for each in controls if each.told and not each.beaten]
    if told:
        *before, last = map(_lost, told)
        return f"{', '.join(before)}, and {last}" if before else last
    untold = [each for each in controls if not each.told]
    if not untold:
        return ""
    nearest = _nearest(untold)
    shown = "" if nearest is None else f" (the closest, {nearest.words}, is {times(nearest)} worse)"
    return f"one seed is not enough to compare its controls{shown}"


def _lost(control: Control) -> str:
    """A sentence part on a control that is not beaten."""
    low, high = control.ratio.low, control.ratio.high
    assert low is not None
    assert high is not None
    own = control.subject == "A" and control.name in WORDS
    conclusion = f", so {WORDS[control.name][1]}" if own else ""
    which, found = control.words, f"({times(control)})"
    several = own and control.name in PLURAL
    does, is_ = ("do", "are") if several else ("does", "is")
    if high < 1:
        return f"{which} {does} better {found}{conclusion}"
    if low > 1:
        return f"{which} {is_} less than {TIMES:g} times worse {found}"
    if high < TIMES:
        return f"{which} {does} as well {found}{conclusion}"
    return f"{which} {is_} not clearly worse {found}"


def _nearest(controls: Sequence[Control]) -> Control | None:
    finite = [each for each in controls if math.isfinite(each.ratio.mean)]
    return min(finite, key=lambda each: each.ratio.mean, default=None)


def _of_rank(configurations: Configurations, row: Mapping[Any, Any], metric: str, controls: Sequence[Control]) -> str:
    why = lost(controls)
    if why or not controls:
        return f"nothing is claimed about the rank of A: {why or 'its controls have no value'}"
    nearest = _nearest(controls)
    beats = "its operators beat every control"
    beats += "" if nearest is None else f", the closest ({nearest.words}) by {times(nearest)}"
    ends = _ends(configurations, row, metric)
    if ends is None:
        return f"A matters: {beats}"
    decides, shown = ends
    called = f"{metric_label(configurations.record, metric).name} on test"
    if decides:
        return f"the rank of A affects {called} ({shown}): {beats}"
    return f"no rank of A is shown to be better by {called} ({shown}), while {beats}"


def _ends(configurations: Configurations, row: Mapping[Any, Any], metric: str) -> tuple[bool, str] | None:
    """Whether the rank chosen on validation is better on test than the smallest or largest rank, and their values.

    All ranks are of one trained model per seed, compared by seed; the two comparisons share the level (Bonferroni).
    None without a curve.
    """
    record = configurations.record
    by_validation, tested = (
        _values(curves_by_trial(record, row, f"{RANKS}{split}{metric}")) for split in ("", "test_")
    )
    means = {rank: float(values.mean()) for rank, values in by_validation.items() if rank in tested}
    if not means or not all(np.isfinite(values).all() for values in [*tested.values(), *by_validation.values()]):
        return None
    smaller = better(record, f"test/{metric}_collapsed") != "max"
    best = min(means, key=lambda rank: means[rank] if smaller else -means[rank])
    others = [rank for rank in dict.fromkeys([min(tested), max(tested)]) if rank != best]
    decides = False
    for other in others:
        worse, own = (tested[other], tested[best]) if smaller else (tested[best], tested[other])
        found = compare(worse, own, paired=True, level=LEVEL / len(others))
        decides |= found.half_width is not None and found.difference > found.half_width
    shown = [f"rank {rank} has {_mean(tested[rank])}" for rank in (best, *others)]
    return decides, f"at temperature 1 {', '.join(shown)}"


def _values(curve: pd.DataFrame) -> dict[int, Array]:
    """Rank → the curve's values over trials."""
    return dict(zip(map(int, curve.index), curve.to_numpy(dtype=np.float64), strict=True))


def _of_depth(configurations: Configurations, controls: Sequence[Control]) -> str:
    if not controls:
        return "nothing is claimed about the depth of g: no control of g was recorded"
    why = lost(controls)
    if why:
        return f"nothing is claimed about the depth of g: {why}"
    nearest = _nearest(controls)
    beats = "g beats its controls"
    beats += "" if nearest is None else f", the closest ({nearest.words}) by {times(nearest)}"
    told = _levels(configurations)
    return f"{told}, while {beats}" if told else beats


def _levels(configurations: Configurations) -> str:
    """Whether any depth is worse than the best one, tested as in the table of that axis."""
    record = configurations.record
    key, direction = first_objective(record)
    try:
        searched = record.runs[record.runs["kind"] == "search"]
        check_equal(record, searched[searched["state"] == "finished"], f"{key} by {DEPTH}")
        frame = population(configurations, key)
        frame = frame[frame["counts"] & frame[DEPTH].notna()]
        levels = categories(record, DEPTH, frame[DEPTH])
        compared = replicates(record, frame, key, levels.astype("object"), [DEPTH], False)
    except RecordError:
        return ""
    top = compared.best(direction)
    tested = [level for level, group in compared.groups.items() if len(group.values)]
    if top is None or len(tested) < 2:
        return ""
    found = compared.against(top, tested, chosen_among=len(tested))
    worse = [level for level, p in found.adjusted.items() if p < LEVEL]
    name, called = label_of(record, DEPTH), label_of(record, key)
    if not worse:
        return f"no {name} of g is shown to differ from the best, {top}, by {called}"
    farthest = max(worse, key=lambda level: abs(found.found[level].difference))
    values = [
        f"{name} {level} has {_mean(compared.groups[level].values.to_numpy(dtype=np.float64))}"
        for level in (top, farthest)
    ]
    return f"the depth of g affects {called} ({', '.join(values)})"


def _mean(values: Array) -> str:
    found = estimate(values)
    spread = "" if found.low is None or found.high is None else f" ± {(found.high - found.low) / 2:.2g}"
    return f"{found.mean:.4g}{spread}"
