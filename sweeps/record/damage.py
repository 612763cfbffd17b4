"""Warnings about unreadable lines in journals: a command reports each line once and continues."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from linearizer_core.experiment.journal import JournalWarning


@contextmanager
def damage_told(tell: Callable[[str], None]) -> Iterator[None]:
    """Call ``tell`` with each ``JournalWarning``, once however often the journal is read."""
    told: set[str] = set()
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, JournalWarning):
                others(message, category, filename, lineno, file, line)
            elif str(message) not in told:
                told.add(str(message))
                tell(str(message))

        warnings.simplefilter("always", JournalWarning)
        warnings.showwarning = show
        yield
