"""The points of a space that decide whether all of it is valid: every value once, and the extremes together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping

from sweeps.spec.space import Dimension, Leaf, Space, ordered

MOST_VALUES = 64
"""Values of one dimension that are tried one by one; of more its ends, and those beside them."""
MOST_CORNERS = 256
"""Corners of a space that are tried; of more, those of every two dimensions."""

Point = dict[str, Leaf]


def tried(dimension: Dimension) -> tuple[Leaf, ...]:
    """The values of a dimension that are tried alone: each, where a range has not too many."""
    listed = dimension.values()
    if listed is None and dimension.int_:
        low, high = dimension.int_
        listed = tuple(range(low, high + 1)) if high - low < MOST_VALUES else (low, low + 1, high - 1, high)
    if listed is None:
        return dimension.edges()
    if dimension.choice or dimension.grid or len(listed) <= MOST_VALUES:
        return listed
    return (*listed[:2], *listed[-2:])


def corners(space: Space, base: Mapping[str, Leaf]) -> Iterator[Point]:
    """The points with every dimension at an end of its own, each once, with what conditions leave of them.

    Where there are too many, every two dimensions are at theirs and the others as in the base. Raises ``ValueError``
    when conditions go in a circle.
    """
    names = ordered(space)
    seen = set()
    whole = math.prod(len(space[name].edges()) for name in names) <= MOST_CORNERS
    groups = [tuple(names)] if whole else list(itertools.combinations(names, 2))
    for group in groups:
        # What a dimension depends on has to be where it is there.
        needed = [name for name in names if name in group or any(name in space[other].when for other in group)]
        edges = [space[name].edges() for name in needed]
        for values in itertools.islice(itertools.product(*edges), MOST_CORNERS):
            at = dict(zip(needed, values, strict=True))
            point: Point = {}
            for name in needed:
                if space[name].active({**base, **point}):
                    point[name] = at[name]
            key = tuple(sorted(point.items()))
            if key not in seen:
                seen.add(key)
                yield point
