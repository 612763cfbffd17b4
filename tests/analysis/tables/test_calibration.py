"""Rates and coverages of the tables over simulated records; benchmarks/calibration.py counts many more."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.calibration import (
    LEAST,
    VARIANTS,
    Tally,
    law_record,
    null_record,
    pair_record,
    search_record,
    tried,
    tried_law,
    tried_pair,
    tried_search,
)

RECORDS = 25


@pytest.fixture(scope="module")
def tally() -> Tally:
    """What the tables say of records at two and five seeds, each variant in turn."""
    found, random = Tally(), np.random.default_rng(7)
    for place, seeds in product(range(RECORDS), (2, 5)):
        with pd.option_context("mode.string_storage", "python"):  # as the benchmark has it: in half the time
            # Configurations differ by three times what seeds do: seeds that are taken for observations are found out.
            tried(found, *null_record(seeds, VARIANTS[place % len(VARIANTS)], random, between=3.0))
            tried_law(found, law_record(seeds, random))
            own = 3.0 * (place % 2)
            tried_pair(found, pair_record(seeds, random, own, 3.0 - own), own)
            if place % 2:
                tried_search(found, search_record(seeds, random))
    return found


def test_nothing_is_found_where_nothing_is(tally: Tally) -> None:
    alone = "interaction of two axes alone: main effect"
    for what in (
        "interaction: interaction",
        "interaction: main effect",
        "marginal: any difference",
        "pivot: any difference",
        alone,
    ):
        rate, count = tally.share("rate", what)
        assert count >= 30
        assert rate <= stats.binom.ppf(1 - 1e-3, count, 0.05) / count, what


def test_intervals_hold_what_they_say(tally: Tally) -> None:
    of_laws = ("scaling: slope", "scaling: power law's b")
    of_means = ("marginal: mean", "anytime: best so far", "anytime: mean so far")
    for what in (*of_laws, *of_means, "comparisons: difference from the best"):
        coverage, count = tally.share("coverage", what)
        assert count >= 30
        assert 1 - coverage <= stats.binom.ppf(1 - 1e-3, count, 0.05) / count, what


def test_what_cannot_be_compared_is_refused(tally: Tally) -> None:
    """Of configurations that were stopped early laws and interactions refuse to speak; means leave them out."""
    assert set(tally.refused) >= {"interaction", "scaling"}
    assert not set(tally.refused) & {"marginal", "pivot"}


def test_the_expected_least_of_normal_draws_has_its_closed_forms() -> None:
    """Of one, two and three values: 0, -1/√π and -3/(2√π) (David & Nagaraja, Order Statistics, 2003, section 3.2)."""
    expected = [0, -(np.pi**-0.5), -1.5 * np.pi**-0.5]
    assert [LEAST[draws] for draws in (1, 2, 3)] == pytest.approx(expected, abs=1e-7)
