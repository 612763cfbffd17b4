"""Short constructors of learned operators from plain arguments; fixed operators are constructed directly."""

from __future__ import annotations

from torch import Tensor

from linearizer_core.operators.base import LinearOperator
from linearizer_core.operators.learned import (
    LearnedAffine,
    LearnedDense,
    LearnedDiagonal,
    LearnedIdentityPlusLowRank,
    LearnedKernels,
    LearnedLowRank,
)
from linearizer_core.operators.module import OperatorModule
from linearizer_core.operators.projections import FrameProjection, SpectrumProjection


def diagonal(dim: int) -> LearnedDiagonal:
    """A learned diagonal on latents ``(batch, dim)``, initially the identity.

    >>> import linearizer_core as lc
    >>> lc.operators.diagonal(16)
    LearnedDiagonal(16 → 16)
    """
    return LearnedDiagonal(dim)


def low_rank(dim: int, rank: int, out_dim: int | None = None) -> LearnedLowRank:
    """A learned U Vᵀ of a given rank, ``(batch, dim)`` to ``(batch, out_dim)``; square by default.

    It starts as the projection onto a random subspace; ``initialise`` moves it to the latents' leading principal
    directions. Raises ``ValueError`` if ``rank`` is not in 1 … the smaller dimension.

    >>> import linearizer_core as lc
    >>> lc.operators.low_rank(64, 16)
    LearnedLowRank(64 → 64, rank 16)
    """
    return LearnedLowRank(dim, rank, out_dim)


def identity_plus_low_rank(dim: int, rank: int) -> LearnedIdentityPlusLowRank:
    """A learned I + U C Vᵀ on latents ``(batch, dim)``, initially the identity, and invertible close to it.

    Raises ``ValueError`` if ``rank`` is not in 1 … ``dim``.

    >>> import linearizer_core as lc
    >>> lc.operators.identity_plus_low_rank(64, 4)
    LearnedIdentityPlusLowRank(64 → 64, 1 I + rank 4)
    """
    return LearnedIdentityPlusLowRank(dim, rank)


def dense(dim: int, out_dim: int | None = None) -> LearnedDense:
    """A learned matrix, ``(batch, dim)`` to ``(batch, out_dim)``, initially the identity.

    >>> import linearizer_core as lc
    >>> lc.operators.dense(16), lc.operators.dense(16, out_dim=10)
    (LearnedDense(16 → 16), LearnedDense(16 → 10))
    """
    return LearnedDense(dim, out_dim)


def affine(linear: LinearOperator | OperatorModule, offset: Tensor | None = None) -> LearnedAffine:
    """A learned z ↦ A z + b over a learned or fixed linear operator; b ``(out_dim,)`` starts at 0 or at ``offset``.

    For a square operator, ``initialise`` makes it preserve the latents' mean. Raises ``TypeError`` if ``linear`` is not
    a linear operator, and ``InputValueError`` if the offset has another shape.

    >>> import linearizer_core as lc
    >>> lc.operators.affine(lc.operators.low_rank(64, 16))
    LearnedAffine(64 → 64, rank 16)
    """
    return LearnedAffine(linear, offset)


def convolution(shape: tuple[int, int, int]) -> LearnedKernels:
    """A learned 3×3 kernel per channel, for latents that are flattened images ``(channels, height, width)``.

    >>> import linearizer_core as lc
    >>> lc.operators.convolution((4, 8, 8))
    LearnedKernels(256 → 256, 4 → 4 channels of 8×8)
    """
    return LearnedKernels(shape)


def projection(dim: int, rank: int) -> FrameProjection:
    """A learned orthogonal projection of a fixed rank on latents ``(batch, dim)`` (arXiv 2510.08570, section 4.3).

    Raises ``ValueError`` if ``rank`` is not in 1 … ``dim``.

    >>> import linearizer_core as lc
    >>> lc.operators.projection(64, 16)
    FrameProjection(64 → 64, rank 16)
    """
    return FrameProjection(dim, rank)


def selection(dim: int) -> SpectrumProjection:
    """A diagonal of zeros and ones that learns which coordinates of latents ``(batch, dim)`` to keep; initially all.

    >>> import linearizer_core as lc
    >>> lc.operators.selection(64)
    SpectrumProjection(64 → 64, rank 64)
    """
    return SpectrumProjection(dim)
