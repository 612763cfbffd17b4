"""The best value found so far against the spending of a search, and comparisons of searches by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.configuration.budget import check_equal
from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.labels import label_of
from analysis.configuration.names import metric_of
from analysis.record.runs import Direction, Record, RecordError, SweepInfo
from analysis.render.cells import Cell, Column, Row, number_format
from analysis.render.table import Table
from analysis.statistics.intervals import estimate
from analysis.statistics.tests import compare, holm

Unit = Literal["seconds", "gpu_hours", "trials"]
SHARES = (0.25, 0.5, 1.0)


def best_so_far(
    record: Recorded, metric: str | None = None, unit: Unit = "seconds", *, unequal: bool = False
) -> pd.DataFrame:
    """The best value found so far in each sweep, with one row each time that a configuration ends.

    Columns ``sweep, sampler, scheduler, spent, value, best``. ``spent`` is the total of all trials of the search that
    had ended by then: the ``seconds`` that their attempts took, ``gpu_hours`` (this time multiplied by the GPUs of a
    trial), or ``trials``. The value of a configuration, the mean over its seeds, is known when its last seed ends,
    however often that was resumed. A configuration that was stopped early or failed has costs but no value (with
    ``unequal``, its last value counts). A reused trial counts as if it had run, and as known before the next one began.
    Raises ``RecordError`` for an unknown metric, ``gpu_hours`` without GPUs, and for unequal training (unless
    ``unequal``).

    >>> import analysis
    >>> curve = analysis.best_so_far(analysis.example(), unit="trials")
    >>> curve[["spent", "best"]].round(1).tail(2)
        spent  best
    10   22.0  45.5
    11   24.0  42.2
    """
    configurations = Configurations.of(record)
    record = configurations.record
    key, direction = _objective(record, metric)
    searched = record.runs[record.runs["kind"] == "search"]
    if not unequal:
        check_equal(record, searched[searched["state"] == "finished"], f"the best {key} so far")
    frame = configurations.frame
    frame = frame[frame["kind"] == "search"]
    states = ["finished", "stopped"] if unequal else ["finished"]
    parts = []
    for sweep in record.sweeps:
        over = searched["seconds"].notna() & (searched["state"] != "running")
        trials = searched[(searched["sweep"] == sweep.name) & over]
        trials = trials.assign(known=_known(trials)).sort_values(["known", "number", "trial"])
        spent = (trials["seconds"] * _rate(sweep, unit) if unit != "trials" else trials["seconds"] * 0 + 1).cumsum()
        place = dict(zip(trials["trial"], range(len(trials)), strict=True))
        mine = frame[frame["sweep"] == sweep.name]
        rows = []
        for names, state, value in zip(mine["trials"], mine["state"], mine[key], strict=True):
            if not all(name in place for name in names):
                continue
            counts = state in states and np.isfinite(float(value))
            rows.append((max(place[name] for name in names), float(value) if counts else np.nan))
        rows.sort(key=lambda row: row[0])
        values = np.array([value for _, value in rows])
        sampler, scheduler = _method(sweep)
        found = np.fmin.accumulate(values) if direction == "min" else np.fmax.accumulate(values)
        parts.append(
            pd.DataFrame(
                {
                    "sweep": sweep.name,
                    "sampler": sampler,
                    "scheduler": scheduler,
                    "spent": [float(spent.iloc[end]) for end, _ in rows],
                    "value": values,
                    "best": found,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def anytime(record: Recorded, metric: str | None = None, unit: Unit = "seconds", *, unequal: bool = False) -> Table:
    """Searches compared by the best value found after equal spending, with one row per sampler and scheduler.

    Sweeps with the same sampler and scheduler are replicates, shown as means with 95 % intervals. The columns are: the
    best at several shares of the spending that every sweep reached; the mean of the best so far, from where all have a
    value up to that spending; and, without an interval, the spending needed for the value that every sweep reaches.
    With two or more replicates of each, the best method is tested against the others (Welch's t, Holm for all pairs).
    Raises ``RecordError`` as ``best_so_far`` does, and if a sweep has found nothing.

    >>> import analysis
    >>> analysis.anytime(analysis.example())
    <Table anytime, 1 × 9>
    """
    configurations = Configurations.of(record)
    record = configurations.record
    key, direction = _objective(record, metric)
    curves = best_so_far(configurations, metric, unit, unequal=unequal)
    found = curves[curves["best"].notna()]
    empty = [sweep.name for sweep in record.sweeps if sweep.name not in set(found["sweep"])]
    if empty:
        raise RecordError(f"{', '.join(empty)}: no finished configuration has a finite {key}")
    ends = curves.groupby("sweep", observed=True)["spent"].max()
    begin = float(found.groupby("sweep", observed=True)["spent"].min().max())
    until = float(ends.min())
    if begin > until:
        raise RecordError(
            f"{record.names}: nothing to compare: one sweep had ended at less spending than another's first value"
        )
    finals = [value_at(found[found["sweep"] == sweep.name], until) for sweep in record.sweeps]
    target = max(finals) if direction == "min" else min(finals)
    scores: dict[tuple[str, str], list[list[float]]] = {}
    for sweep in record.sweeps:
        curve = found[found["sweep"] == sweep.name]
        row = [value_at(curve, share * until) for share in SHARES]
        row += [mean_between(curve, begin, until), reached(curve, target, direction)]
        scores.setdefault(_method(sweep), []).append(row)
    order = sorted(
        scores, key=lambda name: np.mean([row[2] for row in scores[name]]) * (1 if direction == "min" else -1)
    )
    p = _tests([[row[3] for row in scores[name]] for name in order])
    rows = []
    for place, name in enumerate(order):
        columns = list(zip(*scores[name], strict=True))
        adjusted = p[place]
        # The target is the worst of these sweeps' results, so an interval over them would not hold for other sweeps.
        cells = [*map(_cell, columns[:-1]), _cell(columns[-1], interval=False)]
        cells = [Cell(name[0]), Cell(name[1]), Cell(len(columns[0])), *cells]
        rows.append(Row((*cells, Cell("") if place == 0 else Cell(None if np.isnan(adjusted) else adjusted))))
    spec = number_format([float(value) for value in found["best"]])
    words = {"seconds": "seconds", "gpu_hours": "GPU-hours", "trials": "trials"}[unit]
    return Table(
        name="anytime",
        title=f"{record.names}: best {label_of(record, key)} so far against {words}",
        columns=(
            Column("sampler", "sampler", "left"),
            Column("scheduler", "scheduler", "left"),
            Column("sweeps", "sweeps", spec="d"),
            *(Column(f"at {share * until:.3g}", f"best at {share * until:.6g} {unit}", spec=spec) for share in SHARES),
            Column("mean so far", "mean best so far", spec=spec),
            Column(
                f"{words} to {target:.4g}", f"{unit} to {target:.6g}", spec=",.3g" if unit == "gpu_hours" else ",.0f"
            ),
            Column("p (Holm)", "p holm", spec=".2g"),
        ),
        rows=tuple(rows),
        notes=(
            f"Equal spending: up to {until:.4g} {words}, which every sweep reached. Mean so far: over the spending "
            f"from {begin:.4g} on, where all have a value.",
            "p: the mean so far against that of the first row, by Welch's t over sweeps, with Holm for all pairs.",
        ),
    )


def value_at(curve: pd.DataFrame, spent: float) -> float:
    """One sweep's best so far at a spending of ``spent``; NaN before its first value."""
    before = curve[curve["spent"] <= spent]
    return float(before["best"].iloc[-1]) if len(before) else float("nan")


def mean_between(curve: pd.DataFrame, begin: float, end: float) -> float:
    """The mean over spending of one sweep's best so far, a step function."""
    if end <= begin:
        return value_at(curve, end)
    inside = curve[(curve["spent"] > begin) & (curve["spent"] < end)]
    edges = np.concatenate([[begin], inside["spent"].to_numpy(), [end]])
    values = np.concatenate([[value_at(curve, begin)], inside["best"].to_numpy()])
    return float((np.diff(edges) * values).sum() / (end - begin))


def reached(curve: pd.DataFrame, target: float, direction: Direction) -> float:
    """One sweep's spending when its best reached the target; NaN if it never did."""
    there = curve[curve["best"] <= target] if direction == "min" else curve[curve["best"] >= target]
    return float(there["spent"].min()) if len(there) else float("nan")


def _objective(record: Record, metric: str | None) -> tuple[str, Direction]:
    metric = metric_of(record, metric)
    if metric not in record.objective:
        raise RecordError(
            f"{record.names}: {metric} is not an objective of the search; objectives: {', '.join(record.objective)}"
        )
    return metric, record.objective[metric]


def _rate(sweep: SweepInfo, unit: Unit) -> float:
    if unit == "seconds":
        return 1.0
    resources = sweep.spec.get("resources") or {}
    gpus = float(resources.get("workers", 1)) * float(resources.get("gpus_per_worker", 0))
    if gpus == 0:
        raise RecordError(f"{sweep.name}: its trials had no GPU, so there are no GPU-hours; use seconds")
    return gpus / 3600


def _method(sweep: SweepInfo) -> tuple[str, str]:
    """The sampler and the early stopping of a sweep."""
    search = sweep.spec.get("search") or {}
    stopping = search.get("stop_early") or {}
    return str(search.get("sampler", "tpe")), str(stopping.get("scheduler", "asha")) if stopping else "none"


def _known(trials: pd.DataFrame) -> pd.Series[Any]:
    """The time at which the result of each of a sweep's trials was known."""
    # An interrupted trial has no end, but was worked on for at least this long.
    known = trials["ended"].fillna(trials["started"] + trials["seconds"])
    reused = trials["reused_from"].notna()
    own = trials[~reused]
    # A reused trial has the times of the original, which is in another sweep.
    for number in trials.loc[reused, "number"].unique():
        later = own.loc[own["number"] > number, "started"]
        known[reused & (trials["number"] == number)] = later.min() if len(later) else own["started"].max()
    return known.fillna(0.0)


def _cell(values: Sequence[Any], interval: bool = True) -> Cell:
    there = [float(value) for value in values if not np.isnan(value)]
    if not there:
        return Cell(count=0, of=len(values))
    found = estimate(there)
    half_width = None if not interval or found.low is None or found.high is None else (found.high - found.low) / 2
    # Only the better sweeps reach the target, so an interval over these would be misleading.
    return Cell(found.mean, half_width if len(there) == len(values) else None, len(there), of=len(values))


def _tests(groups: Sequence[Sequence[float]]) -> list[float]:
    """Adjusted p of the first group against each, for all pairs of groups."""
    p = [compare(group, groups[0], paired=False).p for group in groups[1:]]
    raw = [np.nan if each is None else each for each in p]
    return [float("nan"), *holm(raw, len(groups) * (len(groups) - 1) // 2).tolist()]
