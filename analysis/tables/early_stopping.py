"""Early stopping: whether rungs rank trials as the end does, and what stopping saved and lost."""

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
"""The defaults of ``search.stop_early``, for a replay if the spec does not stop early."""


def early_stopping(record: Recorded, grace_epochs: int | None = None, reduction: int | None = None) -> Table:
    """How well each rung of early stopping predicts the end, how many trials stopped there, and the epochs saved.

    For finished trials it has the rank correlation of the first objective between the rung and the end, and the place
    at the rung of the final best. If nothing was stopped early, halving is replayed on the curves in the order of the
    search, each trial against those before it, with ``grace_epochs`` and ``reduction`` (by default 1 and 3), to show
    what would have been stopped, saved and lost. If configurations have several seeds, the first decides, as in a
    sweep. Raises ``RecordError`` if no finished trial was measured at a rung, and if the sweeps have different rules.

    >>> import analysis
    >>> try:
    ...     analysis.early_stopping(analysis.example(), grace_epochs=20)
    ... except analysis.RecordError as error:
    ...     print(error)
    digits: no finished trial has a value of quality/classifier_fd_collapsed at a rung ([20])
    """
    record = Configurations.of(record).record
    key, direction = first_objective(record)
    sign = 1.0 if direction == "min" else -1.0
    rules = {_rule(sweep.spec) for sweep in record.sweeps}
    if len(rules) > 1:
        raise RecordError(f"{record.names}: the sweeps stop early by different rules; analyse one at a time")
    rule = rules.pop()
    if rule is not None and (grace_epochs or reduction):
        raise RecordError(
            f"{record.names}: its trials were stopped early already; a replay needs trials that ran to the end"
        )
    grace, factor = rule or (grace_epochs or GRACE, reduction or REDUCTION)
    if grace < 1 or factor < 2:
        raise RecordError(
            f"{record.names}: grace_epochs must be 1 or more and reduction 2 or more, got {grace} and {factor}"
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
        raise RecordError(f"{record.names}: no finished trial has a value of {key} at a rung ({rungs})")
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
    """The first rung and the reduction of a spec's early stopping; None if it has none."""
    rule = (spec.get("search") or {}).get("stop_early")
    if not rule:
        return None
    return int(rule.get("grace_epochs", GRACE)), int(rule.get("reduction", REDUCTION))


def _first_seeds(record: Record) -> pd.DataFrame:
    """The deciding trial of each configuration of the search, in the order of the search."""
    runs = record.runs
    runs = runs[(runs["kind"] == "search") & runs["duplicate_of"].isna()]
    places = {(sweep.name, seed): place for sweep in record.sweeps for place, seed in enumerate(sweep.first_seeds)}
    order = [places.get((sweep, seed), 0) for sweep, seed in zip(runs["sweep"], runs["seed"], strict=True)]
    runs = runs.assign(_place=order).sort_values(["sweep", "number", "_place"], kind="stable")
    return runs.drop_duplicates(["sweep", "number"]).reset_index(drop=True)


def _curves(record: Record, key: str, trials: pd.DataFrame) -> dict[Any, tuple[Array, Array]]:
    """Row of a trial → the epochs and values of its evaluations."""
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
    """The value at the first evaluation at or after a rung; NaN if there is none."""
    if curve is None:
        return math.nan
    place = int(np.searchsorted(curve[0], rung))
    return float(curve[1][place]) if place < len(curve[0]) else math.nan


def _stopped(trials: pd.DataFrame) -> dict[Any, int]:
    """Row of an early-stopped trial → the epoch at which it was stopped."""
    those = trials[(trials["state"] == "stopped") & trials["epoch"].notna()]
    return dict(zip(those.index, those["epoch"].astype("int64").tolist(), strict=True))


def _replayed(
    trials: pd.DataFrame, curves: Mapping[Any, tuple[Array, Array]], rungs: Sequence[int], factor: int, sign: float
) -> dict[Any, int]:
    """Row of a trial → the rung at which halving would have stopped it, if all trials before it had ended."""
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
        "ρ, τ: rank correlations over the finished trials of each configuration's first seed, with 95 % intervals "
        "(Fisher's). Best stood at: the place at the rung of the trial that is best at the end."
    ]
    if happened:
        notes.append("Only trials that were good at the rungs have an end; over all, correlations would be higher.")
        return notes
    kept = np.array([row not in stopped for row in finished.index])
    best, left = sign * float(ends.min()), sign * float(ends[kept].min()) if kept.any() else math.nan
    lost = (
        "the best would have been kept"
        if left == best
        else f"the best would have been {left:.4g} instead of {best:.4g}"
    )
    notes.append(
        f"Nothing was stopped early. In a replay with grace_epochs {rule[0]} and reduction {rule[1]}, {len(stopped)} "
        f"of {len(finished)} would have been stopped, and {lost}."
    )
    return notes
