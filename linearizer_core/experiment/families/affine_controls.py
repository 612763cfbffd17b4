"""Controls of affine operators: what a Linearizer would be worth if its operators carried no information.

Each has the same g, the same number of directions and the same noise, and spoils one property of the operators.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from linearizer_core.models.affine_diffusion import AffineDiffusion, AffineOperators, leading_roots

CONTROL_SEED = 7

OF_ANY = ("flat", "random")
OF_SEVERAL = ("swapped", "shared", "pooled", "means")
"""Names of the controls for any operators, and of those for several operators."""


def flat(operators: AffineOperators) -> AffineOperators:
    """c·P: each operator's own directions with equal scales, preserving its total variance."""
    even = operators.scales.square().mean(1, keepdim=True).sqrt()
    return replace(operators, scales=even.expand_as(operators.scales).clone())


def random(operators: AffineOperators) -> AffineOperators:
    """Each operator's own scales along random orthonormal directions."""
    generator = torch.Generator().manual_seed(CONTROL_SEED)
    frames = torch.randn(operators.frames.shape, generator=generator, dtype=torch.float64)
    return replace(operators, frames=torch.linalg.qr(frames)[0].to(operators.frames))


def swapped(operators: AffineOperators) -> AffineOperators:
    """Each mean with the linear part of another label or cluster."""
    shift = max(1, len(operators.offsets) // 3)
    return replace(operators, frames=operators.frames.roll(shift, 0), scales=operators.scales.roll(shift, 0))


def shared(model: AffineDiffusion, operators: AffineOperators) -> AffineOperators:
    """Each mean with the same linear part, that of the mean covariance."""
    _, _, within = model.gaussians.moments()
    return _everyones(model, within, operators, operators.offsets)


def pooled(model: AffineDiffusion, operators: AffineOperators) -> AffineOperators:
    """One operator for all, with the mean and covariance of the whole mixture."""
    mean, total, _ = model.gaussians.moments()
    return _everyones(model, total, operators, mean.to(operators.offsets).expand_as(operators.offsets))


def means(operators: AffineOperators) -> AffineOperators:
    """The means alone."""
    return replace(operators, scales=torch.zeros_like(operators.scales))


def _everyones(
    model: AffineDiffusion, covariance: Tensor, operators: AffineOperators, offsets: Tensor
) -> AffineOperators:
    """The same covariance for all, along its leading directions in pull-back order."""
    u, s = leading_roots(covariance, [operators.rank], model.pullback.double())[operators.rank]
    count = len(operators.offsets)
    return AffineOperators(
        offsets.clone(), u.to(offsets).expand(count, -1, -1).clone(), s.to(offsets).expand(count, -1).clone()
    )


def controls(model: AffineDiffusion, operators: AffineOperators) -> dict[str, AffineOperators]:
    """The controls by name; those of several operators are left out if there is only one."""
    found = {"flat": flat(operators), "random": random(operators)}
    if len(operators.offsets) > 1:
        found |= {"swapped": swapped(operators), "shared": shared(model, operators)}
        found |= {"pooled": pooled(model, operators), "means": means(operators)}
    return found
