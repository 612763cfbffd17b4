"""Configurations, trials and sweeps side by side: where their settings differ, and tests of their metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.statistics.intervals import LEVEL, Estimate, estimate
from analysis.statistics.superiority import superiority
from analysis.statistics.tests import compare, holm
from linearizer_core.experiment.directions import direction_of
from sweeps.notebook import html
from sweeps.sides import Side

COLOURS = {"better": "green", "worse": "red", "undecided": "dim", "(better)": "dim", "(worse)": "dim", "": ""}
"""Colours of verdicts: in brackets if not tested; none if neither direction is better or nothing differs."""


@dataclass(frozen=True)
class Contrast:
    """A side against the first one by a metric: the difference of their means, and the probability of being better.

    ``half_width`` is half of the difference's 95 % Student t interval, ``p`` is two-sided and corrected, ``better`` is
    P(better) with its interval; all are None with too few seeds. ``n`` counts pairs, or the seeds of the smaller side.
    """

    difference: float
    n: int
    paired: bool
    half_width: float | None = None
    p: float | None = None
    better: Estimate | None = None
    verdict: str = ""


@dataclass(frozen=True, repr=False)
class Comparison:
    """Configurations, trials or sweeps side by side, in the order given; the first is the base."""

    sides: Sequence[Side]

    @property
    def leaves(self) -> list[str]:
        """The leaves of all configurations."""
        return list(dict.fromkeys(name for side in self.sides for name in side.leaves))

    @property
    def differing(self) -> list[str]:
        """The leaves whose values are not the same everywhere."""
        return [name for name in self.leaves if len({_shown(side.leaves.get(name, "–")) for side in self.sides}) > 1]

    @cached_property
    def metrics(self) -> list[str]:
        """The metrics of all sides, the objective first."""
        found = list(dict.fromkeys(key for side in self.sides for key in side.metrics))
        return sorted(found, key=lambda key: key != self.sides[0].objective)

    @property
    def differing_metrics(self) -> list[str]:
        """The metrics whose values differ in any digit."""
        return [key for key in self.metrics if len({side.metrics.get(key) for side in self.sides}) > 1]

    @cached_property
    def contrasts(self) -> dict[str, list[Contrast | None]]:
        """By metric, each further side against the first; None if one of the two has no value.

        The objective is tested on its own; the other metrics with a direction get Holm's correction together.
        """
        raw = {key: [_contrast(key, self.sides[0], side) for side in self.sides[1:]] for key in self.metrics}
        first = self.sides[0].objective
        corrected: dict[int, float] = {}
        for family in ([first] if first in raw else [], [key for key in raw if key != first and direction_of(key)]):
            tested = [each for key in family for each in raw[key] if each is not None and each.p is not None]
            ps = holm([math.nan if each.p is None else each.p for each in tested]).tolist()
            corrected |= {id(each): p for each, p in zip(tested, ps, strict=True)}
        return {
            key: [each and _judged(key, each, corrected.get(id(each))) for each in found] for key, found in raw.items()
        }

    def __repr__(self) -> str:
        return f"Comparison({', '.join(side.name for side in self.sides)})"

    def _repr_html_(self) -> str:
        return html(render(self))


def _contrast(key: str, base: Side, side: Side) -> Contrast | None:
    """A side against the base by a metric, paired by seed if they have at least two in common."""
    a, b = side.values(key), base.values(key)
    if not a or not b:
        return None
    common = [seed for seed in a if seed in b and seed is not None]
    paired = len(common) > 1
    x, y = ([found[seed] for seed in common] if paired else list(found.values()) for found in (a, b))
    found = compare(x, y, paired=paired)
    if found.n < 2 or found.p is None:
        return Contrast(found.difference, found.n, paired)
    more, less = (x, y) if direction_of(key) == "max" else (y, x)
    probable = superiority(np.array(more), np.array(less), paired=paired) if direction_of(key) else None
    return Contrast(found.difference, found.n, paired, found.half_width, found.p, probable)


def _judged(key: str, found: Contrast, p: float | None) -> Contrast:
    """The contrast with its corrected p-value and the verdict."""
    way, verdict = direction_of(key), ""
    if way is not None and found.difference and math.isfinite(found.difference):
        verdict = "better" if (found.difference > 0) == (way == "max") else "worse"
        verdict = f"({verdict})" if p is None else verdict if p < LEVEL else "undecided"
    return replace(found, p=p, verdict=verdict)


def render(comparison: Comparison, whole: bool = False) -> RenderableType:
    """Two tables of what differs, leaves and metrics; with ``whole``, of everything.

    Further sides are compared with the first one.
    """
    sides = comparison.sides
    configurations = _table("configuration", sides)
    configurations.add_row("state", *(side.state for side in sides))
    leaves = comparison.leaves if whole else comparison.differing
    for name in leaves:
        configurations.add_row(name, *(_shown(side.leaves.get(name, "–")) for side in sides))
    same = len(comparison.leaves) - len(comparison.differing)
    parts: list[RenderableType] = [configurations]
    if not whole:
        parts.append(Text(f"{same} other leaves are the same", style="dim"))
    keys = comparison.metrics if whole else comparison.differing_metrics
    if not comparison.metrics:
        return Group(*parts, Text("no metrics yet", style="dim"))
    parts += [Text(), _metrics(comparison, keys)]
    return Group(*parts, *(Text(note, style="dim") for note in _notes(comparison, keys, whole)))


def _metrics(comparison: Comparison, keys: Sequence[str]) -> Table:
    sides = comparison.sides
    metrics = _table("metric", sides[:1])
    several = len(sides) > 2
    tested = any(each and each.better for key in keys for each in comparison.contrasts[key])
    for side in sides[1:]:
        metrics.add_column(side.name, justify="right", overflow="fold")
        if not several:
            metrics.add_column("difference", justify="right")
        if tested:
            metrics.add_column("P(better)", justify="right")
        metrics.add_column("verdict")
    for key in keys:
        cells: list[str | Text] = [_value(sides[0], key)]
        for side, found in zip(sides[1:], comparison.contrasts[key], strict=True):
            cells.append(_value(side, key))
            if not several:
                cells.append(_difference(found, sides[0].metrics.get(key)))
            if tested:
                cells.append(_probability(found))
            verdict = found.verdict if found else ""
            cells.append(Text(verdict, style=COLOURS[verdict]))
        metrics.add_row(key, *cells)
    return metrics


def _notes(comparison: Comparison, keys: Sequence[str], whole: bool) -> list[str]:
    """Explanations of the columns, and what is not shown."""
    found = [each for key in keys for each in comparison.contrasts[key] if each is not None]
    notes = []
    left = len(comparison.metrics) - len(keys)
    if left and not whole:
        notes.append(
            f"{left} other metric{' is' if left == 1 else 's are'} identical to the last digit; --all shows them"
        )
    tested = [each for each in found if each.p is not None]
    if tested:
        pairs = {each.n for each in tested if each.paired}
        how = (
            f"paired t over {'/'.join(map(str, sorted(pairs)))} common seeds" if pairs else "Welch's t: no common seeds"
        )
        notes += [
            f"better, worse: than {comparison.sides[0].name}, p < {LEVEL:g} ({how}); the objective on its own, the "
            "other metrics after Holm's correction; undecided: neither",
            "±: 95 % intervals (Student t). P(better): share of seeds in which it is better, with its interval",
        ]
    if any(each.verdict.startswith("(") for each in found):
        notes.append("(better), (worse): too few seeds to test")
    if tested and any(side.chosen for side in comparison.sides):
        notes.append("a sweep's best was chosen for its value, which favours it: compare at fresh seeds")
    return notes


def _table(what: str, sides: Sequence[Side]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(what, overflow="fold")
    for side in sides:
        table.add_column(side.name, justify="right", overflow="fold")
    return table


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _value(side: Side, key: str) -> str:
    """The mean over seeds and, if there are several, its interval and their number."""
    values = list(side.values(key).values())
    if not values:
        return "–"
    found = estimate(values)
    if found.low is None or found.high is None or found.low == found.high:
        return f"{found.mean:,.4g}"
    return f"{found.mean:,.4g} ± {(found.high - found.low) / 2:.2g} ({found.n})"


def _difference(found: Contrast | None, base: float | None) -> str:
    if found is None or base is None or not math.isfinite(found.difference):
        return ""
    if found.half_width:
        return f"{found.difference:+,.3g} ± {found.half_width:.2g}"
    return f"{found.difference:+,.3g}" + (f" ({found.difference / abs(base):+.1%})" if base else "")


def _probability(found: Contrast | None) -> str:
    # A metric that is the same at every seed, such as a size, has no probability.
    if found is None or found.better is None or found.half_width == 0:
        return ""
    return f"{found.better.mean:.2f} [{found.better.low:.2f}, {found.better.high:.2f}]"
