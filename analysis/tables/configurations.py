"""Ablation tables: configurations ranked, the effect of one axis, of one against another, of one change at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd

from analysis.configuration.budget import check_equal
from analysis.configuration.levels import is_number, levels, short_names, words_of
from analysis.configuration.ranking import Best, best, best_of, better, by_configuration, first_objective, ranked
from analysis.configuration.replicates import SAME, Compared, Replicates, population, replicates
from analysis.record.runs import Record, RecordError, natural
from analysis.render.table import Cell, Column, Row, Table, Value, number_format
from analysis.statistics.tests import LEVEL, METHODS, WILCOXON_FROM, Comparison, Method, estimate

BLOCKS = {
    "search": "",
    "confirm": "confirmed at fresh seeds",
    "control": "controls",
    "reference": "references",
}
ARROWS: dict[str | None, str] = {"min": " ↓", "max": " ↑", None: ""}
QUALITY = re.compile(r"(?P<split>quality|test)/(?P<metric>.+)_(?P<how>k\d+|collapsed|auc)")


def configurations(record: Record, metrics: Sequence[str] | None = None, *, ci: Method = "t") -> Table:
    """All configurations, ranked by the first objective, then what was confirmed, controls and references.

    ``metrics`` are the metric columns; by default objectives, test scores, the quality at the fewest and the
    most steps, linearity and size, without timings. ``ci`` is how intervals over seeds are made. Raises
    ``RecordError`` for a metric that nobody recorded.
    """
    key, _ = first_objective(record)
    shown = default_metrics(record) if metrics is None else list(metrics)
    for metric in shown:
        record.checked(metric, record.metrics, "metric")
    frame = ranked(record)
    top = best_of(record, frame)
    identity = _identity_columns(record, frame)
    rows = []
    used = ["sweep", "trials", "used", "kind", "state", "broken", *identity, *shown, *(f"{m} ci95" for m in shown)]
    found = {name: frame[name].tolist() for name in used}
    for values in zip(*found.values(), strict=True):
        row = dict(zip(found, values, strict=True))
        cells = [Cell(_plain(row[field])) for field in identity]
        cells += [_estimate(record, row, metric, ci) for metric in shown]
        winner = top is not None and (row["sweep"], row["trials"]) == (top.sweep, top.trials)
        rows.append(Row(tuple(cells), BLOCKS[row["kind"]], _marker(row), winner))
    family = _only_quality(shown)
    return Table(
        name="configurations",
        title=f"{record.names}: {f'{family} of ' if family else ''}every configuration",
        columns=(*identity.values(), *_metric_columns(record, shown, frame)),
        rows=tuple(rows),
        notes=tuple(_notes(record, frame, rows, key, top, ci)),
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


def _estimate(record: Record, row: Mapping[Any, Any], metric: str, ci: Method) -> Cell:
    half_width, value = row[f"{metric} ci95"], _plain(row[metric])
    # The size of a model does not vary over its seeds: an interval would say nothing.
    if metric == "cost/params" or math.isnan(half_width):
        return Cell(value)
    if ci == "t":
        return Cell(value, float(half_width))
    runs = record.runs
    used = runs.loc[(runs["sweep"] == row["sweep"]) & runs["trial"].isin(row["used"]), metric]
    found = estimate(used.to_numpy(), ci)
    return Cell(value, interval=None if found.low is None or found.high is None else (found.low, found.high))


def _plain(value: Any) -> Value:
    """A value of a frame as Python's own type."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    if type(value) in (str, int, float):
        return cast(Value, value)
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    plain: Value = value.item() if isinstance(value, np.generic) else value
    return plain


def _marker(row: Mapping[Any, Any]) -> str:
    if row["state"] == "finished":
        return "§" if row["broken"] else ""
    return {"stopped": "†", "unfinished": "‡"}[row["state"]]


def _notes(
    record: Record, frame: pd.DataFrame, rows: Sequence[Row], key: str, top: Best | None, ci: Method
) -> list[str]:
    notes = []
    if top is not None:
        notes.append(f"Bold: the best finished configuration by {key}{f' ({top.note})' if top.note else ''}.")
    if any(cell.half_width is not None or cell.interval is not None for row in rows for cell in row.cells):
        sign = "±: half width of the" if ci == "t" else "[low, high]:"
        notes.append(f"{sign} 95 % confidence interval over seeds ({METHODS[ci]}).")
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


