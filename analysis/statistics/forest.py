"""The exact shares of a forest's variance by direction of the unit cube, over the cube and locally."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from analysis.statistics.intervals import Array

TREES = 16
MOST_LEAVES = 256
"""The most leaves per tree; the time grows with their square."""


@dataclass(frozen=True)
class Tree:
    """A regression tree: ``values`` ``(leaves,)`` on boxes from ``low`` to ``high``, ``(leaves, directions)`` each."""

    values: Array
    low: Array
    high: Array


def grow(points: Array, values: Array, trees: int = TREES, seed: int = 0) -> list[Tree]:
    """A forest fitted to ``values`` ``(n,)`` at ``points`` ``(n, directions)`` of the unit cube.

    Each tree splits by random halves of the directions and is fitted to all points. A bootstrap leaves out a third of
    them, and so underestimates effects that only single cells of a grid have.
    """
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(
        trees, bootstrap=False, max_features=0.5, max_leaf_nodes=MOST_LEAVES, random_state=seed
    )
    forest.fit(points, values)
    return [_boxes(each.tree_, points.shape[1]) for each in forest.estimators_]


def _boxes(tree: object, directions: int) -> Tree:
    """The leaves of a scikit-learn tree, whose arrays its user guide describes."""
    features, thresholds, left, right, values = (
        np.asarray(getattr(tree, name)) for name in ("feature", "threshold", "children_left", "children_right", "value")
    )
    found: list[tuple[float, Array, Array]] = []
    open_nodes = [(0, np.zeros(directions), np.ones(directions))]
    while open_nodes:
        node, low, high = open_nodes.pop()
        if left[node] == right[node]:
            found.append((float(values[node].ravel()[0]), low, high))
            continue
        below, above = high.copy(), low.copy()
        below[features[node]] = above[features[node]] = thresholds[node]
        open_nodes += [(left[node], low, below), (right[node], above, high)]
    leaves, lows, highs = zip(*found, strict=True)
    return Tree(np.array(leaves), np.array(lows), np.array(highs))


def variance_shares(forest: Sequence[Tree]) -> dict[tuple[int, ...], float]:
    """The share of each direction, and of each pair beyond its two directions, in the forest's variance over the cube.

    This is the functional analysis of variance of the forest's mean prediction, exact for points that are uniform in
    the cube (Hutter, Hoos and Leyton-Brown, ICML 2014). The rest, up to 1, is due to three or more directions. All
    shares of a constant are 0.

    >>> import numpy as np
    >>> points = np.stack(np.meshgrid(*[(np.arange(8) + 0.5) / 8] * 2), -1).reshape(-1, 2)
    >>> shares = variance_shares(grow(points, 3 * points[:, 0] + points[:, 1], trees=16))
    >>> {key: round(share, 1) for key, share in shares.items()}
    {(0,): 0.9, (1,): 0.1, (0, 1): 0.0}
    """
    count = forest[0].low.shape[1]
    pairs, singles, whole = np.zeros((count, count)), np.zeros(count), 0.0
    mean = sum(float(tree.values @ _volumes(tree)) for tree in forest) / len(forest)
    for place, a in enumerate(forest):
        for b in forest[place:]:
            times = (1 if a is b else 2) / len(forest) ** 2
            products = times * np.outer(a.values * _volumes(a), b.values * _volumes(b)).ravel()
            # Probability that one uniform coordinate is in both leaves, relative to two independent coordinates.
            together = np.stack([_together(a, b, direction).ravel() for direction in range(count)])
            weighted = together * products
            singles += weighted.sum(axis=1)
            pairs += weighted @ together.T
            whole += float(products @ together.prod(axis=0))
    variance = whole - mean**2
    keys = [*((each,) for each in range(count)), *combinations(range(count), 2)]
    if variance <= 1e-12 * abs(whole):
        return dict.fromkeys(keys, 0.0)
    alone = np.maximum(singles - mean**2, 0.0) / variance
    beyond = np.maximum((pairs - mean**2) / variance - alone[:, None] - alone, 0.0)
    return {key: float(alone[key[0]] if len(key) == 1 else beyond[key]) for key in keys}


def local_shares(forest: Sequence[Tree], at: Array) -> Array:
    """The share of each direction in the variance along lines through a point ``(directions,)``; the shares sum to 1.

    Each direction is varied from 0 to 1 with the others fixed. This is the local parameter importance of Biedenkapp et
    al. (LION 2018), exact for the forest's mean prediction. All are 0 if it is constant along each line.

    >>> import numpy as np
    >>> points = np.stack(np.meshgrid(*[(np.arange(8) + 0.5) / 8] * 2), -1).reshape(-1, 2)
    >>> forest = grow(points, points[:, 0] * points[:, 1], trees=16)
    >>> local_shares(forest, np.array([0.5, 0.99])).round(1)
    array([0.8, 0.2])
    """
    found = []
    for direction in range(len(at)):
        line = [_along(tree, at, direction) for tree in forest]
        values, low, high = (np.concatenate(parts) for parts in zip(*line, strict=True))
        values = values / len(forest)
        overlap = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
        square = float(values @ np.maximum(overlap, 0.0) @ values)
        found.append(max(square - float(values @ (high - low)) ** 2, 0.0))
    total = sum(found)
    return np.array(found) / total if total > 0 else np.zeros(len(found))


def _along(tree: Tree, at: Array, direction: int) -> tuple[Array, Array, Array]:
    """The leaves on a line through a point: their values, and where they begin and end on the line."""
    inside = (tree.low < at) & (at <= tree.high)  # as in scikit-learn, a point at a threshold belongs to the lower side
    inside |= (tree.low == 0.0) & (at <= 0.0)
    inside[:, direction] = True
    kept = inside.all(axis=1)
    return tree.values[kept], tree.low[kept, direction], tree.high[kept, direction]


def _volumes(tree: Tree) -> Array:
    found: Array = (tree.high - tree.low).prod(axis=1)
    return found


def _together(a: Tree, b: Tree, direction: int) -> Array:
    """Two leaves' overlap in a direction divided by the product of their lengths, ``(leaves, leaves)``."""
    low_a, high_a, low_b, high_b = a.low[:, direction], a.high[:, direction], b.low[:, direction], b.high[:, direction]
    shared = np.minimum(high_a[:, None], high_b) - np.maximum(low_a[:, None], low_b)
    found: Array = np.maximum(shared, 0.0) / np.outer(high_a - low_a, high_b - low_b)
    return found
