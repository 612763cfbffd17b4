"""The points that decide whether a whole space is valid: every value on its own, and the extremes together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping

from sweeps.spec.space import Dimension, Leaf, Space, ordered

MOST_VALUES = 64
"""The most values of a dimension that are all tried; of more, only the bounds and their neighbours."""
INSIDE = 0.381966
"""The relative position of the value that is tried inside a range of floats; not a simple fraction."""
MOST_CORNERS = 256
"""The most corners of a space that are all tried; of more, the corners of each pair of dimensions."""

Point = dict[str, Leaf]


def tried(dimension: Dimension) -> tuple[Leaf, ...]:
    """The values of a dimension to try on their own: all of them unless there are too many."""
    listed = dimension.values()
    if listed is None and dimension.int_:
        low, high = (int(edge) for edge in dimension.edges())
        step = int(dimension.step or 1)
        listed = tuple(range(low, high + 1)) if high - low < MOST_VALUES else (low, low + step, high - step, high)
    if listed is None and dimension.float_ and dimension.count() is None:
        # The value in between has many digits: a leaf that takes only integers accepts both bounds but not this.
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
    """The points with every dimension at one of its bounds, without duplicates and inactive leaves.

    If there are too many, each pair of dimensions is at its bounds while the others are as in the base. Raises
    ``ValueError`` if conditions form a cycle.
    """
    names = ordered(space)
    seen = set()
    whole = math.prod(len(space[name].edges()) for name in names) <= MOST_CORNERS
    groups = [tuple(names)] if whole else list(itertools.combinations(names, 2))
    for group in groups:
        # A dimension's conditions must hold for it to be active.
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
