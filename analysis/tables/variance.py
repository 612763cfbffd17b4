"""The sources of a metric's variance: initial weights, order of data, split and sampling."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analysis.configuration.budget import check_equal
from analysis.configuration.chance import LEAVES, sources_of
from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.labels import label_of
from analysis.configuration.names import metric_of
from analysis.configuration.words import words_of
from analysis.record.runs import RecordError
from analysis.render.cells import Cell, Column, Row, number_format
from analysis.render.table import Table
from analysis.statistics.variance import REST, variance_components
from analysis.tables.layout import failure_notes
from linearizer_core.words import counted

TOGETHER = "the rest: sources together, and what repeats alike"


def variance(record: Recorded, metric: str | None = None, *, unequal: bool = False) -> Table:
    """The variance of a metric over finished trials by source of randomness, largest first (Bouthillier et al., 2021).

    Sources are the seeds that vary: those of initial weights (``seeds.init``), order of data (``seeds.order``), split
    (``data.split``) and sampling (``seeds.sampling``); sources that vary together are one, under both names.
    Configurations that differ in anything else have their own means. ``metric`` is the first objective by default.
    Raises ``RecordError`` for an unknown metric, unequal training (unless ``unequal``), if no seed varies, and for too
    few trials to separate the sources.

    >>> import analysis
    >>> table = analysis.variance(analysis.example())
    >>> [row.cells[0].value for row in table.rows]
    ['the rest: sources together, and what repeats alike', 'initial weights and order of data']
    """
    configurations = Configurations.of(record)
    record = configurations.record
    metric = metric_of(record, metric)
    runs = record.runs
    trials = runs[(runs["kind"] == "search") & (runs["state"] == "finished") & runs["duplicate_of"].isna()]
    trials = trials[np.isfinite(trials[metric].astype("float64"))]
    if not unequal:
        check_equal(record, trials, f"the variance of {metric}")
    sources = sources_of(trials)
    if not sources:
        raise RecordError(
            f"{record.names}: no seed varies over the finished trials; search {', '.join(LEAVES)}, or use several seeds"
        )
    values = trials[metric].to_numpy(dtype=np.float64)
    axes = [axis for axis in record.axes if axis not in LEAVES]
    points = pd.Series(
        list(zip(*(words_of(trials[axis]) for axis in axes), strict=True)) if axes else [()] * len(trials)
    )
    groups = pd.factorize(points)[0].astype(np.float64)
    try:
        found = variance_components(values, sources, groups)
    except ValueError as error:
        raise RecordError(f"{record.names}: {metric}: {error}") from None
    order = sorted(found, key=lambda name: -found[name].share)
    rows = []
    for name in order:
        each = found[name]
        rows.append(
            Row(
                (
                    Cell(TOGETHER if name == REST else name),
                    Cell("" if name == REST else each.levels),
                    Cell(math.sqrt(max(each.variance, 0.0))),
                    Cell(each.variance, each.error),
                    Cell(None if math.isnan(each.share) else 100 * each.share),
                )
            )
        )
    count = len(np.unique(groups))
    return Table(
        name="variance",
        title=f"{record.names}: where the variance of {label_of(record, metric)} comes from",
        columns=(
            Column("source", "source", "left"),
            Column("seeds", "levels", spec="d"),
            Column(
                "standard deviation",
                "standard deviation",
                spec=number_format([row.cells[2].value for row in rows if isinstance(row.cells[2].value, float)]),
            ),
            Column("variance", "variance", spec=number_format([each.variance for each in found.values()])),
            Column("share (%)", "share percent", spec=".1f"),
        ),
        rows=tuple(rows),
        notes=(
            f"Over {len(values)} finished trials of {counted(count, 'configuration')}, each with its own "
            "mean. Random effects that add up, by restricted maximum likelihood; ±: one standard error, no interval.",
            *failure_notes(record),
        ),
    )
