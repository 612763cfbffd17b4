"""The operator between two standard normal vectors, given by their canonical correlations."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from linearizer_core.errors import InputValueError
from linearizer_core.operators.factored import Factors, LowRankOperator
from linearizer_core.operators.module import OperatorModule

STRONGEST, WEAKEST = 0.9999, 0.01
"""Largest and smallest squared correlation at the start, set by ``fit``."""

SILENT = 1e-6
"""Share of the largest variance below which a direction carries no information."""


class LearnedCorrelation(OperatorModule):
    """U diag(ρ) Vᵀ with learned orthonormal U ``(out_dim, rank)`` and V ``(in_dim, rank)``, and learned ρ in (0, 1).

    For x ~ N(0, I) it defines y | x ~ N(A x, I - A Aᵀ), so that y ~ N(0, I) too: ρ are the canonical correlations of
    the two (Bach & Jordan, A Probabilistic Interpretation of Canonical Correlation Analysis, 2005). So E[x | y] is Aᵀ
    y, and x | y ~ N(Aᵀ y, I - AᵀA).

    Raises ``InputValueError`` if ``rank`` is not in 1 … the smaller dimension.

    >>> import torch, linearizer_core as lc
    >>> a = lc.operators.LearnedCorrelation(8, 3, out_dim=5)
    >>> a, a(torch.ones(2, 8)).shape, a.log_prob(torch.ones(2, 5), torch.ones(2, 8)).shape
    (LearnedCorrelation(8 → 5, rank 3), torch.Size([2, 5]), torch.Size([2]))
    """

    def __init__(self, dim: int, rank: int, out_dim: int | None = None) -> None:
        super().__init__()
        out = dim if out_dim is None else out_dim
        if not 1 <= rank <= min(dim, out):
            raise InputValueError(f"rank must be between 1 and the dimension {min(dim, out)}, got {rank}")
        self.u = nn.Parameter(torch.eye(out, rank))
        self.v = nn.Parameter(torch.eye(dim, rank))
        self.logits = nn.Parameter(torch.zeros(rank))
        """Logits of ρ²."""

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """U, ρ ``(rank,)`` and V, with their gradients."""
        return orthonormal(self.u), (0.5 * logsigmoid(self.logits)).exp(), orthonormal(self.v)

    def operator(self) -> LowRankOperator:
        u, values, v = self.parts()
        return LowRankOperator(torch.diag(values), Factors(u, v))

    def log_prob(self, y: Tensor, x: Tensor) -> Tensor:
        """log N(y; A x, I - A Aᵀ) for rows ``(batch, out_dim)`` and ``(batch, in_dim)``, in nats, ``(batch,)``."""
        u, values, v = self.parts()
        inside = y @ u
        left = logsigmoid(-self.logits)  # log(1 - ρ²)
        error = (inside - values * (x @ v)).square() / left.exp()
        outside = y.square().sum(1) - inside.square().sum(1)
        constant = y.shape[1] * torch.log(torch.tensor(2 * torch.pi, dtype=y.dtype, device=y.device))
        return -0.5 * (error.sum(1) + outside + left.sum() + constant)

    def information(self) -> Tensor:
        """The information that y carries about x, -½ Σ log(1 - ρ²), in nats."""
        return -0.5 * logsigmoid(-self.logits).sum()

    @torch.no_grad()
    def fit(self, x: Tensor, y: Tensor) -> None:
        """Initialise from the canonical correlations of paired rows ``(count, in_dim)`` and ``(count, out_dim)``."""
        white_x, white_y = _white(x), _white(y)
        u, values, vh = torch.linalg.svd(white_y.T @ white_x / len(x), full_matrices=False)
        rank = len(self.logits)
        self.u.copy_(u[:, :rank])
        self.v.copy_(vh[:rank].mT)
        self.logits.copy_(torch.logit(values[:rank].square().clamp(WEAKEST, STRONGEST)))


def orthonormal(matrix: Tensor) -> Tensor:
    """The columns of a matrix orthonormalised by Gram–Schmidt, unchanged if they already are orthonormal."""
    q, r = torch.linalg.qr(matrix)
    return q * r.diagonal().sign()


def _white(rows: Tensor) -> Tensor:
    """Centred rows, whitened along their own axes in float64; directions without variance stay zero."""
    centred = rows.double() - rows.double().mean(0)
    values, axes = torch.linalg.eigh(centred.T @ centred / len(rows))
    scale = values.clamp_min(0).sqrt()
    loud = values > SILENT * values[-1]
    return (centred @ axes) / scale.masked_fill(~loud, torch.inf) @ axes.T
