"""The contract of invertible maps, and their composition."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Invertible(nn.Module, ABC):
    """An invertible map between tensors of shape ``(batch, *event)``.

    Implementations MUST return from both directions the mapped tensor and the log of the absolute Jacobian
    determinant of the direction that was taken, ``(batch,)``; the two directions' values are each other's
    negatives. They MUST hold no randomness, so that g and g⁻¹ are inverses at every call. They CAN be
    data-dependent at the start through ``initialise``.
    """

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """g(x) and log|det ∂g/∂x|."""

    @abstractmethod
    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """g⁻¹(y) and log|det ∂g⁻¹/∂y|."""

    def initialise(self, x: Tensor) -> Tensor:
        """Fit data-dependent parameters to a batch of inputs and return its image."""
        return self(x)[0]


class Identity(Invertible):
    """g(x) = x: the control in which a Linearizer is an ordinary linear map."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x.new_zeros(len(x))

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return y, y.new_zeros(len(y))


class Chain(Invertible):
    """The composition of invertible maps, first to last."""

    def __init__(self, maps: Iterable[Invertible]) -> None:
        super().__init__()
        self.maps = nn.ModuleList(maps)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(len(x))
        for step in self.maps:
            x, log_det = step(x)
            total = total + log_det
        return x, total

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        total = y.new_zeros(len(y))
        for step in reversed(self.maps):
            assert isinstance(step, Invertible)
            y, log_det = step.inverse(y)
            total = total + log_det
        return y, total

    @torch.no_grad()
    def initialise(self, x: Tensor) -> Tensor:
        for step in self.maps:
            assert isinstance(step, Invertible)
            x = step.initialise(x)
        return x
