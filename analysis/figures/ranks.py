"""Quality against the rank that is sampled with."""

from __future__ import annotations

from analysis.configuration.configurations import Recorded
from analysis.configuration.ranks import sampled_rank
from analysis.figures.curves import Over, curve_chart
from analysis.figures.style import Chart
from analysis.record.frames import RANKS

OVER_RANKS = Over(
    RANKS, "rank that is sampled with", "rank ", "best, tuned", lambda record, point, curve: sampled_rank(record, point)
)


def ranks_versus_quality(record: Recorded, metric: str | None = None) -> Chart:
    """Quality against the rank that is sampled with, all of one training: a line for each finished configuration.

    Drawn as solver steps are, on the validation split, by which a rank is chosen, and at temperature 1. The best is
    dashed on the test split; the star is what it is sampled with in the end, at the rank and the temperature that were
    chosen (the median of its seeds' ranks). ``metric`` is a curve (``rank/<quality metric>``, or what is behind the
    slash), by default that of the first objective. The rank of training, a configuration each, is what
    ``rank_curves`` draws. Raises ``RecordError`` if nobody has such a curve.

    >>> import analysis
    >>> record = analysis.load("affine/operators")
    >>> figure = analysis.ranks_versus_quality(record)
    >>> figure.axes[0].get_xlabel()
    'rank that is sampled with'
    """
    return curve_chart(record, metric, OVER_RANKS)
