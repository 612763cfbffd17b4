"""Shared parts of the tables of a record: blocks, headers, notes, and the selection of configurations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd

from analysis.configuration.configurations import Configurations
from analysis.configuration.controls import Control, controls_of, judged, metric_of_controls, recorded_controls
from analysis.configuration.labels import QUALITY, label_of
from analysis.configuration.names import head
from analysis.configuration.objective import better
from analysis.configuration.replicates import population, repeated_elsewhere
from analysis.configuration.sampled import sampled_key
from analysis.configuration.words import ARROWS
from analysis.record.runs import Record, RecordError
from analysis.render.cells import Cell, Column, Value
from analysis.statistics.intervals import METHODS, Method, estimate
from linearizer_core.words import counted

BLOCKS = {
    "search": "",
    "confirm": "confirmed at fresh seeds",
    "control": "controls",
    "reference": "references",
}


def header(record: Record, metric: str, family: str = "") -> str:
    """A metric's column header, without the quality metric ``family`` and with an arrow for its better direction."""
    return head(record, metric, family) + ARROWS[better(record, metric)]


def estimated(record: Record, row: Mapping[Any, Any], metric: str, ci: Method) -> Cell:
    """A metric of a configuration, a row of ``by_configuration``, with its interval over seeds."""
    half_width, value = row[f"{metric} ci95"], python_value(row[metric])
    # The size of a model does not vary over seeds, so it needs no interval.
    if metric == "cost/params" or math.isnan(half_width):
        return Cell(value)
    if ci == "t":
        return Cell(value, float(half_width))
    runs = record.runs
    used = runs.loc[(runs["sweep"] == row["sweep"]) & runs["trial"].isin(row["used"]), metric]
    found = estimate(used.to_numpy(), ci)
    return Cell(value, interval=None if found.low is None or found.high is None else (found.low, found.high))


def python_value(value: Any) -> Value:
    """A value of a frame as a plain Python type."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    if type(value) in (str, int, float):
        return cast(Value, value)
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    plain: Value = value.item() if isinstance(value, np.generic) else value
    return plain


def failure_notes(record: Record) -> list[str]:
    """A note on which trials failed and why; empty if none did."""
    failed = record.runs[record.runs["state"] == "failed"]
    if failed.empty:
        return []
    reasons = failed["reason"].fillna("no reason recorded").str.split().str.join(" ").str.slice(0, 160)
    groups = failed["trial"].groupby(reasons, sort=False)
    told = "; ".join(f"{', '.join(trials)} ({reason})" for reason, trials in groups)
    trials = int((record.runs["kind"] != "reference").sum())
    return [f"Failed and left out: {len(failed)} of {counted(trials, 'trial')}: {told}."]


def check_method(record: Record, ci: str) -> None:
    """Raise ``RecordError`` for an unknown method of intervals."""
    record.checked(ci, list(METHODS), "way to make intervals")


def searched_configurations(
    configurations: Configurations, metric: str, unequal: bool, *axes: str
) -> tuple[pd.DataFrame, list[str]]:
    """The ``population`` with all of the axes active, and notes on the rest.

    Raises ``RecordError`` for axes that are active in no configuration.
    """
    record = configurations.record
    frame, left_out = with_axes(population(configurations, metric, unequal), axes)
    if frame.empty and left_out:
        raise RecordError(f"{record.names}: no configuration has {' and '.join(axes)}")
    return frame, left_out


def with_axes(frame: pd.DataFrame, axes: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """The configurations in which all of the axes are active, and a note on the others."""
    there = frame[list(axes)].notna().all(axis=1)
    count = int((~there).sum())
    names = " or ".join(axis for axis in axes if frame[axis].isna().any())
    if not count:
        return frame, []
    have = "configuration that has" if count == 1 else "configurations that have"
    return frame[there], [f"Left out: {count} {have} no {names}, whose condition does not hold there."]


def stopped_notes(frame: pd.DataFrame) -> list[str]:
    """A note on configurations (rows of ``population``) that were stopped early and do not count."""
    stopped = int((frame["state"] == "stopped").sum())
    if not stopped:
        return []
    were = "configuration that was" if stopped == 1 else "configurations that were"
    return [f"Left out of means: {stopped} {were} stopped early. Cells with many of these look better than they are."]


def population_notes(configurations: Configurations, frame: pd.DataFrame, metric: str) -> list[str]:
    """Notes on how the configurations were chosen, which are left out, and failures."""
    record, notes = configurations.record, []
    samplers = {str(sweep.spec.get("search", {}).get("sampler", "grid")) for sweep in record.sweeps}
    adaptive = ", ".join(sorted(samplers - {"grid", "random"}))
    if adaptive:
        notes.append(f"The sampler ({adaptive}) visits good regions more often than bad ones.")
    again = int(repeated_elsewhere(record, configurations.of_kinds(["search"]), metric).sum())
    if again:
        have = "configuration of two sweeps counts" if again == 1 else "configurations of two sweeps count"
        notes.append(f"{again} {have} once: every seed has the same value in both.")
    odd = int(((frame["state"] == "finished") & ~frame["counts"]).sum())
    if odd:
        notes.append(f"Left out: {odd} finished without a finite value.")
    return notes + caveat_notes(record, [metric]) + repeat_notes(record) + failure_notes(record)


def control_notes(configurations: Configurations) -> list[str]:
    """A note on how many times worse the controls measured by trials are than the best configuration; may be empty."""
    record = configurations.record
    row = judged(configurations) if recorded_controls(record) else None
    if row is None:
        return []
    metric = metric_of_controls(record)
    ratio = Column("ratio", "ratio", spec=".2f")
    found = controls_of(record, row, metric)
    told = ", ".join(
        f"{each.words} {ratio.text(Cell(each.ratio.mean, each.half_width))}{_verdict(each)}" for each in found
    )
    called = label_of(record, sampled_key(record, "test", metric))
    return [f"How many times worse {row['name']} gets by {called} with a control: {told}."] if found else []


def _verdict(control: Control) -> str:
    """The remark after a ratio; with one seed there is no interval and no conclusion."""
    if control.half_width is None:
        return " (one seed)"
    return "" if control.beaten else " (not beaten)"


def caveat_notes(record: Record, metrics: Sequence[str]) -> list[str]:
    """Notes on shown metrics for which there are too few held-out images."""
    said = dict.fromkeys(caveat for sweep in record.sweeps for caveat in sweep.caveats)
    shown = {match["metric"] for metric in metrics if (match := QUALITY.fullmatch(metric))}
    return [f"{text}." for text in said if shown & set(text.partition(":")[0].split(", "))]


def repeat_notes(record: Record) -> list[str]:
    """A note on the number of trials of points that a sampler drew again; empty if there are none."""
    repeated = int(((record.runs["kind"] == "search") & record.runs["duplicate_of"].notna()).sum())
    if not repeated:
        return []
    if repeated == 1:
        return ["1 trial repeats a point that was drawn before; the two count once."]
    return [f"{repeated} trials repeat points that were drawn before; each point counts once."]
