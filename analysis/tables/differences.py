"""Columns and notes of a table for comparisons with one group."""

from __future__ import annotations

import math
from collections.abc import Hashable

from analysis.configuration.replicates import OPEN, SAME, UNTESTED, Compared, Replicates
from analysis.render.cells import Cell, Column
from analysis.statistics.intervals import LEVEL
from analysis.statistics.power import POWER
from analysis.statistics.tests import WILCOXON_FROM, Comparison


def difference_columns(reference: str, spec: str) -> list[Column]:
    """The columns of a comparison with ``reference``: difference, p, effect sizes, and verdict."""
    return [
        Column(f"− {reference}", f"difference from the {reference}", spec=spec),
        Column("p (Holm)", "p holm", spec=".2g"),
        Column("p", "p", spec=".2g"),
        Column("p (flips)", "p sign flips", spec=".2g"),
        Column("p (Wilcoxon)", "p wilcoxon", spec=".2g"),
        Column("d_z", "d_z", spec=".2f"),
        Column("Hedges g", "hedges g", spec=".2f"),
        Column("seen from", "seen from", spec=spec),
        Column("verdict", "verdict", "left"),
    ]


def difference_cells(compared: Compared, key: Hashable) -> list[Cell]:
    """A comparison's cells; empty for the reference itself."""
    found: Comparison | None = compared.found.get(key)
    if found is None:
        return [Cell("")] * 9
    adjusted = compared.adjusted[key]
    return [
        Cell(found.difference, found.half_width, found.n, marker=compared.mark(key)),
        Cell(None if math.isnan(adjusted) else adjusted),
        Cell(found.p),
        Cell(found.flips),
        Cell(found.wilcoxon),
        Cell(found.d_z),
        Cell(found.hedges_g),
        Cell(compared.detectable(key)),
        Cell(_verdict(compared, key)),
    ]


def _verdict(compared: Compared, key: Hashable) -> str:
    """The verdict of a comparison, with the number of pairs that would decide an open one."""
    mark = compared.mark(key)
    if mark == OPEN:
        needed = compared.needed(key)
        return "undecided" if needed is None else f"undecided: {needed}"
    return {"": "different", SAME: "equal", UNTESTED: "not tested"}[mark] if compared.family else ""


def tests_in_words(compared: Replicates, found: Compared, chosen: bool) -> list[str]:
    """Notes on the columns of a comparison, and on the correction of p."""
    if not found.family:
        return [f"Not tested: no two rows have two {compared.unit} each to compare."]
    pairs = "1 comparison" if found.family == 1 else f"{found.family} comparisons"
    why = " and all other pairs, since the reference is chosen by its value; intervals as well" if chosen else ""
    return [
        f"p: {compared.test}, two-sided; Holm: corrected for {pairs}, those shown{why}. Different: "
        f"p (Holm) below {LEVEL:g}; {OPEN}: undecided, with how many {compared.unit} would decide it. {found.equal}",
        "p (flips): by flipping the signs of the n differences, which assumes only symmetry, and cannot be below "
        f"2 / 2^n. Seen from: the smallest difference that is detected with {100 * POWER:.0f} % power, corrected.",
        *filter(None, [found.what_these_tell(compared.unit)]),
        *found.untested(compared),
        f"Wilcoxon: signed ranks, for {WILCOXON_FROM} or more pairs. d_z: mean difference divided by its standard "
        "deviation; Hedges g: divided by the pooled one. In brackets: number of replicates.",
    ]
