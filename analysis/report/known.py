"""The report's first sentences: what is known about the best configuration, what is undecided, and what it beats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.configuration.budget import check_equal
from analysis.configuration.configurations import Configurations
from analysis.configuration.controls import controls_of, judged, metric_of_controls, spec_controls
from analysis.configuration.labels import label_of
from analysis.configuration.objective import first_objective
from analysis.configuration.replicates import OPEN, SAME, Compared, population, replicates
from analysis.record.runs import RecordError
from analysis.render.cells import Cell, Column, number_format
from linearizer_core.words import counted

MOST_NAMED = 3
"""The most configurations that are named; for more, their number is given."""


def known(configurations: Configurations) -> str:
    """Short sentences: how many configurations the best one beats and by how much, which are undecided, and whether
    references and controls are beaten; empty while there is no best configuration.

    Differences have intervals that hold for all pairs at once, since the best was chosen by its value.
    """
    row = configurations.best_row
    if row is None:
        return ""
    parts = [*_others(configurations, row), *_references(configurations, row), *_controls(configurations)]
    return " ".join(f"{part if part.startswith(str(row['name'])) else part[0].upper() + part[1:]}." for part in parts)


def _others(configurations: Configurations, row: Mapping[Any, Any]) -> list[str]:
    """The best against the other finished configurations, among those that meet the constraints if it does."""
    record, name = configurations.record, str(row["name"])
    key, _ = first_objective(record)
    searched = record.runs[record.runs["kind"] == "search"]
    frame = population(configurations, key)
    frame = frame[frame["counts"] & ((frame["broken"] == "") | bool(row["broken"]))]
    others = len(frame) - 1
    if others < 1 or name not in set(frame["name"]):
        return []
    try:
        check_equal(record, searched[searched["state"] == "finished"], f"{key} of configurations")
    except RecordError:
        return [f"{name} has the best mean, but unequal training rules out a comparison with {_count(others)}"]
    one_seed = (
        f"{name} has the best value, but without two or more seeds per configuration we cannot say that it is "
        f"better than {_count(others)}"
    )
    if all(record.sweep(sweep).seeds < 2 for sweep in frame["sweep"].unique()):
        return [one_seed]
    compared = replicates(record, frame, key, frame["name"].astype("object"), record.axes, False)
    found = compared.against(name, frame["name"].tolist(), chosen_among=len(frame))
    if not found.family or compared.unit != "seeds":
        return [one_seed]
    by_mark = {mark: [str(other) for other in found.found if found.mark(other) == mark] for mark in ("", SAME, OPEN)}
    parts = [_worse(configurations, key, name, others, found, by_mark[""])]
    if by_mark[SAME]:
        same = by_mark[SAME]
        parts.append(f"{_named(same)} {'is' if len(same) == 1 else 'are'} equal to it within ± {found.margin:.3g}")
    if by_mark[OPEN]:
        parts.append(_undecided(found, by_mark[OPEN], others))
    stopped = int((configurations.of_kinds(["search"])["state"] == "stopped").sum())
    if stopped:
        were = "configuration that was" if stopped == 1 else "configurations that were"
        parts.append(f"{stopped} {were} stopped early cannot be compared")
    return parts


def _worse(
    configurations: Configurations, key: str, name: str, others: int, found: Compared, worse: Sequence[str]
) -> str:
    if not worse:
        none = "the other configuration is not" if others == 1 else f"none of {others} other configurations is"
        return f"{none} shown to be worse than {name}, which has the best mean"
    nearest = min(worse, key=lambda other: abs(found.found[other].difference))
    gap = found.found[nearest]
    record = configurations.record
    column = Column(key, key, spec=number_format(record.runs[key].dropna()))
    by = column.text(Cell(abs(gap.difference), gap.half_width))
    than = f"{nearest} by {by}" if len(worse) == 1 else f"the closest of them, {nearest}, by {by}"
    best, interval = f"the best configuration, {name},", "95 % interval for all pairs at once"
    return (
        f"{best} is better than {_share(len(worse), others)}, than {than} of {label_of(record, key)} ({interval})"
        if len(worse) > 1
        else f"{best} is better than {than} of {label_of(record, key)} ({interval})"
    )


def _undecided(found: Compared, undecided: Sequence[str], others: int) -> str:
    needed = [found.needed(other) for other in undecided]
    counts = [count for count in needed if count is not None]
    which = _named(undecided) if len(undecided) < others else "every other" if others > 1 else "it"
    text = f"the comparison with {which} is undecided"
    if not counts:
        return f"{text}, and even 10,000 seeds would not decide it"
    some = "it" if len(counts) == len(needed) else f"{len(counts)} of {len(needed)}"
    return f"{text}, and {max(counts)} seeds would decide {some} if the differences are as estimated"


def _references(configurations: Configurations, row: Mapping[Any, Any]) -> list[str]:
    """Which references the best configuration beats by more than its interval; real images are not considered."""
    key, direction = first_objective(configurations.record)
    sign = -1 if direction == "max" else 1
    frame = configurations.of_kinds(["reference"])
    frame = frame[(frame["sweep"] == row["sweep"]) & ~frame["name"].str.startswith("real ") & frame[key].notna()]
    mine, half = sign * float(row[key]), float(row[f"{key} ci95"])
    half = 0.0 if math.isnan(half) else half
    found: dict[str, list[str]] = {"beats": [], "is not shown to differ from": [], "does not beat": []}
    for name, value in zip(frame["name"].tolist(), frame[key].astype("float64").tolist(), strict=True):
        gap = sign * value - mine
        verdict = "beats" if gap > half else "is not shown to differ from" if abs(gap) <= half else "does not beat"
        found[verdict].append(f"the {name}" if str(name).startswith("Gaussian ") else str(name))
    told = [f"{verdict} {_listed(names)}" for verdict, names in found.items() if names]
    return [f"{row['name']} {_listed(told)}"] if told else []


def _controls(configurations: Configurations) -> list[str]:
    """Which of the measured controls are beaten, that is, worse as they should be."""
    row, best = judged(configurations), configurations.best_row
    if row is None or best is None:
        return []
    subject = str(best["name"]) if row["name"] == best["name"] else f"{best['name']} at fresh seeds ({row['name']})"
    try:
        metric = metric_of_controls(configurations.record)
    except RecordError:
        return []
    found = [*controls_of(configurations.record, row, metric), *spec_controls(configurations, row, metric)]
    if not found:
        return []
    lost = [each.words for each in found if each.told and not each.beaten]
    untold = [each.words for each in found if not each.told]
    if len(found) == 1:
        verdict = "could not be tested" if untold else "is not beaten" if lost else "is beaten"
        return [f"its control, {found[0].words}, {verdict}"]
    if not lost and not untold:
        return [f"{subject} beats every control"]
    told = (
        [f"{subject} does not beat {len(lost)} of {counted(len(found), 'control')} ({', '.join(lost)})"] if lost else []
    )
    if untold:
        of = "" if lost else f" of {counted(len(found), 'control')}"
        told.append(f"{len(untold)}{of} ({', '.join(untold)}) could not be tested, with too few seeds")
    return ["; ".join(told)]


def _share(some: int, of: int) -> str:
    return f"all {of} others" if some == of else f"{some} of {of} others"


def _count(others: int) -> str:
    return "the other" if others == 1 else f"the {others} others"


def _named(names: Sequence[str]) -> str:
    """The names, or their number if there are many."""
    return _listed(names) if len(names) <= MOST_NAMED else f"{len(names)} others"


def _listed(words: Sequence[str]) -> str:
    """Words joined as ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
