"""The replicates in each cell of an ablation, which cell is best, and which are not significantly different from it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from analysis.configuration.configurations import Configurations
from analysis.configuration.levels import plain
from analysis.configuration.margin import margin_of
from analysis.record.runs import Direction, Record
from analysis.render.cells import Cell
from analysis.statistics.intervals import BOOTSTRAP_FROM, LEVEL, METHODS, TOO_FEW, Method, estimate
from analysis.statistics.power import POWER, detectable, pairs_needed
from analysis.statistics.tests import Comparison, compare, holm

SAME, OPEN, UNTESTED, SURVIVORS = "≈", "~", "?", "‡"
"""Marks after a group: equal to the best within the margin, undecided, not tested, survivors of early stopping."""
KEY = ["sweep", "trial"]


@dataclass(frozen=True)
class Group:
    """The replicates of a cell by pairing key, how many there should be, and why some are missing.

    ``stopped``: some values are of trials stopped early. ``survivors``: such trials are left out, so that the values
    are those of the better ones.
    """

    values: pd.Series[Any]
    expected: int
    reason: str = ""
    stopped: bool = False
    survivors: bool = False

    @property
    def complete(self) -> bool:
        """Whether no replicate is missing."""
        return len(self.values) == self.expected > 0


@dataclass(frozen=True)
class Replicates:
    """Groups by the key of their cell.

    ``unit`` is what varies within a group: ``seeds`` if every cell is one configuration, otherwise
    ``configurations``, each by the mean of its seeds. Seeds are then not observations of their own, since
    configurations differ by more than seeds do. ``paired``: whether the replicates of two groups correspond, by seed or
    by the values of all other axes. ``margin`` is the difference below which two means count as equal, if any.
    """

    groups: dict[Hashable, Group]
    unit: str
    paired: bool
    margin: float | None = None

    @property
    def test(self) -> str:
        """A description of the test that compares two groups."""
        if not self.paired:
            return "Welch's t"
        return "paired t over " + ("common seeds" if self.unit == "seeds" else "configurations equal in all other axes")

    def comparison(self, a: Hashable, b: Hashable, level: float = LEVEL) -> Comparison:
        """The first group against the second; if paired, over the replicates that both have."""
        x, y = self.groups[a].values, self.groups[b].values
        if self.groups[a].survivors or self.groups[b].survivors:
            return Comparison(float(x.mean() - y.mean()), 0, self.paired)
        if self.paired:
            common = x.index.intersection(y.index, sort=False)
            x, y = x.loc[common], y.loc[common]
        return compare(x.to_numpy(), y.to_numpy(), paired=self.paired, level=level, margin=self.margin)

    def best(self, direction: Direction | None) -> Hashable | None:
        """The key of the best mean; if replicates are seeds, only of groups that have all of them."""
        if direction is None:
            return None
        entitled = {
            key: float(group.values.mean())
            for key, group in self.groups.items()
            if len(group.values)
            and (group.complete or self.unit == "configurations")
            and not (group.stopped or group.survivors)
        }
        if not entitled:
            return None
        if self.unit == "seeds":
            # Configurations eliminated from a race have fewer seeds, and a mean of few may be better by chance.
            most = max(len(self.groups[key].values) for key in entitled)
            entitled = {key: mean for key, mean in entitled.items() if len(self.groups[key].values) == most}
        return min(entitled, key=lambda key: entitled[key] if direction == "min" else -entitled[key])

    def against(self, reference: Hashable, keys: Sequence[Hashable], chosen_among: int | None = None) -> Compared:
        """The groups ``keys`` against a reference, with Holm's correction.

        A reference chosen by its value among ``chosen_among`` groups, as the best is, belongs to the most different of
        all their pairs, so the correction is for every pair that could have been chosen. A reference fixed beforehand
        is corrected for the number of other groups only.
        """
        others = [key for key in keys if key != reference]
        found = {key: self.comparison(key, reference) for key in others}
        p = np.array([np.nan if each.p is None else each.p for each in found.values()])
        family = tested = int(np.isfinite(p).sum())
        if tested and chosen_among is not None:
            # All pairs of candidates, and each candidate with each group that could not have been chosen.
            beside = max(tested - (chosen_among - 1), 0)
            family = chosen_among * (chosen_among - 1) // 2 + chosen_among * beside
            # Intervals as well: the difference from the best of several is not that from one of them.
            found = {key: self.comparison(key, reference, LEVEL / family) for key in others}
        adjusted = holm(p, family).tolist()
        return Compared(found, dict(zip(others, adjusted, strict=True)), family, self.margin)

    def cell(self, key: Hashable, method: Method) -> Cell:
        """A group as a cell: mean, interval, number of replicates, and the reason if there are none."""
        group = self.groups.get(key)
        if group is None:
            return Cell()
        if group.values.empty:
            return Cell(count=0, of=group.expected, reason=group.reason)
        found = estimate(group.values.to_numpy(), method)
        cell = Cell(
            found.mean,
            count=found.n,
            of=group.expected,
            marker="†" if group.stopped else SURVIVORS if group.survivors else "",
        )
        if found.low is None or found.high is None:
            return cell
        if method == "t":
            return replace(cell, half_width=(found.high - found.low) / 2)
        return replace(cell, interval=(found.low, found.high))

    def cells(self, direction: Direction | None, method: Method) -> tuple[dict[Hashable, Cell], list[str]]:
        """Every group as a cell, with the best in bold and those not shown to differ from it marked; and the notes."""
        cells = {key: self.cell(key, method) for key in self.groups}
        notes = self._unit_notes(method, list(cells.values()))
        top = self.best(direction)
        if top is None:
            return cells, notes
        cells[top] = replace(cells[top], bold=True)
        tested = [key for key, group in self.groups.items() if len(group.values) and not group.survivors]
        compared = self.against(top, tested, chosen_among=len(tested))
        for key in compared.adjusted:
            cells[key] = replace(cells[key], marker=f"{compared.mark(key)} {cells[key].marker}".strip())
        return cells, [*notes, *compared.notes(self, len(cells))]

    def _unit_notes(self, method: Method, cells: Sequence[Cell]) -> list[str]:
        """Notes on the intervals and the numbers in brackets."""
        notes = [f"In brackets: the number of {self.unit} in the mean."]
        if any(cell.half_width is not None or cell.interval is not None for cell in cells):
            sign = "±: half width of the" if method == "t" else "[low, high]:"
            notes.insert(0, f"{sign} 95 % confidence interval over {self.unit} ({METHODS[method]}).")
        if method == "bootstrap" and any(1 < (cell.count or 0) < BOOTSTRAP_FROM for cell in cells):
            notes.append(TOO_FEW)
        if any(cell.incomplete and not cell.missing for cell in cells):
            notes.append("n/m: only n of m are available; the mean is over those.")
        if any("†" in cell.marker for cell in cells):
            notes.append("†: includes values from the last evaluation before an early stop.")
        if any(SURVIVORS in cell.marker for cell in cells):
            notes.append(
                f"{SURVIVORS}: those stopped early are left out, which makes the mean look too good: not tested, and "
                "not considered as the best."
            )
        return notes


@dataclass(frozen=True)
class Compared:
    """Comparisons with one group, p after Holm's correction, and for how many comparisons it corrects (``family``)."""

    found: Mapping[Hashable, Comparison]
    adjusted: Mapping[Hashable, float]
    family: int
    margin: float | None = None

    def mark(self, key: Hashable) -> str:
        """The mark after a group: equal to the reference within the margin, undecided, or not tested."""
        if not self.family:
            return ""  # a note says so for all of them
        p, same = self.adjusted[key], self.found[key].equivalence
        if math.isnan(p):
            return UNTESTED
        if p < LEVEL:
            return ""
        return SAME if same is not None and same * self.family < LEVEL else OPEN

    def detectable(self, key: Hashable) -> float | None:
        """The difference that this many pairs with this spread detect with 80 % power after the correction."""
        found = self.found[key]
        if not self.family or found.n < 2 or found.deviation is None:
            return None
        return found.deviation * detectable(found.n, LEVEL / self.family)

    def needed(self, key: Hashable) -> int | None:
        """How many pairs would decide an open comparison if its difference and deviation are as estimated.

        That many pairs show with 80 % power that there is a difference, or that it is within the margin, whichever
        takes fewer. None if even 10,000 would not do.
        """
        found = self.found[key]
        if not self.family or not found.deviation:
            return None
        level, gap = LEVEL / self.family, abs(found.difference)
        counts = [pairs_needed(gap / found.deviation, level)]
        if self.margin is not None and gap < self.margin:
            # A one-sided test at the level is a two-sided test at twice the level.
            counts.append(pairs_needed((self.margin - gap) / found.deviation, 2 * level))
        return min((count for count in counts if count is not None), default=None)

    def what_these_tell(self, unit: str) -> str:
        """A note on the detectable difference and on how many replicates would decide open comparisons, or nothing."""
        seen = [found for key in self.found if (found := self.detectable(key)) is not None]
        if not seen:
            return ""
        power = f"{100 * POWER:.0f} %"
        told = f"With these {unit}, a difference of {median(seen):.3g} is detected with {power} power (median)."
        open_ones = [key for key in self.found if self.mark(key) == OPEN]
        needed = [self.needed(key) for key in open_ones]
        if not open_ones:
            return told
        counts = [count for count in needed if count is not None]
        what = f"{len(open_ones)} comparison{'s are' if len(open_ones) > 1 else ' is'} undecided"
        if not counts:
            return f"{told} {what}, and even 10,000 {unit} would not change that."
        which = ("it" if len(needed) == 1 else "them") if len(counts) == len(needed) else f"{len(counts)} of them"
        return f"{told} {what}: if the differences are as estimated, {max(counts)} {unit} would decide {which}."

    def untested(self, replicates: Replicates) -> list[str]:
        """A note on the mark of untested groups, if there are any."""
        if not self.family or not any(map(math.isnan, self.adjusted.values())):
            return []
        what = "in common" if replicates.paired else "in one of the two"
        left = any(replicates.groups[key].survivors for key in self.found)
        stopped = f", or with some stopped early ({SURVIVORS})" if left else ""
        return [f"{UNTESTED}: not tested, with fewer than two {replicates.unit} {what}{stopped}."]

    def notes(self, replicates: Replicates, cells: int) -> list[str]:
        """Notes that explain bold cells and the marks."""
        if not self.family:
            few = f" Not tested: no two cells have two {replicates.unit} each to compare." if cells > 1 else ""
            return [f"Bold: the best mean.{few}"]
        pairs = "the one pair" if self.family == 1 else f"all {self.family} pairs"
        return [
            f"Bold: the best mean. {OPEN}: undecided (neither different from it nor equal). Tested by the "
            f"{replicates.test}, with Holm's correction for {pairs} of cells, since the best is chosen among them. "
            f"{self.equal}",
            *filter(None, [self.what_these_tell(replicates.unit)]),
            *self.untested(replicates),
        ]

    @property
    def equal(self) -> str:
        """A note on when two groups count as equal."""
        if self.margin is None:
            return f"{SAME} (equal within a margin) is not tested: no margin is known."
        return f"{SAME}: equal within ± {self.margin:.3g} (two one-sided t tests at the same level)."


