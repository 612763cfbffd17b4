"""Time grids of samplers: the start and end times of the solver's steps."""

from __future__ import annotations

from collections.abc import Callable

from linearizer_core.errors import InputValueError

Grid = Callable[[int, float], list[float]]
"""Maps a number of steps and the end of sampling to the ``steps + 1`` ascending times from 0 to the end.

All grids raise ``ValueError`` for less than one step and for an end outside (0, 1].
"""


def uniform(steps: int, end: float) -> list[float]:
    """Equal steps.

    >>> uniform(4, 1.0)
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    _check(steps, end)
    return [end * i / steps for i in range(steps)] + [end]


def quadratic(steps: int, end: float) -> list[float]:
    """t_i = end (1 - (1 - i/steps)²): steps shrink linearly towards the data.

    >>> quadratic(4, 1.0)
    [0.0, 0.4375, 0.75, 0.9375, 1.0]
    """
    _check(steps, end)
    return [end * (1 - (1 - i / steps) ** 2) for i in range(steps)] + [end]


def geometric(steps: int, end: float) -> list[float]:
    """1 - t_i = (1 - end)^(i/steps): each step removes the same share of the remaining noise.

    Raises ``ValueError`` for an end of 1 too, which no number of such steps reaches.

    >>> geometric(2, 0.75)
    [0.0, 0.5, 0.75]
    """
    _check(steps, end)
    if end == 1:
        raise InputValueError("geometric steps never reach 1; use another grid, or an end below 1")
    return [1 - (1 - end) ** (i / steps) for i in range(steps)] + [end]


def _check(steps: int, end: float) -> None:
    if steps < 1:
        raise InputValueError(f"sampling takes at least one step, got {steps}")
    if not 0 < end <= 1:
        raise InputValueError(f"sampling must end at a time in (0, 1], got {end}")


GRIDS: dict[str, Grid] = {"uniform": uniform, "quadratic": quadratic, "geometric": geometric}
