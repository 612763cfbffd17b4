"""Configurations, trials and sweeps side by side: where their settings differ, and tests of their metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.statistics.intervals import LEVEL, estimate
from analysis.statistics.tests import holm
from linearizer_core.words import counted
from sweeps.contrasts import Contrast, contrast_of, judged
from sweeps.notebook import html
from sweeps.shown_metrics import ROUNDING, ROUNDING_DB, SINGLE, known, main_metrics, repeats, same, way_of
from sweeps.sides import Side

COLOURS = {"better": "green", "worse": "red", "undecided": "dim", "(better)": "dim", "(worse)": "dim", "": ""}
"""Colours of verdicts: in brackets if not tested; none if neither direction is better or nothing differs."""


@dataclass(frozen=True, repr=False)
class Comparison:
    """Configurations, trials or sweeps side by side, in the order given; the first is the base."""

    sides: Sequence[Side]
    note: str = ""
    """Why there is a side that was not asked for."""

    @property
    def models(self) -> list[Side]:
        """The sides with a configuration; a reference has none."""
        return [side for side in self.sides if not side.reference]

    @property
    def leaves(self) -> list[str]:
        """The keys of all configurations."""
        return list(dict.fromkeys(name for side in self.models for name in side.leaves))

    @property
    def differing(self) -> list[str]:
        """The keys whose values are not the same in all configurations."""
        return [name for name in self.leaves if len({setting(side.leaves.get(name, "–")) for side in self.models}) > 1]

    @cached_property
    def metrics(self) -> list[str]:
        """The metrics of all sides, the objective first."""
        found = list(dict.fromkeys(key for side in self.sides for key in side.metrics))
        return sorted(found, key=lambda key: key != self.sides[0].objective)

    @cached_property
    def measured(self) -> list[str]:
        """The metrics of which a side has a value, each once: without those that repeat another one."""
        valued = [key for key in self.metrics if any(known(side.metrics, key) is not None for side in self.sides)]
        return [key for key in valued if key not in self.repeated]

    @cached_property
    def repeated(self) -> dict[str, str]:
        """The metrics that repeat another one on all sides, with that one."""
        return repeats(self.sides, self.metrics, self.sides[0].objective)

    @property
    def incomplete(self) -> list[str]:
        """The metrics that some of the sides do not have."""
        return [key for key in self.measured if any(known(side.metrics, key) is None for side in self.sides)]

    @cached_property
    def differing_metrics(self) -> list[str]:
        """The metrics that differ by more than rounding, or that not all sides have."""
        incomplete = set(self.incomplete)
        return [key for key in self.measured if key in incomplete or not self.alike(key)]

    def alike(self, key: str) -> bool:
        """Whether the sides that have a metric differ in it by rounding at most."""
        values = [value for side in self.sides if (value := known(side.metrics, key)) is not None]
        return all(same(key, values[0], value) for value in values[1:])

    @cached_property
    def main(self) -> list[str]:
        """The metrics that are shown by default: of the main ones the objective, and those that differ."""
        asked, differing = {key for side in self.sides for key in side.objectives}, set(self.differing_metrics)
        found = [key for key in main_metrics(self.measured, self.sides) if key in asked or key in differing]
        return [key for key in found if not key.startswith("linearity/") or not self.alike(key)]

    def metricssetting(self, whole: bool = False) -> list[str]:
        """The metrics of the table: ``main``, or with ``whole`` all that were measured, these first."""
        return list(dict.fromkeys([*self.main, *self.measured])) if whole else self.main

    @cached_property
    def families(self) -> tuple[list[str], list[str], list[str]]:
        """The metrics that can be better or worse, as they are corrected: the objective, the main ones, the rest."""
        first = self.sides[0].objective
        either = [key for key in self.metrics if way_of(key, self.sides[0]) and key not in self.repeated]
        others = [key for key in either if key != first]
        main = [key for key in others if key in self.main]
        return [key for key in either if key == first], main, [key for key in others if key not in self.main]

    @cached_property
    def contrasts(self) -> dict[str, list[Contrast | None]]:
        """By metric, each further side against the first; None if one of the two has no value.

        The objective is tested on its own. The other metrics with a direction get Holm's correction: those that are
        shown by default (``main``) together, and the rest together. Values that differ only by rounding are not
        tested.
        """
        base = self.sides[0]
        raw = {
            key: [contrast_of(key, way_of(key, base), base, side) for side in self.sides[1:]] for key in self.metrics
        }
        corrected: dict[int, float] = {}
        for family in self.families:
            tested = [each for key in family for each in raw[key] if each is not None and each.p is not None]
            ps = holm([math.nan if each.p is None else each.p for each in tested]).tolist()
            corrected |= {id(each): p for each, p in zip(tested, ps, strict=True)}
        found = {
            key: [each and judged(way_of(key, base), each, corrected.get(id(each))) for each in contrasts]
            for key, contrasts in raw.items()
        }
        return found | {key: found[other] for key, other in self.repeated.items()}

    def __repr__(self) -> str:
        return f"Comparison({', '.join(side.name for side in self.sides)})"

    def _repr_html_(self) -> str:
        return html(render(self))


def setting(value: object) -> str:
    """The value of a key as it is printed; two that are printed alike count as the same."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def render(comparison: Comparison, whole: bool = False) -> RenderableType:
    """Two tables of what differs, keys and main metrics; with ``whole``, of everything.

    Further sides are compared with the first one.
    """
    sides = comparison.sides
    parts: list[RenderableType] = []
    if comparison.note:
        parts += [Text(comparison.note), Text()]
    configurations = _table("configuration", sides)
    configurations.add_row("state", *(side.state for side in sides))
    several = len(comparison.models) > 1
    keys = (comparison.leaves if whole else comparison.differing) if several else []
    for name in keys:
        cells = ("–" if side.reference else setting(side.leaves.get(name, "–")) for side in sides)
        configurations.add_row(name, *cells)
    parts.append(configurations)
    lacking = [side.name for side in sides if side.reference]
    if lacking:
        what = "is a reference and has" if len(lacking) == 1 else "are references and have"
        only = "" if several else "; only metrics are compared"
        parts.append(Text(f"{', '.join(lacking)} {what} no configuration{only}", style="dim"))
    same = len(comparison.leaves) - len(comparison.differing)
    if not whole and several and same:
        parts.append(Text(f"{counted(same, 'other key')} {'is' if same == 1 else 'are'} the same", style="dim"))
    if not comparison.measured:
        return Group(*parts, Text("no metrics yet", style="dim"))
    shown = comparison.metricssetting(whole)
    parts += [Text(), _metrics(comparison, shown)]
    return Group(*parts, *(Text(note, style="dim") for note in _notes(comparison, shown, whole)))


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
    """What is not shown, and what the columns mean."""
    found = [each for key in keys for each in comparison.contrasts[key] if each is not None]
    notes = []
    left = [key for key in comparison.measured if key not in keys]
    if left:
        partly = sum(key in comparison.incomplete for key in left)
        alike = sum(key not in comparison.differing_metrics for key in left)
        counts = {
            "different": len(left) - partly - alike,
            "the same up to rounding": alike,
            "missing on a side": partly,
        }
        told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        notes.append(f"more metrics: {told}; --all shows them")
    repeated = [key for key in comparison.repeated if known(comparison.sides[0].metrics, key) is not None]
    if repeated and whole:
        kept = next(iter(comparison.repeated.values())).rpartition("_")[2]
        notes.append(f"left out, the same as …_{kept}: {', '.join(repeated)}")
    if any(each.rounding and each.difference for each in found):
        notes.append(
            "no verdict where the difference is rounding in float32: a relative difference up to "
            f"{SINGLE:g}; of linearity/…, two errors below {ROUNDING:g} or two PSNRs above {ROUNDING_DB:g} dB"
        )
    tested = [each for each in found if each.p is not None]
    if tested:
        pairs = {each.n for each in tested if each.paired}
        how = (
            f"paired t over {'/'.join(map(str, sorted(pairs)))} common seeds" if pairs else "Welch's t: no common seeds"
        )
        notes.append(f"better, worse: than {comparison.sides[0].name}, p < {LEVEL:g} ({how}); undecided: neither")
        notes.append(_intervals(comparison, keys))
    if any(each.verdict.startswith("(") for each in found):
        notes.append("(better), (worse): too few seeds to test")
    if tested and any(side.chosen for side in comparison.sides):
        notes.append("a sweep's best was chosen for its value, which favours it: compare at fresh seeds")
    return notes


