"""Linearizers with affine cores: affine in the induced spaces, each method of the map or of its linear part."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from linearizer_core import InjectiveLinearizer, LinearDiffusion, Linearizer
from linearizer_core.checkpoint import load, save
from linearizer_core.errors import InputValueError
from linearizer_core.flows import Identity, InjectiveDense, Invertible, coupling, identity
from linearizer_core.models import StyleTransfer
from linearizer_core.operators import (
    AffineOperator,
    ConvolutionalOperator,
    DenseOperator,
    DiagonalOperator,
    Factors,
    FixedOperator,
    LearnedAffine,
    LinearOperator,
    OrthogonalProjection,
    ScaledIdentityPlusLowRank,
    affine,
    dense,
    diagonal,
    identity_plus_low_rank,
    low_rank,
    projection,
)

close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
eye = partial(torch.eye, dtype=torch.float64)
IN, OUT = (1, 4, 4), (1, 2, 3)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


OPERATORS: dict[str, LinearOperator] = {
    "dense": DenseOperator(normal(6, 16) / 4),
    "rank 2": DenseOperator(normal(6, 2, seed=1) @ normal(2, 16, seed=2) / 4),
    "square": DenseOperator(normal(16, 16) / 4),
    "low rank": ScaledIdentityPlusLowRank(
        0.4, normal(3, 3) / 4, Factors(normal(16, 3, seed=1) / 4, normal(16, 3, seed=2) / 4)
    ),
    "projection": OrthogonalProjection.onto(normal(16, 3)),
}
SQUARE = ["square", "low rank", "projection"]


@pytest.fixture(scope="module")
def flows(randomise: Callable[..., nn.Module]) -> Callable[[tuple[int, int, int], int], Invertible]:
    """Couplings that are really nonlinear, by event and seed."""

    def build(event: tuple[int, int, int], seed: int) -> Invertible:
        torch.manual_seed(seed)
        g = randomise(coupling(event, depth=2, width=8).double(), seed)
        assert isinstance(g, Invertible)
        return g.requires_grad_(False)

    return build


Flows = Callable[[tuple[int, int, int], int], Invertible]


@pytest.fixture(params=OPERATORS)
def f(request: pytest.FixtureRequest, flows: Flows) -> Linearizer:
    linear = OPERATORS[request.param]
    end = OUT if linear.shape[0] == 6 else IN
    return Linearizer(flows(IN, 1), AffineOperator(linear, normal(linear.shape[0], seed=3) / 2), flows(end, 2))


def endomorphism(flows: Flows, name: str) -> Linearizer:
    return Linearizer(flows(IN, 1), AffineOperator(OPERATORS[name], normal(16, seed=3) / 2))


def zero(f: Linearizer, x: Tensor) -> Tensor:
    """f(0) for each row."""
    return f(f.domain.zero(x))


def test_closed_form(sinh: Invertible) -> None:
    matrix, b, x = normal(3, 5), normal(3, seed=2), normal(4, 5, seed=1)
    core = AffineOperator(DenseOperator(matrix), b)
    close(Linearizer(sinh, core)(x), torch.asinh(x.sinh() @ matrix.T + b))
    close(Linearizer(Identity(), core, sinh)(x), torch.asinh(x @ matrix.T + b))


def test_it_is_linear_but_for_the_image_of_zero(f: Linearizer) -> None:
    """f(x) ⊖ f(0) is linear, and is ``linear()``; f itself adds nothing up."""
    x, y = normal(3, *IN, seed=4), normal(3, *IN, seed=5)
    part, space = f.linear(), f.codomain
    close(part(x), space.sub(f(x), zero(f, x)))
    close(part(f.domain.add(x, f.domain.scale(-1.7, y))), space.add(part(x), space.scale(-1.7, part(y))))
    together, apart = f(f.domain.add(x, y)), space.add(f(x), f(y))
    assert float((together - apart).abs().max()) > 0.1
    close(space.add(together, zero(f, x)), apart)  # off by one f(0)


def test_combinations_whose_weights_sum_to_one_are_kept(f: Linearizer) -> None:
    elements, weights = [normal(3, *IN, seed=seed) for seed in range(3)], (0.5, 1.4, -0.9)

    def combined(space_add: Callable[[Tensor, Tensor], Tensor], parts: list[Tensor]) -> Tensor:
        return space_add(space_add(parts[0], parts[1]), parts[2])

    inside = combined(f.domain.add, [f.domain.scale(w, x) for w, x in zip(weights, elements, strict=True)])
    outside = combined(f.codomain.add, [f.codomain.scale(w, f(x)) for w, x in zip(weights, elements, strict=True)])
    close(f(inside), outside)
    close(f(f.domain.lerp(elements[0], elements[1], 0.3)), f.codomain.lerp(f(elements[0]), f(elements[1]), 0.3))


def test_an_adjoint_is_of_the_linear_part(f: Linearizer) -> None:
    x, y = normal(3, *IN, seed=4), f(normal(3, *IN, seed=5))
    with pytest.raises(InputValueError, match="an affine map with an offset has no adjoint"):
        f.adjoint()
    part = f.linear()
    close(f.codomain.inner(part(x), y), f.domain.inner(x, part.adjoint()(y)))


def test_pinv(f: Linearizer) -> None:
    """f f⁺ f = f, f⁺ f f⁺ = f⁺, and what is left of y after f f⁺ is orthogonal to the range of the linear part."""
    x, y = normal(3, *IN, seed=4), normal(3, *f.g_y.in_shape, seed=5)  # type: ignore[misc]
    p = f.pinv()
    close(f(p(f(x))), f(x), atol=1e-7)
    close(p(f(p(y))), p(y), atol=1e-7)
    left = f.codomain.sub(y, f(p(y)))
    close(f.codomain.inner(left, f.linear()(x)), torch.zeros(3, dtype=torch.float64), atol=1e-7)
    close(f.domain.inner(p(y), f.null_projection()(x)), torch.zeros(3, dtype=torch.float64), atol=1e-7)


def test_projections(f: Linearizer) -> None:
    x, y = normal(3, *IN, seed=4), normal(3, *f.g_y.in_shape, seed=5)  # type: ignore[misc]
    close(f.row_projection()(x), f.pinv()(f(x)), atol=1e-7)
    close(f.range_projection()(y), f(f.pinv()(y)), atol=1e-7)
    close(f.range_projection()(f(x)), f(x), atol=1e-7)
    close(f(f.null_projection()(x)), zero(f, x), atol=1e-7)
    close(f.domain.add(f.row_projection()(x), f.null_projection()(x)), x, atol=1e-7)


def test_singular_elements_are_those_of_the_linear_part(f: Linearizer) -> None:
    found = f.svd(2)
    moved = f.codomain.sub(f(found.right), zero(f, found.right))
    close(moved, f.codomain.scale(found.values, found.left), atol=1e-7)
    close(f.codomain.norm(found.left), torch.ones(2, dtype=torch.float64))


def test_eigen_elements_are_those_of_the_linear_part(flows: Flows) -> None:
    f = Linearizer(flows(IN, 1), AffineOperator(OPERATORS["projection"], normal(16, seed=3)))
    found = f.eig(2)
    close(f.domain.sub(f(found.elements), zero(f, found.elements)), f.domain.scale(found.values, found.elements))


@pytest.mark.parametrize("name", SQUARE)
def test_powers_and_the_flow(name: str, flows: Flows) -> None:
    f = endomorphism(flows, name)
    x = normal(3, *IN, seed=4)
    close(f.power(3)(x), f(f(f(x))))
    close(f.power(0)(x), x)
    if name != "projection":
        close(f.power(-1)(f(x)), x, atol=1e-7)
    close(f.exp(0.3)(f.exp(0.9)(x)), f.exp(1.2)(x))
    h = 1e-5  # ẋ = f(x) in the induced space
    ahead, behind = (f.domain.encode(f.exp(0.5 + step)(x)) for step in (h, -h))
    close((ahead - behind) / (2 * h), f.domain.encode(f(f.exp(0.5)(x))), atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("name", SQUARE)
def test_compose_add_and_scale_with_affine_and_linear_ones(name: str, flows: Flows) -> None:
    f = endomorphism(flows, name)
    line = Linearizer(f.g_x, OPERATORS["square"])
    x = normal(3, *IN, seed=4)
    for first, then in ((f, f), (f, line), (line, f)):
        close(then.compose(first)(x), then(first(x)))
        close(first.add(then)(x), f.domain.add(first(x), then(x)))
    close(f.scale(-2.0)(x), f.domain.scale(-2.0, f(x)))


def test_about_its_fixed_point_it_is_linear(flows: Flows) -> None:
    """f(p ⊕ u) = p ⊕ L(u), and powers of a contraction come to p."""
    f = Linearizer(flows(IN, 1), AffineOperator(OPERATORS["low rank"].scale(0.5), normal(16, seed=3)))
    assert isinstance(f.operator, AffineOperator)
    u = normal(3, *IN, seed=4)
    p = f.domain.decode(f.operator.fixed_point()[None]).expand_as(u)
    close(f(p), p)
    close(f(f.domain.add(p, u)), f.domain.add(p, f.linear()(u)))
    assert float(f.operator.singular_values()[0]) < 0.9
    close(f.power(300)(u), p)


@pytest.mark.parametrize(
    "build",
    [low_rank, identity_plus_low_rank, projection, lambda dim, rank: dense(dim), lambda dim, rank: diagonal(dim)],
)
def test_gradients_reach_the_offset_and_the_linear_part(build: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    f = Linearizer(coupling((16,), depth=1, width=8), affine(build(16, 3))).double()
    x, target = normal(32, 16), normal(32, 16, seed=1) + 2
    f.initialise(x)
    start = {name: value.clone() for name, value in f.named_parameters()}
    optimiser = torch.optim.Adam(f.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        loss = (f(x) - target).square().mean() + 0.1 * f.power(2)(x).square().mean()
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in f.core.parameters())
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    moved = {name for name, value in f.named_parameters() if not torch.equal(value, start[name])}
    assert "core.offset" in moved
    assert any(name.startswith("core.linear.") for name in moved)


def test_a_learned_affine_map_finds_the_least_squares_one() -> None:
    torch.manual_seed(0)
    matrix, b, z = normal(3, 5, seed=1), normal(3, seed=2), normal(200, 5)
    f = affine(dense(5, out_dim=3)).double()
    optimiser = torch.optim.LBFGS(f.parameters(), max_iter=100, tolerance_grad=1e-12, tolerance_change=1e-15)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = (f(z) - z @ matrix.T - b).square().mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    held = f.operator()
    close(held.linear.to_dense().detach(), matrix, atol=1e-6)
    close(held.offset.detach(), b, atol=1e-6)


def test_it_starts_at_the_latents_mean_and_their_directions_about_it() -> None:
    """A low rank starts as the projection of principal components about the mean, by numpy's SVD of what is centred."""
    z = normal(400, 6) * torch.tensor([3.0, 2.0, 0.1, 0.1, 0.1, 0.1]).double() + 5.0
    f = affine(low_rank(6, 2)).double()
    f.initialise(z)
    mean = z.mean(0)
    directions = torch.linalg.svd(z - mean, full_matrices=False).Vh[:2]
    with torch.no_grad():
        close(f(z), mean + (z - mean) @ directions.T @ directions)
    wide = affine(dense(6, out_dim=4)).double()
    wide.initialise(z)
    close(wide.offset.detach(), torch.zeros(4, dtype=torch.float64))


