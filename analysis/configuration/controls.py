"""Controls: variants that must be worse than a configuration before a claim about it can be made.

Some are measured by a trial itself, with one thing about its own operators spoilt (``controls/<name>``); others are
configurations of the spec.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.configuration.configurations import Configurations
from analysis.configuration.objective import first_objective, own_direction
from analysis.configuration.sampled import sampled_key, stem
from analysis.record.runs import Record, RecordError
from analysis.statistics.intervals import Estimate, estimate
from linearizer_core.experiment.directions import Direction

PREFIX = "controls/"
TIMES = 1.5
"""A control is beaten if it is at least so many times worse, and by more than its interval."""

Subject = Literal["A", "g", ""]
"""The part that a control takes out: the operators, the flow, or neither (such as another model)."""

WORDS = {
    "flat": ("a flat spectrum", "the spectrum of A does not matter here"),
    "random": ("random directions", "the directions of A do not matter here"),
    "swapped": ("others' operators", "the assignment of operators to labels or clusters does not matter here"),
    "shared": ("one linear part for all", "the differences between operators do not matter here"),
    "pooled": ("one operator for all", "having several operators does not matter here"),
    "means": ("the means alone", "A adds nothing to the means here"),
}
"""The controls that trials record: a description, and what it means if the control does as well as the model."""


@dataclass(frozen=True)
class Control:
    """A control of a configuration: its value, and how many times worse it is (1 if it is as good).

    ``ratio`` is the mean over seeds of each seed's ratio with its 95 % Student t interval.
    """

    name: str
    subject: Subject
    value: Estimate
    ratio: Estimate

    @property
    def half_width(self) -> float | None:
        """Half the width of the ratio's interval; None if it has none."""
        return _half_width(self.ratio)

    @property
    def told(self) -> bool:
        """Whether the ratio has an interval; with one seed it has none."""
        return self.ratio.low is not None and math.isfinite(self.ratio.mean)

    @property
    def beaten(self) -> bool:
        """Whether the control is at least ``TIMES`` times worse, and by more than its interval."""
        return self.ratio.low is not None and self.ratio.low > 1 and self.ratio.mean >= TIMES

    @property
    def words(self) -> str:
        """A description of the control."""
        return WORDS[self.name][0] if self.name in WORDS and self.subject == "A" else self.name


def recorded_controls(record: Record) -> list[str]:
    """The names of the controls that the record's trials measured themselves."""
    names = [key.removeprefix(PREFIX) for key in record.metrics if key.startswith(PREFIX)]
    return sorted(names, key=lambda name: list(WORDS).index(name) if name in WORDS else len(WORDS))


def metric_of_controls(record: Record, metric: str | None = None) -> str:
    """The quality metric for comparing configurations with their controls; by default the first objective's.

    ``metric`` is a name as in ``evaluate.quality``, or a key of it. Raises ``RecordError`` if no control has it.
    """
    names = recorded_controls(record)
    known = {
        key.removeprefix("test/").removesuffix(f"_{name}"): None
        for key in record.metrics
        for name in names
        if key.startswith("test/") and key.endswith(f"_{name}")
    }
    if not known:
        # The spec's controls are scored like any configuration.
        ends = ("_collapsed", "_sampled")
        known = {stem(key): None for key in record.metrics if key.startswith("test/") and key.endswith(ends)}
    if metric is not None:
        return record.checked(stem(metric), list(known), "metric of a control")
    if not known:
        raise RecordError(f"{record.names}: no control has been measured on the test split")
    wanted = stem(first_objective(record)[0])
    distances = [name for name in known if own_direction(record, f"test/{name}_collapsed") == "min"]
    return wanted if wanted in known else (distances or list(known))[0]


def controls_of(record: Record, row: Mapping[Any, Any], metric: str) -> list[Control]:
    """The controls that a configuration's trials (a row of ``by_configuration``) measured, on the test split."""
    found = []
    own = _by_seed(record, row, f"test/{metric}_collapsed")
    way = own_direction(record, f"test/{metric}_collapsed")
    for name in recorded_controls(record):
        theirs = _by_seed(record, row, f"test/{metric}_{name}")
        if len(theirs):
            found.append(_control(name, "A", way, own, theirs))
    return found


def spec_controls(configurations: Configurations, row: Mapping[Any, Any], metric: str) -> list[Control]:
    """The finished controls in the spec of a configuration's sweep, against the configuration, on the test split.

    Seeds are paired; if there are no common seeds, the ratio is that of the means, without an interval.
    """
    record = configurations.record
    key = sampled_key(record, "test", metric)
    own, way = _by_seed(record, row, key), own_direction(record, key)
    found = []
    for other in configurations.of_kinds(["control"]).to_dict("records"):
        theirs = _by_seed(record, other, key)
        if other["sweep"] == row["sweep"] and len(theirs) and len(own):
            found.append(_control(str(other["name"]), subject_of(other), way, own, theirs))
    return found


def judged(configurations: Configurations) -> Mapping[Any, Any] | None:
    """The row of the best configuration, at its fresh seeds if it was confirmed; None while there is no best one.

    Fresh seeds took no part in the choice, and often there are more of them.
    """
    row, frame = configurations.best_row, configurations.frame
    if row is None:
        return None
    fresh = frame[(frame["kind"] == "confirm") & (frame["sweep"] == row["sweep"]) & (frame["state"] == "finished")]
    fresh = fresh[(fresh["number"] == row["number"]) | (fresh["config_hash"] == row["config_hash"])]
    return next(iter(fresh.to_dict("records")), row)


def subject_of(row: Mapping[Any, Any]) -> Subject:
    """The part that a control in the spec takes out, judged by the leaves that it sets."""
    text = row.get("overrides")
    leaves: Mapping[str, Any] = json.loads(text) if isinstance(text, str) else {}
    if "family" in leaves or not leaves:
        return ""
    if any(leaf.startswith("model.flow.") for leaf in leaves):
        return "g"
    return "A" if all(leaf.startswith("model.operator") for leaf in leaves) else ""


def _control(
    name: str, subject: Subject, way: Direction | None, own: pd.Series[Any], theirs: pd.Series[Any]
) -> Control:
    value = estimate(theirs.to_numpy())
    common = own.index.intersection(theirs.index, sort=False)
    if len(common):
        ratios = _worse(way, own.loc[common].to_numpy(), theirs.loc[common].to_numpy())
        return Control(name, subject, value, estimate(ratios))
    ratio = _worse(way, np.array([own.mean()]), np.array([theirs.mean()]))
    return Control(name, subject, value, estimate(ratio))


def _worse(way: Direction | None, own: Any, theirs: Any) -> Any:
    """How many times worse than ``own`` the values ``theirs`` are; NaN where the ratio is not defined."""
    worse, better = (own, theirs) if way == "max" else (theirs, own)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((worse >= 0) & (better > 0), worse / better, math.nan)


def _by_seed(record: Record, row: Mapping[Any, Any], key: str) -> pd.Series[Any]:
    """The values of a configuration's finished trials by seed; empty if any is missing."""
    if key not in record.metrics:
        return pd.Series(dtype="float64")
    runs = record.runs
    mine = runs[(runs["sweep"] == row["sweep"]) & runs["trial"].isin(list(row["used"])) & (runs["state"] == "finished")]
    values = pd.Series(mine[key].to_numpy(dtype=np.float64), index=mine["seed"].astype("object"))
    return values if np.isfinite(values).all() else values.iloc[:0]


def _half_width(found: Estimate) -> float | None:
    return None if found.low is None or found.high is None else (found.high - found.low) / 2
