"""Constraints on metrics, parsed from a spec."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, cast

OPERATORS = ("<=", ">=")


class Constraint(NamedTuple):
    """A bound on a metric."""

    operator: Literal["<=", ">="]
    bound: float

    def holds(self, value: float) -> bool:
        """Whether a value meets the bound; NaN (not measured) does not."""
        return value <= self.bound if self.operator == "<=" else value >= self.bound


def parse_constraint(text: str) -> Constraint:
    """The operator and bound of a text such as ``"<= 1e-3"``; raises ``ValueError`` for anything else.

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
