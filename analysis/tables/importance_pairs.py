"""How much of a metric's variance axes explain alone, and how much pairs of axes explain only together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.configuration.configurations import Recorded
from analysis.configuration.cube import places_of
from analysis.configuration.labels import axis_labels, label_of
from analysis.configuration.responses import Point, Responses, redrawn, responses
from analysis.render.cells import Cell, Column, Row
from analysis.render.table import Table
from analysis.statistics.forest import grow, variance_shares
from analysis.statistics.intervals import Array
from analysis.tables.importance import WHY_NONE, agreement_note

MOST = 12
"""The most rows; many axes have too many pairs to read."""
REST = "three axes or more, and chance"


def importance_pairs(
    record: Recorded, metric: str | None = None, *, resamples: int = 20, unequal: bool = False
) -> Table:
    """The share of each axis, and of each pair beyond its two axes, in the variance of a metric over the space.

    This is the functional analysis of variance (Hutter et al., 2014) of a forest's mean prediction, for configurations
    that are uniform in the searched ranges. It shows the largest twelve shares, and what is due to three or more axes.
    The notes say how well rankings agree, as in ``importance``, which also says when ``RecordError`` is raised. A
    single axis has no pairs.

    >>> import analysis
    >>> table = analysis.importance_pairs(analysis.example(), resamples=3)
    >>> [row.cells[0].value for row in table.rows]
    ['rank', 'depth', 'depth × rank']
    """
    found = responses(record, metric, "there is no importance", unequal=unequal)
    shares = _shares(found, found.points, found.means)
    draws, unit = redrawn(found, resamples)
    again = np.array([list(_shares(found, *draw).values()) for draw in draws])
    short = axis_labels(found.record)
    words = {key: " × ".join(short[found.axes[place]] for place in key) for key in shares}
    order = sorted(shares, key=lambda key: -shares[key])
    rows = [(words[key], shares[key]) for key in order[:MOST]]
    rest = max(0.0, 1 - sum(shares.values()))
    if len(found.axes) > 2:
        rows.append((REST, rest))
    notes = [
        f"Shares of the variance of a forest's predictions over the searched ranges, fitted to {len(found.points)} "
        f"configurations, each the mean of its seeds; without intervals: {WHY_NONE}.",
        "A pair's share is the effect of its two axes together beyond the effects of each alone.",
        agreement_note("These shares", again, unit),
    ]
    if len(order) > MOST:
        notes.append(f"The largest {MOST} of {len(order)}.")
    if found.partly:
        notes.append(f"Left out: {', '.join(found.partly)}, which only some configurations have.")
    return Table(
        name="importance-pairs",
        title=f"{found.record.names}: importance of axes and pairs for {label_of(found.record, found.key)}",
        columns=(Column("axes", "axes", "left"), Column("share", "share", spec=".2f")),
        rows=tuple(Row((Cell(name), Cell(share))) for name, share in rows),
        notes=tuple(notes),
    )


def _shares(found: Responses, points: Sequence[Point], values: Sequence[float] | Array) -> dict[tuple[int, ...], float]:
    return variance_shares(grow(places_of(found.edges, points), np.asarray(values, dtype=np.float64)))
