"""Sets of samples in the form that metrics use: real numbers, of a size whose squares fit in floating point."""

from __future__ import annotations

import math

from torch import Tensor

from linearizer_core.errors import InputValueError

LARGEST = 2.0**300
"""Squares of numbers up to this, and their sums, are far from overflow in float64; likewise underflow for 1 / LARGEST.

"""


def rows(*sets: Tensor) -> list[Tensor]:
    """Sets ``(count, *event)`` as ``(count, dim)`` in float64.

    Raises ``TypeError`` for anything but tensors, and ``InputValueError`` for a tensor that is not such a set.
    """
    for each in sets:
        if not isinstance(each, Tensor):
            raise TypeError(f"a set of samples must be a tensor, got {type(each).__name__}")
        if each.ndim < 2:
            raise InputValueError(f"a set of samples must be (count, *event), got {tuple(each.shape)}")
        if each.is_complex():
            raise InputValueError(f"samples must be real numbers, got {each.dtype}")
    return [each.detach().flatten(1).double() for each in sets]


def unit(*sets: Tensor) -> float:
    """A power of two to divide by before squaring: 1 if the numbers are of ordinary size, or not finite.

    >>> import torch
    >>> unit(torch.tensor([3.0, -5.0])), unit(torch.tensor([3e200], dtype=torch.float64)) > 1e200
    (1.0, True)
    """
    largest = max((float(each.abs().max()) for each in sets if each.numel()), default=0.0)
    if not math.isfinite(largest) or largest == 0 or 1 / LARGEST <= largest <= LARGEST:
        return 1.0
    return math.ldexp(1.0, math.frexp(largest)[1] - 1)
