"""Linearizers: linear in the induced spaces, with adjoint, pseudo-inverse and composition."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from linearizer_core import InducedSpace, Linearizer
from linearizer_core.config import FlowConfig
from linearizer_core.flows import Identity, Invertible, build_flow
from linearizer_core.operators import DenseOperator, Factors, LinearOperator, ScaledIdentityPlusLowRank

close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


Flows = Callable[[tuple[int, int, int], int], Invertible]
IN, OUT = (1, 4, 4), (1, 2, 3)
OPERATORS: dict[str, LinearOperator] = {
    "dense": DenseOperator(normal(6, 16) / 4),
    "rank 2": DenseOperator(normal(6, 2, seed=1) @ normal(2, 16, seed=2) / 4),
    "square": DenseOperator(normal(16, 16) / 4),
    "low rank": ScaledIdentityPlusLowRank(
        0.4, normal(3, 3) / 4, Factors(normal(16, 3, seed=1) / 4, normal(16, 3, seed=2) / 4)
    ),
    "alpha 0": ScaledIdentityPlusLowRank(0.0, normal(3, 3), Factors(normal(16, 3, seed=1) / 4, normal(16, 3) / 4)),
}


@pytest.fixture
def flows(randomise: Callable[..., nn.Module]) -> Flows:
    """``flows(event, seed)`` is a nonlinear flow."""

    def build(event: tuple[int, int, int], seed: int) -> Invertible:
        torch.manual_seed(seed)
        g = build_flow(FlowConfig(depth=2, width=16), event).double()
        randomise(g, seed)
        return g

    return build


@pytest.fixture(params=OPERATORS)
def f(request: pytest.FixtureRequest, flows: Flows) -> Linearizer:
    """A Linearizer between two nonlinear flows; images' shapes differ where the operator is rectangular."""
    operator = OPERATORS[request.param]
    return Linearizer(flows(IN, 1), flows(OUT if operator.shape[0] == 6 else IN, 2), operator)


def inputs(f: Linearizer, seed: int) -> Tensor:
    return normal(5, *IN, seed=seed)


def outputs(f: Linearizer, seed: int) -> Tensor:
    return normal(5, *(OUT if f.operator.shape[0] == 6 else IN), seed=seed)


def test_additive_and_homogeneous_in_the_induced_spaces(f: Linearizer) -> None:
    u, v = inputs(f, 3), inputs(f, 4)
    close(f(f.domain.add(u, v)), f.codomain.add(f(u), f(v)))
    close(f(f.domain.scale(-1.7, u)), f.codomain.scale(-1.7, f(u)))
    close(f(f.domain.zero(u)), f.codomain.zero(f(u)))


def test_not_additive_in_pixels(f: Linearizer) -> None:
    u, v = inputs(f, 3), inputs(f, 4)
    assert float((f(u + v) - f(u) - f(v)).detach().norm() / f(u + v).detach().norm()) > 0.05


def test_adjoint_identity(f: Linearizer) -> None:
    x, y = inputs(f, 3), outputs(f, 4)
    close(f.codomain.inner(f(x), y), f.domain.inner(x, f.adjoint()(y)))
    close(f.adjoint().adjoint()(x), f(x))


def test_penrose_identities_in_the_induced_inner_products(f: Linearizer) -> None:
    pinv = f.pinv()
    x, y = inputs(f, 3), outputs(f, 4)
    other_x, other_y = inputs(f, 5), outputs(f, 6)
    close(f(pinv(f(x))), f(x))
    close(pinv(f(pinv(y))), pinv(y))
    close(f.codomain.inner(f(pinv(y)), other_y), f.codomain.inner(y, f(pinv(other_y))))
    close(f.domain.inner(pinv(f(x)), other_x), f.domain.inner(x, pinv(f(other_x))))


def test_pinv_takes_a_threshold(sinh: Invertible) -> None:
    f = Linearizer(sinh, sinh, DenseOperator(torch.diag(torch.tensor([2.0, 1e-3], dtype=torch.float64))))
    y = normal(4, 2)
    close(f.pinv(rcond=0.1)(y), torch.asinh(y.sinh() * torch.tensor([0.5, 0.0])))
    close(f.pinv()(y), torch.asinh(y.sinh() * torch.tensor([0.5, 1e3])))


def test_singular_vectors(f: Linearizer) -> None:
    """f takes a right singular vector g_x⁻¹(v) to σ ⊙ g_y⁻¹(u)."""
    u, s, vh = torch.linalg.svd(f.operator.to_dense(), full_matrices=False)
    right, left = f.domain.decode(vh[:2]), f.codomain.decode(u.T[:2])
    for i in range(2):
        close(f(right)[i : i + 1], f.codomain.scale(float(s[i]), left[i : i + 1]))
    close(f.domain.norm(right), torch.ones(2, dtype=torch.float64))


def test_closed_form(sinh: Invertible) -> None:
    matrix, x = normal(3, 5), normal(4, 5, seed=1)
    close(Linearizer(sinh, sinh, DenseOperator(matrix))(x), torch.asinh(x.sinh() @ matrix.T))
    close(Linearizer(Identity(), sinh, DenseOperator(matrix))(x), torch.asinh(x @ matrix.T))


@pytest.mark.parametrize(("first", "then"), [("square", "dense"), ("low rank", "square"), ("low rank", "alpha 0")])
def test_compose_is_one_after_the_other(first: str, then: str, flows: Flows) -> None:
    shared = flows(IN, 2)
    inner = Linearizer(flows(IN, 1), shared, OPERATORS[first])
    outer = Linearizer(shared, flows(OUT if then == "dense" else IN, 3), OPERATORS[then])
    composed = outer.compose(inner)
    x = inputs(inner, 3)
    close(composed(x), outer(inner(x)))
    assert composed.g_x is inner.g_x
    assert composed.g_y is outer.g_y
    close(composed.operator.to_dense(), OPERATORS[then].to_dense() @ OPERATORS[first].to_dense())


def test_compose_needs_the_very_same_network(sinh: Invertible) -> None:
    f = Linearizer(sinh, Identity(), DenseOperator(normal(3, 3)))
    with pytest.raises(ValueError, match="compose only over a shared network: the inner one's g_y must be this"):
        f.compose(f)


def test_powers_and_orthogonal_projection(sinh: Invertible) -> None:
    frame, _ = torch.linalg.qr(normal(5, 2))
    projection = Linearizer(sinh, sinh, DenseOperator(frame @ frame.T))
    x = normal(4, 5, seed=1)
    close(projection(projection(x)), projection(x))
    close(projection.compose(projection)(x), projection(x))
    close(projection.adjoint()(x), projection(x))
    residual = projection.domain.sub(x, projection(x))
    close(projection.domain.inner(residual, projection(x)), torch.zeros(4, dtype=torch.float64))


def test_domain_and_codomain(sinh: Invertible) -> None:
    identity = Identity()
    f = Linearizer(sinh, identity, DenseOperator(normal(3, 3)))
    assert f.domain == InducedSpace(sinh)
    assert f.codomain == InducedSpace(identity)