def _intervals(comparison: Comparison, keys: Sequence[str]) -> str:
    """What the intervals and the verdicts are corrected for, since a verdict may be stricter than its interval."""
    sizes = [
        sum(any(each and each.p is not None for each in comparison.contrasts[key]) for key in family if key in keys)
        for family in comparison.families[1:]
    ]
    several = len(comparison.sides) > 2
    corrected = [f"{size} {what}" for size, what in zip(sizes, ("main metrics", "others"), strict=True) if size]
    told = "±, P(better): 95 % intervals (Student t, Wilson) of each metric by itself"
    if sum(sizes) + several < 2:
        return told
    among = f"among the {' and among the '.join(corrected)}" if corrected else "among the sides"
    return (
        f"{told}; the verdicts on all but the objective are corrected {among} (Holm), so that one can be undecided "
        "although 0 lies outside of its interval"
    )


def _table(what: str, sides: Sequence[Side]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(what, overflow="fold")
    for side in sides:
        table.add_column(side.name, justify="right", overflow="fold")
    return table


def _value(side: Side, key: str) -> str:
    """The mean over seeds and, if there are several, its interval and their number."""
    values = list(side.values(key).values())
    if known(side.metrics, key) is None:
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
    return f"{found.difference:+,.3g}" + (
        f" ({found.difference / base:+.1%})" if min(base, base + found.difference) > 0 else ""
    )


def _probability(found: Contrast | None) -> str:
    # A metric that is the same at every seed, such as a size, has no probability.
    if found is None or found.better is None or found.half_width == 0:
        return ""
    return f"{found.better.mean:.2f} [{found.better.low:.2f}, {found.better.high:.2f}]"
