"""Quality against the number of solver steps."""

from __future__ import annotations

from analysis.configuration.configurations import Recorded
from analysis.figures.curves import Over, curve_chart
from analysis.figures.style import Chart
from analysis.record.frames import STEPS

# A collapsed operator stands for the most steps.
OVER_STEPS = Over(
    STEPS, "solver steps k", "k = ", "best, collapsed", lambda record, point, curve: float(curve.index[-1])
)


def steps_versus_quality(record: Recorded, metric: str | None = None) -> Chart:
    """Quality against the number of solver steps, a line for each finished configuration of the search.

    Lines are means over seeds, coloured by the first axis and dashed by the second; the best is thick, with a star
    where its collapsed operator is; what was confirmed at fresh seeds is black, controls are dashed, references, with
    the floor of real images, dotted. Bands are 95 % Student t intervals over seeds, from three on, below which the
    seeds are dots: of every line up to six, otherwise of the best and of what was confirmed. ``metric`` is a curve
    (``nfe/<quality metric>``, or what is behind the slash), by default that of the first objective. Raises
    ``RecordError`` where nobody has it.

    >>> import analysis
    >>> figure = analysis.steps_versus_quality(analysis.example())
    >>> figure.axes[0].get_xlabel()
    'solver steps k'
    """
    return curve_chart(record, metric, OVER_STEPS)
