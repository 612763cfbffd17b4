"""Matrices whose inverse and determinant are known under rank-one perturbations: the P4 method's invertible layers.

Krämer, Köhler & Noé, Training Invertible Linear Layers through Rank-One Perturbations, 2020 (arXiv 2010.07033).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from linearizer_core.errors import InputValueError
from linearizer_core.operators.base import DenseOperator, LinearOperator, cached, finite, rounding, size
from linearizer_core.operators.module import OperatorModule


@dataclass(frozen=True, eq=False, repr=False)
class RankOnePerturbed(LinearOperator):
    """W = A + u vᵀ for a ``matrix`` A ``(dim, dim)`` with given ``matrix_inverse`` and ``log_abs_det``.

    ``u`` and ``v`` are ``(dim,)``. Products with W and W⁻¹ and log|det W| take O(dim²): the inverse uses the
    Sherman–Morrison formula, the determinant the matrix determinant lemma, and no matrix is ever factorised.

    >>> import torch, linearizer_core as lc
    >>> a = lc.operators.P4(8).operator()
    >>> z = torch.ones(3, 8)
    >>> a, torch.allclose(a.inverse().apply(a.apply(z)), z, atol=1e-4)
    (RankOnePerturbed(8 → 8), True)
    """

    matrix: Tensor
    matrix_inverse: Tensor
    log_abs_det: Tensor
    u: Tensor
    v: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.u), len(self.u)

    @property
    def like(self) -> Tensor:
        return self.matrix

    @cached
    def _solved(self) -> Tensor:
        """A⁻¹ u."""
        return self.matrix_inverse @ self.u

    @cached
    def delta(self) -> Tensor:
        """δ = 1 + vᵀ A⁻¹ u = det W / det A."""
        return 1 + self.v @ self._solved

    def apply(self, z: Tensor) -> Tensor:
        return z @ self.matrix.T + torch.outer(z @ self.v, self.u)

    def to_dense(self) -> Tensor:
        return self.matrix + torch.outer(self.u, self.v)

    def adjoint(self) -> RankOnePerturbed:
        return RankOnePerturbed(self.matrix.T, self.matrix_inverse.T, self.log_abs_det, self.v, self.u)

    def scale(self, factor: float) -> LinearOperator:
        if factor == 0:
            return DenseOperator(torch.zeros_like(self.matrix))
        growth = self.shape[0] * math.log(abs(factor))
        return RankOnePerturbed(
            factor * self.matrix, self.matrix_inverse / factor, self.log_abs_det + growth, factor * self.u, self.v
        )

    def _after(self, first: LinearOperator) -> RankOnePerturbed | None:
        """W (B + u'v'ᵀ) = WB + (Wu') v'ᵀ: only the left perturbation needs merging."""
        if not isinstance(first, RankOnePerturbed) or self._singular():
            return None
        merged = self.merged()
        return RankOnePerturbed(
            merged.matrix @ first.matrix,
            first.matrix_inverse @ merged.matrix_inverse,
            merged.log_abs_det + first.log_abs_det,
            merged.matrix @ first.u,
            first.v,
        )

    def inverse(self) -> RankOnePerturbed:
        """W⁻¹ = A⁻¹ - δ⁻¹ (A⁻¹u)(A⁻ᵀv)ᵀ; not finite if δ is 0 or overflows."""
        # An infinite δ would remove the second term, which is of the size of A⁻¹.
        delta = torch.where(self.delta.isinf(), math.nan, self.delta)
        return RankOnePerturbed(
            self.matrix_inverse,
            self.matrix,
            -self.log_abs_det,
            -self._solved / delta,
            self.v @ self.matrix_inverse,
        )

    def pinv(self, rcond: float | None = None) -> LinearOperator:
        """The inverse, unless an ``rcond`` is given or δ is 0 to working precision."""
        return super().pinv(rcond) if rcond is not None or self._singular() else self.inverse()

    def solve(self, y: Tensor) -> Tensor:
        """W⁻¹ y for each row of ``(batch, dim)``.

        Raises ``ValueError`` if δ, and hence W, is singular to working precision.
        """
        if self._singular():
            raise InputValueError(f"the operator is singular (1 + vᵀA⁻¹u = {float(self.delta.detach())}); use lstsq")
        return self.inverse().apply(y)

    def _singular(self) -> bool:
        """Whether 1 and vᵀA⁻¹u cancel up to rounding."""
        return bool(self._cancels(finite(self.delta[None])[0]))

    def _cancels(self, delta: Tensor) -> Tensor:
        terms = 1 + (self.v.detach() * self._solved.detach()).abs().sum()
        return (delta.detach().abs() <= rounding(terms)) & terms.isfinite()

    def _terms(self) -> Tensor:
        """The sizes of A and u vᵀ, which can cancel."""
        return size(self.matrix) + size(self.u[:, None]) * size(self.v[:, None])

    def trace(self) -> Tensor:
        return self.matrix.trace() + self.u @ self.v

    def logdet(self) -> Tensor:
        delta = self.delta
        # Do not branch on its value: in training that would wait for the device.
        return torch.where(self._cancels(delta), -math.inf, delta.abs().log()) + self.log_abs_det

    def merged(self) -> RankOnePerturbed:
        """The same operator with the perturbation merged into the matrix, its inverse and its determinant."""
        zero = torch.zeros_like(self.u)
        return RankOnePerturbed(self.to_dense(), self.inverse().to_dense(), self.logdet(), zero, zero)

    def corrected(self, steps: int = 1) -> RankOnePerturbed:
        """The same operator after Newton–Schulz steps X ← X (2I - AX) on A⁻¹, each of which squares the residual."""
        inverse = self.matrix_inverse
        for _ in range(steps):
            inverse = inverse + inverse @ (self._eye(len(inverse)) - self.matrix @ inverse)
        return replace(self, matrix_inverse=inverse)


class RankOneLayer(OperatorModule):
    """A square matrix trained through a perturbation by two vectors, which is merged into it at intervals.

    Only ``u`` and ``v`` are parameters; everything else needed to continue training is in buffers. ``v`` is drawn in
    float64 on the generator's device, or on the CPU without one, so a CPU generator gives the same vectors everywhere.

    Raises ``ValueError`` for less than one dimension, or less than one merge between corrections.
    """

    merges: Tensor
    fitted = ("matrix",)

    def __init__(self, dim: int, correct_every: int) -> None:
        super().__init__()
        if dim < 1 or correct_every < 1:
            raise InputValueError(f"dim and correct_every must be at least 1, got {dim} and {correct_every}")
        self.correct_every = correct_every
        self.v = nn.Parameter(torch.randn(dim))
        self.u = nn.Parameter(self._neutral(self.v.detach()))
        self.register_buffer("merges", torch.zeros((), dtype=torch.int64))

    @abstractmethod
    def operator(self) -> LinearOperator:
        """The perturbed matrix with its gradients, on the layer's own tensors; valid until the next merge or step."""

    @abstractmethod
    def correct(self) -> None:
        """Remove the rounding errors accumulated by merging, with an iterative step that inverts nothing."""

    @abstractmethod
    def _neutral(self, v: Tensor) -> Tensor:
        """A new tensor u with which this v perturbs nothing."""

    @abstractmethod
    def _absorb(self) -> bool:
        """Merge the perturbation into the matrix, unless that would be unsafe; returns whether it was merged."""

    def penalty(self) -> Tensor:
        """A differentiable loss term that keeps the perturbation within bounds; 0 if there are no bounds."""
        return self.u.new_zeros(())

    @torch.no_grad()
    def merge(self, optimiser: torch.optim.Optimizer | None = None, generator: torch.Generator | None = None) -> bool:
        """Merge the perturbation into the matrix and start a new one; returns whether it was merged.

        A perturbation out of bounds is left as it is and trained further; one that is not finite is dropped. A new
        perturbation resets the optimiser's state of u and v.
        """
        finite = all_finite(self.u, self.v)
        if finite and not self._absorb():
            return False
        device = None if generator is None else generator.device
        self.v.copy_(torch.randn(self.v.shape, generator=generator, device=device, dtype=torch.float64))
        self.u.copy_(self._neutral(self.v))
        if optimiser is not None:
            _forget(optimiser, self.u, self.v)
        if finite:
            self.merges.add_(1)
            if int(self.merges) % self.correct_every == 0:
                self.correct()
        return finite


class P4(RankOneLayer):
    """An invertible matrix W = A + u vᵀ trained without ever inverting one (algorithm 1 of the paper).

    A perturbation is merged if |log|δ||, with δ = 1 + vᵀA⁻¹u, is at most ``max_log_delta`` and |log|det W|| is at most
    ``max_log_scale`` per dimension. The inverse is corrected every ``correct_every`` merges. A starts as a random
    rotation that is exact in any floating-point format.

    Raises ``ValueError`` for less than one dimension or merge between corrections, or a bound that is not positive.

    >>> import torch, linearizer_core as lc
    >>> layer = lc.operators.P4(8)
    >>> z = torch.ones(3, 8)
    >>> torch.allclose(layer.operator().solve(layer(z)), z, atol=1e-4), layer.merge()
    (True, True)
    """

    matrix: Tensor
    inverse: Tensor
    log_abs_det: Tensor

    def __init__(
        self, dim: int, *, max_log_delta: float = 3.0, max_log_scale: float = 3.0, correct_every: int = 10
    ) -> None:
        super().__init__(dim, correct_every)
        if not (max_log_delta > 0 and max_log_scale > 0):
            raise InputValueError(f"the bounds must be positive, got {max_log_delta} and {max_log_scale}")
        self.max_log_delta = max_log_delta
        self.max_log_scale = max_log_scale
        self.register_buffer("matrix", dyadic_rotation(dim))
        self.register_buffer("inverse", self.matrix.T.clone())
        self.register_buffer("log_abs_det", torch.zeros(()))

    def operator(self) -> RankOnePerturbed:
        return RankOnePerturbed(self.matrix, self.inverse, self.log_abs_det, self.u, self.v)

    def penalty(self) -> Tensor:
        """The square of the amount by which |log|δ|| exceeds its bound."""
        return (self.operator().delta.abs().log().abs() - self.max_log_delta).relu().square()

    @torch.no_grad()
    def correct(self) -> None:
        """A Newton–Schulz step on the inverse."""
        self.inverse.copy_(self.operator().corrected().matrix_inverse)

    def _neutral(self, v: Tensor) -> Tensor:
        return torch.zeros_like(v)

    def _absorb(self) -> bool:
        operator = self.operator()
        merged = operator.merged()
        log_delta, log_abs_det = torch.stack([operator.delta.abs().log(), merged.log_abs_det]).abs().tolist()
        within = log_delta <= self.max_log_delta and log_abs_det <= self.max_log_scale * len(self.u)
        if not (within and all_finite(merged.matrix, merged.matrix_inverse)):
            return False
        self.matrix.copy_(merged.matrix)
        self.inverse.copy_(merged.matrix_inverse)
        self.log_abs_det.copy_(merged.log_abs_det)
        return True


def _forget(optimiser: torch.optim.Optimizer, *parameters: nn.Parameter) -> None:
    """Zero everything that an optimiser has accumulated for some parameters: moments and step counts."""
    for parameter in parameters:
        for value in optimiser.state.get(parameter, {}).values():
            if isinstance(value, Tensor):
                value.zero_()


def all_finite(*tensors: Tensor) -> bool:
    """Whether all entries of all tensors are finite; an infinite or undefined entry would make a sum so."""
    return all(math.isfinite(tensor.sum()) for tensor in tensors)


def dyadic_rotation(dim: int) -> Tensor:
    """A random orthogonal matrix of multiples of 1/16, hence exactly orthogonal in every dtype.

    Permutations alternate with reflections I - 11ᵀ/2 of groups of four; below four dimensions nothing is reflected.
    """
    group = torch.eye(4) - 0.5
    reflections = torch.block_diag(*[group] * (dim // 4), torch.eye(dim % 4))
    rotation = torch.eye(dim)[torch.randperm(dim)]
    for _ in range(4):
        rotation = (reflections @ rotation)[torch.randperm(dim)]
    return rotation
