"""Variance components: how much of the variance each of several sources of randomness contributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.statistics.intervals import Array

REST = "rest"
MOST_STEPS = 100
TOLERANCE = 1e-6
ROUNDING = 1e-12
"""Values whose spread is a smaller share of their size do not differ."""
CONDITION = 1e8
"""The condition number of the equations for the components, above which two sources cannot be separated."""


@dataclass(frozen=True)
class Component:
    """The variance due to a source, its standard error, the number of levels of the source, and its share."""

    variance: float
    error: float
    levels: int
    share: float


def variance_components(
    values: Array, sources: Mapping[str, Array], groups: Array | None = None
) -> dict[str, Component]:
    """The variance of ``values`` ``(n,)`` by source; ``rest`` is due to interactions of sources or unexplained.

    ``sources`` have the level of each value ``(n,)``, such as which seed it had. Effects are random, crossed and
    additive; ``groups`` ``(n,)``, such as configurations, have their own means. Estimates are by restricted maximum
    likelihood with Fisher scoring, and never negative; errors are asymptotic (Searle, Casella & McCulloch, Variance
    Components, 1992, section 6.6). Raises ``ValueError`` for values that are not finite, and for sources that cannot
    be separated.

    >>> import numpy as np
    >>> values = np.array([1.0, 1.2, 3.0, 3.2, 8.0, 8.2])
    >>> found = variance_components(values, {"init": np.array([0, 0, 1, 1, 2, 2])})
    >>> round(found["init"].variance, 2), round(found["rest"].variance, 2)
    (12.99, 0.02)
    """
    y = np.asarray(values, dtype=np.float64)
    n = len(y)
    if not np.isfinite(y).all():
        raise ValueError("values must be finite")
    groups = np.zeros(n) if groups is None else groups
    # Project onto an orthonormal basis of the residuals of the groups' means.
    fixed = _indicators(groups)
    basis = np.linalg.svd(np.eye(n) - fixed @ np.linalg.pinv(fixed))[0][:, : n - fixed.shape[1]]
    y = basis.T @ y
    forms = []
    for levels in sources.values():
        columns = basis.T @ _indicators(levels)
        forms.append(columns @ columns.T)
    forms.append(np.eye(len(y)))
    products = np.array([[float((a * b).sum()) for b in forms] for a in forms])
    scale = np.sqrt(np.diag(products))
    if not scale.all() or np.linalg.cond(products / np.outer(scale, scale)) > CONDITION:
        raise ValueError(f"too few values to separate {', '.join(sources)} and the rest")
    if np.linalg.norm(y) <= ROUNDING * np.linalg.norm(values):  # equal values, but for the rounding of their means
        found, errors = np.zeros(len(forms)), np.zeros(len(forms))
    else:
        found, information = _scored(y, forms)
        errors = np.sqrt(2 * np.diag(np.linalg.inv(information)))
    shares = found / found.sum() if found.sum() else np.full(len(found), np.nan)
    counts = [len(np.unique(levels)) for levels in sources.values()] + [n]
    rows = zip([*sources, REST], found, errors, counts, shares, strict=True)
    return {name: Component(float(v), float(e), count, float(share)) for name, v, e, count, share in rows}


def _scored(y: Array, forms: list[Array]) -> tuple[Array, Array]:
    """The components that maximise the restricted likelihood, and twice their information matrix."""
    total = float(y @ y) / len(y)
    least = total * 1e-9  # a positive rest keeps the covariance regular
    found = np.full(len(forms), total / len(forms))
    active = np.ones(len(forms), dtype=np.bool_)
    for _ in range(MOST_STEPS):
        inverse = np.linalg.inv(sum(each * form for each, form in zip(found, forms, strict=True)))
        turned = [inverse @ form for form in forms]
        information = np.array([[float((a * b.T).sum()) for b in turned] for a in turned])
        white = inverse @ y
        forces = np.array([float(white @ form @ white) for form in forms])
        moved = np.zeros(len(forms))
        moved[active] = np.linalg.solve(information[np.ix_(active, active)], forces[active])
        moved[-1] = max(moved[-1], least)
        active &= moved > 0
        moved = np.maximum(moved, 0.0)
        settled = np.abs(moved - found).max() <= TOLERANCE * total
        found = moved
        if settled:
            # A component at 0 becomes active again if the likelihood would rise with it.
            rising = ~active & (forces > (1 + TOLERANCE) * np.array([float(np.trace(each)) for each in turned]))
            if not rising.any():
                break
            active |= rising
    return found, information


def _indicators(levels: Array) -> Array:
    """One column of zeros and ones per level, ``(n, levels)``."""
    return np.asarray(np.asarray(levels)[:, None] == np.unique(levels)[None, :], dtype=np.float64)
