"""Health checks of a sweep's record: what each found, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from analysis.configuration.chance import chance_axes
from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.controls import (
    controls_of,
    judged,
    metric_of_controls,
    recorded_controls,
    spec_controls,
)
from analysis.configuration.labels import axis_labels
from analysis.configuration.levels import is_number
from analysis.configuration.margin import margin_of
from analysis.configuration.objective import better, first_objective
from analysis.configuration.replicates import population, seed_values
from analysis.record.runs import Record, RecordError
from analysis.render.cells import Cell, Column, Row
from analysis.render.table import Table
from analysis.statistics.intervals import Array
from analysis.tables.importance import importance
from linearizer_core.words import counted

Verdict = Literal["PASS", "WARN", "FAIL"]
ORDER: tuple[Verdict, ...] = ("FAIL", "WARN", "PASS")
NEAR = 0.05
"""A value within this share of the range from either end counts as at its edge."""
FEWEST = 10
"""The fewest configurations for judging whether the axes predict the objective."""
FEWEST_RANKED = 5
"""The fewest finished trials for comparing their order at a rung with their order at the end."""
PREDICTED = 0.1
"""The smallest share of the order of configurations that the axes should predict; chance alone predicts none."""
NO_EFFECT = 0.05
"""An axis with a smaller share of the importance counts as having no effect."""
MOST_FAILED = 0.1
"""The largest share of failed trials without a warning."""


@dataclass(frozen=True)
class Finding:
    """What a check found, and what to do about it; the remedy is empty where it passed."""

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""


def health(record: Recorded, *, unequal: bool = False) -> Table:
    """Checks a record's claims and lists the failed checks first.

    The checks ask whether the best configuration lies inside the searched ranges and beats the references and its
    controls; whether the axes predict the objective and each has an effect; whether seeds vary less than
    configurations, early stopping ranks trials as the end does, and the metric can separate the best from the next;
    and how many trials failed. Checks that the record cannot answer are listed in the notes; with ``unequal`` the
    importance of the axes is also estimated from trials that were not trained equally. Raises ``RecordError`` if no
    trial has the first objective.

    >>> import analysis
    >>> table = analysis.health(analysis.example())
    >>> [(row.cells[0].value, row.cells[1].value) for row in table.rows][:2]
    [('edge of the space', 'WARN'), ('controls', 'WARN')]
    """
    configurations = Configurations.of(record)
    record = configurations.record
    key = first_objective(record)[0]
    checks: dict[str, Callable[[Configurations, str], Iterator[Finding]]] = {
        "edge of the space": _edge,
        "references": _references,
        "controls": _controls,
        "objective": _predictable,
        "axes": partial(_axes, unequal=unequal),
        "seeds": _seeds,
        "early stopping": _stopping,
        "noise of the metric": _noise,
        "failures": _failures,
    }
    found: list[Finding] = []
    untold = []
    for name, check in checks.items():
        try:
            found += list(check(configurations, key))
        except RecordError as error:
            untold.append(f"{name}: not checked: {str(error).removeprefix(f'{record.names}: ')}.")
    found.sort(key=lambda each: ORDER.index(each.verdict))
    return Table(
        name="health",
        title=f"{record.names}: can it be relied on?",
        columns=(
            Column("check", "check", "left"),
            Column("verdict", "verdict", "left"),
            Column("found", "found", "left"),
            Column("what to do", "remedy", "left"),
        ),
        rows=tuple(Row((Cell(each.check), Cell(each.verdict), Cell(each.found), Cell(each.remedy))) for each in found),
        notes=tuple(untold),
    )


def _best(configurations: Configurations) -> Mapping[Any, Any]:
    """The row of the best configuration; raises ``RecordError`` if there is none yet."""
    row = configurations.best_row
    if row is None:
        raise RecordError(f"{configurations.record.names}: no configuration of the search has finished")
    return row


def _edge(configurations: Configurations, _: str) -> Iterator[Finding]:
    """Whether the best value of an axis is at an end of its range or of its listed numbers."""
    record, row = configurations.record, _best(configurations)
    short, at = axis_labels(record), []
    for axis in record.sweep(row["sweep"]).axes:
        if axis in chance_axes(record):
            continue  # one seed is as good as another
        value, dimension = row[axis], record.sweep(row["sweep"]).dimension(axis)
        listed = [each for each in dimension.get("grid") or () if _numeric(each)]
        ends = dimension.get("int") or dimension.get("float") or ([min(listed), max(listed)] if len(listed) > 2 else [])
        if not ends or not _numeric(value) or ends[0] == ends[1]:
            continue
        low, high, place = (math.log(each) if dimension.get("log") else float(each) for each in (*ends, value))
        share = 0.0 if "float" not in dimension else NEAR * (high - low)
        if place <= low + share or place >= high - share:
            at.append(f"{short[axis]} = {value:.3g} of {ends[0]:g} … {ends[1]:g}")
    if at:
        yield Finding("edge of the space", "WARN", f"the best lies at {', '.join(at)}", "widen the range there")
    else:
        yield Finding("edge of the space", "PASS", "the best lies inside all ranges")


def _numeric(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(value)


def _references(configurations: Configurations, key: str) -> Iterator[Finding]:
    """Whether the best beats the references that need no model; real images, the floor, are not counted."""
    record, row = configurations.record, _best(configurations)
    sign = -1 if better(record, key) == "max" else 1
    mine = float(row[key])
    frame = configurations.of_kinds(["reference"])
    opponents = frame[(frame["sweep"] == row["sweep"]) & ~frame["name"].str.startswith("real ") & frame[key].notna()]
    if opponents.empty:
        raise RecordError(f"{record.names}: no reference has {key}")
    nearest = opponents.loc[(sign * opponents[key]).idxmin()]
    told = f"{row['name']}: {mine:.3g}; {nearest['name']}: {float(nearest[key]):.3g}"
    if sign * mine < sign * float(nearest[key]):
        yield Finding("references", "PASS", told)
    else:
        yield Finding("references", "FAIL", told, "train longer or a larger model: this reference needs no network")


def _controls(configurations: Configurations, _: str) -> Iterator[Finding]:
    """Whether the controls are worse, as they should be: the operators' own, and those of the spec."""
    record, row = configurations.record, judged(configurations)
    if row is None or (not recorded_controls(record) and configurations.of_kinds(["control"]).empty):
        own = "function" in record.sweeps[0].spec  # no Linearizer, so that g and A mean nothing
        part = "the method without the part under study" if own else "g = identity, A = c·P"
        yield Finding("controls", "WARN", "none was recorded", f"add controls that should do worse: {part}")
        return
    metric = metric_of_controls(record)
    found = [*controls_of(record, row, metric), *spec_controls(configurations, row, metric)]
    if not found:
        raise RecordError(f"{record.names}: no control has been measured by {metric} on the test split")
    lost = [each for each in found if each.told and not each.beaten]
    untold = [each.words for each in found if not each.told]
    for each in lost:
        times = f"only {each.ratio.mean:.3g} ± {each.half_width:.2g} times worse" if each.half_width else "as good"
        remedy = {
            "A": "do not claim that this part of the operators matters",
            "g": "do not claim that the network matters",
            "": "report the comparison, and claim no more",
        }[each.subject]
        yield Finding("controls", "FAIL", f"{each.words}: {times}: not beaten", remedy)
    if untold:
        yield Finding("controls", "WARN", f"one seed is not enough to judge: {', '.join(untold)}", "run more seeds")
    beaten = [each.words for each in found if each.beaten]
    if beaten:
        yield Finding("controls", "PASS", f"beaten: {', '.join(beaten)}")


