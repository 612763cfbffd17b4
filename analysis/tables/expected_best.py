"""The expected result of a search with fewer trials."""

from __future__ import annotations

import numpy as np

from analysis.configuration.budget import check_equal
from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.labels import label_of
from analysis.configuration.names import metric_of
from analysis.configuration.objective import way_of
from analysis.configuration.replicates import population
from analysis.configuration.words import ARROWS
from analysis.record.runs import RecordError
from analysis.render.cells import Cell, Column, Row, number_format
from analysis.render.table import Table
from analysis.statistics.expected_best import best_of
from linearizer_core.words import counted

FEWEST = 5
"""The fewest configurations for which the expected best is shown."""


def expected_best(record: Recorded, metric: str | None = None, *, unequal: bool = False) -> Table:
    """The expected best of 1, 2, 4, … configurations drawn from those of the search (Dodge et al., 2019).

    It shows how much tuning a result costs, and lets two searches be compared at equal numbers of trials. 95 % of such
    searches find a value in the interval. ``metric`` is the first objective by default. Raises ``RecordError`` for an
    unknown metric, a metric without a better direction, unequal training (unless ``unequal``), and fewer than five
    configurations.

    >>> import analysis
    >>> table = analysis.expected_best(analysis.example())
    >>> [(row.cells[0].value, round(row.cells[1].value, 1)) for row in table.rows]
    [(1, 77.2), (2, 58.2), (4, 48.8), (8, 45.0), (12, 43.8)]
    """
    configurations = Configurations.of(record)
    record = configurations.record
    key = metric_of(record, metric)
    direction = way_of(record, key, "there is no best of several")
    if not unequal:
        check_equal(record, record.runs[record.runs["kind"] == "search"], f"the expected best {key}")
    frame = population(configurations, key, unequal)
    frame = frame[frame["counts"]]
    if len(frame) < FEWEST:
        raise RecordError(f"{record.names}: the expected best needs {FEWEST} finished configurations, got {len(frame)}")
    sign = 1.0 if direction == "min" else -1.0
    losses = sign * frame[key].to_numpy(dtype=np.float64)
    hours = _hours(configurations)
    counts = [count for count in (2**power for power in range(20)) if count < len(losses)] + [len(losses)]
    rows = []
    for count in counts:
        found = best_of(losses, count)
        ends = sorted((sign * found.low, sign * found.high))
        rows.append(Row((Cell(count), Cell(sign * found.mean, interval=(ends[0], ends[1])), Cell(count * hours))))
    samplers = sorted({str(sweep.spec.get("search", {}).get("sampler", "tpe")) for sweep in record.sweeps} - {"random"})
    notes = [
        f"Over {counted(len(losses), 'configuration')}, each the mean of its seeds: the mean over all ways to draw so "
        "many, and in brackets the range of 95 % of such searches. It is pessimistic near the full number, since no "
        "draw can be better than the best."
    ]
    if samplers:
        notes.append(f"Drawn by {', '.join(samplers)}: it is the result of drawing at random from these.")
    return Table(
        name="expected-best",
        title=f"{record.names}: expected best {label_of(record, key)} of so many configurations",
        columns=(
            Column("configurations", "configurations", spec="d"),
            Column(f"expected best{ARROWS[direction]}", f"expected best {key}", spec=number_format(losses)),
            Column("hours", "hours", spec=".3f"),
        ),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _hours(configurations: Configurations) -> float:
    """The mean hours of a finished configuration, all its seeds together."""
    runs = configurations.record.runs
    runs = runs[(runs["kind"] == "search") & (runs["state"] == "finished") & runs["duplicate_of"].isna()]
    spent = runs.groupby(["sweep", "config_hash"], observed=True)["seconds"].sum()
    return float(spent.mean()) / 3600
