"""The Linearizer f(x) = g_y⁻¹(A g_x(x)) and its linear algebra (arXiv 2510.08570, equation 1 and section 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from linearizer_core.flows.base import Invertible
from linearizer_core.operators.affine import AffineOperator, Operator, linear_part
from linearizer_core.operators.module import OperatorModule, as_module
from linearizer_core.short import Short
from linearizer_core.space import InducedSpace


@dataclass(frozen=True)
class SingularElements:
    """Leading singular triples as elements of the two spaces: f(right_i) = values_i ⊙ left_i.

    ``left`` ``(k, *event)`` in the codomain and ``right`` ``(k, *event)`` in the domain are orthonormal in the induced
    inner products; ``values`` ``(k,)`` descend.
    """

    left: Tensor
    values: Tensor
    right: Tensor


@dataclass(frozen=True)
class EigenElements:
    """Leading eigenpairs as elements of the space: f(elements_i) = values_i ⊙ elements_i.

    ``elements`` ``(k, *event)`` have induced norm 1; ``values`` ``(k,)`` are real, in descending magnitude.
    """

    values: Tensor
    elements: Tensor


class Linearizer(Short):
    """f(x) = g_y⁻¹(A g_x(x)), exactly linear from the induced space of ``g_x`` to that of ``g_y``.

    With an ``AffineOperator`` z ↦ A z + b it is exactly affine: f(x) ⊖ f(0) is linear, and f preserves combinations
    whose weights sum to 1. The methods below say what they mean in that case; only ``adjoint`` does not exist then.

    ``g_x`` maps ``(batch, *event)`` to ``(batch, in_dim)``. With it alone, g_y = g_x: f maps a space to itself. The
    ``operator`` A is learned, an ``OperatorModule`` such as ``operators.low_rank`` returns, or fixed, any
    ``LinearOperator`` or ``AffineOperator``. Networks and a learned operator are parameters of this module, the tensors
    of a fixed operator buffers. ``pinv`` and the other methods return a Linearizer with the operator's current value.

    Raises ``TypeError`` for an operator that is neither, and ``ValueError`` if its dimensions differ from those of the
    networks' latents.

    >>> import torch, linearizer_core as lc
    >>> f = lc.Linearizer(lc.flows.coupling((1, 4, 4), depth=2, width=8), lc.operators.low_rank(16, 3))
    >>> f
    Linearizer(g_x=Chain(7 layers, 1×4×4 → 16), A=LearnedLowRank(16 → 16, rank 3))
    >>> x = torch.randn(8, 1, 4, 4)
    >>> loss = (f(x) - x).square().mean()
    >>> loss.backward()
    >>> all(p.grad is not None for p in f.core.parameters())
    True
    """

    def __init__(self, g_x: Invertible, operator: Operator | OperatorModule, g_y: Invertible | None = None) -> None:
        super().__init__()
        self.g_x = g_x
        self.g_y = g_x if g_y is None else g_y
        self.core = as_module(operator)
        out_dim, in_dim = self.operator.shape
        for name, g, dim in (("g_x", self.g_x, in_dim), ("g_y", self.g_y, out_dim)):
            latent = g.out_shape(g.in_shape)
            if latent is not None and math.prod(latent) != dim:
                raise ValueError(f"{self.core!r} has {dim} dimensions where {name} has {math.prod(latent)}")

    @property
    def operator(self) -> Operator:
        """The current A, with its gradients."""
        return self.core.operator()

    def extra_repr(self) -> str:
        other = "" if self.g_y is self.g_x else f", g_y={self.g_y!r}"
        return f"g_x={self.g_x!r}{other}, A={self.core!r}"

    @property
    def domain(self) -> InducedSpace:
        """The induced vector space of the inputs."""
        return InducedSpace(self.g_x)

    @property
    def codomain(self) -> InducedSpace:
        """The induced vector space of the outputs."""
        return InducedSpace(self.g_y)

    def forward(self, x: Tensor) -> Tensor:
        """f(x): ``(batch, *event)`` of g_x to ``(batch, *event)`` of g_y."""
        return self.codomain.decode(self.core(self.domain.encode(x)))

    @torch.no_grad()
    def initialise(self, x: Tensor, y: Tensor | None = None) -> None:
        """Fit the data-dependent parts to inputs ``(count, *event)`` and, if g_y is another network, to outputs ``y``.

        Raises ``ValueError`` if outputs are missing, or given although nothing is fitted to them.
        """
        if (y is None) != (self.g_y is self.g_x):
            raise ValueError("outputs y must be given if g_y is another network than g_x, and only then")
        self.core.initialise(self.g_x.initialise(x))
        if y is not None:
            self.g_y.initialise(y)

    def linear(self) -> Linearizer:
        """x ↦ f(x) ⊖ f(0); f itself if its core is linear."""
        return Linearizer(self.g_x, linear_part(self.operator), self.g_y)

    def adjoint(self) -> Linearizer:
        """f*(y) = g_x⁻¹(Aᵀ g_y(y)): ⟨f(x), y⟩ in the codomain equals ⟨x, f*(y)⟩ in the domain.

        Raises ``InputValueError`` for an affine core with an offset, which has no adjoint; ``linear().adjoint()`` is
        that of its linear part.
        """
        return Linearizer(self.g_y, self.operator.adjoint(), self.g_x)

    def pinv(self, rcond: float | None = None) -> Linearizer:
        """f⁺(y) = g_x⁻¹(A⁺ g_y(y)), the Moore-Penrose inverse in the induced inner products.

        For an affine core, f⁺(y) = g_x⁻¹(A⁺ (g_y(y) - b)), the input of smallest induced norm that f brings closest to
        y.
        """
        return Linearizer(self.g_y, self.operator.pinv(rcond), self.g_x)

    def compose(self, other: Linearizer) -> Linearizer:
        """f ∘ other, with core A_f A_other.

        Raises ``ValueError`` unless ``other`` ends in the same network that f starts from: without a shared middle
        network the composition is not a Linearizer.
        """
        if other.g_y is not self.g_x:
            raise ValueError(
                "Linearizers compose only over a shared network: the inner one's g_y must be this one's g_x"
            )
        return Linearizer(other.g_x, self.operator.compose(other.operator), self.g_y)

    def add(self, other: Linearizer) -> Linearizer:
        """x ↦ f(x) ⊕ other(x), with core A_f + A_other; raises ``ValueError`` unless both networks are shared."""
        if other.g_x is not self.g_x or other.g_y is not self.g_y:
            raise ValueError("Linearizers can only be added if both have the same g_x and the same g_y")
        return Linearizer(self.g_x, self.operator.add(other.operator), self.g_y)

    def scale(self, factor: float) -> Linearizer:
        """x ↦ factor ⊙ f(x)."""
        return Linearizer(self.g_x, self.operator.scale(factor), self.g_y)

    def power(self, n: int) -> Linearizer:
        """fⁿ = g⁻¹ Aⁿ g, f applied n times at once; raises ``ValueError`` unless g_x and g_y are the same network."""
        self._check_endomorphism("has powers")
        return Linearizer(self.g_x, self.operator.power(n), self.g_y)

    def principal_power(self, t: float) -> Linearizer:
        """fᵗ = g⁻¹ Aᵗ g for any real t, so that fˢ fᵗ = fˢ⁺ᵗ: what lies between two applications of f.

        Raises ``ValueError`` unless g_x and g_y are the same network, for an affine core with an offset, and if A has
        no such power (``LinearOperator.principal_power``).
        """
        self._check_endomorphism("has powers")
        if isinstance(self.operator, AffineOperator):
            raise ValueError("an affine core has no principal power here; that of its linear part is linear()'s")
        return Linearizer(self.g_x, self.operator.principal_power(t), self.g_y)

    def exp(self, t: float = 1.0) -> Linearizer:
        """g⁻¹ exp(tA) g, the flow of ẋ = f(x) in the induced space.

        Raises ``ValueError`` unless g_x and g_y are the same network.
        """
        self._check_endomorphism("has an exponential")
        return Linearizer(self.g_x, self.operator.exp(t), self.g_y)

    def svd(self, k: int | None = None) -> SingularElements:
        """The k leading singular triples, with the singular vectors g_x⁻¹(v_i) and g_y⁻¹(u_i) as images.

        For an affine core they are those of ``linear()``: f(right_i) ⊖ f(0) = values_i ⊙ left_i.
        """
        found = self.operator.svd(k)
        return SingularElements(self.codomain.decode(found.u.T), found.s, self.domain.decode(found.v.T))

    def eig(self, k: int | None = None) -> EigenElements:
        """The k leading eigenpairs, with the eigenvectors g⁻¹(x_i) as images; for an affine core, those of
        ``linear()``.

        Raises ``ValueError`` unless g_x and g_y are the same network, if A does not have k independent eigenvectors,
        and if one of its k leading eigenvalues is complex, since no image belongs to it.
        """
        self._check_endomorphism("has eigenvectors")
        found = self.operator.eig(k)
        if found.values.is_complex():
            raise ValueError(f"A has complex eigenvalues among its {len(found.values)} leading ones; use svd")
        return EigenElements(found.values, self.domain.decode(found.vectors.T))

    def row_projection(self, rcond: float | None = None) -> Linearizer:
        """f⁺f, the orthogonal projection of the domain onto what f does not annihilate."""
        return Linearizer(self.g_x, self.operator.row_projection(rcond))

    def range_projection(self, rcond: float | None = None) -> Linearizer:
        """f f⁺, the orthogonal projection of the codomain onto the range of f; affine if f is."""
        return Linearizer(self.g_y, self.operator.range_projection(rcond))

    def null_projection(self, rcond: float | None = None) -> Linearizer:
        """The orthogonal projection of the domain onto the null space, which f maps to f(0) (zero if f is linear)."""
        return Linearizer(self.g_x, self.operator.null_projection(rcond))

    def _check_endomorphism(self, use: str) -> None:
        if self.g_x is not self.g_y:
            raise ValueError(f"only a Linearizer from a space to itself {use}: g_x and g_y must be the same network")
