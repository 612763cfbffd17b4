"""Quality against the number of solver steps."""

from __future__ import annotations

from analysis.configuration.configurations import Recorded
from analysis.figures.curves import Over, curve_chart
from analysis.figures.style import Chart
from analysis.record.frames import STEPS

# A collapsed operator is equivalent to the largest number of steps.
OVER_STEPS = Over(
    STEPS, "solver steps k", "k = ", "best, collapsed", lambda record, point, curve: float(curve.index[-1])
)


def steps_versus_quality(record: Recorded, metric: str | None = None) -> Chart:
    """Quality against the number of solver steps, with one line per finished configuration of the search.

    Lines are means over seeds, coloured by the first axis and dashed by the second. The best is thick, with a star for
    its collapsed operator; configurations confirmed at fresh seeds are black, controls dashed, and references (with
    real images as the floor) dotted. With three or more seeds, bands are 95 % Student t intervals over seeds; fewer
    seeds are dots. If there are more than six lines, only the best and the confirmed have bands. ``metric`` is a curve
    (``nfe/<quality metric>``, or the part after the slash), by default that of the first objective. Raises
    ``RecordError`` if no finished configuration has it.

    >>> import analysis
    >>> figure = analysis.steps_versus_quality(analysis.example())
    >>> figure.axes[0].get_xlabel()
    'solver steps k'
    """
    return curve_chart(record, metric, OVER_STEPS)
