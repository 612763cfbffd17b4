"""Quality against the rank used for sampling."""

from __future__ import annotations

from analysis.configuration.configurations import Recorded
from analysis.configuration.ranks import sampled_rank
from analysis.figures.curves import Over, curve_chart
from analysis.figures.style import Chart
from analysis.record.frames import RANKS

OVER_RANKS = Over(
    RANKS, "rank used for sampling", "rank ", "best, tuned", lambda record, point, curve: sampled_rank(record, point)
)


def ranks_versus_quality(record: Recorded, metric: str | None = None) -> Chart:
    """Quality against the rank used for sampling from a trained model, with one line per finished configuration.

    It is drawn like ``steps_versus_quality``, on the validation split, on which a rank is chosen, and at temperature 1.
    The best is also dashed on the test split. The star is at the rank and temperature that were chosen for sampling it
    (the median of its seeds' ranks). ``metric`` is a curve (``rank/<quality metric>``, or the part after the slash), by
    default that of the first objective. For the rank in training, see ``rank_curves``. Raises ``RecordError`` if no
    finished configuration has such a curve.

    >>> import analysis
    >>> record = analysis.load("affine/operators")
    >>> figure = analysis.ranks_versus_quality(record)
    >>> figure.axes[0].get_xlabel()
    'rank used for sampling'
    """
    return curve_chart(record, metric, OVER_RANKS)
