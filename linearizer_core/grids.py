"""Time grids of samplers: where the solver's steps begin and end."""

from __future__ import annotations

from collections.abc import Callable

Grid = Callable[[int, float], list[float]]
"""From a number of steps and the end of sampling to the ``steps + 1`` ascending times from 0 to the end."""


def uniform(steps: int, end: float) -> list[float]:
    """Equal steps."""
    return [end * i / steps for i in range(steps)] + [end]


def quadratic(steps: int, end: float) -> list[float]:
    """t_i = end (1 - (1 - i/steps)²): steps shrink linearly towards the data."""
    return [end * (1 - (1 - i / steps) ** 2) for i in range(steps)] + [end]


def geometric(steps: int, end: float) -> list[float]:
    """1 - t_i = (1 - end)^(i/steps): each step removes the same share of what is left of the noise."""
    return [1 - (1 - end) ** (i / steps) for i in range(steps)] + [end]


GRIDS: dict[str, Grid] = {"uniform": uniform, "quadratic": quadratic, "geometric": geometric}