def population(configurations: Configurations, metric: str, unequal: bool = False) -> pd.DataFrame:
    """The search's configurations; ``counts`` says which are included in means.

    Those that finished with a finite value are, and with ``unequal`` those that were stopped early. A configuration
    whose trials were reused from another sweep of the record, or repeated there with exactly the same value, is
    listed in one of them only, so that each trial counts once.
    """
    frame = configurations.of_kinds(["search"])
    states = ["finished", "stopped"] if unequal else ["finished"]
    frame = frame.assign(counts=frame["state"].isin(states) & np.isfinite(frame[metric].astype("float64")))
    return frame[~(_reused(configurations.record, frame) | repeated_elsewhere(configurations.record, frame, metric))]


def repeated_elsewhere(record: Record, frame: pd.DataFrame, metric: str) -> pd.Series[Any]:
    """Which configurations also occur in an earlier sweep of the record, with the same values at the same seeds.

    Training is deterministic, so these are the same trials.
    """
    found = pd.Series(False, frame.index)
    if len(record.sweeps) < 2:
        return found
    runs = record.runs
    named = zip(runs["sweep"].astype("str"), runs["trial"], strict=True)
    values = dict(zip(named, zip(runs["seed"], runs[metric], strict=True), strict=True))
    first: dict[tuple[Any, ...], str] = {}
    for index, sweep, config_hash, used in zip(
        frame.index, frame["sweep"].astype("str"), frame["config_hash"], frame["used"], strict=True
    ):
        key = (config_hash, frozenset(values[sweep, trial] for trial in used))
        found[index] = first.setdefault(key, sweep) != sweep
    return found


