"""Methods compared over several data sets: mean ranks and their tests, and aggregated scores."""

from __future__ import annotations

import numpy as np

from analysis.configuration.blocks import Blocks, blocks_of
from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.labels import label_of
from analysis.configuration.replicates import OPEN
from analysis.configuration.words import ARROWS
from analysis.render.cells import Cell, Column, Row, number_format
from analysis.render.table import Table
from analysis.statistics.aggregate import FEWEST_RUNS, iqm
from analysis.statistics.intervals import LEVEL, Array, estimate
from analysis.statistics.mean_ranks import MeanRanks, mean_ranks
from analysis.statistics.tests import WILCOXON_FROM, compare, holm
from analysis.tables.layout import caveat_notes


def across_sets(
    record: Recorded,
    across: str = "data.name",
    axis: str | None = None,
    metric: str | None = None,
    *,
    unequal: bool = False,
) -> Table:
    """Methods over several data sets: mean ranks, whether they differ, and the interquartile mean of scores.

    ``across`` is the leaf that distinguishes data sets, or ``sweep``. Rows are configurations, or the values of one
    ``axis``, with a value on every data set, sorted by mean rank (Demšar, 2006). Friedman's test says whether any
    differ, and Nemenyi's which differ from the best; Wilcoxon's signed ranks with Holm's correction for all pairs do
    not depend on the other methods. The interquartile mean of scores has an interval by a bootstrap stratified by data
    set (Agarwal et al., 2021). ``metric`` is the first objective by default. Raises ``RecordError`` for an unknown leaf
    or metric, unequal training on one data set (unless ``unequal``), and fewer than two data sets or methods.

    >>> import analysis
    >>> table = analysis.across_sets(analysis.example(), "model.operator.rank", "model.flow.depth")
    >>> [(row.cells[0].value, row.cells[1].value) for row in table.rows]
    [('depth 4', 1.5), ('depth 2', 1.5), ('depth 1', 3.0)]
    """
    configurations = Configurations.of(record)
    found = blocks_of(configurations, across, axis, metric, unequal=unequal)
    ranks, losses = mean_ranks(found.losses), found.losses
    order = found.in_order(ranks.ranks)
    top = order[0]
    nemenyi = ranks.nemenyi(top)
    enough = len(found.sets) >= WILCOXON_FROM
    signed = _signed_ranks(losses, top) if enough else None
    spec = number_format(found.means.ravel())
    names = configurations.record.names
    rows = []
    for place in order:
        method = found.methods[place]
        alone = place == top
        open_ = not alone and nemenyi[place] >= LEVEL
        middle = iqm(found.scores(method))
        cells = [Cell(method, bold=alone), Cell(float(ranks.ranks[place]), bold=alone, marker=OPEN if open_ else "")]
        cells.append(Cell("") if alone else Cell(float(nemenyi[place])))
        if signed is not None:
            cells.append(Cell("") if alone else Cell(float(signed[place])))
        ends = None if middle.low is None or middle.high is None else (middle.low, middle.high)
        cells.append(Cell(middle.mean, interval=ends))
        for name in found.sets:
            value = estimate(found.values[method, name])
            half = None if value.low is None or value.high is None else (value.high - value.low) / 2
            cells.append(Cell(value.mean, half, value.n))
        rows.append(Row(tuple(cells)))
    columns = [
        Column("configuration" if axis is None else "value", "method", "left"),
        Column("mean rank ↓", "mean rank", spec=".2f"),
        Column("p (Nemenyi)", "p nemenyi", spec=".2g"),
        *([Column("p (Wilcoxon)", "p wilcoxon", spec=".2g")] if enough else []),
        Column("IQM ↑", "interquartile mean", spec=".3f"),
        *(Column(f"{name}{ARROWS[found.direction]}", f"{found.metric} on {name}", spec=spec) for name in found.sets),
    ]
    return Table(
        name="across",
        title=f"{names}: {label_of(configurations.record, found.metric)} across {across}",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=(*_notes(found, ranks, enough), *found.notes, *caveat_notes(configurations.record, [found.metric])),
    )


def _signed_ranks(losses: Array, top: int) -> Array:
    """The p of the signed-rank test of each method against the best, corrected for all pairs; NaN for the best."""
    raw = [compare(losses[top], other, paired=True).wilcoxon for other in losses]
    raw[top] = None
    count = len(losses) * (len(losses) - 1) // 2
    return holm([np.nan if p is None else p for p in raw], count)


def _notes(found: Blocks, ranks: MeanRanks, enough: bool) -> list[str]:
    sets, methods, difference = len(found.sets), len(found.methods), ranks.critical_difference
    notes = [
        f"Friedman over {sets} data sets: χ² = {ranks.chi2:.3g}, F = {ranks.f:.3g}, p = {ranks.p:.2g} by permuting the "
        f"ranks within each. Bold: the best mean rank; {OPEN}: within the critical difference, {difference:.2f}, of "
        f"the best (Nemenyi, corrected for all pairs).",
    ]
    if difference > methods - 1:
        notes.append(f"No difference can be significant: mean ranks of {methods} differ by {methods - 1} at most.")
    if enough:
        notes.append("p (Wilcoxon): signed ranks against the best, with Holm's correction for all pairs.")
    else:
        notes.append(f"Signed ranks (Wilcoxon) need {WILCOXON_FROM} data sets.")
    notes.append(
        f"IQM: the mean of the middle half of the scores of all {found.unit}. {found.scaled}. [low, high]: 95 % "
        f"interval by a bootstrap within each data set, for {FEWEST_RUNS} or more {found.unit}."
    )
    notes.append(f"On each data set: the mean, ± its 95 % interval (Student t), and the number of {found.unit}.")
    return notes
