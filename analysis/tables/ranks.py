"""Quality against the rank used for sampling from a trained model, and of real images in as many components."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.curves import mean_curves
from analysis.configuration.labels import metric_label
from analysis.configuration.objective import better, first_objective
from analysis.configuration.ranks import chosen
from analysis.configuration.variety import BESIDE
from analysis.configuration.words import ARROWS
from analysis.record.frames import RANKS
from analysis.record.runs import Record, RecordError
from analysis.render.cells import Cell, Column, Row, number_format
from analysis.render.table import Table
from analysis.tables.layout import BLOCKS
from analysis.tables.steps import SHOWN, curve_of

RANKED = (*SHOWN, "reference")


def quality_by_rank(record: Recorded, metric: str | None = None) -> Table:
    """For each finished configuration, one row per rank used for sampling, with validation and test side by side.

    All ranks are of the same trained model, at temperature 1: means over seeds with 95 % Student t intervals. Bold: the
    best rank on the validation split. The last column counts the seeds whose trial chose a rank, with the temperature.
    Precision and recall are on the test split, if they were recorded. ``metric`` is a curve (``rank/<metric>`` or the
    part after the slash), by default that of the first objective. Raises ``RecordError`` if no finished configuration
    has the curve.

    >>> import analysis
    >>> analysis.quality_by_rank(analysis.load("affine/operators"))
    <Table ranks, 6 × 6>
    """
    configurations = Configurations.of(record)
    record = configurations.record
    first_objective(record)
    name = curve_of(record, metric, RANKS)
    direction = better(record, f"quality/{name}_collapsed") or "min"
    frame = configurations.ranked
    there = (frame["state"] == "finished") | ((frame["kind"] == "control") & (frame["finished"] > 0))
    frame = frame[there & frame["kind"].isin(RANKED)]
    frame = frame.sort_values("kind", key=lambda kinds: kinds.map(RANKED.index), kind="stable").reset_index(drop=True)
    sides = {"validation": mean_curves(record, frame, f"{RANKS}{name}")}
    sides["test"] = mean_curves(record, frame, f"{RANKS}test_{name}")
    sides |= {each: mean_curves(record, frame, f"{RANKS}test_{each}") for each in BESIDE if each != name}
    sides = {side: curves for side, curves in sides.items() if curves}
    rows, shown = [], []
    for index, point in enumerate(frame.to_dict("records")):
        curve = sides["validation"].get(index) if "validation" in sides else None
        if curve is None:
            continue
        finite = curve["mean"].dropna()
        best = None if finite.empty else finite.idxmin() if direction == "min" else finite.idxmax()
        sampled = _chosen(record, point)
        for rank in curve.index:
            cells = [_cell(curves.get(index), rank) for curves in sides.values()]
            shown += [float(cell.value) for cell in cells[:2] if isinstance(cell.value, float)]
            row = (Cell(point["name"]), Cell(int(rank)), *cells, Cell(sampled.get(int(rank), "")))
            rows.append(Row(row, BLOCKS[point["kind"]], bold=rank == best))
    if not rows:
        raise RecordError(f"{record.names}: no finished configuration has the curve {RANKS}{name}")
    spec, arrow = number_format(shown), ARROWS[direction]
    headers = {
        "validation": Column(f"validation{arrow}", "validation", spec=spec),
        "test": Column(f"test{arrow}", "test", spec=spec),
        **{each: Column(f"{each}{ARROWS['max']}", f"test {each}", spec=".3f") for each in BESIDE},
    }
    return Table(
        name="ranks",
        title=f"{record.names}: {metric_label(record, name)} by the rank used for sampling",
        columns=(
            Column("configuration", "configuration", "left"),
            Column("rank", "rank", spec="d"),
            *(headers[side] for side in sides),
            Column("chosen", "chosen", "left"),
        ),
        rows=tuple(rows),
        notes=(
            "All ranks of a configuration are of the same trained model, at temperature 1. Bold: the best mean on the "
            "validation split. Chosen: how many seeds chose that rank, and at which temperature, on the validation "
            "split. References: real images in as many principal components, which shows the loss due to so few "
            "dimensions alone. In brackets: number of seeds. ±: 95 % interval (Student t)."
            + (" Precision and recall are on the test split." if len(sides) > 2 else ""),
        ),
    )


def _cell(curve: pd.DataFrame | None, rank: Any) -> Cell:
    if curve is None or rank not in curve.index:
        return Cell()
    mean, half, seeds = (float(curve.loc[rank, name]) for name in ("mean", "half", "seeds"))
    return Cell(mean, None if math.isnan(half) else half, int(seeds))


def _chosen(record: Record, point: Mapping[Any, Any]) -> dict[int, str]:
    """Rank → how many of a configuration's seeds chose it, and their temperatures."""
    found = chosen(record, point)
    told = {}
    for rank, temperatures in found["temperature"].groupby(found["rank"]):
        values = ", ".join(f"{value:g}" for value in sorted(temperatures.unique()))
        told[int(float(str(rank)))] = f"{len(temperatures)} of {len(found)} at {values}"
    return told
