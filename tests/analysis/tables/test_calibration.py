"""Rates and coverages of the tables over simulated records; benchmarks/calibration.py counts many more."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.calibration import VARIANTS, Tally, law_record, null_record, tried, tried_law

RECORDS = 25


@pytest.fixture(scope="module")
def tally() -> Tally:
    """What the tables say of records at two and five seeds, each variant in turn."""
    found, random = Tally(), np.random.default_rng(7)
    for place in range(RECORDS):
        for seeds in (2, 5):
            # Configurations differ by three times what seeds do: seeds that are taken for observations are found out.
            tried(found, *null_record(seeds, VARIANTS[place % len(VARIANTS)], random, between=3.0))
            tried_law(found, law_record(seeds, random))
    return found


def test_nothing_is_found_where_nothing_is(tally: Tally) -> None:
    for what in ("interaction: interaction", "interaction: main effect", "marginal: any difference"):
        rate, count = tally.share("rate", what)
        assert count >= 30
        assert rate <= stats.binom.ppf(1 - 1e-3, count, 0.05) / count, what


def test_intervals_hold_what_they_say(tally: Tally) -> None:
    for what in ("scaling: slope", "scaling: power law's b", "comparisons: difference from the best", "marginal: mean"):
        coverage, count = tally.share("coverage", what)
        assert count >= 30
        assert 1 - coverage <= stats.binom.ppf(1 - 1e-3, count, 0.05) / count, what


def test_what_cannot_be_compared_is_refused(tally: Tally) -> None:
    """Of configurations that were stopped early all tables but the marginal, which leaves them out, refuse to speak."""
    assert set(tally.refused) >= {"interaction", "pivot", "scaling", "comparisons"}
    assert "marginal" not in tally.refused
