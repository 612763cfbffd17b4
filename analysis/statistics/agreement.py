"""How far several judges order the same things alike."""

from __future__ import annotations

import numpy as np
from scipy import stats

from analysis.statistics.intervals import Array


def rank_agreement(scores: Array) -> float:
    """The mean Spearman correlation between all pairs of rows (judges) of scores (judges, things); ties share ranks.

    NaN for fewer than two judges or things, and where one of them tells nothing apart.
    """
    ranks = stats.rankdata(scores, axis=-1)
    if min(ranks.shape) < 2 or (np.ptp(ranks, axis=-1) == 0).any():
        return float("nan")
    correlations = np.corrcoef(ranks)
    return float(correlations[np.triu_indices(len(ranks), k=1)].mean())
