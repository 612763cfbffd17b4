"""What a search begins with: the configurations of a spec that it has grown from, and what other sweeps have found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Point = Mapping[str, Any]


@dataclass(frozen=True)
class Learnt:
    """A finished configuration of another sweep, ``source`` as ``SWEEP/t003``, as a point of this one's space.

    ``metrics`` are means over its seeds: the objectives, and what constraints are of as far as it was measured.
    """

    source: str
    point: Point
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Drawn:
    """Where a search takes up: ``points`` by the numbers of their configurations, which stay, and the next number.

    ``controls`` are the numbers of the controls by name; None if these are numbered as the spec lists them.
    """

    points: Mapping[int, Point] = field(default_factory=dict)
    following: int = 0
    controls: Mapping[str, int] | None = None
    learnt: tuple[Learnt, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As ``sweep.json`` has it."""
        return {
            "points": [[number, dict(point)] for number, point in self.points.items()],
            "following": self.following,
            "controls": None if self.controls is None else dict(self.controls),
            "learnt": [vars(each) for each in self.learnt],
        }

    @classmethod
    def of_json(cls, values: Mapping[str, Any] | None) -> Drawn:
        """What ``as_json`` gave; of a record without it, that of a search which begins with nothing."""
        if values is None:
            return cls()
        points = dict(values["points"])
        learnt = tuple(Learnt(**each) for each in values["learnt"])
        return cls(points, values["following"], values["controls"], learnt)
