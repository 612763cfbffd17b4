"""A view that is redrawn every few seconds until nothing more can change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.live import Live

PERIOD = 2.0
"""Seconds between two updates."""

REST = 10
"""The least wait between updates, as a multiple of an update's own time: a large record must not keep a core busy."""


@dataclass(frozen=True)
class Look:
    """One update: what to show, a key that changes if there is news, and whether this is the last one."""

    shown: RenderableType
    news: object
    over: bool


def watch(look: Callable[[], Look], console: Console, period: float = PERIOD) -> None:
    """Show what ``look`` returns until it is over; without a terminal, print it again only if there is news.

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
