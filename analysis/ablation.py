"""Ablation tables: configurations ranked, the effect of one axis, and of one axis against another."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.levels import is_number, levels, short_names
from analysis.ranking import Best, best, better, by_configuration, first_objective, ranked, student
from analysis.runs import Record, RecordError, natural
from analysis.tables import Cell, Column, Row, Table, Value, number_format

BLOCKS = {
    "search": "",
    "confirm": "confirmed at fresh seeds",
    "control": "controls",
    "reference": "references",
}
ARROWS: dict[str | None, str] = {"min": " ↓", "max": " ↑", None: ""}
QUALITY = re.compile(r"(?P<split>quality|test)/(?P<metric>.+)_(?P<how>k\d+|collapsed|auc)")


def configurations(record: Record, metrics: Sequence[str] | None = None) -> Table:
    """All configurations, ranked by the first objective, then what was confirmed, controls and references.

    ``metrics`` are the metric columns; by default objectives, test scores, the quality at the fewest and the
    most steps, linearity and size, without timings. Raises ``RecordError`` for a metric that nobody recorded.
    """
    key, _ = first_objective(record)
    shown = default_metrics(record) if metrics is None else list(metrics)
    for metric in shown:
        record.checked(metric, record.metrics, "metric")
    frame, top = ranked(record), best(record)
    identity = _identity_columns(record, frame)
    rows = []
    for _, row in frame.iterrows():
        cells = [Cell(_plain(row[field])) for field in identity]
        cells += [_estimate(row, metric) for metric in shown]
        winner = top is not None and (row["sweep"], row["trials"]) == (top.sweep, top.trials)
        rows.append(Row(tuple(cells), BLOCKS[row["kind"]], _marker(row), winner))
    family = _only_quality(shown)
    return Table(
        name="configurations",
        title=f"{record.names}: {f'{family} of ' if family else ''}every configuration",
        columns=(*identity.values(), *_metric_columns(record, shown, frame)),
        rows=tuple(rows),
        notes=tuple(_notes(record, frame, rows, key, top)),
    )


def default_metrics(record: Record) -> list[str]:
    """The metric columns of an ablation table, where present; nothing that two runs of one spec differ in."""
    known = record.metrics
    families = [match["metric"] for key in record.objective if (match := QUALITY.fullmatch(key))]
    families = families or [match["metric"] for key in known if (match := QUALITY.fullmatch(key))]
    wanted = [*record.objective]
    for family in dict.fromkeys(families):
        stepped = re.compile(rf"quality/{re.escape(family)}_k\d+")
        steps = sorted(filter(stepped.fullmatch, known), key=natural)
        wanted += [f"test/{family}_collapsed", f"quality/{family}_k1", *steps[-1:]]
    wanted += ["linearity/collapse_psnr", "linearity/roundtrip", "cost/params"]
    return [key for key in dict.fromkeys(wanted) if key in known]


def _identity_columns(record: Record, frame: pd.DataFrame) -> dict[str, Column]:
    """Columns by what they show of ``ranked``'s frame."""
    columns = {"name": Column("configuration", "configuration", "left")}
    if len(record.sweeps) > 1:
        columns["sweep"] = Column("sweep", "sweep", "left")
    short = short_names(record.axes)
    for axis in record.axes:
        numeric = is_number(frame[axis])
        whole = pd.api.types.is_integer_dtype(frame[axis])
        spec = ("d" if whole else ".3g") if numeric else ""
        columns[axis] = Column(short[axis], axis, "right" if numeric else "left", spec)
    return columns | {"seeds": Column("seeds", "seeds", spec="d"), "words": Column("state", "state", "left")}


def _metric_columns(record: Record, shown: Sequence[str], frame: pd.DataFrame) -> list[Column]:
    family = _only_quality(shown)
    headers = [header(record, metric, family) for metric in shown]
    if len(set(headers)) < len(headers):
        headers = list(shown)
    specs = {metric: number_format(frame[metric].dropna()) for metric in shown}
    # What is to be compared across columns, a metric at several step counts, is shown to the same digits.
    families = {metric: match["metric"] if (match := QUALITY.fullmatch(metric)) else metric for metric in shown}
    for family in set(families.values()):
        alike = [metric for metric in shown if families[metric] == family]
        specs |= dict.fromkeys(alike, number_format(pd.concat([frame[metric].dropna() for metric in alike])))
    return [Column(text, metric, spec=specs[metric]) for text, metric in zip(headers, shown, strict=True)]