def test_a_fixed_linear_part_is_not_trained() -> None:
    f = affine(OPERATORS["square"], offset=normal(16))
    assert [name for name, _ in f.named_parameters()] == ["offset"]
    assert [name for name, _ in f.named_buffers()] == ["linear.matrix"]
    close(f(normal(2, 16, seed=1)).detach(), normal(2, 16, seed=1) @ OPERATORS["square"].to_dense().T + normal(16))
    assert f.float()(torch.ones(1, 16)).dtype == torch.float32


def test_what_is_no_linear_operator_is_refused() -> None:
    with pytest.raises(TypeError, match=r"linear must be a LinearOperator or learn one, got the affine AffineOperator"):
        affine(affine(dense(3)))
    with pytest.raises(TypeError, match=r"linear must be a LinearOperator or learn one"):
        affine(AffineOperator(DenseOperator(eye(3)), normal(3)))  # type: ignore[arg-type]
    with pytest.raises(InputValueError, match=r"the offset of DenseOperator\(3 → 3\) must be \(3,\), got \(4,\)"):
        affine(dense(3), offset=torch.zeros(4))
    with pytest.raises(ValueError, match=r"AffineOperator\(3 → 3\) has 3 dimensions where g_x has 4"):
        Linearizer(identity((4,)), AffineOperator(DenseOperator(eye(3)), normal(3)))


