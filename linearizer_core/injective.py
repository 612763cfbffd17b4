"""Linearizers whose latents are wider than their inputs: f(x) = g_y†(A g_x(x)) with injective networks."""

from __future__ import annotations

import torch
from torch import Tensor

from linearizer_core.errors import InputValueError
from linearizer_core.flows.injective import Injective
from linearizer_core.operators.affine import Operator
from linearizer_core.operators.module import OperatorModule, as_module
from linearizer_core.short import Short


class InjectiveLinearizer(Short):
    """A Linearizer (arXiv 2510.08570) with injective networks and their left inverses (arXiv 2006.08464) in place of g.

    Both networks end in vectors, ``(batch, latent)``. A g_x(x) need not lie in the range of g_y, which is not a linear
    space. If it does, g_y(f(x)) = A g_x(x); otherwise ``residual`` says how far this fails. The core of two of them in
    succession is therefore not the product of their operators.

    With ``g_x`` alone, g_y = g_x. The ``operator`` is learned or fixed, linear or affine, as for a ``Linearizer``.

    Raises ``TypeError`` for an operator that is neither.

    >>> import torch, linearizer_core as lc
    >>> g = lc.flows.InjectiveNetwork([lc.flows.Flatten((1, 2, 2)), lc.flows.InjectiveDense(4, 10)])
    >>> f = lc.InjectiveLinearizer(g, lc.operators.DenseOperator(torch.eye(10)))
    >>> f
    InjectiveLinearizer(g_x=InjectiveNetwork(2 layers), A=DenseOperator(10 → 10))
    >>> x = torch.randn(3, 1, 2, 2)
    >>> torch.allclose(f(x), x, atol=1e-4), bool((f.residual(x) < 1e-5).all())
    (True, True)
    """

    def __init__(self, g_x: Injective, operator: Operator | OperatorModule, g_y: Injective | None = None) -> None:
        super().__init__()
        self.g_x = g_x
        self.g_y = g_x if g_y is None else g_y
        self.core = as_module(operator)

    @property
    def operator(self) -> Operator:
        """The current A, with its gradients."""
        return self.core.operator()

    def extra_repr(self) -> str:
        other = "" if self.g_y is self.g_x else f", g_y={self.g_y!r}"
        return f"g_x={self.g_x!r}{other}, A={self.core!r}"

    def encode(self, x: Tensor) -> Tensor:
        """g_x(x): ``(batch, *event)`` to ``(batch, in_dim)``.

        Raises ``ValueError`` if g_x does not end in vectors of the operator's input dimension.
        """
        z = self.g_x(x)
        dim = self.operator.shape[1]
        if z.shape[1:] != (dim,):
            raise InputValueError(f"g_x must end in vectors of the operator's {dim} dimensions, got {tuple(z.shape)}")
        return z

    def latent(self, x: Tensor) -> Tensor:
        """A g_x(x): ``(batch, *event)`` to ``(batch, out_dim)``."""
        return self.operator.apply(self.encode(x))

    def decode(self, z: Tensor) -> Tensor:
        """g_y†(z): ``(batch, out_dim)`` to ``(batch, *event)``, the inverse of g_y only on its range."""
        return self.g_y.left_inverse(z)

    def forward(self, x: Tensor) -> Tensor:
        """f(x): ``(batch, *event)`` of g_x to ``(batch, *event)`` of g_y."""
        return self.decode(self.latent(x))

    def residual(self, x: Tensor) -> Tensor:
        """‖g_y(g_y†(z)) - z‖ / ‖z‖ at z = A g_x(x), ``(batch,)``: zero if and only if z is in the range of g_y.

        This bounds the relative distance to the range from above: g_y(g_y†(z)) is in it, but need not be the nearest
        point.
        """
        z = self.latent(x)
        distance = (self.g_y(self.decode(z)) - z).norm(dim=1)
        return distance / z.norm(dim=1).clamp_min(torch.finfo(z.dtype).tiny)
