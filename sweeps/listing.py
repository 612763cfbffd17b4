"""The sweeps of a storage folder, one per line."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from linearizer_core.bucket import is_address
from linearizer_core.errors import LinsweepError
from sweeps.notebook import html
from sweeps.record.lookup import all_sweeps, find_sweep, shown
from sweeps.spec.validation import InputError, Problem
from sweeps.status import Status, status_of
from sweeps.words import ago


@dataclass(frozen=True, repr=False)
class Listing:
    """The sweeps in a ``storage`` folder, latest start first; ``unreadable`` holds the errors of the others.

    >>> Listing(Path("runs"), ())
    Listing(runs: no sweep)
    """

    storage: Path
    sweeps: Sequence[Status]
    unreadable: Mapping[str, LinsweepError] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"Listing({shown(self.storage)}: {', '.join(each.sweep.folder.name for each in self.sweeps) or 'no sweep'})"
        )

    def _repr_html_(self) -> str:
        return html(render(self))


def listing(storage: Path) -> Listing:
    """The sweeps of a storage folder, or of one in a bucket; raises ``InputError`` if there is no such folder."""
    if not is_address(storage) and not storage.is_dir():
        raise InputError(str(storage), [Problem("", "is not a folder; launch a sweep or give --storage")])
    found: list[Status] = []
    unreadable: dict[str, LinsweepError] = {}
    for name in all_sweeps(storage):
        try:
            found.append(status_of(find_sweep(name, storage) if is_address(storage) else storage / name))
        except LinsweepError as error:  # one unreadable sweep must not hide the others
            unreadable[name] = error
    return Listing(storage, sorted(found, key=lambda each: each.started, reverse=True), unreadable)


def render(listing: Listing) -> RenderableType:
    """The list as it is printed."""
    if not listing.sweeps:
        where = shown(listing.storage)
        return Text(f"{where} holds no readable sweep" if listing.unreadable else
                    f"{where} holds no sweep; to run a first one: linsweep launch quickstart")  # fmt: skip
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("sweep", "state", "trials", "best", "", "started"):
        table.add_column(name, overflow="fold")
    for each in listing.sweeps:
        table.add_row(
            Text(each.sweep.folder.name, style="bold"),
            each.state,
            f"{each.ended} of {each.total}",
            each.best_name or "–",
            f"{next(iter(each.sweep.search.objective)).partition('/')[2]} = {each.best[1]:.4g}" if each.best else "",
            ago(time.time() - each.started),
        )
    return table
