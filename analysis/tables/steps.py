"""How many solver steps a model needs: steps to a target quality, and the area under the curve over steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.curves import curve_keys
from analysis.configuration.labels import metric_label
from analysis.configuration.objective import better, first_objective
from analysis.configuration.sampled import stem
from analysis.configuration.words import ARROWS
from analysis.record.frames import STEPS
from analysis.record.runs import Record, RecordError
from analysis.render.cells import Cell, Column, Row, number_format
from analysis.render.table import Table
from analysis.statistics.curves import area, steps_to
from analysis.statistics.intervals import Array, estimate
from analysis.tables.layout import BLOCKS

SHOWN = ("search", "confirm", "control")
"""The kinds of configurations that are listed."""
SLACK = 0.05
"""The default target is this share worse than the best curve's last value."""


def steps_to_quality(record: Recorded, metric: str | None = None, target: float | None = None) -> Table:
    """For each finished configuration: steps to reach a target quality, the area under its curve, and its ends.

    ``metric`` is a curve (``nfe/<metric>`` or the part after the slash), by default that of the first objective.
    ``target`` is by default 5 % worse than the best curve's last value. Values are means over seeds with 95 % Student t
    intervals; steps are only over the seeds that reach the target, with their number, and have an interval if all do.
    Raises ``RecordError`` if no finished configuration has the curve.

    >>> import analysis
    >>> analysis.steps_to_quality(analysis.example(), "classifier_fd", target=60.0)
    <Table steps, 14 × 6>
    """
    configurations = Configurations.of(record)
    record = configurations.record
    name = curve_of(record, metric, STEPS)
    direction = better(record, f"quality/{name}_collapsed") or "min"
    frame = configurations.frame
    # A control is shown over its finished seeds, with their number.
    there = (frame["state"] == "finished") | ((frame["kind"] == "control") & (frame["finished"] > 0))
    frame = frame[there & frame["kind"].isin(SHOWN)].reset_index(drop=True)
    points = record.curves[record.curves["metric"] == f"{STEPS}{name}"]
    curves: dict[tuple[str, str], pd.DataFrame] = {
        (str(sweep), str(trial)): part.sort_values("step")
        for (sweep, trial), part in points.groupby(["sweep", "trial"], observed=True)
    }
    rows = []
    for index, sweep, trials in zip(frame.index, frame["sweep"], frame["used"], strict=True):
        found = [curves[sweep, trial] for trial in trials if (sweep, trial) in curves]
        if found and all(np.isfinite(part["value"]).all() for part in found):
            rows.append((index, found))
    if not rows:
        raise RecordError(f"{record.names}: no finished configuration has a finite curve nfe/{name}")
    lasts = {index: float(np.mean([part["value"].iloc[-1] for part in found])) for index, found in rows}
    if target is None:
        top = min(lasts.values()) if direction == "min" else max(lasts.values())
        target = top + SLACK * abs(top) * (1 if direction == "min" else -1)
    told = []
    for index, found in rows:
        pairs = [(part["step"].to_numpy(np.float64), part["value"].to_numpy(np.float64)) for part in found]
        needed = np.array([steps_to(x, y, target, direction) for x, y in pairs])
        reaching = needed[np.isfinite(needed)]
        most = max(int(x[-1]) for x, _ in pairs)
        reach = _mean(reaching) if len(reaching) else Cell(f"> {most}")
        if len(reaching) < len(needed):
            # Only the better seeds reach the target, so an interval over these would be misleading.
            reach = replace(reach, half_width=None)
        cells = [
            Cell(frame["name"][index]),
            reach,
            Cell(f"{len(reaching)} of {len(needed)}"),
            _mean(np.array([area(x, y) for x, y in pairs])),
            _mean(np.array([y[0] for _, y in pairs])),
            _mean(np.array([y[-1] for _, y in pairs])),
        ]
        order = (SHOWN.index(frame["kind"][index]), float(np.mean(reaching)) if len(reaching) else np.inf, index)
        told.append((order, Row(tuple(cells), BLOCKS[frame["kind"][index]])))
    spec = number_format([value for _, found in rows for part in found for value in part["value"]])
    arrow = ARROWS[direction]
    return Table(
        name="steps",
        title=f"{record.names}: steps to a {metric_label(record, name)} of {target:.4g}",
        columns=(
            Column("configuration", "configuration", "left"),
            Column(f"steps{ARROWS['min']}", "steps", spec=".1f"),
            Column("reached", "reached", "left"),
            Column(f"area{arrow}", "area", spec=spec),
            Column(f"fewest steps{arrow}", "at the fewest steps", spec=spec),
            Column(f"most steps{arrow}", "at the most steps", spec=spec),
        ),
        rows=tuple(row for _, row in sorted(told, key=lambda pair: pair[0])),
        notes=(
            "Steps: the first crossing, interpolated linearly in log steps; mean over the seeds that reach the target, "
            "with an interval if all do. Area: mean over log steps. In brackets: number of seeds. ±: 95 % interval "
            "(Student t).",
        ),
    )


def _mean(values: Array) -> Cell:
    found = estimate(values)
    half_width = None if found.low is None or found.high is None else (found.high - found.low) / 2
    return Cell(found.mean, half_width, found.n)


def curve_of(record: Record, metric: str | None, begins: str) -> str:
    """The metric of the requested curve ``<begins><metric>``, by default the first objective's."""
    known = curve_keys(record, begins)
    if metric is None:
        metric = stem(first_objective(record)[0])
    name = metric if metric.startswith(begins) else f"{begins}{metric}"
    return record.checked(name, known, "curve").removeprefix(begins)