def test_a_fixed_affine_core_goes_with_the_module() -> None:
    factors = Factors(normal(4, 2), normal(4, 2, seed=1))
    core = AffineOperator(ScaledIdentityPlusLowRank(0.5, normal(2, 2), factors), normal(4, seed=3))
    f = Linearizer(coupling((4,), depth=1, width=4).double(), core)
    assert f.operator is core
    names = {"core.linear_core", "core.linear_factors_u", "core.linear_factors_v", "core.offset"}
    assert names == {name for name in f.state_dict() if name.startswith("core.")}
    assert not any(name.startswith("core") for name, _ in f.named_parameters())
    again = copy.deepcopy(f)
    x = normal(3, 4, seed=5)
    close(again(x), f(x))
    assert again.operator is not core
    again.core.get_buffer("offset").add_(1.0)
    close(f.codomain.sub(again(x), f(x)), f.codomain.decode(torch.ones(3, 4, dtype=torch.float64)))
    single = f.float().operator
    assert isinstance(single, AffineOperator)
    assert single.offset.dtype == single.linear.like.dtype == torch.float32
    frame = torch.linalg.qr(normal(4, 2))[0]
    shared = FixedOperator(AffineOperator(OrthogonalProjection.of(frame), normal(4))).float().operator()
    assert isinstance(shared, AffineOperator)
    assert isinstance(shared.linear, OrthogonalProjection)
    assert shared.linear.factors.u is shared.linear.factors.v