def _regressors(record: Record, frame: pd.DataFrame) -> Array:
    """The axes as ``(configurations, columns)``: one column per numeric axis, else one per value; -1 where unset."""
    columns = []
    for axis in record.axes:
        values = frame[axis]
        if is_number(values):
            columns.append(values.astype("float64").fillna(-1.0).to_numpy())
        else:
            columns += [(values == each).to_numpy(dtype=np.float64) for each in values.dropna().unique()]
    return np.stack(columns, axis=1)


def _predictable(configurations: Configurations, key: str) -> Iterator[Finding]:
    """Whether a cross-validated forest predicts the objective better than its mean does."""
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.model_selection import KFold, cross_val_predict

    record = configurations.record
    frame = population(configurations, key)
    frame = frame[frame["counts"]]
    values = frame[key].to_numpy(dtype=np.float64)
    if len(frame) < FEWEST or not np.ptp(values):
        raise RecordError(f"{record.names}: needs {FEWEST} finished configurations that differ, got {len(frame)}")
    forest = ExtraTreesRegressor(100, min_samples_leaf=2, random_state=0)
    ranks = stats.rankdata(values)  # on ranks, so that one diverged trial does not dominate
    seen = cross_val_predict(forest, _regressors(record, frame), ranks, cv=KFold(10, shuffle=True, random_state=0))
    r2 = 1 - float(((ranks - seen) ** 2).sum() / ((ranks - ranks.mean()) ** 2).sum())
    told = f"the axes predict {max(r2, 0):.0%} of the order of {len(frame)} configurations (at least "
    told = f"{told}{PREDICTED:.0%} passes)".replace("%", " %")
    if r2 >= PREDICTED:
        yield Finding("objective", "PASS", told)
    else:
        yield Finding(
            "objective", "WARN", told, "run more seeds or configurations, or search other axes: this is mostly chance"
        )


