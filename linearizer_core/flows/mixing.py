"""Invertible linear maps between channels: a learned matrix in LU form, learned reflections, a fixed permutation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from linearizer_core.errors import InputValueError
from linearizer_core.flows.base import Invertible, VolumePreserving


class LUMixing(Invertible):
    """y = P L U x over channels, with L unit lower and U upper triangular, initially a random rotation.

    Kingma & Dhariwal, Glow, 2018, section 3.2. The inverse solves two triangular systems; no general matrix is ever
    inverted. Inputs are ``(batch, channels)`` or ``(batch, channels, height, width)`` (then it is a 1×1 convolution).
    The signs of U's diagonal are fixed, so the matrix stays invertible throughout training. For few columns the systems
    are solved directly, for many the matrix of the inverse is formed: the two agree up to rounding.

    >>> import torch, linearizer_core as lc
    >>> g = lc.flows.LUMixing(4)
    >>> x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    >>> z, log_det = g(x)
    >>> log_det.shape, torch.allclose(g.inverse(z)[0], x, atol=1e-4)
    (torch.Size([8]), True)
    >>> g
    LUMixing(4)
    """

    keeps_shape = True

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation, _ = torch.linalg.qr(torch.randn(channels, channels))
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", diagonal.sign())
        self.log_diagonal = nn.Parameter(diagonal.abs().log())
        self.lower = nn.Parameter(lower.tril(-1))
        self.upper = nn.Parameter(upper.triu(1))

    def _lower(self) -> Tensor:
        return self.lower.tril(-1) + torch.eye(len(self.lower), dtype=self.lower.dtype, device=self.lower.device)

    def _upper(self) -> Tensor:
        return self.upper.triu(1) + torch.diag(self.sign * self.log_diagonal.exp())

    def _log_det(self, x: Tensor) -> Tensor:
        log_det = self.log_diagonal.sum()
        return (log_det if x.ndim == 2 else log_det * math.prod(x.shape[2:])).expand(len(x))

    def extra_repr(self) -> str:
        return f"{len(self.lower)}"

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        channels = len(self.lower)
        # As in the inverse, forming the matrix pays off for many columns.
        if x.numel() // channels >= channels:
            upper = self._upper()
            product = torch.addmm(upper, self.lower.tril(-1), upper)  # L U = U + (L - I) U
            return mix(self.permutation @ product, x), self._log_det(x)
        columns = x.movedim(1, 0)
        y = self._lower() @ (self._upper() @ columns.flatten(1))
        return y[self.permutation.argmax(1)].view(columns.shape).movedim(0, 1), self._log_det(x)

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        channels = len(self.lower)
        # A matrix product is much cheaper than two solves once the matrix is formed: worth it for many columns.
        if y.numel() // channels >= channels:
            return mix(self._solve(self.permutation.T), y), -self._log_det(y)
        columns = y.flatten(2).transpose(0, 1).flatten(1) if y.ndim > 2 else y.T
        solved = self._solve(self.permutation.T @ columns)
        if y.ndim == 2:
            return solved.T, -self._log_det(y)
        x = solved.view(channels, len(y), math.prod(y.shape[2:])).transpose(0, 1).reshape(y.shape)
        return x, -self._log_det(y)

    def _solve(self, columns: Tensor) -> Tensor:
        """U⁻¹ L⁻¹ times ``(channels, count)`` columns."""
        half = torch.linalg.solve_triangular(self.lower, columns, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(self._upper(), half, upper=True)


class HouseholderMixing(VolumePreserving):
    """y = H_k ⋯ H_1 x over channels, H_i = I - 2 v_i v_iᵀ / ‖v_i‖²: orthogonal for any v_i, initially random.

    Inputs are ``(batch, channels)`` or ``(batch, channels, height, width)``. As many reflections as channels, the
    default, reach every orthogonal matrix with one sign of the determinant (Tomczak & Welling, Improving Variational
    Auto-Encoders using Householder Flow, 2016). All act at once, as I - V T Vᵀ with T triangular (Joffrain et al.,
    Accumulating Householder Transformations, Revisited, 2006): directly on few columns, through their matrix on many.

    Raises ``ValueError`` for less than one reflection.

    >>> import torch, linearizer_core as lc
    >>> g = lc.flows.HouseholderMixing(4)
    >>> x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    >>> z, log_det = g(x)
    >>> log_det.shape, torch.allclose(g.inverse(z)[0], x, atol=1e-4)
    (torch.Size([8]), True)
    >>> g
    HouseholderMixing(4, 4 reflections)
    """

    keeps_shape = True

    def __init__(self, channels: int, reflections: int | None = None) -> None:
        super().__init__()
        count = channels if reflections is None else reflections
        if count < 1:
            raise InputValueError(f"a product of reflections needs at least one, got {count}")
        self.vectors = nn.Parameter(torch.randn(count, channels))

    def extra_repr(self) -> str:
        count, channels = self.vectors.shape
        return f"{channels}, {count} reflections"

    def move(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return self._reflect(x, self.vectors.flip(0))

    def back(self, y: Tensor, label: Tensor | None = None) -> Tensor:
        return self._reflect(y, self.vectors)

    def _reflect(self, x: Tensor, vectors: Tensor) -> Tensor:
        """The product of the reflections; the last one acts first."""
        v = normalize(vectors)
        count, channels = v.shape
        core = (v @ v.T).triu(1) + torch.eye(count, dtype=v.dtype, device=v.device) / 2  # T⁻¹

        def product(columns: Tensor) -> Tensor:
            return columns - v.T @ torch.linalg.solve_triangular(core, v @ columns, upper=True)

        if x.numel() // channels >= channels:
            return mix(product(torch.eye(channels, dtype=v.dtype, device=v.device)), x)
        columns = x.movedim(1, 0)
        return product(columns.flatten(1)).view(columns.shape).movedim(0, 1)


class Permutation(VolumePreserving):
    """A fixed random permutation of the channels; ``order`` is a buffer, so it is saved with the network.

    >>> import torch, linearizer_core as lc
    >>> g = lc.flows.Permutation(4)
    >>> x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    >>> z, log_det = g(x)
    >>> log_det.shape, torch.allclose(g.inverse(z)[0], x, atol=1e-4)
    (torch.Size([8]), True)
    >>> g
    Permutation(4)
    """

    keeps_shape = True

    order: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("order", torch.randperm(channels))

    def extra_repr(self) -> str:
        return f"{len(self.order)}"

    def move(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return x[:, self.order]

    def back(self, y: Tensor, label: Tensor | None = None) -> Tensor:
        return y[:, self.order.argsort()]


def mix(matrix: Tensor, x: Tensor) -> Tensor:
    """The matrix applied to the channels of each row or pixel."""
    return x @ matrix.T if x.ndim == 2 else (matrix @ x.flatten(2)).view(x.shape)
