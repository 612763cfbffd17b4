"""Learned operators: the trainable cores of Linearizers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from linearizer_core.errors import InputValueError
from linearizer_core.operators.affine import AffineOperator, linear_part
from linearizer_core.operators.base import DenseOperator, LinearOperator
from linearizer_core.operators.convolutional import ConvolutionalOperator
from linearizer_core.operators.diagonals import DiagonalOperator
from linearizer_core.operators.factored import Factors, LowRankOperator, ScaledIdentityPlusLowRank
from linearizer_core.operators.module import OperatorModule, as_module
from linearizer_core.operators.time_dependent import principal

KERNEL = 3


class LearnedDiagonal(OperatorModule):
    """diag(λ) with λ ``(dim,)`` learned.

    >>> import torch, linearizer_core as lc
    >>> lc.operators.LearnedDiagonal(8)(torch.ones(2, 8)).shape
    torch.Size([2, 8])
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.ones(dim))

    def operator(self) -> DiagonalOperator:
        return DiagonalOperator(self.values)


class LearnedIdentityPlusLowRank(OperatorModule):
    """I + U C Vᵀ with learned U and V ``(dim, rank)`` and C ``(rank, rank)``; C starts at zero.

    Raises ``ValueError`` if ``rank`` is not in 1 … ``dim``.

    >>> import torch, linearizer_core as lc
    >>> lc.operators.LearnedIdentityPlusLowRank(8, 3)(torch.ones(1, 8)).detach()
    tensor([[1., 1., 1., 1., 1., 1., 1., 1.]])
    """

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        if not 1 <= rank <= dim:
            raise InputValueError(f"rank must be between 1 and the dimension {dim}, got {rank}")
        frame, _ = torch.linalg.qr(torch.randn(dim, rank))
        self.u = nn.Parameter(frame.clone())
        self.v = nn.Parameter(frame.clone())
        self.core = nn.Parameter(torch.zeros(rank, rank))

    def operator(self) -> ScaledIdentityPlusLowRank:
        return ScaledIdentityPlusLowRank(1.0, self.core, Factors(self.u, self.v))

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Set U and V to the leading principal directions of the latents."""
        frame, _ = principal(z, self.u.shape[1])
        self.u.copy_(frame)
        self.v.copy_(frame)


class LearnedLowRank(OperatorModule):
    """U Vᵀ with learned U ``(out_dim, rank)`` and V ``(in_dim, rank)``, initially the projection onto a random
    subspace.

    If the dimensions differ, U and V start as separately drawn frames. Raises ``ValueError`` if ``rank`` is not in
    1 … the smaller dimension.

    >>> import torch, linearizer_core as lc
    >>> a = lc.operators.LearnedLowRank(8, 3, out_dim=5)
    >>> a, a(torch.ones(2, 8)).shape
    (LearnedLowRank(8 → 5, rank 3), torch.Size([2, 5]))
    """

    def __init__(self, dim: int, rank: int, out_dim: int | None = None) -> None:
        super().__init__()
        out = dim if out_dim is None else out_dim
        if not 1 <= rank <= min(dim, out):
            raise InputValueError(f"rank must be between 1 and the dimension {min(dim, out)}, got {rank}")
        frame, _ = torch.linalg.qr(torch.randn(dim, rank))
        self.v = nn.Parameter(frame.clone())
        self.u = nn.Parameter(frame.clone() if out == dim else torch.linalg.qr(torch.randn(out, rank))[0])

    def operator(self) -> LowRankOperator:
        rank = self.v.shape[1]
        return LowRankOperator(torch.eye(rank, dtype=self.v.dtype, device=self.v.device), Factors(self.u, self.v))

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Set V, and U if it has the same dimension, to the leading principal directions of the latents."""
        frame, _ = principal(z, self.v.shape[1])
        self.v.copy_(frame)
        if self.u.shape == self.v.shape:
            self.u.copy_(frame)


class LearnedDense(OperatorModule):
    """A learned matrix ``(out_dim, in_dim)``, initially the identity, truncated or padded with zeros if not square.

    >>> import torch, linearizer_core as lc
    >>> a = lc.operators.LearnedDense(8, 5)
    >>> a, a(torch.ones(2, 8)).shape
    (LearnedDense(8 → 5), torch.Size([2, 5]))
    """

    def __init__(self, dim: int, out_dim: int | None = None) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(dim if out_dim is None else out_dim, dim))

    def operator(self) -> DenseOperator:
        return DenseOperator(self.matrix)


class LearnedKernels(OperatorModule):
    """A 3×3 kernel per channel, for latents that are flattened ``shape`` = ``(channels, height, width)``.

    The convolutions are circular and do not mix channels.

    >>> import torch, linearizer_core as lc
    >>> lc.operators.LearnedKernels((2, 4, 4))(torch.ones(2, 32)).shape
    torch.Size([2, 32])
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, self.height, self.width = shape
        kernels = torch.zeros(channels, KERNEL, KERNEL)
        kernels[:, KERNEL // 2, KERNEL // 2] = 1.0
        self.kernels = nn.Parameter(kernels)

    def operator(self) -> ConvolutionalOperator:
        apart = torch.diag_embed(self.kernels.permute(1, 2, 0)).permute(2, 3, 0, 1)
        return ConvolutionalOperator.from_kernel(apart, self.height, self.width)


class LearnedAffine(OperatorModule):
    """z ↦ A z + b with a learned b ``(out_dim,)``, initially 0 or a given ``offset``, and a learned or fixed A.

    Raises ``TypeError`` if ``linear`` is neither a ``LinearOperator`` nor a module that learns one, and
    ``InputValueError`` if the offset has another shape.

    >>> import torch, linearizer_core as lc
    >>> f = lc.operators.LearnedAffine(lc.operators.low_rank(8, 3))
    >>> f, [name for name, _ in f.named_parameters()]
    (LearnedAffine(8 → 8, rank 3), ['offset', 'linear.v', 'linear.u'])
    """

    def __init__(self, linear: LinearOperator | OperatorModule, offset: Tensor | None = None) -> None:
        super().__init__()
        self.linear = as_module(linear)
        held = self.linear.operator()
        if isinstance(held, AffineOperator):
            raise TypeError(f"linear must be a LinearOperator or learn one, got the affine {held!r}")
        start = held.like.new_zeros(held.shape[0]) if offset is None else offset
        self.offset = nn.Parameter(AffineOperator(held, start).offset.detach().clone())

    def operator(self) -> AffineOperator:
        return AffineOperator(linear_part(self.linear.operator()), self.offset)

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Initialise A from the latents about their mean m, and for a square A set b to m - A m, to keep the mean."""
        mean = z.mean(0)
        self.linear.initialise(z - mean)
        held = linear_part(self.linear.operator())
        if held.shape[0] == held.shape[1]:
            self.offset.copy_(mean - held.apply(mean[None])[0])
