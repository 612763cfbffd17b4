"""Couplings by monotone rational-quadratic splines (Durkan et al., Neural Spline Flows, 2019)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, softplus

from linearizer_core.errors import InputValueError
from linearizer_core.flows.couplings import Coupling

MINIMUM = 0.1
"""Smallest bin relative to an equal share, and smallest derivative: they bound the inverse's error in float32."""


class _Bin(NamedTuple):
    """The bin of each entry: its lower left corner, its sides, the derivatives at its ends and its mean slope."""

    x0: Tensor
    y0: Tensor
    width: Tensor
    height: Tensor
    d0: Tensor
    d1: Tensor

    @property
    def slope(self) -> Tensor:
        return self.height / self.width


def rational_quadratic(
    x: Tensor, widths: Tensor, heights: Tensor, derivatives: Tensor, bound: float
) -> tuple[Tensor, Tensor]:
    """The spline's value and the log of its derivative, both ``(…)``; it is the identity outside ±``bound``.

    ``x`` is ``(…)``. The bins' ``widths`` and ``heights``, ``(…, bins)``, are positive and sum to 2·``bound``. The
    ``derivatives`` at the knots between them, ``(…, bins - 1)``, are positive; those at ±``bound`` are 1 (equations
    4 and 5).
    """
    inner = x.clamp(-bound, bound)
    b = _bin(inner, widths, widths, heights, derivatives, bound)
    xi = _rounded((inner - b.x0) / b.width)
    denominator = b.slope + (b.d1 + b.d0 - 2 * b.slope) * xi * (1 - xi)
    y = b.y0 + b.height * (b.slope * xi.square() + b.d0 * xi * (1 - xi)) / denominator
    return _with_tails(x, y, _log_derivative(b, xi), bound)


def rational_quadratic_inverse(
    y: Tensor, widths: Tensor, heights: Tensor, derivatives: Tensor, bound: float
) -> tuple[Tensor, Tensor]:
    """The inverse of ``rational_quadratic`` in its first argument, and the log of the inverse's derivative.

    Equations 6 to 8: ξ is the root of a quadratic, in the form without cancellation.
    """
    inner = y.clamp(-bound, bound)
    k = _bin(inner, heights, widths, heights, derivatives, bound)
    rise = inner - k.y0
    bend = rise * (k.d1 + k.d0 - 2 * k.slope)
    a = k.height * (k.slope - k.d0) + bend
    b = k.height * k.d0 - bend
    c = -k.slope * rise
    # Positive for every monotone spline, but not always after rounding; the root's gradient must stay finite.
    discriminant = (b.square() - 4 * a * c).clamp_min(torch.finfo(y.dtype).tiny)
    xi = _rounded(-2 * c / (b + discriminant.sqrt()))
    return _with_tails(y, k.x0 + xi * k.width, -_log_derivative(k, xi), bound)


def _bin(value: Tensor, sides: Tensor, widths: Tensor, heights: Tensor, derivatives: Tensor, bound: float) -> _Bin:
    """The bin that holds each value; ``sides`` are the widths or heights, whichever direction the value is in."""
    inner_knots = sides[..., :-1].cumsum(-1) - bound
    index = (value[..., None] >= inner_knots).sum(-1, keepdim=True)

    def at(table: Tensor, position: Tensor) -> Tensor:
        return table.expand(*value.shape, -1).gather(-1, position).squeeze(-1)

    def start(sizes: Tensor) -> Tensor:
        return pad(sizes[..., :-1].cumsum(-1), (1, 0)) - bound

    slopes = pad(derivatives, (1, 1), value=1.0)
    return _Bin(
        at(start(widths), index),
        at(start(heights), index),
        at(widths, index),
        at(heights, index),
        at(slopes, index),
        at(slopes, index + 1),
    )


def _rounded(xi: Tensor) -> Tensor:
    """ξ clamped to [0, 1], which it leaves only by rounding, with its gradient unchanged."""
    return xi + (xi.clamp(0, 1) - xi).detach()


def _log_derivative(b: _Bin, xi: Tensor) -> Tensor:
    across = xi * (1 - xi)
    numerator = b.d1 * xi.square() + 2 * b.slope * across + b.d0 * (1 - xi).square()
    denominator = b.slope + (b.d1 + b.d0 - 2 * b.slope) * across
    return 2 * b.slope.log() + numerator.log() - 2 * denominator.log()


def _with_tails(outer: Tensor, inner: Tensor, log_derivative: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    inside = outer.abs() < bound
    return torch.where(inside, inner, outer), torch.where(inside, log_derivative, 0.0)


class SplineCoupling(Coupling):
    """τ(x) = rational_quadratic(x) with ``bins`` bins on [-bound, bound] and the identity outside.

    ``theta`` holds ``bins`` logits of widths, as many of heights, then ``bins - 1`` pre-derivatives, each for all
    channels: parameter p of channel c is its channel p·channels + c. Bins are softmax shares of 2·bound, derivatives
    are softplus(·) / log 2, and none is below its ``MINIMUM``. θ = 0 is the identity.

    Raises ``ValueError`` for fewer than two bins and for a bound that is not positive.

    >>> import torch, linearizer_core as lc
    >>> from linearizer_core.flows.conditioners import MLP
    >>> g = lc.flows.SplineCoupling(4, lambda inputs, outputs: MLP(inputs, outputs, width=8, activation="gelu"))
    >>> x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    >>> z, log_det = g(x)
    >>> log_det.shape, torch.allclose(g.inverse(z)[0], x, atol=1e-4)
    (torch.Size([8]), True)
    """

    def __init__(
        self, channels: int, conditioner: Callable[[int, int], nn.Module], bins: int = 8, bound: float = 4.0
    ) -> None:
        if bins < 2:
            raise InputValueError(f"a spline needs at least two bins to bend, got {bins}")
        if not bound > 0:
            raise InputValueError(f"the bound of a spline must be positive, got {bound}")
        super().__init__(channels, conditioner, 3 * bins - 1)
        self.bins = bins
        self.bound = bound

    def transform(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        y, log_derivative = rational_quadratic(x, *self._knots(theta), self.bound)
        return y, log_derivative.flatten(1).sum(1)

    def untransform(self, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        x, log_derivative = rational_quadratic_inverse(y, *self._knots(theta), self.bound)
        return x, log_derivative.flatten(1).sum(1)

    def _knots(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        theta = theta.unflatten(1, (3 * self.bins - 1, -1)).movedim(1, -1)
        widths, heights, derivatives = theta.split([self.bins, self.bins, self.bins - 1], -1)
        return self._sides(widths), self._sides(heights), MINIMUM + (1 - MINIMUM) * softplus(derivatives) / math.log(2)

    def _sides(self, logits: Tensor) -> Tensor:
        return 2 * self.bound * ((1 - MINIMUM) * logits.softmax(-1) + MINIMUM / self.bins)
