"""The points of a space that decide whether all of it is valid: every value once, and the extremes together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping

from sweeps.spec.space import Dimension, Leaf, Space, ordered

MOST_VALUES = 64
"""Values of one dimension that are tried one by one; of more its ends, and those beside them."""
INSIDE = 0.381966
"""Where in a range of numbers one is tried beside its ends: at no simple fraction of it."""
MOST_CORNERS = 256
"""Corners of a space that are tried; of more, those of every two dimensions."""

Point = dict[str, Leaf]


def tried(dimension: Dimension) -> tuple[Leaf, ...]:
    """The values of a dimension that are tried alone: each, where a range has not too many."""
    listed = dimension.values()
    if listed is None and dimension.int_:
        low, high = (int(edge) for edge in dimension.edges())
        step = int(dimension.step or 1)
        listed = tuple(range(low, high + 1)) if high - low < MOST_VALUES else (low, low + step, high - step, high)
    if listed is None and dimension.float_ and dimension.count() is None:
        # A number between the ends, with digits of its own: a leaf of whole numbers takes both ends, and not this.
        first, last = dimension.float_
        if dimension.log:
            between = math.exp((1 - INSIDE) * math.log(first) + INSIDE * math.log(last))
        else:
            between = (1 - INSIDE) * first + INSIDE * last
        return first, between, last
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
