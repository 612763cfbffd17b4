"""Whether a ReLU layer is injective: directed spanning sets (Puthawala et al., Globally Injective ReLU Networks, 2022).

ReLU(W x) is injective on Rⁿ if and only if at every x the active rows {w_i : ⟨w_i, x⟩ ≥ 0} span Rⁿ. If they do not,
a small step orthogonal to them leaves the image unchanged. If x and x' have the same image, a row active at their
midpoint has the same value at both (if both were at most 0, their sum, at least 0, makes both 0); so if these rows
span, x = x'.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor
from torch.nn.functional import normalize

from linearizer_core.errors import InputValueError

TOLERANCE = 1e-6
"""Distance below which a unit-length row counts as lying in a plane: above the rounding of float32 and the solver."""


def relu_injective(weight: Tensor, limit: int = 10_000) -> bool:
    """Whether ReLU(W x) is injective, for W ``(outputs, inputs)``; ``unspanned_point`` says where it is not.

    With a bias the condition is still necessary; it is sufficient if the bias is W c for some c, which moves x by c.

    Raises ``ValueError`` like ``unspanned_point``.
    """
    return unspanned_point(weight, limit) is None


def unspanned_point(weight: Tensor, limit: int = 10_000) -> Tensor | None:
    """A point x ``(inputs,)`` where the active rows of W ``(outputs, inputs)`` do not span, or None if there is none.

    The search is finite. Let the active rows at x span a proper subspace. Rows outside it are negative at x, and if
    all rows of W span Rⁿ, some of them extend it to a hyperplane spanned by n - 1 rows; rows outside that are still
    negative. Conversely, at a point where all rows outside such a hyperplane are negative, the active rows lie inside.
    So one linear program per hyperplane decides. Rows in pairs w, -d w that span Rⁿ need no search: one of each is
    active.

    Raises ``ValueError`` if W is not a matrix, or its rows have more than ``limit`` subsets of n - 1 to search.
    """
    if weight.ndim != 2 or weight.shape[1] == 0:
        raise InputValueError(f"the weight must be a matrix (outputs, inputs), got shape {tuple(weight.shape)}")
    n = weight.shape[1]
    rows = normalize(weight.detach().double(), eps=torch.finfo(torch.float64).tiny)
    rows = rows[rows.any(1)]
    if not _spans(rows):
        return rows.new_zeros(n)
    opposite = (2 + 2 * rows @ rows.T <= TOLERANCE**2).any(1)
    if _spans(rows[opposite]):
        return None
    count = math.comb(len(rows), n - 1)
    if count > limit:
        raise InputValueError(
            f"{len(rows)} rows in {n} dimensions have {count} subsets to search; the limit is {limit}"
        )
    for inside in _hyperplanes(rows):
        x = _negative_at(rows[~inside].cpu().numpy())
        if x is not None:
            return torch.from_numpy(x).to(rows)
    return None


def _spans(rows: Tensor) -> bool:
    return int(torch.linalg.matrix_rank(rows, atol=TOLERANCE, rtol=0)) == rows.shape[1]


def _hyperplanes(rows: Tensor) -> Tensor:
    """For each hyperplane through n - 1 rows, which rows lie in it, without repeats, ``(hyperplanes, outputs)``."""
    m, n = rows.shape
    subsets = torch.tensor(list(combinations(range(m), n - 1)), dtype=torch.long, device=rows.device)
    normals = torch.linalg.svd(rows[subsets]).Vh[:, -1]
    return ((normals @ rows.T).abs() <= TOLERANCE).unique(dim=0)


def _negative_at(rows: np.ndarray) -> np.ndarray | None:
    """A point of the cube [-1, 1]ⁿ where all rows ``(count, n)`` are below minus the tolerance, if there is one."""
    m, n = rows.shape
    # Over (x, t): the largest t with ⟨w_i, x⟩ ≤ -t for every row.
    solved = linprog(
        np.append(np.zeros(n), -1),
        A_ub=np.hstack([rows, np.ones((m, 1))]),
        b_ub=np.zeros(m),
        bounds=[(-1, 1)] * n + [(0, None)],
        method="highs",
    )
    return solved.x[:n] if solved.x[n] > TOLERANCE else None