def marginal(record: Record, axis: str, metric: str | None = None, *, ci: Method = "t", unequal: bool = False) -> Table:
    """The effect of one axis: a row for each of its values, or for at most five bins of them.

    Over finished configurations of the search: how many, the best, and the mean with its 95 % confidence
    interval; then how many were stopped early or failed there, which have no part in the mean (with ``unequal``,
    stopped ones have). ``metric`` is the first objective by default. Raises ``RecordError`` for an unknown axis or
    metric, and where finished configurations were not trained alike, unless ``unequal``.
    """
    metric, direction = _metric(record, metric), better(record, _metric(record, metric))
    frame = _population(record, metric, unequal, axis)
    searched = record.runs[record.runs["kind"] == "search"]
    if not unequal:
        check_equal(record, searched[searched["state"] == "finished"], f"{metric} by {axis}")
    column = levels(record, axis, frame[axis])
    taking = frame[frame["counts"] | (frame["state"] != "stopped")]
    compared = replicates(record, taking, metric, column[taking.index].astype("object"), [axis], unequal)
    means, said = compared.cells(direction, ci)
    rows = []
    for level in column.cat.categories:
        here = frame[column == level]
        values = here.loc[here["counts"], metric]
        others = [int((here["state"] == state).sum()) for state in ("stopped", "failed", "unfinished")]
        cells = [Cell(level), Cell(len(values)), Cell(_top(values, direction)), means.get(level, Cell())]
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
    stopped = int((frame["state"] == "stopped").sum())
    if stopped and not unequal:
        said.append(f"{stopped} were stopped early and have no part in means: where more were, the rest look better.")
    return Table(
        name=f"marginal-{short_names(record.axes)[axis]}",
        title=f"{record.names}: {metric} by {axis}",
        columns=tuple(columns[index] for index in kept),
        rows=tuple(Row(tuple(row[index] for index in kept)) for row in rows),
        notes=(*said, *_population_notes(record, frame)),
    )


def pivot(
    record: Record, rows: str, cols: str, metric: str | None = None, *, ci: Method = "t", unequal: bool = False
) -> Table:
    """The mean of a metric for each pair of values (or bins) of two axes, with its 95 % confidence interval.

    Over seeds where every pair has the same configurations, otherwise over the finished configurations of the
    search; how many stands in brackets, a pair without a value says why. The best is bold, and what is not
    significantly different from it is marked. Controls and references stand below, in a column of their own.
    ``metric`` is the first objective by default. Raises ``RecordError`` for an unknown axis or metric, and where
    configurations were stopped early or not trained alike, unless ``unequal``.
    """
    if rows == cols:
        raise RecordError(f"{record.names}: rows and columns must be two axes, got {rows!r} twice")
    metric = _metric(record, metric)
    frame, keys = _crossed(record, metric, [rows, cols], unequal)
    down, across = levels(record, rows, frame[rows]), levels(record, cols, frame[cols])
    compared = replicates(record, frame, metric, keys, [rows, cols], unequal)
    cells, said = compared.cells(better(record, metric), ci)
    short, beside = short_names(record.axes), _beside(record, metric, ci)
    body = [
        Row(
            (Cell(row), *(cells.get((row, col), Cell()) for col in across.cat.categories), *([Cell("")] * bool(beside)))
        )
        for row in down.cat.categories
    ]
    for name, block, cell in beside:
        body.append(Row((Cell(name), *[Cell("")] * len(across.cat.categories), cell), block))
    spec = number_format([cell.value for row in body for cell in row.cells if isinstance(cell.value, float)])
    columns = [
        Column(f"{short[rows]} / {short[cols]}", rows, "left"),
        *(Column(str(col), f"{cols} = {col}", spec=spec) for col in across.cat.categories),
        *([Column("beside", "beside", spec=spec)] if beside else []),
    ]
    return Table(
        name=f"pivot-{short[rows]}-{short[cols]}",
        title=f"{record.names}: mean {metric} by {rows} (rows) and {cols} (columns)",
        columns=tuple(columns),
        rows=tuple(body),
        notes=(*said, *_population_notes(record, frame)),
    )


def comparisons(
    record: Record,
    rows: str,
    cols: str | None = None,
    metric: str | None = None,
    *,
    unequal: bool = False,
) -> Table:
    """The best of an axis's values, or of the pairs of two axes, against every other: the tests behind ``pivot``.

    Difference of means with its interval, p after Holm's correction for all pairs and before, Wilcoxon's p where
    there are six pairs or more, and effect sizes. Raises ``RecordError`` as ``pivot`` does, and where nothing is
    the best.
    """
    metric = _metric(record, metric)
    axes = [axis for axis in (rows, cols) if axis is not None]
    frame, keys = _crossed(record, metric, axes, unequal)
    compared = replicates(record, frame, metric, keys, axes, unequal)
    top = compared.best(better(record, metric))
    if top is None:
        raise RecordError(f"{record.names}: {metric} has no best value among {' × '.join(axes)}: nothing to compare")
    found = compared.against(top, list(compared.groups), chosen_among=len(compared.groups))
    means, short = compared.cells(better(record, metric), "t")[0], short_names(record.axes)
    order = sorted(found.found, key=lambda key: abs(found.found[key].difference))
    body = [
        Row((*map(Cell, key if isinstance(key, tuple) else (key,)), means[key], *_difference(found, key)))
        for key in [top, *order]
    ]
    spec = number_format([cell.value for cell in means.values() if isinstance(cell.value, float)])
    return Table(
        name=f"comparisons-{'-'.join(short[axis] for axis in axes)}",
        title=f"{record.names}: {metric} by {' and '.join(axes)}, against the best",
        columns=(
            *(Column(short[axis], axis, "left") for axis in axes),
            Column(f"mean{ARROWS[better(record, metric)]}", metric, spec=spec),
            *_difference_columns("best", spec),
        ),
        rows=tuple(body),
        notes=(*_test_notes(compared, found, chosen=True), *_population_notes(record, frame)),
    )