def _only_quality(metrics: Sequence[str]) -> str:
    """The quality metric that all columns are of, if it is one: the title names it then, not each header."""
    families = {match["metric"] for key in metrics if (match := QUALITY.fullmatch(key))}
    return families.pop() if len(families) == 1 else ""


def header(record: Record, metric: str, family: str = "") -> str:
    """A metric key in words, without the quality metric ``family``, with an arrow to where it is better."""
    arrow = ARROWS[better(record, metric)]
    match = QUALITY.fullmatch(metric)
    if match is None:
        return metric.partition("/")[2].replace("psnr", "PSNR").replace("_", " ") + arrow
    how = re.sub(r"^k(?=\d)", "k=", match["how"])
    words = [match["metric"]] if match["metric"] != family else []
    return " ".join([*words, "test" if match["split"] == "test" else how]) + arrow


def _estimate(row: pd.Series[Any], metric: str) -> Cell:
    half_width = row[f"{metric} ci95"]
    # The size of a model does not vary over its seeds: an interval would say nothing.
    fixed = metric == "cost/params" or math.isnan(half_width)
    return Cell(_plain(row[metric]), None if fixed else float(half_width))


def _plain(value: Any) -> Value:
    """A value of a frame as Python's own type."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    plain: Value = value.item() if isinstance(value, np.generic) else value
    return plain


def _marker(row: pd.Series[Any]) -> str:
    if row["state"] == "finished":
        return "§" if row["broken"] else ""
    return {"stopped": "†", "unfinished": "‡"}[row["state"]]


def _notes(record: Record, frame: pd.DataFrame, rows: Sequence[Row], key: str, top: Best | None) -> list[str]:
    notes = []
    if top is not None:
        notes.append(f"Bold: the best finished configuration by {key}{f' ({top.note})' if top.note else ''}.")
    if any(cell.half_width is not None for row in rows for cell in row.cells):
        notes.append("±: half width of the 95 % confidence interval over seeds (Student t).")
    if (frame["state"] == "stopped").any():
        notes.append("† stopped early: values are of its last evaluation, not comparable with finished ones.")
    if (frame["state"] == "unfinished").any():
        notes.append("‡ not finished at every seed: values are of the seeds, or epochs, that there are.")
    if (frame["broken"] != "").any():
        notes.append(f"§ breaks a constraint: {', '.join(sorted(set(frame['broken']) - {''}))}.")
    odd = frame.loc[frame["rank"] == 2, "name"]
    if not odd.empty:
        notes.append(f"Finished without a finite {key}: {', '.join(odd)}.")
    return notes + _failures(record)


def _failures(record: Record) -> list[str]:
    failed = record.runs[record.runs["state"] == "failed"]
    if failed.empty:
        return []
    reasons = failed["reason"].fillna("no reason recorded").str.split().str.join(" ").str.slice(0, 160)
    groups = failed["trial"].groupby(reasons, sort=False)
    told = "; ".join(f"{', '.join(trials)} ({reason})" for reason, trials in groups)
    trials = int((record.runs["kind"] != "reference").sum())
    return [f"Failed and left out: {len(failed)} of {trials} trials: {told}."]


def marginal(record: Record, axis: str, metric: str | None = None) -> Table:
    """The effect of one axis: a row for each of its values, or for at most five bins of them.

    Over finished configurations of the search: how many, the best, and the mean with its 95 % confidence
    interval; then how many were stopped early or failed there. ``metric`` is the first objective by default.
    Raises ``RecordError`` for an unknown axis or metric.
    """
    metric = _metric(record, metric)
    frame = _population(record, metric, axis)
    column, direction = levels(record, axis, frame[axis]), better(record, metric)
    rows = []
    for level in column.cat.categories:
        here = frame[column == level]
        values = here.loc[here["counts"], metric]
        others = [int((here["state"] == state).sum()) for state in ("stopped", "failed", "unfinished")]
        cells = [Cell(level), Cell(len(values)), Cell(_top(values, direction)), _mean(values)]
        rows.append([*cells, *map(Cell, others)])
    spec, arrow = number_format(frame.loc[frame["counts"], metric]), ARROWS[direction]
    columns = [
        Column(short_names(record.axes)[axis], axis, "left"),
        Column("finished", "finished", spec="d"),
        Column(f"best{arrow}", f"best {metric}", spec=spec),
        Column(f"mean{arrow}", metric, spec=spec),
        *(Column(state, state, spec="d") for state in ("stopped", "failed", "unfinished")),
    ]
    # Columns with nothing to say are left out: the best of what has no direction, none unfinished.
    silent = {2} if direction is None else set()
    silent |= {6} if all(row[6].value == 0 for row in rows) else set()
    kept = [index for index in range(len(columns)) if index not in silent]
    return Table(
        name=f"marginal-{short_names(record.axes)[axis]}",
        title=f"{record.names}: {metric} by {axis}",
        columns=tuple(columns[index] for index in kept),
        rows=tuple(Row(tuple(row[index] for index in kept)) for row in rows),
        notes=tuple(_population_notes(record, frame, any(row[3].half_width is not None for row in rows))),
    )


def pivot(record: Record, rows: str, cols: str, metric: str | None = None) -> Table:
    """The mean over finished configurations of the search for each pair of values (or bins) of two axes.

    How many configurations a mean is of stands in brackets where it is above one; the best mean is bold.
    ``metric`` is the first objective by default. Raises ``RecordError`` for an unknown axis or metric.
    """
    if rows == cols:
        raise RecordError(f"{record.names}: rows and columns must be two axes, got {rows!r} twice")
    metric = _metric(record, metric)
    frame = _population(record, metric, rows, cols)
    down, across = levels(record, rows, frame[rows]), levels(record, cols, frame[cols])
    counted = frame.loc[frame["counts"], metric]
    groups = counted.groupby([down[counted.index], across[counted.index]], observed=True)
    means, counts = groups.mean(), groups.size().to_dict()
    top, values = _top(means, better(record, metric)), means.to_dict()
    short = short_names(record.axes)
    body = []
    for row in down.cat.categories:
        pairs = [(row, col) for col in across.cat.categories]
        found = [(values.get(pair), counts.get(pair, 0)) for pair in pairs]
        cells = [Cell(value, count=count, bold=count > 0 and value == top) for value, count in found]
        body.append(Row((Cell(row), *cells)))
    notes = _population_notes(record, frame, intervals=False)
    if any(count > 1 for count in counts.values()):
        notes.insert(0, "In brackets: how many configurations a mean is of, where more than one.")
    spec = number_format(means)
    return Table(
        name=f"pivot-{short[rows]}-{short[cols]}",
        title=f"{record.names}: mean {metric} by {rows} (rows) and {cols} (columns)",
        columns=(
            Column(f"{short[rows]} / {short[cols]}", rows, "left"),
            *(Column(str(col), f"{cols} = {col}", spec=spec) for col in across.cat.categories),
        ),
        rows=tuple(body),
        notes=tuple(notes),
    )


def _metric(record: Record, metric: str | None) -> str:
    """The metric asked for, or the first objective."""
    return first_objective(record)[0] if metric is None else record.checked(metric, record.metrics, "metric")


def _population(record: Record, metric: str, *axes: str) -> pd.DataFrame:
    """The search's configurations; ``counts`` says which of them finished with a finite value."""
    for axis in axes:
        record.checked(axis, record.axes, "axis")
    frame = by_configuration(record)
    frame = frame[frame["kind"] == "search"].reset_index(drop=True)
    return frame.assign(counts=(frame["state"] == "finished") & np.isfinite(frame[metric].astype("float64")))


def _top(values: pd.Series[Any], direction: str | None) -> float | None:
    if direction is None or values.empty:
        return None
    return float(values.min() if direction == "min" else values.max())


def _mean(values: pd.Series[Any]) -> Cell:
    """The mean of configurations with the half width of its 95 % confidence interval."""
    if len(values) < 2:
        return Cell(None if values.empty else float(values.iloc[0]))
    return Cell(float(values.mean()), float(values.std() * student(len(values))))


def _population_notes(record: Record, frame: pd.DataFrame, intervals: bool) -> list[str]:
    notes = []
    if intervals:
        notes.append("±: half width of the 95 % confidence interval over configurations (Student t).")
    samplers = {str(sweep.spec.get("search", {}).get("sampler", "grid")) for sweep in record.sweeps}
    adaptive = ", ".join(sorted(samplers - {"grid", "random"}))
    if adaptive:
        notes.append(f"The sampler ({adaptive}) visits good regions more often than bad ones.")
    odd = int(((frame["state"] == "finished") & ~frame["counts"]).sum())
    if odd:
        notes.append(f"Left out: {odd} finished without a finite value.")
    return notes + _failures(record)
