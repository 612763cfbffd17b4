"""The prediction of a metric at each value of an axis, over all values of the other axes."""

from __future__ import annotations

from analysis.configuration.configurations import Recorded
from analysis.configuration.dependence import Dependences, dependences
from analysis.configuration.labels import axis_labels, label_of
from analysis.configuration.objective import better
from analysis.configuration.words import ARROWS, word
from analysis.render.cells import Cell, Column, Row, number_format
from analysis.render.table import Table

DOUBTFUL = 0.3
"""Below this share of the variance, predictions are not reliable."""


def dependence_table(record: Recorded, metric: str | None = None, *, unequal: bool = False) -> Table:
    """Partial dependence (Friedman, 2001) on each axis; the axis along which means differ most comes first.

    A Gaussian process is fitted to the configurations' means; its 95 % intervals are for the mean prediction (Moosbauer
    et al., 2021). Values that span more than a factor of ten are modelled in logarithms. ``metric`` is the first
    objective by default. Raises ``RecordError`` for an unknown metric, a metric without a better direction, fewer than
    ten configurations with a value, equal values in all, no axis that all configurations have, and for unequal training
    (unless ``unequal``).

    >>> import analysis
    >>> table = analysis.dependence_table(analysis.example())
    >>> [(row.block, row.cells[0].value) for row in table.rows][:4]
    [('rank', '4'), ('rank', '8'), ('rank', '16'), ('rank', '32')]
    """
    found = dependences(record, metric, unequal=unequal)
    of = found.responses
    short, label = axis_labels(of.record), label_of(of.record, of.key)
    spec = number_format([float(value) for each in found.axes for value in each.means])
    rows = [
        Row((Cell(word(value)), Cell(float(mean), interval=(float(low), float(high)))), block=short[each.axis])
        for each in found.axes
        for value, mean, low, high in zip(each.values, each.means, each.low, each.high, strict=True)
    ]
    return Table(
        name="partial-dependence",
        title=f"{of.record.names}: {label} along each axis, over all values of the others",
        columns=(
            Column("value", "value", "left"),
            Column(f"predicted{ARROWS[better(of.record, of.key)]}", f"predicted {of.key}", spec=spec),
        ),
        rows=tuple(rows),
        notes=tuple(dependence_notes(found)),
    )


def dependence_notes(found: Dependences) -> list[str]:
    """Notes on the data behind the predictions, and on their reliability."""
    of, share = found.responses, f"{100 * found.explained:.0f} %"
    count = f"{len(of.points)} configurations" if found.used == len(of.points) else (
        f"{found.used} of {len(of.points)} configurations, drawn at random"
    )  # fmt: skip
    what = "geometric mean" if found.logarithmic else "mean"
    notes = [
        f"The {what} predicted by a Gaussian process of {count} at a value of the axis, over the searched values of "
        "the other axes. [low, high]: 95 % interval of the process.",
        f"For configurations left out one at a time, it predicts {share} of the variance"
        + (": do not rely on it." if found.explained < DOUBTFUL else "."),
    ]
    if of.partly:
        notes.append(f"Left out: {', '.join(of.partly)}, which only some configurations have.")
    return notes