def one_factor(
    record: Record,
    metric: str | None = None,
    base: str | None = None,
    *,
    ci: Method = "t",
    unequal: bool = False,
) -> Table:
    """One change at a time: what differs from a base configuration in one axis, and the controls, against the base.

    ``base`` is a configuration's name; by default that which has the spec's own values, otherwise the best. Each
    line has the mean over seeds, the paired difference from the base with its interval, p with Holm's correction
    across the table, and effect sizes. ``metric`` is the first objective by default. Raises ``RecordError`` for an
    unknown name or metric, where nothing differs from the base in one axis, and for unequal training, unless
    ``unequal``.
    """
    metric = _metric(record, metric)
    every = by_configuration(record)
    states = ["finished", "stopped"] if unequal else ["finished"]
    finite = np.isfinite(every[metric].astype("float64"))
    every = every.assign(counts=every["state"].isin(states) & finite)
    start, chosen = _base(record, every, base)
    here = every[(every["sweep"] == every["sweep"][start]) & every["kind"].isin(["search", "control"])]
    axes = list(record.sweep(every["sweep"][start]).axes)
    words = {axis: words_of(here[axis]) for axis in axes}
    changed = {
        index: [axis for axis in axes if words[axis][index] != words[axis][start]]
        for index in here.index[here["kind"] == "search"]
    }
    near = {index: names[0] for index, names in changed.items() if len(names) == 1}
    controls = [index for index in here.index[here["kind"] == "control"] if index != start]
    if not near and not controls:
        raise RecordError(
            f"{record.names}: no configuration differs from {every['name'][start]} in one axis, and there is no control"
        )
    order = [start, *sorted(near, key=lambda index: (axes.index(near[index]), index)), *controls]
    frame = here.loc[order]
    if not unequal:
        trials = {(row["sweep"], trial) for _, row in frame.iterrows() for trial in row["trials"]}
        runs = record.runs
        chosen_runs = [key in trials for key in zip(runs["sweep"], runs["trial"], strict=True)]
        check_equal(record, runs[chosen_runs], f"{metric}, one change at a time,")
    compared = replicates(record, frame, metric, pd.Series(order, order), record.axes, unequal)
    among = int(here.loc[here["kind"] == "search", "counts"].sum()) if chosen else None
    found = compared.against(start, order, chosen_among=among)
    short = short_names(record.axes)
    body = []
    for index in order:
        axis = near.get(index)
        name = every["name"][index] if axis is None else f"{short[axis]} = {words[axis][index]}"
        block = "controls" if index in controls else f"{axis}" if axis else ""
        label = f"base: {name}" if index == start else name
        body.append(Row((Cell(label), compared.cell(index, ci), *_difference(found, index)), block))
    spec = number_format([row.cells[1].value for row in body if isinstance(row.cells[1].value, float)])
    point = ", ".join(f"{short[axis]} {words[axis][start]}" for axis in axes)
    return Table(
        name="one-factor",
        title=f"{record.names}: {metric}, one change at a time from {point}",
        columns=(
            Column("change", "change", "left"),
            Column(f"mean{ARROWS[better(record, metric)]}", metric, spec=spec),
            *_difference_columns("base", spec),
        ),
        rows=tuple(body),
        notes=(*_test_notes(compared, found, chosen), *_failures(record)),
    )


def _base(record: Record, frame: pd.DataFrame, name: str | None) -> tuple[Any, bool]:
    """The row of the base configuration, and whether its value is why it was chosen."""
    tried = frame[frame["kind"].isin(["search", "control"])]
    if name is not None:
        record.checked(name, list(tried["name"]), "configuration")
        return tried.index[tried["name"] == name][0], False
    for sweep in record.sweeps:
        mine = tried[(tried["sweep"] == sweep.name) & (tried["kind"] == "search")]
        own = {axis: _leaf(sweep.spec, axis) for axis in sweep.axes}
        for index, row in mine.iterrows():
            if row["counts"] and all(not pd.isna(row[axis]) and row[axis] == own[axis] for axis in sweep.axes):
                return index, False
    top = best(record)
    if top is None:
        raise RecordError(f"{record.names}: no configuration has finished that others could be compared with")
    found = (tried["sweep"] == top.sweep) & (tried["trials"] == top.trials)
    return tried.index[found][0], True


