"""Linearizers: linear in the induced spaces, with adjoint, pseudo-inverse and composition."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from linearizer_core import InducedSpace, Linearizer
from linearizer_core.experiment.configuration import FlowConfig
from linearizer_core.experiment.networks import build_flow
from linearizer_core.flows import Identity, Invertible, coupling, identity, principal
from linearizer_core.operators import (
    ConvolutionalOperator,
    DenseOperator,
    Factors,
    LinearOperator,
    LowRankOperator,
    OrthogonalProjection,
    ScaledIdentityPlusLowRank,
    dense,
    low_rank,
)

close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


eye = partial(torch.eye, dtype=torch.float64)
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
    return Linearizer(flows(IN, 1), operator, flows(OUT if operator.shape[0] == 6 else IN, 2))


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
    f = Linearizer(sinh, DenseOperator(torch.diag(torch.tensor([2.0, 1e-3], dtype=torch.float64))))
    y = normal(4, 2)
    close(f.pinv(rcond=0.1)(y), torch.asinh(y.sinh() * torch.tensor([0.5, 0.0])))
    close(f.pinv()(y), torch.asinh(y.sinh() * torch.tensor([0.5, 1e3])))


@pytest.mark.parametrize("k", [2, None])
def test_singular_elements(f: Linearizer, k: int | None) -> None:
    """f takes each right singular element to σ ⊙ its left one; both sets are orthonormal in the induced products."""
    found = f.svd(k)
    count = k or min(f.operator.shape)
    close(found.values, torch.linalg.svdvals(f.operator.to_dense())[:count])
    close(f(found.right), f.codomain.scale(found.values, found.left))
    for i in range(count):
        for space, elements in ((f.domain, found.right), (f.codomain, found.left)):
            products = space.inner(elements, elements[i : i + 1].expand_as(elements))
            close(products, torch.eye(count, dtype=torch.float64)[i])


def test_a_linearizer_is_the_sum_of_its_singular_parts(f: Linearizer) -> None:
    """f(x) = ⊕ σ_i ⟨right_i, x⟩ ⊙ left_i."""
    found, x = f.svd(), inputs(f, 3)
    total = f.codomain.zero(f(x))
    for right, value, left in zip(found.right, found.values, found.left, strict=True):
        weights = f.domain.inner(right.expand_as(x), x) * value
        term = f.codomain.decode(weights[:, None] * f.codomain.encode(left[None]))
        total = f.codomain.add(total, term)
    close(total, f(x), atol=1e-8)


def test_projections_split_the_domain(f: Linearizer) -> None:
    x, y = inputs(f, 3), outputs(f, 4)
    rows, null, image = f.row_projection(), f.null_projection(), f.range_projection()
    close(f.domain.add(rows(x), null(x)), x, atol=1e-8)
    close(f.domain.inner(rows(x), null(x)), torch.zeros(5, dtype=torch.float64), atol=1e-8)
    close(f(null(x)), f.codomain.zero(f(x)), atol=1e-8)
    close(f(rows(x)), f(x), atol=1e-8)
    close(rows(x), f.pinv()(f(x)), atol=1e-8)
    close(image(f(x)), f(x), atol=1e-8)
    close(image(y), f(f.pinv()(y)), atol=1e-8)


def test_sums_and_multiples(f: Linearizer, flows: Flows) -> None:
    x = inputs(f, 3)
    other = Linearizer(f.g_x, DenseOperator(normal(*f.operator.shape, seed=7) / 4), f.g_y)
    close(f.add(other)(x), f.codomain.add(f(x), other(x)))
    close(f.scale(-0.4)(x), f.codomain.scale(-0.4, f(x)))
    with pytest.raises(ValueError, match="Linearizers can only be added if"):
        f.add(Linearizer(flows(IN, 9), f.operator, f.g_y))
    end = OUT if f.operator.shape[0] == 6 else IN
    with pytest.raises(ValueError, match="Linearizers can only be added if"):
        f.add(Linearizer(f.g_x, f.operator, flows(end, 9)))


def repeated(flows: Flows, name: str) -> Linearizer:
    g = flows(IN, 1)
    return Linearizer(g, OPERATORS[name])


@pytest.mark.parametrize("name", ["square", "low rank", "alpha 0"])
def test_powers(flows: Flows, name: str) -> None:
    f = repeated(flows, name)
    x = inputs(f, 3)
    close(f.power(3)(x), f(f(f(x))))
    close(f.power(0)(x), x)
    if name != "alpha 0":
        close(f.power(-1)(f(x)), x, atol=1e-7)


@pytest.mark.parametrize("name", ["square", "low rank", "alpha 0"])
def test_flow_of_the_exponential(flows: Flows, name: str) -> None:
    f = repeated(flows, name)
    x = inputs(f, 3)
    close(f.exp(0.3)(f.exp(0.9)(x)), f.exp(1.2)(x))
    close(f.exp(0.0)(x), x)
    h = 1e-5  # d/dt exp(tA) x = A exp(tA) x, in the induced space
    ahead, behind = (f.domain.encode(f.exp(0.5 + step)(x)) for step in (h, -h))
    slope = f.domain.encode(f(f.exp(0.5)(x)))
    close((ahead - behind) / (2 * h), slope, atol=1e-7, rtol=1e-7)


def test_eigen_elements(flows: Flows) -> None:
    g = flows(IN, 1)
    frame, values = torch.linalg.qr(normal(16, 16))[0], torch.linspace(-2, 1.5, 16, dtype=torch.float64)
    f = Linearizer(g, DenseOperator((frame * values) @ frame.T))
    found = f.eig(4)
    close(found.values, torch.tensor([-2.0, -2 + 3.5 / 15, -2 + 7 / 15, 1.5], dtype=torch.float64), atol=1e-7)
    close(f.domain.norm(found.elements), torch.ones(4, dtype=torch.float64))
    close(f(found.elements), f.domain.scale(found.values, found.elements))


def test_complex_eigenvalues_belong_to_no_image(sinh: Invertible) -> None:
    rotation = DenseOperator(torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64))
    with pytest.raises(ValueError, match="A has complex eigenvalues among its 2 leading ones; use svd"):
        Linearizer(sinh, rotation).eig()


@pytest.mark.parametrize(("use", "arguments"), [("power", [2]), ("exp", []), ("eig", [])])
def test_only_a_map_of_a_space_to_itself(sinh: Invertible, use: str, arguments: list[int]) -> None:
    f = Linearizer(sinh, DenseOperator(normal(3, 3)), Identity())
    with pytest.raises(ValueError, match="only a Linearizer from a space to itself has"):
        getattr(f, use)(*arguments)


def test_closed_form(sinh: Invertible) -> None:
    matrix, x = normal(3, 5), normal(4, 5, seed=1)
    close(Linearizer(sinh, DenseOperator(matrix))(x), torch.asinh(x.sinh() @ matrix.T))
    close(Linearizer(Identity(), DenseOperator(matrix), sinh)(x), torch.asinh(x @ matrix.T))


@pytest.mark.parametrize(("first", "then"), [("square", "dense"), ("low rank", "square"), ("low rank", "alpha 0")])
def test_compose_is_one_after_the_other(first: str, then: str, flows: Flows) -> None:
    shared = flows(IN, 2)
    inner = Linearizer(flows(IN, 1), OPERATORS[first], shared)
    outer = Linearizer(shared, OPERATORS[then], flows(OUT if then == "dense" else IN, 3))
    composed = outer.compose(inner)
    x = inputs(inner, 3)
    close(composed(x), outer(inner(x)))
    assert composed.g_x is inner.g_x
    assert composed.g_y is outer.g_y
    close(composed.operator.to_dense(), OPERATORS[then].to_dense() @ OPERATORS[first].to_dense())


def test_compose_needs_the_very_same_network(sinh: Invertible) -> None:
    f = Linearizer(sinh, DenseOperator(normal(3, 3)), Identity())
    with pytest.raises(ValueError, match="compose only over a shared network: the inner one's g_y must be this"):
        f.compose(f)


def test_powers_and_orthogonal_projection(sinh: Invertible) -> None:
    frame, _ = torch.linalg.qr(normal(5, 2))
    projection = Linearizer(sinh, DenseOperator(frame @ frame.T))
    x = normal(4, 5, seed=1)
    close(projection(projection(x)), projection(x))
    close(projection.compose(projection)(x), projection(x))
    close(projection.adjoint()(x), projection(x))
    residual = projection.domain.sub(x, projection(x))
    close(projection.domain.inner(residual, projection(x)), torch.zeros(4, dtype=torch.float64))


def test_domain_and_codomain(sinh: Invertible) -> None:
    identity = Identity()
    f = Linearizer(sinh, DenseOperator(normal(3, 3)), identity)
    assert f.domain == InducedSpace(sinh)
    assert f.codomain == InducedSpace(identity)


def test_a_linearizer_trains_its_networks_and_its_operator() -> None:
    torch.manual_seed(0)
    x, y = normal(64, 1, 2, 2), normal(64, 3, seed=1)
    f = Linearizer(
        coupling((1, 2, 2), depth=2, width=16), low_rank(4, 2, out_dim=3), g_y=coupling((3,), width=8)
    ).double()
    f.initialise(x, y)
    start = {name: value.clone() for name, value in f.named_parameters()}
    optimiser = torch.optim.Adam(f.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = (f(x) - y).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    assert {"core.u", "core.v"} <= {name for name, value in f.named_parameters() if not torch.equal(value, start[name])}
    close(f.domain.add(x, x), f.domain.scale(2.0, x))
    close(f(f.domain.add(x, x.flip(0))), f.codomain.add(f(x), f(x.flip(0))))


def test_a_fixed_operator_goes_with_the_module() -> None:
    factors = Factors(normal(4, 2), normal(4, 2, seed=1))
    operator = ScaledIdentityPlusLowRank(0.5, normal(2, 2), factors)
    f = Linearizer(coupling((4,), depth=1, width=4), operator)
    assert f.operator is operator
    assert {"core.core", "core.factors_u", "core.factors_v"} <= set(f.state_dict())
    assert not any(name.startswith("core") for name, _ in f.named_parameters())
    single = f.float().operator
    assert isinstance(single, ScaledIdentityPlusLowRank)
    assert single.factors.u.dtype == torch.float32
    assert f.operator is single
    same = Linearizer(f.g_x, OrthogonalProjection.of(torch.eye(4)[:, :2])).double()
    held = same.operator
    assert isinstance(held, OrthogonalProjection)
    assert held.factors.u is held.factors.v
    again = copy.deepcopy(same)
    assert again.operator is not held
    assert torch.equal(again.operator.to_dense(), held.to_dense())


def test_what_is_computed_of_a_fixed_operator_is_forgotten_when_others_are_loaded() -> None:
    first, second = (Linearizer(identity((3,)), LowRankOperator(normal(3, 3), Factors(eye(3), eye(3)))) for _ in "ab")
    other = Linearizer(identity((3,)), LowRankOperator(normal(3, 3, seed=5), Factors(eye(3), eye(3))))
    before = first.operator.singular_values()
    first.load_state_dict(other.state_dict())
    close(first.operator.singular_values(), other.operator.singular_values())
    close(second.operator.singular_values(), before)


def test_a_fixed_convolution_follows_the_modules_dtype() -> None:
    single = ConvolutionalOperator.from_kernel(normal(1, 1, 3, 3).float(), 4, 4)
    expected = single.to_dense().double()
    f = Linearizer(identity((1, 4, 4)), single)
    x = normal(2, 1, 4, 4)
    for moved in (f.double(), f.float().to(torch.float64), copy.deepcopy(f)):
        torch.testing.assert_close(moved(x).flatten(1), x.flatten(1) @ expected.T, rtol=1e-6, atol=1e-6)
    assert f.to(torch.float32)(x.float()).dtype == torch.float32


@pytest.mark.parametrize("inference", [False, True])
def test_what_is_computed_of_a_fixed_operator_is_forgotten_when_it_is_changed_in_place(inference: bool) -> None:
    with torch.inference_mode(inference):
        f = Linearizer(identity((3,)), LowRankOperator(eye(3), Factors(eye(3), eye(3))))
        close(f.operator.singular_values(), torch.ones(3, dtype=torch.float64))
        f.core.get_buffer("core").mul_(3)
        close(f.operator.singular_values(), 3 * torch.ones(3, dtype=torch.float64))
        f.core.get_buffer("core").mul_(2)
        close(copy.deepcopy(f).operator.singular_values(), 6 * torch.ones(3, dtype=torch.float64))


def test_an_inverse_that_is_computed_without_gradients_can_be_copied() -> None:
    f = Linearizer(coupling((4,), depth=1, width=4), low_rank(4, 2))
    with torch.no_grad():
        inverse = f.pinv()
        f.core.get_parameter("u").mul_(2)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(copy.deepcopy(inverse)(x), inverse(x))


def test_operators_that_do_not_fit_are_refused() -> None:
    g = coupling((1, 2, 2), depth=1, width=4)
    with pytest.raises(ValueError, match=r"LearnedDense\(3 → 4\) has 3 dimensions where g_x has 4"):
        Linearizer(g, dense(3, 4))
    with pytest.raises(ValueError, match=r"DenseOperator\(4 → 3\) has 3 dimensions where g_y has 4"):
        Linearizer(g, DenseOperator(normal(3, 4)))
    with pytest.raises(TypeError, match=r"operator must be a LinearOperator, .*, got Tensor"):
        Linearizer(g, normal(4, 4))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"outputs y must be given if g_y is another network"):
        Linearizer(g, dense(4)).initialise(normal(8, 1, 2, 2).float(), normal(8, 4))


def test_modules_show_themselves_in_a_line() -> None:
    g = coupling((1, 8, 8), depth=4, width=128)
    shown = {
        repr(Linearizer(g, low_rank(64, 16))): (
            "Linearizer(g_x=Chain(13 layers, 1×8×8 → 64), A=LearnedLowRank(64 → 64, rank 16))"
        ),
        repr(Linearizer(identity((6,)), DenseOperator(eye(6)), Identity())): (
            "Linearizer(g_x=Chain(2 layers, 6 → 6), g_y=Identity(), A=DenseOperator(6 → 6))"
        ),
        repr(Linearizer(g, low_rank(64, 16)).pinv()): (
            "Linearizer(g_x=Chain(13 layers, 1×8×8 → 64), A=LowRankOperator(64 → 64, rank 16))"
        ),
        repr(coupling((1, 8, 8), network="unet", width=8, levels=2)): "Chain(1 layer, 1×8×8 → 64)",
        repr(OPERATORS["low rank"]): "ScaledIdentityPlusLowRank(16 → 16, 0.4 I + rank 3)",
        repr(list(principal((8,), coordinates=4, depth=1).maps)): (
            "[Flatten(8 → 8), PrincipalAxes(8), ActNorm(8), Leading(4, Chain(3 layers))]"
        ),
        repr(list(coupling((4,), depth=1, mixing="householder").maps)): (
            "[Flatten(4 → 4), ActNorm(4), AffineCoupling(4, MLP), HouseholderMixing(4, 4 reflections)]"
        ),
        repr(InducedSpace(g)): "InducedSpace(g=Chain(13 layers, 1×8×8 → 64))",
    }
    assert list(shown) == list(shown.values())
