"""What is said of few seeds is not wrong too often, in simulation; benchmarks/decisions.py counts many more studies."""

from __future__ import annotations

from scipy import stats

from benchmarks.decisions import simulate

STUDIES = 60


def test_decisions_keep_to_their_rates() -> None:
    found = simulate(STUDIES, 5)
    for what, outcomes in found.items():
        wrong = sum(outcomes) if "(rate, " in what else len(outcomes) - sum(outcomes)
        # Of a variance the table gives the standard error alone, since two of them cover too little.
        if not what.startswith("variance:"):
            assert wrong <= stats.binom.ppf(1 - 1e-3, len(outcomes), 0.05), what
    assert sum(found["variance: another source is the largest (rate)"]) < STUDIES / 3
