"""The status of several sweeps at once; one that cannot be read must not hide the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group
from rich.text import Text

from linearizer_core.errors import LinsweepError
from sweeps.cli.watch import Look
from sweeps.record.lookup import find_sweep
from sweeps.status import Status, render, status_of


@dataclass(frozen=True)
class Statuses:
    """The statuses of the sweeps that can be read, and the errors of the others, by name."""

    statuses: Mapping[str, Status]
    unreadable: Mapping[str, LinsweepError]


def read_all(names: Sequence[str], storage: Path) -> Statuses:
    """The statuses of sweeps by name or folder."""
    statuses: dict[str, Status] = {}
    unreadable: dict[str, LinsweepError] = {}
    for name in names:
        try:
            statuses[name] = status_of(find_sweep(name, storage))
        except LinsweepError as error:
            unreadable[name] = error
    return Statuses(statuses, unreadable)


def shown(found: Statuses) -> Look:
    """The statuses as they are printed; ``over`` once no sweep is running."""
    problems = [Text(str(error), style="red") for error in found.unreadable.values()]
    statuses = list(found.statuses.values())
    news = [(each.state, each.reason, each.trials, each.open) for each in statuses]
    over = not any(each.state in ("running", "stopping") for each in statuses)
    return Look(Group(*map(render, statuses), *problems), news, over)
