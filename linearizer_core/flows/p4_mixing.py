"""Invertible linear maps between channels, trained by the P4 method."""

from __future__ import annotations

import math

from torch import Tensor

from linearizer_core.flows.base import Invertible
from linearizer_core.flows.mixing import mix
from linearizer_core.operators.rank_one import P4
from linearizer_core.operators.rank_one_orthogonal import OrthogonalP4


class P4Mixing(Invertible):
    """y = W x over channels, with W = A + u vᵀ for known A, A⁻¹ and log|det A|, or with an orthogonal W.

    Krämer, Köhler & Noé, Training Invertible Linear Layers through Rank-One Perturbations, 2020. Inputs are
    ``(batch, channels)`` or ``(batch, channels, height, width)`` (then it is a 1×1 convolution). Nothing is factorised
    or solved in either direction; W⁻¹ and log|det W| take O(channels²). The training loop must call ``p4.merge`` at
    intervals and add ``p4.penalty()`` to the loss, as ``Trainer`` does: without merges, W only ever differs from its
    start by a rank-one matrix.

    >>> import torch, linearizer_core as lc
    >>> g = lc.flows.P4Mixing(4)
    >>> x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    >>> z, log_det = g(x)
    >>> log_det.shape, torch.allclose(g.inverse(z)[0], x, atol=1e-4)
    (torch.Size([8]), True)
    >>> g
    P4Mixing(4, P4)
    """

    keeps_shape = True

    def __init__(self, channels: int, orthogonal: bool = False) -> None:
        super().__init__()
        self.p4: P4 | OrthogonalP4 = OrthogonalP4(channels) if orthogonal else P4(channels)

    def extra_repr(self) -> str:
        return f"{len(self.p4.u)}, {type(self.p4).__name__}"

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        operator = self.p4.operator()
        return mix(operator.to_dense(), x), _per_sample(operator.logdet(), x)

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        operator = self.p4.operator()
        return mix(operator.inverse().to_dense(), y), _per_sample(-operator.logdet(), y)


def _per_sample(log_det: Tensor, x: Tensor) -> Tensor:
    """The log-determinant of one position's map, summed over all positions of each sample: ``(batch,)``."""
    return (log_det * math.prod(x.shape[2:])).expand(len(x))
