"""The axioms of the vector space that a nonlinear g induces, and its operations in closed form."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from linearizer_core.experiment.configuration import FlowConfig
from linearizer_core.experiment.networks import build_flow
from linearizer_core.flows import Identity, Invertible
from linearizer_core.space import InducedSpace

close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
Elements = tuple[InducedSpace, Tensor, Tensor, Tensor]


def images(seed: int) -> Tensor:
    return torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(params=["mlp", "conv", "sinh"])
def elements(request: pytest.FixtureRequest, randomise: Callable[..., nn.Module], sinh: Invertible) -> Elements:
    """A space with a nonlinear g, and three of its elements."""
    torch.manual_seed(0)
    if request.param == "sinh":
        return InducedSpace(sinh), images(1).flatten(1), images(2).flatten(1), images(3).flatten(1)
    g = build_flow(FlowConfig(conditioner=request.param, depth=2, width=16), (1, 4, 4)).double()
    randomise(g)
    return InducedSpace(g), images(1), images(2), images(3)


def test_vector_space_axioms(elements: Elements) -> None:
    space, u, v, w = elements
    close(space.add(u, v), space.add(v, u))
    close(space.add(u, space.add(v, w)), space.add(space.add(u, v), w))
    close(space.add(u, space.zero(u)), u)
    close(space.add(u, space.scale(-1.0, u)), space.zero(u))
    close(space.scale(1.0, u), u)
    close(space.scale(0.5, space.scale(-3.0, u)), space.scale(-1.5, u))
    close(space.scale(0.7, space.add(u, v)), space.add(space.scale(0.7, u), space.scale(0.7, v)))
    close(space.scale(0.7 + 0.4, u), space.add(space.scale(0.7, u), space.scale(0.4, u)))


def test_one_factor_a_row(elements: Elements) -> None:
    space, u, _, _ = elements
    factors = torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0], dtype=u.dtype)
    scaled = space.scale(factors, u)
    close(space.scale(torch.tensor(0.5, dtype=u.dtype), u), space.scale(0.5, u))
    for i, factor in enumerate(factors):
        close(scaled[i : i + 1], space.scale(float(factor), u[i : i + 1]))


def test_subtraction_and_interpolation(elements: Elements) -> None:
    space, u, v, _ = elements
    close(space.sub(u, v), space.add(u, space.scale(-1.0, v)))
    close(space.sub(u, u), space.zero(u))
    close(space.lerp(u, v, 0.0), u)
    close(space.lerp(u, v, 1.0), v)
    close(space.lerp(u, v, 0.3), space.add(space.scale(0.7, u), space.scale(0.3, v)))
    close(space.zero(u)[:1].expand_as(u), space.zero(u))
    close(space.norm(space.zero(u)), torch.zeros(len(u), dtype=u.dtype))


def test_inner_product(elements: Elements) -> None:
    space, u, v, w = elements
    close(space.inner(u, v), space.inner(v, u))
    close(space.inner(space.add(space.scale(2.0, u), v), w), 2 * space.inner(u, w) + space.inner(v, w))
    close(space.norm(u).square(), space.inner(u, u))
    assert (space.inner(u, u) > 0).all()
    close(space.norm(space.scale(-0.5, u)), 0.5 * space.norm(u))
    assert (space.norm(space.add(u, v)) <= space.norm(u) + space.norm(v) + 1e-12).all()


def test_operations_are_not_those_of_pixels(elements: Elements) -> None:
    space, u, v, _ = elements
    assert float((space.add(u, v) - (u + v)).detach().norm() / (u + v).norm()) > 0.05
    assert float((space.scale(0.5, u) - 0.5 * u).detach().norm() / u.norm()) > 0.02


def test_operations_in_closed_form(sinh: Invertible) -> None:
    space = InducedSpace(sinh)
    u, v = images(1).flatten(1), images(2).flatten(1)
    close(space.add(u, v), torch.log(u.sinh() + v.sinh() + ((u.sinh() + v.sinh()).square() + 1).sqrt()))
    close(space.scale(3.0, u), torch.asinh(1.5 * (u.exp() - (-u).exp())))
    close(space.inner(u, v), torch.einsum("bi,bi->b", u.sinh(), v.sinh()))
    close(space.zero(u), torch.zeros_like(u))


def test_the_identity_induces_the_ordinary_space() -> None:
    space = InducedSpace(Identity())
    u, v = images(1).flatten(1), images(2).flatten(1)
    close(space.add(u, v), u + v)
    close(space.sub(u, v), u - v)
    close(space.scale(-2.0, u), -2 * u)
    close(space.norm(u), torch.linalg.vector_norm(u, dim=1))
    close(space.lerp(u, v, 0.25), 0.75 * u + 0.25 * v)


def test_distance(elements: Elements) -> None:
    space, u, v, w = elements
    close(space.distance(u, v), space.norm(space.sub(u, v)))
    close(space.distance(u, u), torch.zeros(len(u), dtype=u.dtype))
    assert bool((space.distance(u, w) <= space.distance(u, v) + space.distance(v, w)).all())


def test_slerp_runs_along_the_arc(elements: Elements) -> None:
    space, u, v, _ = elements
    close(space.slerp(u, v, 0.0), u)
    close(space.slerp(u, v, 1.0), v)
    unit_u, unit_v = (space.decode(x / x.norm(dim=1, keepdim=True)) for x in (space.encode(u), space.encode(v)))
    angle = space.inner(unit_u, unit_v).acos()
    middle = space.slerp(unit_u, unit_v, 0.3)
    close(space.norm(middle), torch.ones(len(u), dtype=u.dtype))
    close(space.inner(middle, unit_u).acos(), 0.3 * angle)
    close(space.inner(middle, unit_v).acos(), 0.7 * angle)


def test_slerp_by_hand_and_of_parallel_elements() -> None:
    space = InducedSpace(Identity())
    x, y = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    half = 0.5**0.5
    torch.testing.assert_close(space.slerp(x, y, 0.5), torch.tensor([[2 * half, half]]))
    torch.testing.assert_close(space.slerp(x, 3 * x, 0.5), 2 * x)
    torch.testing.assert_close(space.slerp(x, -x, 0.25), 0.5 * x)


def test_projection_on_a_span(elements: Elements) -> None:
    space, u, v, w = elements
    basis = torch.cat([u[:2], v[:1], space.add(u[:1], v[:1])])  # four elements, three dimensions
    projected = space.project(w, basis)
    close(space.project(projected, basis), projected)
    residual = space.sub(w, projected)
    for element in basis:
        close(space.inner(residual, element.expand_as(w)), torch.zeros(len(w), dtype=w.dtype), atol=1e-8)
    mixed = space.add(space.scale(0.3, u[:1]), space.scale(-2.0, v[:1]))
    close(space.project(mixed, basis), mixed)
    z, coordinates = space.encode(basis).detach(), space.encode(w).detach()
    fitted = torch.linalg.lstsq(z[:3].T, coordinates.T).solution
    close(space.encode(projected), (z[:3].T @ fitted).T)
