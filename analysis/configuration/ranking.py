"""One row a configuration, over its seeds, and which of them is best."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.record.runs import KINDS, Direction, Record, RecordError, SweepInfo
from analysis.statistics.tests import student

GROUP = ["sweep", "kind", "number"]
COLUMNS = ["name", "label", "config_hash", "overrides", "trials", "used", "state", "words", "broken", "seeds"]


@dataclass(frozen=True)
class Best:
    """The best configuration: its place in the space, the mean of its first objective, and its trials."""

    sweep: str
    name: str
    config_hash: str
    overrides: dict[str, Any]
    metric: str
    direction: Direction
    mean: float
    half_width: float | None
    trials: tuple[str, ...]
    note: str | None


def by_configuration(record: Record, kinds: Sequence[str] = KINDS) -> pd.DataFrame:
    """One row a configuration of those kinds, over its seeds, in the order of ``record.runs``.

    Columns ``sweep, kind, number, name, label, config_hash, overrides, trials`` (a tuple), ``state``
    (``finished`` at every seed of the sweep; ``stopped`` if a seed was; ``failed`` if all did; otherwise
    ``unfinished``), ``words`` (the state as tables show it), ``broken`` (the constraints it breaks),
    ``seeds`` (how many have a part in the means, missing for references) and ``used`` (their trials), then one
    column an axis, and for each metric its mean, and in ``"<metric> ci95"`` half the width of the mean's 95 %
    confidence interval (Student t), NaN for one seed.
    """
    runs, metrics = record.runs[record.runs["kind"].isin(kinds)], record.metrics
    groups = runs.groupby(GROUP, sort=False, dropna=False)
    members: dict[tuple[Any, ...], list[_Trial]] = {}
    for trial in _trials(runs):
        members.setdefault((trial.sweep, trial.kind, trial.number), []).append(trial)
    sweeps = {sweep.name: sweep for sweep in record.sweeps}
    rows: list[dict[str, Any]] = []
    taken: list[Any] = []
    for group in members.values():
        row, used = _state(sweeps[group[0].sweep], group)
        rows.append(row)
        taken += used
    frame = pd.DataFrame(rows, columns=[*GROUP, *COLUMNS]).set_index(GROUP)
    frame["seeds"] = frame["seeds"].astype("Int64")
    frame[record.axes] = groups[record.axes].first()
    values = runs.loc[taken].groupby(GROUP, sort=False, dropna=False)[metrics]
    # A seed without a value leaves its configuration without one: a mean of the others would flatter it.
    with np.errstate(invalid="ignore"):
        means, spread = values.mean(skipna=False), values.std(skipna=False)
    count = values.size().astype("float64")
    reach = pd.Series(student(count), index=count.index)
    parts = [frame, means, spread.mul(reach, axis=0).add_suffix(" ci95")]
    frame = pd.concat([part.reindex(frame.index) for part in parts], axis=1).reset_index()
    if any(sweep.constraints for sweep in record.sweeps):
        frame["broken"] = [_broken(record, row) for _, row in frame.iterrows()]
    return frame


class _Trial(NamedTuple):
    """What of a row of ``Record.runs`` says how its configuration stands."""

    index: Any
    sweep: str
    kind: str
    number: Any
    trial: str
    label: Any
    config_hash: Any
    seed: Any
    state: str
    epoch: Any
    overrides: Any


def _trials(runs: pd.DataFrame) -> Iterator[_Trial]:
    columns = (runs[name].tolist() for name in _Trial._fields[1:])
    return map(_Trial._make, zip(runs.index, *columns, strict=True))


def _state(sweep: SweepInfo, group: Sequence[_Trial]) -> tuple[dict[str, Any], list[Any]]:
    """A configuration without its values, and the rows of the trials that its values come from."""
    first = group[0]
    expected = {"search": sweep.seeds, "confirm": sweep.confirm_seeds}.get(first.kind, len(group))
    chosen = [trial for trial in group if trial.state != "failed"]
    finished = [trial for trial in group if trial.state == "finished"]
    stopped = [trial for trial in group if trial.state == "stopped"]
    if len(finished) == max(expected, len(group)):
        state, words = "finished", "finished"
    elif not chosen:
        state, words = "failed", "failed"
    elif stopped:
        state, words = "stopped", f"stopped @ {_epochs(stopped)}"
    elif finished:
        state, words, chosen = "unfinished", f"{len(finished)} of {expected} finished", finished
    else:
        state, words = "unfinished", f"{'/'.join(sorted({t.state for t in chosen}))} @ {_epochs(chosen)}"
    row = {name: getattr(first, name) for name in [*GROUP, "label", "config_hash", "overrides"]}
    row |= {"name": _name(group), "trials": tuple(trial.trial for trial in group), "state": state, "words": words}
    seeds = None if first.kind == "reference" else len(chosen)
    row |= {"broken": "", "seeds": seeds, "used": tuple(trial.trial for trial in chosen)}
    return row, [trial.index for trial in chosen]


def _epochs(group: Sequence[_Trial]) -> str:
    epochs = [int(trial.epoch) for trial in group if not pd.isna(trial.epoch)]
    if not epochs:
        return "0"
    return str(min(epochs)) if min(epochs) == max(epochs) else f"{min(epochs)}…{max(epochs)}"


def _name(group: Sequence[_Trial]) -> str:
    """The label, or what the trial ids of all seeds begin with, or the number."""
    first = group[0]
    if isinstance(first.label, str):
        return first.label
    names = {trial.trial.removesuffix(f"-s{trial.seed}") for trial in group}
    return names.pop() if len(names) == 1 else str(first.number)


def _broken(record: Record, row: pd.Series[Any]) -> str:
    """The constraints that a finished configuration of the search breaks."""
    if row["kind"] != "search" or row["state"] != "finished":
        return ""
    broken = []
    for key, rule in record.sweep(row["sweep"]).constraints.items():
        value, operator, bound = row.get(key, math.nan), rule.strip()[:2], float(rule.strip()[2:])
        # What was not measured does not keep to a constraint: a comparison with NaN is false.
        if not (value <= bound if operator == "<=" else value >= bound):
            broken.append(f"{key} {rule}")
    return ", ".join(broken)


def first_objective(record: Record) -> tuple[str, Direction]:
    """The key and direction that configurations are ranked by; raises ``RecordError`` where nobody has it."""
    if not record.objective:
        raise RecordError(f"{record.names or 'the record'}: there is no objective")
    key, direction = next(iter(record.objective.items()))
    return record.checked(key, record.metrics, "value yet of the objective"), direction


def ranked(record: Record) -> pd.DataFrame:
    """The configurations that have not failed, in the order of a table, with ``rank``.

    The search by rank (0 finished, 1 finished but breaking a constraint, 2 finished without a finite value,
    3 stopped, 4 not done) and there by the first objective; confirmed ones by the first objective; controls
    and references by number.
    """
    key, direction = first_objective(record)
    frame = by_configuration(record)
    frame = frame[frame["state"] != "failed"]
    finished, finite = frame["state"] == "finished", np.isfinite(frame[key].astype("float64"))
    rank = pd.Series(4, index=frame.index).mask(frame["state"] == "stopped", 3).mask(finished & ~finite, 2)
    rank = rank.mask(finished & finite, (frame["broken"] != "").astype("int64"))
    beside = frame["kind"].isin(["control", "reference"])
    value = frame[key] if direction == "min" else -frame[key]
    order = frame.assign(
        rank=rank.mask(beside, 0),
        _kind=frame["kind"].map(KINDS.index),
        _value=value.mask(beside, 0.0),
    )
    return order.sort_values(["_kind", "rank", "_value", "number", "sweep"]).drop(columns=["_kind", "_value"])


def best(record: Record) -> Best | None:
    """The best configuration by the first objective, among those of the search that finished at every seed.

    Those that keep to the constraints come first; None while no configuration has finished.
    """
    return best_of(record, ranked(record))


def best_of(record: Record, order: pd.DataFrame) -> Best | None:
    """``best``, where the configurations are ``ranked`` already."""
    key, direction = first_objective(record)
    order = order[(order["kind"] == "search") & (order["rank"] <= 1)]
    if order.empty:
        return None
    row = order.iloc[0]
    notes = []
    if len(record.objective) > 1:
        notes.append(f"by {key}, the first of {len(record.objective)} objectives")
    if row["broken"]:
        notes.append(f"no configuration keeps to the constraints; this one breaks {row['broken']}")
    half_width = float(row[f"{key} ci95"])
    return Best(
        sweep=row["sweep"],
        name=row["name"],
        config_hash=row["config_hash"],
        overrides=json.loads(row["overrides"]),
        metric=key,
        direction=direction,
        mean=float(row[key]),
        half_width=None if math.isnan(half_width) else half_width,
        trials=row["trials"],
        note="; ".join(notes) or None,
    )


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
