"""Learned orthogonal projections, the cores of idempotent Linearizers (arXiv 2510.08570, section 4.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from linearizer_core.errors import InputValueError
from linearizer_core.operators.diagonals import DiagonalOperator
from linearizer_core.operators.factored import OrthogonalProjection
from linearizer_core.operators.module import OperatorModule


class FrameProjection(OperatorModule):
    """An orthogonal projection of fixed rank whose frame is the Q factor of a learned ``(dim, rank)`` matrix.

    Raises ``ValueError`` if ``rank`` is not in 1 … ``dim``.

    >>> import torch, linearizer_core as lc
    >>> p = lc.operators.FrameProjection(4, 2)
    >>> z = torch.ones(3, 4)
    >>> torch.allclose(p(p(z)), p(z), atol=1e-5)
    True
    """

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        if not 1 <= rank <= dim:
            raise InputValueError(f"rank must be between 1 and the dimension {dim}, got {rank}")
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(dim, rank))[0].clone())

    def operator(self) -> OrthogonalProjection:
        """The projection with its gradients."""
        return OrthogonalProjection.of(torch.linalg.qr(self.weight)[0])


class SpectrumProjection(OperatorModule):
    """diag(λ) with λ in {0, 1}: forward λ = round(sigmoid(logit)), backward straight through the rounding.

    The network around it provides the frame, so training decides which coordinates survive, and with them the rank
    (arXiv 2510.08570, section 4.3; straight-through: Bengio, Léonard & Courville, 2013).

    >>> import torch, linearizer_core as lc
    >>> p = lc.operators.SpectrumProjection(4)
    >>> p.rank(), p(torch.ones(1, 4)).detach()
    (4, tensor([[1., 1., 1., 1.]]))
    """

    def __init__(self, dim: int, logit: float = 1.0) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.full((dim,), logit))

    def spectrum(self) -> Tensor:
        """λ, ``(dim,)``: exactly 0 or 1, with the sigmoid's gradient."""
        soft = self.logits.sigmoid()
        return soft.round().detach() + (soft - soft.detach())

    def operator(self) -> DiagonalOperator:
        """The projection with its gradients."""
        return DiagonalOperator(self.spectrum())

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rank {self.rank()}"

    def rank(self) -> int:
        """The number of coordinates that survive."""
        return int(self.spectrum().sum())

    def forward(self, z: Tensor) -> Tensor:
        """P z for ``(batch, dim)``."""
        return z * self.spectrum()


class NestedProjection(OperatorModule):
    """The leading ``rank`` of ``dim`` coordinates, and with ``at`` those of any rank: P_r P_s = P_min(r, s).

    Nothing in it is learned: the network around it learns which coordinates lead. Raises ``InputValueError`` if
    ``rank`` is not in 1 … ``dim``.

    >>> import torch, linearizer_core as lc
    >>> p = lc.operators.NestedProjection(4, 2)
    >>> p(torch.ones(1, 4)), p.at(3).apply(torch.ones(1, 4))
    (tensor([[1., 1., 0., 0.]]), tensor([[1., 1., 1., 0.]]))
    """

    places: Tensor

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.dim, self.rank = dim, rank
        self.register_buffer("places", torch.arange(1.0, dim + 1), persistent=False)
        self.at(rank)

    def at(self, rank: int) -> DiagonalOperator:
        """P_r; raises ``InputValueError`` for a rank outside 1 … ``dim``."""
        if not 1 <= rank <= self.dim:
            raise InputValueError(f"rank must be between 1 and the dimension {self.dim}, got {rank}")
        return DiagonalOperator((self.places <= rank).to(self.places.dtype))

    def operator(self) -> DiagonalOperator:
        return self.at(self.rank)
