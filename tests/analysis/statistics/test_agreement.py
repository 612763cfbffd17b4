"""The agreement of rankings against SciPy's."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.agreement import rank_agreement
from tests.analysis.statistics.rates import rng


def test_rank_agreement_is_the_mean_spearman() -> None:
    scores = rng(6).normal(size=(4, 6))
    pairs = [stats.spearmanr(a, b).statistic for a, b in itertools.combinations(scores, 2)]
    assert rank_agreement(scores) == pytest.approx(np.mean(pairs))
    assert rank_agreement(np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 40.0]])) == pytest.approx(1.0)
    assert math.isnan(rank_agreement(np.ones((3, 4))))
