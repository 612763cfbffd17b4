"""Learned operators that lead from one time step to the next, fitted by least squares and then trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from linearizer_core.errors import InputValueError
from linearizer_core.operators.base import DenseOperator, LinearOperator
from linearizer_core.operators.correlation import orthonormal
from linearizer_core.operators.factored import Factors, LowRankOperator
from linearizer_core.operators.module import OperatorModule

RIDGE = 1e-4
"""Penalty of the first transition, relative to the mean variance of latents."""
LEAST = 0.8
"""Least singular value of the first transition."""


def dynamic_modes(before: Tensor, after: Tensor, rank: int = 0) -> LinearOperator:
    """The operator that leads closest from rows ``before`` to rows ``after``, both ``(count, dim)``, by least squares.

    This is dynamic mode decomposition (Tu et al., On Dynamic Mode Decomposition, 2014). With a ``rank``, it acts in the
    span of that many leading principal directions of ``before`` about 0; 0 means no bound. Computed in float64,
    returned in the rows' dtype.

    Raises ``InputValueError`` for rows of different shapes and for a rank above the dimension.

    >>> import math, torch, linearizer_core as lc
    >>> turn = torch.tensor([[math.cos(0.1), -math.sin(0.1)], [math.sin(0.1), math.cos(0.1)]])
    >>> z = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    >>> torch.allclose(lc.operators.dynamic_modes(z, z @ turn.T).to_dense(), turn, atol=1e-5)
    True
    """
    if before.shape != after.shape or before.ndim != 2:
        shapes = f"{tuple(before.shape)} and {tuple(after.shape)}"
        raise InputValueError(f"both must be (count, dim) with equally many rows, got {shapes}")
    dim = before.shape[1]
    if not 0 <= rank <= dim:
        raise InputValueError(f"rank must be between 0 (all) and the dimension {dim}, got {rank}")
    x, y = before.double(), after.double()
    if not rank or rank == dim:
        return DenseOperator((torch.linalg.pinv(x) @ y).T.to(before))
    frame = _leading(x, rank)
    core = (torch.linalg.pinv(x @ frame) @ (y @ frame)).T
    frame = frame.to(before)
    return LowRankOperator(core.to(before), Factors(frame, frame))


class LearnedTransition(OperatorModule):
    """Q C Qᵀ with a learned C ``(rank, rank)`` and a learned orthonormal Q ``(dim, rank)``; C alone at full rank.

    C starts as the identity; ``fit`` sets both by least squares. Raises ``InputValueError`` if ``rank`` is not in
    0 (all) … ``dim``.

    >>> import torch, linearizer_core as lc
    >>> a = lc.operators.LearnedTransition(8, 3)
    >>> a, a(torch.ones(2, 8)).shape
    (LearnedTransition(8 → 8, rank 3), torch.Size([2, 8]))
    """

    def __init__(self, dim: int, rank: int = 0) -> None:
        super().__init__()
        rank = _checked(dim, rank)
        self.matrix = nn.Parameter(torch.eye(rank))
        self.frame = None if rank == dim else nn.Parameter(torch.eye(dim, rank))

    def operator(self) -> LinearOperator:
        if self.frame is None:
            return DenseOperator(self.matrix)
        frame = orthonormal(self.frame)
        return LowRankOperator(self.matrix, Factors(frame, frame))

    def inverse(self) -> LinearOperator:
        """The pseudo-inverse, Q C⁻¹ Qᵀ, with its gradients; not finite if C is singular."""
        inverse = torch.linalg.inv_ex(self.matrix).inverse
        if self.frame is None:
            return DenseOperator(inverse)
        frame = orthonormal(self.frame)
        return LowRankOperator(inverse, Factors(frame, frame))

    @torch.no_grad()
    def fit(self, before: Tensor, after: Tensor) -> None:
        """Initialise from latents ``(count, dim)`` and those one step later.

        Q spans the leading principal directions of the latents, and C is the ridge regression towards the identity, so
        that directions without variance do not make it singular. Its singular values are raised to at least 0.8:
        regression shrinks what it cannot predict, and many steps back would magnify that.
        """
        x, y = before.double(), after.double()
        if self.frame is not None:
            frame = _leading(x, self.frame.shape[1])
            self.frame.copy_(frame)
            x, y = x @ frame, y @ frame
        gram = x.T @ x
        ridge = RIDGE * gram.trace() / len(gram) * torch.eye(len(gram), dtype=x.dtype, device=x.device)
        u, values, vh = torch.linalg.svd(torch.linalg.solve(gram + ridge, x.T @ y + ridge).T)
        self.matrix.copy_((u * values.clamp_min(LEAST)) @ vh)


class LearnedRotation(OperatorModule):
    """Q diag(R(ω₁), R(ω₂), …) Qᵀ: rotations by learned angles ω in orthogonal planes, spanned by a learned frame Q.

    Q is ``(dim, rank)`` with orthonormal columns, two for each plane; for an odd rank the last direction is kept as it
    is. At full rank the operator is orthogonal, so that a Linearizer from a space to itself is an isometry of it, and
    no number of steps makes anything grow or shrink. Its eigenvalues are e^{±iω} (Lusch et al., Deep learning for
    universal linear embeddings of nonlinear dynamics, 2018, have such blocks, with a learned modulus).

    Angles start at 0; ``fit`` sets all. Raises ``InputValueError`` if ``rank`` is not in 0 (all) … ``dim``.

    >>> import torch, linearizer_core as lc
    >>> a = lc.operators.LearnedRotation(8, 4)
    >>> a, a(torch.ones(2, 8)).shape
    (LearnedRotation(8 → 8, rank 4), torch.Size([2, 8]))
    """

    def __init__(self, dim: int, rank: int = 0) -> None:
        super().__init__()
        rank = _checked(dim, rank)
        self.frame = nn.Parameter(torch.eye(dim, rank))
        self.angles = nn.Parameter(torch.zeros(rank // 2))

    def operator(self) -> LowRankOperator:
        frame = orthonormal(self.frame)
        return LowRankOperator(rotations(self.angles, frame.shape[1]), Factors(frame, frame))

    def inverse(self) -> LowRankOperator:
        """The pseudo-inverse, which is the adjoint: rotations by the opposite angles."""
        return self.operator().adjoint()

    @torch.no_grad()
    def fit(self, before: Tensor, after: Tensor) -> None:
        """Initialise from latents ``(count, dim)`` and those one step later.

        Q spans the leading principal directions of the latents, and the rotation in them is the one of least squares
        (orthogonal Procrustes problem; Schönemann, 1966). Reflections, which this operator cannot represent, become
        angles of 0.
        """
        from scipy.linalg import schur  # takes longer to import than most trials need it for

        rank = self.frame.shape[1]
        x, y = before.double(), after.double()
        span = _leading(x, rank) if rank < x.shape[1] else torch.eye(rank, dtype=x.dtype, device=x.device)
        u, _, vh = torch.linalg.svd((y @ span).T @ (x @ span))
        form, axes = schur((u @ vh).cpu().numpy(), output="real")
        pairs, alone, angles = [], [], []
        row = 0
        while row < rank:  # the real Schur form of an orthogonal matrix: 2×2 rotations, 1 and -1
            if row + 1 < rank and abs(form[row + 1, row]) > 1e-8:
                pairs += [row, row + 1]
                angles.append(torch.atan2(torch.tensor(form[row + 1, row]), torch.tensor(form[row, row])))
                row += 2
            else:
                alone.append((float(form[row, row]), row))
                row += 1
        alone.sort()  # those of -1 first, so that two of them make a plane turned by 180°
        for (first, i), (second, j) in zip(alone[::2], alone[1::2], strict=False):
            pairs += [i, j]
            angles.append(torch.tensor(torch.pi if first < 0 and second < 0 else 0.0, dtype=torch.float64))
        if len(alone) % 2:
            pairs.append(alone[-1][1])
        self.frame.copy_(span @ torch.from_numpy(axes)[:, pairs].to(span))
        if angles:
            self.angles.copy_(torch.stack(angles))


def rotations(angles: Tensor, rank: int) -> Tensor:
    """The matrix ``(rank, rank)`` that turns consecutive pairs of coordinates by ``angles`` ``(rank // 2,)``.

    >>> import torch
    >>> rotations(torch.tensor([torch.pi / 2]), 3).round().abs()
    tensor([[0., 1., 0.],
            [1., 0., 0.],
            [0., 0., 1.]])
    """
    cosines, sines = angles.cos().repeat_interleave(2), angles.sin().repeat_interleave(2)
    if rank % 2:
        cosines, sines = torch.cat([cosines, cosines.new_ones(1)]), torch.cat([sines, sines.new_zeros(1)])
    even = (torch.arange(rank, device=angles.device) % 2 == 0).to(angles.dtype)
    # Below the diagonal stands sin ω at even columns, above it -sin ω at odd ones.
    below = torch.diag_embed((sines * even)[:-1], -1) if rank > 1 else torch.zeros_like(cosines)[:, None]
    return torch.diag_embed(cosines) + below - below.mT


def _checked(dim: int, rank: int) -> int:
    if not 0 <= rank <= dim:
        raise InputValueError(f"rank must be between 0 (all) and the dimension {dim}, got {rank}")
    return rank or dim


def _leading(rows: Tensor, rank: int) -> Tensor:
    """The leading principal directions of rows about 0, ``(dim, rank)``."""
    return torch.linalg.eigh(rows.T @ rows)[1][:, -rank:].flip(1)