def _leaf(spec: Mapping[str, Any], name: str) -> Any:
    """The base configuration's value of a dotted name."""
    value: Any = spec
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _difference_columns(reference: str, spec: str) -> list[Column]:
    return [
        Column(f"− {reference}", f"difference from the {reference}", spec=spec),
        Column("p (Holm)", "p holm", spec=".2g"),
        Column("p", "p", spec=".2g"),
        Column("p (Wilcoxon)", "p wilcoxon", spec=".2g"),
        Column("d_z", "d_z", spec=".2f"),
        Column("Hedges g", "hedges g", spec=".2f"),
    ]


def _difference(compared: Compared, key: Hashable) -> list[Cell]:
    """A comparison's cells; empty ones for the reference itself."""
    found: Comparison | None = compared.found.get(key)
    if found is None:
        return [Cell("")] * 6
    adjusted = compared.adjusted[key]
    return [
        Cell(found.difference, found.half_width, found.n, marker=SAME if adjusted >= LEVEL else ""),
        Cell(None if math.isnan(adjusted) else adjusted),
        Cell(found.p),
        Cell(found.wilcoxon),
        Cell(found.d_z),
        Cell(found.hedges_g),
    ]


def _test_notes(compared: Replicates, found: Compared, chosen: bool) -> list[str]:
    if not found.family:
        return [f"No tests: fewer than two {compared.unit}."]
    test = f"paired t over common {compared.unit}" if compared.paired else "Welch's t"
    why = " and all other pairs, since the reference is chosen by its value" if chosen else ""
    return [
        f"p: {test}, two-sided; Holm: corrected for {found.family} comparisons, those shown{why}; "
        f"{SAME}: p ≥ {LEVEL:g}.",
        f"Wilcoxon: signed ranks, from {WILCOXON_FROM} pairs on. d_z: mean difference over its standard deviation; "
        "Hedges g: over the pooled one. In brackets: how many replicates.",
    ]


def _beside(record: Record, metric: str, ci: Method) -> list[tuple[str, str, Cell]]:
    """Controls and references: name, block and value."""
    frame = by_configuration(record, ["control", "reference"])
    found = []
    for row in frame.to_dict("records"):
        if row["state"] == "failed":
            found.append((row["name"], BLOCKS[row["kind"]], Cell(reason="failed")))
            continue
        count = None if pd.isna(row["seeds"]) else int(row["seeds"])
        cell = replace(_estimate(record, row, metric, ci), count=count)
        found.append((row["name"], BLOCKS[row["kind"]], cell))
    return found


def _crossed(record: Record, metric: str, axes: Sequence[str], unequal: bool) -> tuple[pd.DataFrame, pd.Series[Any]]:
    """The search's configurations, trained alike, and the cell of each: its level, or its levels of two axes."""
    frame = _population(record, metric, unequal, *axes)
    if not unequal:
        what = f"{metric} by {' and '.join(axes)}"
        check_equal(record, record.runs[record.runs["kind"] == "search"], what)
    columns = [levels(record, axis, frame[axis]).astype("object") for axis in axes]
    keys = list(zip(*columns, strict=True)) if len(axes) > 1 else list(columns[0])
    return frame, pd.Series(keys, frame.index, dtype="object")


def _metric(record: Record, metric: str | None) -> str:
    """The metric asked for, or the first objective."""
    return first_objective(record)[0] if metric is None else record.checked(metric, record.metrics, "metric")


def _population(record: Record, metric: str, unequal: bool, *axes: str) -> pd.DataFrame:
    for axis in axes:
        record.checked(axis, record.axes, "axis")
    return population(record, metric, unequal)


def _top(values: pd.Series[Any], direction: str | None) -> float | None:
    if direction is None or values.empty:
        return None
    return float(values.min() if direction == "min" else values.max())


def _population_notes(record: Record, frame: pd.DataFrame) -> list[str]:
    notes = []
    samplers = {str(sweep.spec.get("search", {}).get("sampler", "grid")) for sweep in record.sweeps}
    adaptive = ", ".join(sorted(samplers - {"grid", "random"}))
    if adaptive:
        notes.append(f"The sampler ({adaptive}) visits good regions more often than bad ones.")
    odd = int(((frame["state"] == "finished") & ~frame["counts"]).sum())
    if odd:
        notes.append(f"Left out: {odd} finished without a finite value.")
    return notes + _failures(record)
