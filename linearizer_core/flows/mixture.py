"""Couplings by mixtures of logistic distributions: smooth, with a numerically solved inverse."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from linearizer_core.errors import InputValueError
from linearizer_core.flows.couplings import CLAMP, Coupling
from linearizer_core.flows.implicit import monotone_root

FAR = 1000.0
"""Distance of roots beyond which a flow's training data do not lie between them."""


def logistic_mixture(x: Tensor, logits: Tensor, locations: Tensor, log_scales: Tensor) -> tuple[Tensor, Tensor]:
    """logit Σ_k w_k σ((x - μ_k) / s_k), w = softmax(logits), and the log of its derivative, both ``(…)``.

    ``x`` is ``(…)``, the parameters are ``(…, components)`` (Ho et al., Flow++, 2019, section 3.2.1). It is smooth
    and increasing, and approaches a line of slope 1 / max s_k on both sides.
    """
    u = (x[..., None] - locations) * (-log_scales).exp()
    log_weights = logits.log_softmax(-1)
    left, right = logsigmoid(u), logsigmoid(-u)
    below, above = log_weights + left, log_weights + right
    y = below.logsumexp(-1) - above.logsumexp(-1)
    # The derivatives of log F and of -log(1 - F), each a mean over components: far out, where F' and F (1 - F) both
    # vanish, their quotient would lose precision.
    slopes = torch.cat([below.log_softmax(-1) + right - log_scales, above.log_softmax(-1) + left - log_scales], -1)
    return y, slopes.logsumexp(-1)


def logistic_mixture_inverse(
    y: Tensor, logits: Tensor, locations: Tensor, log_scales: Tensor, size: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The inverse of ``logistic_mixture`` in its first argument, and the log of the inverse's derivative.

    The mixture lies between its smallest and its largest component, so the root lies between the smallest and the
    largest μ_k + s_k y. If components are many scales apart, the mixture is flat between them, and its inverse loses
    as many digits. x is NaN where most digits are lost between roots more than ``FAR`` apart. ``size`` is the magnitude
    of the values that y was computed from, if larger than y, since y has their rounding error.
    """
    roots = locations + log_scales.exp() * y[..., None]
    lower, upper = roots.amin(-1), roots.amax(-1)
    mixture = (logits, locations, log_scales)
    x = monotone_root(logistic_mixture, y, lower, upper, *mixture)
    log_derivative = logistic_mixture(x, *mixture)[1]
    far = (upper - lower).detach() > FAR
    if bool(far.any()):
        of = (y if size is None else size).detach().abs()
        x = torch.where(far & _unknown(x.detach(), y.detach(), of, *(each.detach() for each in mixture)), math.nan, x)
    return x, -log_derivative


def _unknown(x: Tensor, y: Tensor, size: Tensor, *mixture: Tensor) -> Tensor:
    """Whether changing the third digit of x could change y by no more than the rounding error of this size."""
    rounding = 8 * torch.finfo(y.dtype).eps * (1 + size)
    moves = [1e-3 * sign * (1 + x.abs()) for sign in (-1, 1)]
    return torch.stack([(logistic_mixture(x + move, *mixture)[0] - y).abs() <= rounding for move in moves]).any(0)


class MixtureCoupling(Coupling):
    """τ(x) = logistic_mixture(x)·exp(a) + b, the mixture of ``components`` (Flow++, section 3.2.1).

    ``theta`` holds, for all channels, the first component's logit, then those of the other components, then likewise
    the locations, the log scales, a and b: parameter p of channel c is its channel p·channels + c. The log scales and a
    are softly clamped to ±``CLAMP``. θ = 0 is the identity. The inverse is NaN where, with components more than ``FAR``
    apart, the rounding of y leaves no digits of x.

    Raises ``ValueError`` for less than one component.

    >>> import torch, linearizer_core as lc
    >>> from linearizer_core.flows.conditioners import MLP
    >>> g = lc.flows.MixtureCoupling(4, lambda inputs, outputs: MLP(inputs, outputs, width=8, activation="gelu"))
    >>> x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    >>> z, log_det = g(x)
    >>> log_det.shape, torch.allclose(g.inverse(z)[0], x, atol=1e-4)
    (torch.Size([8]), True)
    """

    gains: Tensor

    def __init__(self, channels: int, conditioner: Callable[[int, int], nn.Module], components: int = 4) -> None:
        if components < 1:
            raise InputValueError(f"a mixture needs at least one component, got {components}")
        super().__init__(channels, conditioner, 3 * components + 2)
        # Equal components would get equal gradients and stay equal, so each moves at its own speed.
        self.register_buffer("gains", torch.linspace(0.5, 1.5, components), persistent=False)

    def transform(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        mixture, a, b = self._unpack(theta)
        y, log_derivative = logistic_mixture(x, *mixture)
        return torch.addcmul(b, y, a.exp()), (log_derivative + a).flatten(1).sum(1)

    def untransform(self, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        mixture, a, b = self._unpack(theta)
        # The preceding mixing combines the channels, so each has the rounding error of the largest.
        size = (y.abs() + b.abs()).flatten(1).amax(1).view(-1, *[1] * (y.ndim - 1)) * (-a).exp()
        x, log_derivative = logistic_mixture_inverse((y - b) * (-a).exp(), *mixture, size)
        return x, (log_derivative - a).flatten(1).sum(1)

    def _unpack(self, theta: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor]:
        components = len(self.gains)
        theta = theta.unflatten(1, (3 * components + 2, -1)).movedim(1, -1)
        logits, locations, log_scales, affine = theta.split([components, components, components, 2], -1)
        a, b = affine.unbind(-1)
        return (logits, self.gains * locations, _clamped(log_scales)), _clamped(a), b


def _clamped(log_scale: Tensor) -> Tensor:
    return CLAMP * torch.tanh(log_scale / CLAMP)
