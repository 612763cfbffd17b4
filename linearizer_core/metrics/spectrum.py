"""Numbers that summarise the singular values of an operator."""

from __future__ import annotations

import torch
from torch import Tensor

from linearizer_core.errors import InputValueError
from linearizer_core.operators.base import cutoff, finite


def effective_rank(singular_values: Tensor) -> float:
    """exp of the entropy of the normalised singular values (Roy & Vetterli, 2007): 1 … their count, 0 if all are 0.

    Like all functions here, raises ``NotFiniteError`` for values that are not finite, and ``InputValueError`` for
    negative ones and for anything but a one-dimensional tensor.

    >>> import torch, linearizer_core as lc
    >>> s = torch.tensor([4.0, 2.0, 0.0])
    >>> round(lc.metrics.effective_rank(s), 3)
    1.89
    """
    values = _checked(singular_values)
    if not values.any():
        return 0.0
    share = values / values.sum()
    return float(torch.exp(-(share * share.clamp_min(1e-300).log()).sum()))


def energy_rank(singular_values: Tensor, fraction: float = 0.99) -> int:
    """The smallest number of singular values whose squares sum to ``fraction`` of the sum of all; 0 if all are 0.

    >>> import torch, linearizer_core as lc
    >>> s = torch.tensor([4.0, 2.0, 0.0])
    >>> lc.metrics.energy_rank(s)
    2
    """
    values = _checked(singular_values)
    if not 0 < fraction <= 1:
        raise InputValueError(f"fraction must be in (0, 1], got {fraction}")
    if not values.any():
        return 0
    energy = (values / values.max()).square().sort(descending=True).values.cumsum(0)
    return min(int((energy < fraction * energy[-1]).sum()) + 1, len(values))


def stable_rank(singular_values: Tensor) -> float:
    """‖A‖_F² / ‖A‖², the sum of squares over the largest square (Rudelson & Vershynin, 2007); 0 if all are 0.

    >>> import torch, linearizer_core as lc
    >>> s = torch.tensor([4.0, 2.0, 0.0])
    >>> round(lc.metrics.stable_rank(s), 3)
    1.25
    """
    values = _checked(singular_values)
    if not values.any():
        return 0.0
    return float((values / values.max()).square().sum())


def numerical_rank(singular_values: Tensor, rcond: float | None = None) -> int:
    """The number of singular values above ``rcond`` times the largest.

    By default ``rcond`` is their count times the dtype's epsilon, the rounding error of a square operator. For other
    operators use ``LinearOperator.rank``, which knows the larger side.

    >>> import torch, linearizer_core as lc
    >>> s = torch.tensor([4.0, 2.0, 0.0])
    >>> lc.metrics.numerical_rank(s)
    2
    """
    _checked(singular_values)
    if rcond is not None and not 0 <= rcond < 1:
        raise InputValueError(f"rcond must be in [0, 1), got {rcond}")
    values = singular_values if singular_values.is_floating_point() else singular_values.double()
    return int((values > cutoff(values, len(values), rcond)).sum())


def _checked(singular_values: Tensor) -> Tensor:
    """Singular values in float64; raises ``InputValueError`` for values that cannot be singular values."""
    if singular_values.ndim != 1 or singular_values.is_complex():
        message = f"singular values must be a list of real numbers, got {tuple(singular_values.shape)}"
        raise InputValueError(f"{message} of {singular_values.dtype}")
    if bool((singular_values < 0).any()):
        raise InputValueError("singular values must be at least 0, but some are negative")
    return finite(singular_values).double()
