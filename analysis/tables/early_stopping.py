"""Early stopping: whether its rungs rank as the end does, and what it saved and cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.labels import label_of
from analysis.configuration.objective import first_objective
from analysis.record.runs import Record, RecordError
from analysis.render.cells import Cell, Column, Row
from analysis.render.table import Table
from analysis.statistics.agreement import RankCorrelation, rank_correlation
from analysis.statistics.intervals import Array

GRACE, REDUCTION = 1, 3
"""Of a replay where the spec does not stop early: the defaults of ``search.stop_early``."""


def early_stopping(record: Recorded, grace_epochs: int | None = None, reduction: int | None = None) -> Table:
    """How the trials stood at each rung of early stopping against the end, how many stopped there, and what it saved.

    Of trials that finished: the rank correlation of the first objective at the rung with that at the end, and where the
    best of the end stood. Where nothing was stopped early, halving is replayed on the curves in the order of the
    search, each trial against those before it, with ``grace_epochs`` and ``reduction`` (by default 1 and 3): what would
    have been stopped, saved, and lost. Of configurations with several seeds the first decides, as in a sweep. Raises
    ``RecordError`` where no finished trial was measured at a rung, and for rules that differ between sweeps.

    >>> import analysis
    >>> try:
    ...     analysis.early_stopping(analysis.example(), grace_epochs=20)
    ... except analysis.RecordError as error:
    ...     print(error)
    digits: no finished trial was measured with quality/classifier_fd_collapsed at a rung ([20])
    """
    record = Configurations.of(record).record
    key, direction = first_objective(record)
    sign = 1.0 if direction == "min" else -1.0
    rules = {_rule(sweep.spec) for sweep in record.sweeps}
    if len(rules) > 1:
        raise RecordError(f"{record.names}: the sweeps stop early by different rules; take one at a time")
    rule = rules.pop()
    if rule is not None and (grace_epochs or reduction):
        raise RecordError(
            f"{record.names}: it stopped early by its own rule; a replay needs trials that ran to the end"
        )
    grace, factor = rule or (grace_epochs or GRACE, reduction or REDUCTION)
    if grace < 1 or factor < 2:
        raise RecordError(
            f"{record.names}: grace_epochs is 1 or more and reduction 2 or more, got {grace} and {factor}"
        )
    trials = _first_seeds(record)
    finished = trials[(trials["state"] == "finished") & np.isfinite(trials[key].astype("float64"))]
    if finished.empty:
        raise RecordError(f"{record.names}: no trial has finished")
    total = int(finished["epoch"].max())
    curves = _curves(record, key, trials)
    rungs = [grace * factor**power for power in range(64) if grace * factor**power < total]
    ends = sign * finished[key].to_numpy(dtype=np.float64)
    stopped = _stopped(trials) if rule else _replayed(trials.loc[finished.index], curves, rungs, factor, sign)
    whole = total * len(trials if rule else finished)
    rows = []
    for place, rung in enumerate(rungs):
        until = rungs[place + 1] if place + 1 < len(rungs) else total
        values = sign * np.array([_at(curves.get(index), rung) for index in finished.index])
        there = np.isfinite(values)
        if not there.any():
            continue
        best = int(np.argmin(np.where(there, ends, np.inf)))
        stood = int((values[there] < values[best]).sum()) + 1
        here = [epoch for epoch in stopped.values() if rung <= epoch < until]
        saved = sum(total - epoch for epoch in here)
        cells = [Cell(rung), Cell(int(there.sum()))]
        cells += [_correlation(rank_correlation(values[there], ends[there], kind)) for kind in ("spearman", "kendall")]
        cells += [Cell(stood), Cell(len(here)), Cell(saved), Cell(100 * saved / whole)]
        rows.append(Row(tuple(cells)))
    if not rows:
        raise RecordError(f"{record.names}: no finished trial was measured with {key} at a rung ({rungs})")
    return Table(
        name="early-stopping",
        title=f"{record.names}: {label_of(record, key)} at the rungs against the end",
        columns=(
            Column("rung (epoch)", "rung", spec="d"),
            Column("finished", "finished", spec="d"),
            Column("Spearman ρ", "spearman", spec=".2f"),
            Column("Kendall τ", "kendall", spec=".2f"),
            Column("best stood at", "place of the best", spec="d"),
            Column("stopped", "stopped", spec="d"),
            Column("epochs saved", "epochs saved", spec=",d"),
            Column("of all (%)", "saved percent", spec=".1f"),
        ),
        rows=tuple(rows),
        notes=tuple(_notes(rule is not None, finished, ends, stopped, sign, (grace, factor))),
    )


def _rule(spec: Mapping[str, Any]) -> tuple[int, int] | None:
    """The first rung and the reduction of a spec's early stopping; None where it has none."""
    rule = (spec.get("search") or {}).get("stop_early")
    if not rule:
        return None
    return int(rule.get("grace_epochs", GRACE)), int(rule.get("reduction", REDUCTION))