def _reused(record: Record, frame: pd.DataFrame) -> pd.Series[Any]:
    """Which configurations have a trial reused from another sweep of the record, where it counts already."""
    runs = record.runs[record.runs["reused_from"].notna()]
    sources = dict(zip(zip(runs["sweep"], runs["trial"], strict=True), runs["reused_from"], strict=True))
    counted = frame[frame["counts"]]
    known = {
        f"{sweep}/{trial}" for sweep, used in zip(counted["sweep"], counted["used"], strict=True) for trial in used
    }
    found = [
        any(sources.get((sweep, trial)) in known for trial in used)
        for sweep, used in zip(frame["sweep"], frame["used"], strict=True)
    ]
    return pd.Series(found, frame.index, dtype="bool")


def seed_values(record: Record, frame: pd.DataFrame, metric: str, unequal: bool) -> dict[Any, dict[int, float]]:
    """The comparable values of each configuration (a row of ``by_configuration``) by seed."""
    states = ["finished", "stopped"] if unequal else ["finished"]
    runs = record.runs[record.runs["state"].isin(states)]
    keys, points = (zip(*(runs[name].tolist() for name in names), strict=True) for names in (KEY, ["seed", metric]))
    known = dict(zip(keys, points, strict=True))
    found = {}
    for index, sweep, trials in zip(frame.index, frame["sweep"].tolist(), frame["used"], strict=True):
        values = dict(known[sweep, trial] for trial in trials if (sweep, trial) in known)
        # If a seed has no value, the configuration has none: the mean of the other seeds would be too good.
        found[index] = values if all(map(math.isfinite, values.values())) else {}
    return found


