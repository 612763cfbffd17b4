"""The Linearizer f(x) = g_y⁻¹(A g_x(x)) (arXiv 2510.08570, equation 1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from linearizer_core.flows.base import Invertible
from linearizer_core.operators.base import LinearOperator
from linearizer_core.space import InducedSpace


@dataclass(frozen=True)
class Linearizer:
    """A map that is exactly linear from the induced space of ``g_x`` to that of ``g_y``."""

    g_x: Invertible
    g_y: Invertible
    operator: LinearOperator

    @property
    def domain(self) -> InducedSpace:
        """The induced vector space of the inputs."""
        return InducedSpace(self.g_x)

    @property
    def codomain(self) -> InducedSpace:
        """The induced vector space of the outputs."""
        return InducedSpace(self.g_y)

    def __call__(self, x: Tensor) -> Tensor:
        """f(x): ``(batch, *event)`` of g_x to ``(batch, *event)`` of g_y."""
        return self.codomain.decode(self.operator.apply(self.domain.encode(x)))

    def adjoint(self) -> Linearizer:
        """f*(y) = g_x⁻¹(Aᵀ g_y(y)): ⟨f(x), y⟩ in the codomain equals ⟨x, f*(y)⟩ in the domain."""
        return Linearizer(self.g_y, self.g_x, self.operator.adjoint())

    def pinv(self, rcond: float | None = None) -> Linearizer:
        """f⁺(y) = g_x⁻¹(A⁺ g_y(y)), the Moore-Penrose inverse in the induced inner products."""
        return Linearizer(self.g_y, self.g_x, self.operator.pinv(rcond))

    def compose(self, other: Linearizer) -> Linearizer:
        """f ∘ other, with core A_f A_other.

        Raises ``ValueError`` unless ``other`` ends in the very network that f starts from: without a shared
        middle network the composition is not a Linearizer.
        """
        if other.g_y is not self.g_x:
            raise ValueError(
                "Linearizers compose only over a shared network: the inner one's g_y must be this one's g_x"
            )
        return Linearizer(other.g_x, self.g_y, self.operator.compose(other.operator))