def _first_seeds(record: Record) -> pd.DataFrame:
    """Of each configuration of the search the trial that decides, in the order of the search."""
    runs = record.runs
    runs = runs[(runs["kind"] == "search") & runs["duplicate_of"].isna()]
    places = {(sweep.name, seed): place for sweep in record.sweeps for place, seed in enumerate(sweep.first_seeds)}
    order = [places.get((sweep, seed), 0) for sweep, seed in zip(runs["sweep"], runs["seed"], strict=True)]
    runs = runs.assign(_place=order).sort_values(["sweep", "number", "_place"], kind="stable")
    return runs.drop_duplicates(["sweep", "number"]).reset_index(drop=True)


def _curves(record: Record, key: str, trials: pd.DataFrame) -> dict[Any, tuple[Array, Array]]:
    """The epochs and values of each trial's evaluations, by its row."""
    rows = {
        (sweep, trial): row for row, sweep, trial in zip(trials.index, trials["sweep"], trials["trial"], strict=True)
    }
    points = record.curves[record.curves["metric"] == key].sort_values("step")
    found = {}
    for name, curve in points.groupby(["sweep", "trial"], observed=True):
        if name in rows:
            found[rows[name]] = curve["step"].to_numpy(dtype=np.float64), curve["value"].to_numpy(dtype=np.float64)
    return found


def _at(curve: tuple[Array, Array] | None, rung: int) -> float:
    """The value at the first evaluation from a rung on; NaN where there is none."""
    if curve is None:
        return math.nan
    place = int(np.searchsorted(curve[0], rung))
    return float(curve[1][place]) if place < len(curve[0]) else math.nan


def _stopped(trials: pd.DataFrame) -> dict[Any, int]:
    """The epoch at which each trial that was stopped early was, by its row."""
    those = trials[(trials["state"] == "stopped") & trials["epoch"].notna()]
    return dict(zip(those.index, those["epoch"].astype("int64").tolist(), strict=True))


def _replayed(
    trials: pd.DataFrame, curves: Mapping[Any, tuple[Array, Array]], rungs: Sequence[int], factor: int, sign: float
) -> dict[Any, int]:
    """The rung at which halving would have stopped each trial, by its row: all before it have ended."""
    known: dict[int, list[float]] = {rung: [] for rung in rungs}
    stopped = {}
    for row in trials.index:
        for rung in rungs:
            value = sign * _at(curves.get(row), rung)
            if math.isnan(value):
                continue
            others = known[rung]
            worse = sum(other < value for other in others) >= math.ceil((len(others) + 1) / factor)
            others.append(value)
            if worse:
                stopped[row] = rung
                break
    return stopped


def _correlation(found: RankCorrelation) -> Cell:
    ends = None if found.low is None or found.high is None else (found.low, found.high)
    return Cell(found.value, interval=ends)


def _notes(
    happened: bool,
    finished: pd.DataFrame,
    ends: Array,
    stopped: Mapping[Any, int],
    sign: float,
    rule: tuple[int, int],
) -> list[str]:
    notes = [
        "ρ, τ: rank correlations of the trials that finished, of each configuration's first seed, with 95 % intervals "
        "(Fisher's). Best stood at: the place at the rung of the trial that is best at the end."
    ]
    if happened:
        notes.append("Only what was good at the rungs has an end: of all trials the correlations would be higher.")
        return notes
    kept = np.array([row not in stopped for row in finished.index])
    best, left = sign * float(ends.min()), sign * float(ends[kept].min()) if kept.any() else math.nan
    lost = (
        "the best would have been kept" if left == best else f"the best would have been {left:.4g} and not {best:.4g}"
    )
    notes.append(
        f"Nothing was stopped early: replayed with grace_epochs {rule[0]} and reduction {rule[1]}, {len(stopped)} of "
        f"{len(finished)} would have been stopped, and {lost}."
    )
    return notes
