"""The diffusion operator's work done with full matrices, as in the paper's public implementation."""

from __future__ import annotations

import torch
from torch import Tensor

from linearizer_core.models.diffusion import LinearDiffusion
from linearizer_core.operators import TimeFactors


@torch.no_grad()
def euler_steps(model: LinearDiffusion, steps: int, columns: Tensor) -> Tensor:
    """The collapse of Euler steps by multiplying the matrix of each, applied to columns ``(dim, count)``."""
    h = model.end / steps
    for (velocity,) in model.velocity_operators([[i * h] for i in range(steps)]):
        columns = columns + h * (velocity.to_dense() @ columns)
    return columns


def per_sample(operator: TimeFactors, t: Tensor, z: Tensor) -> Tensor:
    """A(t_b) z_b for each row, with A(t_b) formed: a ``(batch, dim, dim)`` tensor."""
    left, right = operator.factors(t)
    return torch.bmm(left @ right.mT, z[..., None])[..., 0]
