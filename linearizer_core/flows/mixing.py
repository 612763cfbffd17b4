"""Invertible channel mixing by a learned matrix in LU form (Kingma & Dhariwal, Glow, 2018, section 3.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from linearizer_core.flows.base import Invertible


class LUMixing(Invertible):
    """y = P L U x over channels, with L unit lower and U upper triangular, started from a random rotation.

    The inverse solves two triangular systems; no general matrix is ever inverted. Inputs are ``(batch, channels)`` or
    ``(batch, channels, height, width)`` (then a 1×1 convolution). The signs of U's diagonal are fixed, so the matrix
    stays invertible throughout training. Few columns are solved for directly, many are multiplied by the inverse map's
    matrix: the two agree to rounding.
    """

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
        positions = math.prod(x.shape[2:])
        return (self.log_diagonal.sum() * positions).expand(len(x))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return _mix(self.permutation @ (self._lower() @ self._upper()), x), self._log_det(x)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        channels = len(self.lower)
        # A matrix product is much cheaper than two solves, once there is the matrix: worth it for many columns.
        if y.numel() // channels >= channels:
            return _mix(self._solve(self.permutation.T), y), -self._log_det(y)
        columns = y.flatten(2).transpose(0, 1).flatten(1) if y.ndim > 2 else y.T
        solved = self._solve(self.permutation.T @ columns)
        x = solved.view(channels, len(y), -1).transpose(0, 1).reshape(y.shape) if y.ndim > 2 else solved.T
        return x, -self._log_det(y)

    def _solve(self, columns: Tensor) -> Tensor:
        """U⁻¹ L⁻¹ times ``(channels, count)`` columns."""
        half = torch.linalg.solve_triangular(self._lower(), columns, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(self._upper(), half, upper=True)


def _mix(matrix: Tensor, x: Tensor) -> Tensor:
    """The matrix times the channels of each row or pixel."""
    return x @ matrix.T if x.ndim == 2 else (matrix @ x.flatten(2)).view(x.shape)
