"""How times, configurations and states are written in messages and tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

UNITS = ((86400, "day"), (3600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """A time as people say it, to about a tenth; negative ``seconds`` count as 0.

    >>> [duration(seconds) for seconds in (0.4, 24, 200, 5400, 86400 * 2.2)]
    ['0.4 s', '24 s', '3 min 20 s', '1 h 30 min', '2 days 5 h']
    """
    if seconds < 10:
        return f"{max(0.0, seconds):.2g} s"
    whole = round(seconds)
    place = next(i for i, (size, _) in enumerate(UNITS) if whole >= size)
    size, name = UNITS[place]
    if whole < 10 * size and place + 1 < len(UNITS):
        smaller, below = UNITS[place + 1]
        whole = round(seconds / smaller) * smaller
        rest = whole % size // smaller
        return _counted(whole // size, name) + (f" {_counted(rest, below)}" if rest else "")
    return _counted(round(seconds / size), name)


def ago(seconds: float) -> str:
    """How long ago something was, in its largest unit.

    >>> ago(24), ago(5400), ago(86400 * 2.2)
    ('24 s ago', '1 h ago', '2 days ago')
    """
    size, name = next(((size, name) for size, name in UNITS if seconds >= size), UNITS[-1])
    return f"{_counted(max(0, int(seconds / size)), name)} ago"


def _counted(count: int, unit: str) -> str:
    return f"{count} {unit}s" if unit == "day" and count != 1 else f"{count} {unit}"


def configuration_name(trial: str) -> str:
    """The configuration of a trial, as tables name it.

    >>> configuration_name("t006-s0"), configuration_name("r001")
    ('t006', 'r001')
    """
    return re.sub(r"-s\d+$", "", trial)


def describe_point(overrides: Mapping[str, Any]) -> str:
    """A point of the space on one line, with the last part of each leaf's name."""
    return " ".join(
        f"{name.rpartition('.')[2]}={value:.3g}" if isinstance(value, float) else f"{name.rpartition('.')[2]}={value}"
        for name, value in overrides.items()
    )


def trial_state(state: str | None, alive: bool) -> str:
    """The state of a trial as users see it, from its journal's state and whether a launch is ``alive``.

    While one is, an interrupted trial waits for its next attempt.

    >>> trial_state(None, True), trial_state("interrupted", True), trial_state(None, False)
    ('running', 'waiting', 'interrupted')
    """
    if alive and state == "interrupted":
        return "waiting"
    return state or ("running" if alive else "interrupted")
