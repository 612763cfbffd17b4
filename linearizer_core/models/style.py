"""Style transfer: one invertible network, and for each style one linear operator (arXiv 2510.08570, section 4.2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor, nn

from linearizer_core.flows.base import Invertible
from linearizer_core.linearizer import Linearizer
from linearizer_core.models.base import Event, Model
from linearizer_core.operators.base import DenseOperator, LinearOperator
from linearizer_core.operators.convolutional import ConvolutionalOperator
from linearizer_core.operators.diagonals import DiagonalOperator
from linearizer_core.operators.factored import Factors, ScaledIdentityPlusLowRank
from linearizer_core.operators.time_dependent import principal

KERNEL = 3


class LearnedOperator(nn.Module, ABC):
    """A learned linear operator that starts at the identity."""

    @abstractmethod
    def operator(self) -> LinearOperator:
        """The operator with its gradients."""

    def initialise(self, z: Tensor) -> None:
        """Fit data-dependent parameters to latents ``(count, dim)``; the operator is the identity still."""


class LearnedDiagonal(LearnedOperator):
    """diag(λ) with λ ``(dim,)`` learned."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.ones(dim))

    def operator(self) -> DiagonalOperator:
        return DiagonalOperator(self.values)


class LearnedLowRank(LearnedOperator):
    """I + U C Vᵀ with U and V ``(dim, rank)`` and C ``(rank, rank)`` learned, C from zero.

    Raises ``ValueError`` when ``rank`` is not in 1 … ``dim``.
    """

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        if not 1 <= rank <= dim:
            raise ValueError(f"rank must be between 1 and the dimension {dim}, got {rank}")
        frame, _ = torch.linalg.qr(torch.randn(dim, rank))
        self.u = nn.Parameter(frame.clone())
        self.v = nn.Parameter(frame.clone())
        self.core = nn.Parameter(torch.zeros(rank, rank))

    def operator(self) -> ScaledIdentityPlusLowRank:
        return ScaledIdentityPlusLowRank(1.0, self.core, Factors(self.u, self.v))

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Start U and V from the leading principal directions of the latents."""
        frame, _ = principal(z, self.u.shape[1])
        self.u.copy_(frame)
        self.v.copy_(frame)


class LearnedDense(LearnedOperator):
    """A matrix ``(dim, dim)``, learned."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(dim))

    def operator(self) -> DenseOperator:
        return DenseOperator(self.matrix)


class LearnedKernels(LearnedOperator):
    """A 3×3 kernel for each channel of latents that are ``shape`` = ``(channels, height, width)``, flattened.

    The convolutions are circular, and channels do not meet.
    """

    def __init__(self, shape: Event) -> None:
        super().__init__()
        channels, self.height, self.width = shape
        kernels = torch.zeros(channels, KERNEL, KERNEL)
        kernels[:, KERNEL // 2, KERNEL // 2] = 1.0
        self.kernels = nn.Parameter(kernels)

    def operator(self) -> ConvolutionalOperator:
        apart = torch.diag_embed(self.kernels.permute(1, 2, 0)).permute(2, 3, 0, 1)
        return ConvolutionalOperator.from_kernel(apart, self.height, self.width)


class StyleTransfer(Model):
    """y_s = g⁻¹(A_s g(x)): images ``(batch, *event)`` in each of the styles s that ``operators`` names.

    All styles share g, so that every linear combination of their operators is a Linearizer of the same space.
    """

    def __init__(self, g: Invertible, operators: Mapping[str, LearnedOperator], event: Event) -> None:
        super().__init__()
        self.g = g
        self.operators = nn.ModuleDict(operators)
        self.event = event

    @property
    def styles(self) -> tuple[str, ...]:
        """The styles' names, in order."""
        return tuple(self.operators)

    def initialise(self, images: Tensor) -> None:
        """Fit what starts from data to images ``(count, *event)``."""
        latents = self.g.initialise(images)
        for learned in self.operators.values():
            assert isinstance(learned, LearnedOperator)
            learned.initialise(latents)

    def operator(self, style: str) -> LinearOperator:
        """A_s with its gradients; raises ``ValueError`` for a style that the model has not."""
        if style not in self.operators:
            raise ValueError(f"there is no style {style!r}, there are {', '.join(self.styles)}")
        learned = self.operators[style]
        assert isinstance(learned, LearnedOperator)
        return learned.operator()

    def transfer(self, style: str) -> Linearizer:
        """x ↦ g⁻¹(A_s g(x)); raises ``ValueError`` for a style that the model has not."""
        return Linearizer(self.g, self.g, self.operator(style))

    def mix(self, weights: Mapping[str, float]) -> Linearizer:
        """x ↦ g⁻¹(Σ_s w_s A_s g(x)), styles mixed by their operators (section 4.2, "style interpolation").

        In the induced space that is Σ_s w_s y_s, whatever the weights. Raises ``ValueError`` for no weights and for a
        style that the model has not.
        """
        if not weights:
            raise ValueError("a mix needs the weight of at least one style")
        parts = [self.operator(style).scale(weight) for style, weight in weights.items()]
        return Linearizer(self.g, self.g, reduce(lambda total, part: total.add(part), parts))

    def forward(self, images: Tensor, style: str) -> Tensor:
        """Images ``(batch, *event)`` in a style."""
        return self.transfer(style)(images)
