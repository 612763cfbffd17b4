"""How often what is said of few seeds is wrong: of differences, of equality, of the best of a race, and of variances.

``python benchmarks/decisions.py`` makes 1,000 simulated studies at each of 3, 5 and 10 seeds, and prints rates and
coverages with their standard errors as docs/analysis.md has them. Studies are independent, and so are the errors
binomial. In each:

- ``linsweep compare``: two configurations whose values are normal and share what a seed has of its own, equal, or one
  standard deviation apart; its interval, its p, P(better) against Φ, and equality within a margin where the truth lies
  just at it;
- a race of twelve configurations to twelve seeds, which begins at so many: one is best by a quarter of the deviation;
- variances: 4 of initial weights and 1 of order of data, crossed, so many of each, beside 1 of the rest;
- partial dependence: sin(3x) + y² with noise of 0.2, at ten times as many points, in a fifth of the studies.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy import special

# The scripts beside this one are no packages: one has the name of the package that is measured.
sys.path[:] = [path for path in sys.path if Path(path).resolve() != Path(__file__).resolve().parent]

from analysis.statistics.racing import race
from analysis.statistics.superiority import superiority
from analysis.statistics.surrogate import Surrogate
from analysis.statistics.tests import compare
from analysis.statistics.variance import variance_components

SEEDS = (3, 5, 10)
MOST, CONFIGURATIONS, BETTER = 12, 12, 0.25
"""Of a race: its seeds at most, who takes part, and by how much the best is better, in deviations."""
VARIANCES = {"initial weights": 4.0, "order of data": 1.0}
MARGIN = 1.0

Found = dict[str, list[bool]]


def compared(found: Found, seeds: int, random: np.random.Generator) -> None:
    """What is said of two configurations."""
    shared = random.standard_normal(seeds)
    a, b = (shared + random.standard_normal(seeds) for _ in range(2))
    gap = compare(a, b, paired=True)
    assert gap.p is not None
    assert gap.half_width is not None
    found["compare: a difference where there is none (rate, 5 %)"].append(gap.p < 0.05)
    found["compare: difference (coverage, 95 %)"].append(abs(gap.difference) <= gap.half_width)
    same = compare(a + MARGIN, b, paired=True, margin=MARGIN)
    assert same.equivalence is not None
    found["compare: equal where they differ by the margin (rate, 5 %)"].append(same.equivalence < 0.05)
    better = superiority(a + 1.0, b, paired=True)
    assert better.low is not None
    assert better.high is not None
    truth = float(special.ndtr(1 / math.sqrt(2)))
    found["compare: P(better) (coverage, 95 %)"].append(better.low <= truth <= better.high)


def raced(found: Found, seeds: int, random: np.random.Generator) -> None:
    """Whether the best configuration loses its race."""
    shared = random.standard_normal(MOST)
    values = {place: shared + random.standard_normal(MOST) + BETTER for place in range(CONFIGURATIONS)}
    values[0] = values[0] - BETTER
    found["race: the best is lost (rate, at most 5 %)"].append(0 in race(values, seeds, MOST).out)


def decomposed(found: Found, levels: int, random: np.random.Generator) -> None:
    """Whether two standard errors hold the variance of each source."""
    places = np.indices((levels, levels)).reshape(2, -1)
    values = random.standard_normal(levels**2)
    for variance, place in zip(VARIANCES.values(), places, strict=True):
        values = values + math.sqrt(variance) * random.standard_normal(levels)[place]
    told = variance_components(
        values, {name: place.astype(float) for name, place in zip(VARIANCES, places, strict=True)}
    )
    for name, variance in VARIANCES.items():
        held = abs(told[name].variance - variance) <= 1.96 * told[name].error
        found[f"variance: of {name}, two standard errors (coverage, 95 %)"].append(held)
    largest = max(VARIANCES, key=lambda name: told[name].variance)
    found["variance: another source is the largest (rate)"].append(largest != "initial weights")


def depended(found: Found, seeds: int, random: np.random.Generator) -> None:
    """Whether the intervals of partial dependence hold the function."""
    points = random.uniform(size=(10 * seeds, 2))
    values = np.sin(3 * points[:, 0]) + points[:, 1] ** 2 + 0.2 * random.standard_normal(len(points))
    told = Surrogate(points, values).dependence([0], np.array([[0.5]]), points)
    truth = math.sin(1.5) + float((points[:, 1] ** 2).mean())
    found["partial dependence: in the middle (coverage, 95 %)"].append(
        bool(abs(told.means[0] - truth) <= told.half_widths[0])
    )


def simulate(studies: int, seeds: int) -> Found:
    """What comes out of so many studies, from a fixed seed."""
    found: Found = defaultdict(list)
    random = np.random.default_rng([7, seeds])
    for study in range(studies):
        compared(found, seeds, random)
        raced(found, seeds, random)
        decomposed(found, seeds, random)
        if study % 5 == 0:
            depended(found, seeds, random)
    return found


def main() -> None:
    """Simulate, and print the rates and coverages as a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--studies", type=int, default=1000, help="at each number of seeds")
    studies = parser.parse_args().studies
    found = {seeds: simulate(studies, seeds) for seeds in SEEDS}
    print("| | " + " | ".join(f"{seeds} seeds" for seeds in SEEDS) + " |")
    print("|---|" + "---:|" * len(SEEDS))
    for what in found[SEEDS[0]]:
        cells = []
        for seeds in SEEDS:
            outcomes = found[seeds][what]
            share, count = float(np.mean(outcomes)), len(outcomes)
            error = max(math.sqrt(share * (1 - share) / count), 1 / count)  # of none or all: that of one otherwise
            cells.append(f"{100 * share:.1f} ± {100 * error:.1f} %")
        print(f"| {what} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