def test_a_fixed_affine_convolution_follows_the_modules_dtype() -> None:
    single = ConvolutionalOperator.from_kernel(normal(1, 1, 3, 3).float(), 4, 4)
    f = Linearizer(identity((1, 4, 4)), AffineOperator(single, normal(16).float())).double()
    x = normal(2, 1, 4, 4)
    expected = x.flatten(1) @ single.to_dense().double().T + normal(16)
    torch.testing.assert_close(f(x).flatten(1), expected, rtol=1e-6, atol=1e-6)
    close(copy.deepcopy(f)(x), f(x))


def test_a_learned_one_is_copied_and_its_weights_are_loaded() -> None:
    torch.manual_seed(0)
    f, other = (Linearizer(coupling((4,), depth=1, width=4), affine(low_rank(4, 2))) for _ in "ab")
    with torch.no_grad():
        for p in f.parameters():
            p += 0.1 * torch.randn_like(p)
    x = torch.randn(3, 4)
    copied = copy.deepcopy(f)
    other.load_state_dict(f.state_dict())
    assert torch.equal(copied(x), f(x))
    assert torch.equal(other(x), f(x))
    assert {"core.offset", "core.linear.u", "core.linear.v"} <= set(f.state_dict())
    with torch.no_grad():
        inverse = copied.pinv()
    assert torch.equal(copy.deepcopy(inverse)(x), inverse(x))


def build_linearizer(rank: int) -> Linearizer:
    return Linearizer(coupling((4,), depth=1, width=4), affine(low_rank(4, rank)))


def test_a_checkpoint_of_one(tmp_path: Path) -> None:
    f = build_linearizer(2)
    with torch.no_grad():
        f.core.get_parameter("offset").add_(1.0)
    save(tmp_path, f, {"rank": 2})
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(load(tmp_path, build_linearizer)(x), f(x))


def test_they_show_themselves_in_a_line() -> None:
    g = coupling((1, 8, 8), depth=4, width=8)
    assert repr(Linearizer(g, affine(low_rank(64, 16)))) == (
        "Linearizer(g_x=Chain(13 layers, 1×8×8 → 64), A=LearnedAffine(64 → 64, rank 16))"
    )
    assert repr(Linearizer(g, affine(low_rank(64, 16))).pinv()) == (
        "Linearizer(g_x=Chain(13 layers, 1×8×8 → 64), A=AffineOperator(64 → 64, rank 16))"
    )
    assert isinstance(affine(diagonal(2)), LearnedAffine)


def test_an_injective_linearizer_takes_one() -> None:
    g = InjectiveDense(3, 8).double()
    f = InjectiveLinearizer(g, AffineOperator(DenseOperator(eye(8)), torch.zeros(8, dtype=torch.float64)))
    x = normal(4, 3)
    close(f(x), x)
    moved = InjectiveLinearizer(g, AffineOperator(DenseOperator(eye(8)), normal(8)))
    close(moved.latent(x), g(x) + normal(8))


def test_styles_may_be_affine_and_mix(randomise: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    styles = {"a": affine(dense(16), offset=normal(16).float()), "b": dense(16)}
    model = StyleTransfer(coupling(IN, depth=1, width=8), styles, IN).double()
    randomise(model)
    x = normal(3, *IN)
    space = model.transfer("a").codomain
    mixed = space.add(space.scale(0.3, model(x, "a")), space.scale(0.7, model(x, "b")))
    close(model.mix({"a": 0.3, "b": 0.7})(x), mixed)


def test_the_likelihood_of_an_affine_generator_is_the_normal_density(
    diffusion: Callable[..., LinearDiffusion],
) -> None:
    """With g = identity x = A x0 + b is N(b, A Aᵀ)."""
    model = diffusion(flow="identity", event=(1, 2, 2), randomised=False)
    matrix, b, x = normal(4, 4), normal(4, seed=1), normal(5, 1, 2, 2, seed=2)
    with torch.no_grad():
        found = model.log_likelihood(x, AffineOperator(DenseOperator(matrix), b))
        shown = model.generator(AffineOperator(DiagonalOperator(torch.ones(4).double()), b))(x)
    close(found, torch.distributions.MultivariateNormal(b, matrix @ matrix.T).log_prob(x.flatten(1)))
    close(shown.flatten(1), x.flatten(1) + b)
    assert math.isfinite(float(found.sum()))