def _axes(configurations: Configurations, key: str, unequal: bool) -> Iterator[Finding]:
    """Whether an axis has almost no importance, by every estimate of it."""
    table = importance(configurations, key, resamples=1, unequal=unequal)
    told = [row for row in table.rows if all(isinstance(cell.value, float) for cell in row.cells[1:])]
    record = configurations.record
    seeds = [axis_labels(record)[axis] for axis in chance_axes(record)]  # which should have none
    idle = [
        str(row.cells[0].value)
        for row in told
        if row.cells[0].value not in seeds and all(float(str(cell.value)) < NO_EFFECT for cell in row.cells[1:])
    ]
    for name in idle:
        yield Finding("axes", "WARN", f"{name} has less than {NO_EFFECT:.0%} of the importance".replace("%", " %"),
                      "drop it, or widen its range")  # fmt: skip
    if not idle:
        yield Finding("axes", "PASS", "each has an effect")


def _seeds(configurations: Configurations, key: str) -> Iterator[Finding]:
    """Whether configurations differ by more than seeds do."""
    record = configurations.record
    frame = population(configurations, key)
    frame = frame[frame["counts"]]
    values = [np.array([*each.values()]) for each in seed_values(record, frame, key, unequal=False).values()]
    repeated = [each for each in values if len(each) > 1]
    if not repeated:
        yield Finding("seeds", "WARN", "one seed per configuration: no interval and no test", "run three seeds or more")
        return
    within = float(np.mean([each.var(ddof=1) for each in repeated]))
    means = np.array([each.mean() for each in values if len(each)])
    if len(means) < 3:
        raise RecordError(f"{record.names}: needs three finished configurations, got {len(means)}")
    count = float(np.mean([len(each) for each in repeated]))
    between = max(0.0, float(means.var(ddof=1)) - within / count)
    told = f"standard deviation {math.sqrt(within):.3g} over seeds, {math.sqrt(between):.3g} over configurations"
    if within <= between:
        yield Finding("seeds", "PASS", told)
    else:
        yield Finding("seeds", "WARN", told, "run more seeds: which configuration is best is mostly chance")


def _stopping(configurations: Configurations, key: str) -> Iterator[Finding]:
    """Whether trials that reached both rank alike at the first rung and at the end."""
    record = configurations.record
    sweeps = [sweep for sweep in record.sweeps if sweep.spec.get("search", {}).get("stop_early")]
    if not sweeps:
        return
    runs = record.runs[(record.runs["state"] == "finished") & (record.runs["kind"] == "search")]
    runs = runs[runs["sweep"].isin([sweep.name for sweep in sweeps])]
    points = record.curves[record.curves["metric"] == key].merge(runs[["sweep", "trial"]], on=["sweep", "trial"])
    if points.empty:
        raise RecordError(f"{record.names}: no finished trial was measured while it trained")
    first = points.sort_values("step").groupby(["sweep", "trial"], observed=True)["value"].first()
    last = runs.set_index(["sweep", "trial"])[key].astype("float64").reindex(first.index)
    kept = np.isfinite(first) & np.isfinite(last)
    if int(kept.sum()) < FEWEST_RANKED:
        raise RecordError(f"{record.names}: needs {FEWEST_RANKED} finished trials, got {int(kept.sum())}")
    agreement = float(stats.spearmanr(first[kept], last[kept]).statistic)
    told = (
        f"rank correlation {agreement:.2f} between the first rung and the end, over {int(kept.sum())} finished trials"
    )
    if agreement >= 0.5:
        yield Finding("early stopping", "PASS", told)
    else:
        yield Finding("early stopping", "WARN", told, "use a longer grace period (search.stop_early.grace_epochs)")


def _noise(configurations: Configurations, key: str) -> Iterator[Finding]:
    """Whether the best leads by more than the metric's own error from samples and held-out images."""
    record, row = configurations.record, _best(configurations)
    margin = margin_of(record, key)
    if margin is None:
        raise RecordError(f"{record.names}: the trials did not record the error of {key}")
    frame = configurations.of_kinds(["search"])
    finished = frame[(frame["state"] == "finished") & (frame["name"] != row["name"])]
    others = finished[key].astype("float64").dropna()
    if others.empty:
        raise RecordError(f"{record.names}: nothing else has finished")
    lead = float((others - float(row[key])).abs().min())
    error = f"the metric's own error, ± {margin:.3g} by chance in samples and held-out images,"
    if lead > margin:
        yield Finding("noise of the metric", "PASS", f"{error} is smaller than the lead of the best, {lead:.3g}")
    else:
        remedy = "use more samples and held-out images, or do not claim that the next one is worse"
        yield Finding("noise of the metric", "WARN", f"{error} is larger than the lead of the best, {lead:.3g}", remedy)


def _failures(configurations: Configurations, _: str) -> Iterator[Finding]:
    """Whether more than a few trials failed."""
    runs = configurations.record.runs
    runs = runs[runs["kind"] != "reference"]
    failed = int((runs["state"] == "failed").sum())
    told = f"{failed} of {counted(len(runs), 'trial')} failed"
    if failed > MOST_FAILED * len(runs):
        yield Finding("failures", "WARN", told, "see why: linsweep logs NAME/TRIAL")
    else:
        yield Finding("failures", "PASS", told)
