"""The start of a search: configurations of the spec that it has grown from, and the results of other sweeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Point = Mapping[str, Any]


@dataclass(frozen=True)
class Learnt:
    """A finished configuration of another sweep as a point of this sweep's space; ``source`` is ``SWEEP/t003``.

    ``metrics`` are means over its seeds: the objectives, and the metrics of constraints as far as they were measured.
    """

    source: str
    point: Point
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Drawn:
    """The start of a grown search: existing ``points`` by configuration number, and the next number.

    ``controls`` maps the names of controls to their numbers; None if they are numbered in the order of the spec.
    """

    points: Mapping[int, Point] = field(default_factory=dict)
    following: int = 0
    controls: Mapping[str, int] | None = None
    learnt: tuple[Learnt, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The values as stored in ``sweep.json``."""
        return {
            "points": [[number, dict(point)] for number, point in self.points.items()],
            "following": self.following,
            "controls": None if self.controls is None else dict(self.controls),
            "learnt": [vars(each) for each in self.learnt],
        }

    @classmethod
    def of_json(cls, values: Mapping[str, Any] | None) -> Drawn:
        """The object from what ``as_json`` returned; a record without it stands for a search that starts empty."""
        if values is None:
            return cls()
        points = dict(values["points"])
        learnt = tuple(Learnt(**each) for each in values["learnt"])
        return cls(points, values["following"], values["controls"], learnt)