def replicates(
    record: Record,
    frame: pd.DataFrame,
    metric: str,
    keys: pd.Series[Any],
    used: Sequence[str],
    unequal: bool,
    margin: float | None = None,
) -> Replicates:
    """Group configurations (rows of ``population``) by the key of their cell; ``used`` are the axes of the keys.

    ``margin`` is passed to ``margin_of``.
    """
    margin = margin_of(record, metric, margin)
    values = seed_values(record, frame, metric, unequal)
    points = _points(record, frame, [axis for axis in record.axes if axis not in used])
    members: dict[Hashable, list[Any]] = {}
    for index, key in keys.items():
        members.setdefault(key, []).append(index)
    sets = {tuple(sorted((points[index] for index in indices), key=repr)) for indices in members.values()}
    shared = next(iter(sets)) if len(sets) == 1 else ()
    alike = bool(shared) and len(set(shared)) == len(shared)
    single = all(len(indices) == 1 for indices in members.values())
    most_seeds = max((record.sweep(name).seeds for name in frame["sweep"]), default=1)
    # As plain rows: selecting from a frame takes a millisecond, and of many configurations each may be a group.
    columns = frame[[name for name in ROW if name in frame]]
    rows = dict(zip(frame.index, columns.to_dict("records"), strict=True))
    if single and most_seeds > 1:
        groups = {key: _over_seeds(record, found[0], rows, values) for key, found in members.items()}
        return Replicates(groups, "seeds", True, margin)
    groups = {key: _over_configurations(found, rows, values, points, alike) for key, found in members.items()}
    return Replicates(groups, "configurations", alike, margin)


ROW = ("sweep", "trials", "state", "words", "counts", "finished")
"""The columns of ``population`` from which groups are made."""


def _points(record: Record, frame: pd.DataFrame, axes: Sequence[str]) -> dict[Any, tuple[Any, ...]]:
    """Each configuration's values of the axes that a table does not show."""
    names = [*(["sweep"] if len(record.sweeps) > 1 else []), *axes]
    columns = [plain(frame[name]) for name in names]
    if not columns:
        return dict.fromkeys(frame.index, ())
    return dict(zip(frame.index, zip(*columns, strict=True), strict=True))


def _over_seeds(
    record: Record, index: Any, rows: Mapping[Any, Mapping[Any, Any]], values: Mapping[Any, Mapping[int, float]]
) -> Group:
    """The value of a cell's only configuration at each of its seeds."""
    row = rows[index]
    expected = max(record.sweep(row["sweep"]).seeds, len(row["trials"]))
    found = pd.Series(values[index], dtype="float64")
    stopped, some = row["state"] == "stopped", row["finished"] > 0
    return Group(found, expected, _reason([row]) if found.empty else "", stopped and not some, stopped and some)


def _over_configurations(
    members: Sequence[Any],
    rows: Mapping[Any, Mapping[Any, Any]],
    values: Mapping[Any, Mapping[int, float]],
    points: Mapping[Any, tuple[Any, ...]],
    alike: bool,
) -> Group:
    """The mean over seeds of each configuration in a cell that counts."""
    counted = [index for index in members if rows[index]["counts"]]
    stopped = {index for index in members if rows[index]["state"] == "stopped"}
    labels = pd.Index([points[index] if alike else index for index in counted], tupleize_cols=False)
    found = pd.Series([np.mean([*values[index].values()]) for index in counted], labels, dtype="float64")
    reason = _reason([rows[index] for index in members]) if found.empty else ""
    survivors = bool(counted) and not stopped <= set(counted)
    return Group(found, len(members), reason, not stopped.isdisjoint(counted), survivors)


def _reason(rows: Sequence[Mapping[Any, Any]]) -> str:
    """Why a cell has no value."""
    words = ["not finite" if row["state"] == "finished" and not row["counts"] else row["words"] for row in rows]
    return ", ".join(dict.fromkeys(words))
