"""What a metric must keep to: the one reading of a spec's constraints."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, cast

OPERATORS = ("<=", ">=")


class Constraint(NamedTuple):
    """A bound that a metric keeps to."""

    operator: Literal["<=", ">="]
    bound: float

    def holds(self, value: float) -> bool:
        """Whether a value keeps to it; NaN, which was not measured, does not."""
        return value <= self.bound if self.operator == "<=" else value >= self.bound


def parse_constraint(text: str) -> Constraint:
    """``"<= 1e-3"`` as its operator and its bound; raises ``ValueError`` for anything else.

    >>> parse_constraint("<= 1e-3")
    Constraint(operator='<=', bound=0.001)
    """
    operator, bound = text.strip()[:2], text.strip()[2:]
    try:
        if operator not in OPERATORS or not math.isfinite(float(bound)):
            raise ValueError
        return Constraint(cast(Literal["<=", ">="], operator), float(bound))
    except ValueError:
        raise ValueError(f'must read "<= number" or ">= number", got {text!r}') from None
