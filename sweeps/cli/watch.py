"""A view that is drawn again every few seconds, until there is nothing more to come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.live import Live

PERIOD = 2.0
"""Seconds between two looks."""

REST = 10
"""How many times as long as a look took there is rest before the next: a large record must not keep a core busy."""


@dataclass(frozen=True)
class Look:
    """What is to be seen, what of it is news where nothing can be drawn over, and whether nothing more will come."""

    shown: RenderableType
    news: object
    over: bool


def watch(look: Callable[[], Look], console: Console, period: float = PERIOD) -> None:
    """Show what ``look`` gives until it is over; where nothing can be drawn over, once for each news.

    ``period`` is in seconds.
    """
    drawn = console.is_terminal and console.file.isatty() and not console.is_dumb_terminal
    if not drawn:
        before: object = None
        for now in _looks(look, period):
            if now.news != before:
                console.print(now.shown)
                console.file.flush()
            before = now.news
        return
    with Live(console=console, auto_refresh=False) as live:
        for now in _looks(look, period):
            live.update(now.shown, refresh=True)


def _looks(look: Callable[[], Look], period: float) -> Iterator[Look]:
    while True:
        begun = time.monotonic()
        now = look()
        yield now
        if now.over:
            return
        time.sleep(max(period, REST * (time.monotonic() - begun)))
