"""The linearity metrics: zero for a Linearizer, and the exact value for planted faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from linearizer_core.flows import Identity, Invertible
from linearizer_core.linearizer import Linearizer
from linearizer_core.metrics.linearity import (
    additivity,
    additivity_induced,
    homogeneity,
    homogeneity_induced,
    idempotency,
    penrose,
    relative_error,
    roundtrip,
)
from linearizer_core.models.diffusion import LinearDiffusion
from linearizer_core.operators import DenseOperator
from linearizer_core.solvers import EULER
from linearizer_core.space import InducedSpace


@dataclass(frozen=True, eq=False)
class Bent(DenseOperator):
    """A planted non-linearity: A z + offset + bend z²."""

    offset: float = 0.0
    bend: float = 0.0

    def apply(self, z: Tensor) -> Tensor:
        return super().apply(z) + self.offset + self.bend * z.square()


def vectors(seed: int) -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


EYE = torch.eye(4, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_linearizer_is_linear_to_float_precision(
    diffusion: Callable[..., LinearDiffusion], dtype: torch.dtype
) -> None:
    model = diffusion(dtype=dtype)
    f = model.generator(model.collapse(5, EULER))
    u, v = (model.noise(8, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    bound = 1e-10 if dtype == torch.float64 else 1e-3
    assert additivity(f, u, v) < bound
    assert homogeneity(f, u) < bound
    assert homogeneity(f, u, factor=-1.5) < bound
    assert additivity_induced(f, u, v) < bound
    assert homogeneity_induced(f, u) < bound
    assert homogeneity_induced(f, u, factor=-1.5) < bound
    assert roundtrip(model.g_x, v) < bound


def test_a_planted_offset_is_found_at_its_size() -> None:
    f = Linearizer(Identity(), Bent(EYE, offset=0.1))
    u, v = vectors(1), vectors(2)
    offset = torch.full_like(u, 0.1)
    assert additivity(f, u, v) == pytest.approx(float(offset.norm() / (u + v + 0.2).norm()))
    assert homogeneity(f, u) == pytest.approx(float(0.5 * offset.norm() / (0.5 * (u + 0.1)).norm()))


def test_a_planted_square_is_found_at_its_size() -> None:
    f = Linearizer(Identity(), Bent(EYE, bend=0.2))
    u, v = vectors(1), vectors(2)
    parts = u + v + 0.2 * (u.square() + v.square())
    assert additivity(f, u, v) == pytest.approx(float((0.4 * u * v).norm() / parts.norm()))
    residual = 3 * u + 0.2 * 9 * u.square() - 3 * (u + 0.2 * u.square())
    expected = residual.norm() / (3 * (u + 0.2 * u.square())).norm()
    assert homogeneity(f, u, factor=3.0) == pytest.approx(float(expected))


def test_a_planted_non_linearity_is_found_through_a_nonlinear_g(sinh: Invertible) -> None:
    f = Linearizer(sinh, Bent(EYE, bend=0.2))
    assert additivity(f, vectors(1), vectors(2)) > 1e-2
    assert homogeneity(f, vectors(1)) > 1e-2
    straight = Linearizer(sinh, DenseOperator(EYE))
    assert additivity(straight, vectors(1), vectors(2)) < 1e-12


class Leaky(Identity):
    """A wrong inverse: off by one part in a thousand."""

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return 1.001 * y, y.new_zeros(len(y))


def test_roundtrip_of_a_wrong_inverse() -> None:
    assert roundtrip(Leaky(), vectors(1)) == pytest.approx(1e-3)
    assert roundtrip(Identity(), vectors(1)) == 0


def test_relative_error_by_hand() -> None:
    assert relative_error(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 0.0])) == pytest.approx(4 / 3)
    value, expected = torch.tensor([1.0]) + 2**-20, torch.tensor([1.0])
    assert relative_error(value, expected) == 2**-20


@dataclass(frozen=True)
class Wavy:
    """No Linearizer, but f(x) ⊕ ε ⊙ sin g_y(f(x)) of one."""

    linear: Linearizer
    eps: float

    @property
    def domain(self) -> InducedSpace:
        return self.linear.domain

    @property
    def codomain(self) -> InducedSpace:
        return self.linear.codomain

    def __call__(self, x: Tensor) -> Tensor:
        z = self.codomain.encode(self.linear(x))
        return self.codomain.decode(z + self.eps * z.sin())


MATRIX = torch.tensor(
    [[1.0, 0.5, 0.0, 0.0], [-0.5, 1.0, 0.2, 0.0], [0.0, 0.0, 0.8, 0.3], [0.1, 0.0, 0.0, -0.6]], dtype=torch.float64
)


@pytest.mark.parametrize("eps", [1e-1, 1e-3, 1e-6])
def test_a_planted_sine_is_found_at_its_size_in_the_induced_space(sinh: Invertible, eps: float) -> None:
    """Whatever g_y is, in its coordinates the residual is that of z ↦ z + ε sin z."""
    f = Wavy(Linearizer(Identity(), DenseOperator(MATRIX), sinh), eps)
    u, v = vectors(1), vectors(2)
    a, b = u @ MATRIX.T, v @ MATRIX.T
    added = eps * ((a + b).sin() - a.sin() - b.sin()).norm() / (a + b + eps * (a.sin() + b.sin())).norm()
    scaled = eps * ((-3 * a).sin() + 3 * a.sin()).norm() / (3 * (a + eps * a.sin())).norm()
    assert additivity_induced(f, u, v) == pytest.approx(float(added), rel=1e-7)
    assert homogeneity_induced(f, u, factor=-3.0) == pytest.approx(float(scaled), rel=1e-7)
    assert 0.1 * eps < added < 2 * eps
    assert 0.1 * eps < scaled < 2 * eps


def test_a_planted_sine_is_found_in_pixels(sinh: Invertible) -> None:
    """With sums and multiples of sinh's codomain, and both spaces' own coordinates."""
    f = Wavy(Linearizer(sinh, DenseOperator(EYE)), 1e-3)
    u, v = vectors(1), vectors(2)
    a, b = u.sinh(), v.sinh()
    parts = (a + b + 1e-3 * (a.sin() + b.sin())).asinh()
    added = ((a + b + 1e-3 * (a + b).sin()).asinh() - parts).norm() / parts.norm()
    half = ((a + 1e-3 * a.sin()) / 2).asinh()
    scaled = ((a / 2 + 1e-3 * (a / 2).sin()).asinh() - half).norm() / half.norm()
    assert additivity(f, u, v) == pytest.approx(float(added), rel=1e-9)
    assert homogeneity(f, u) == pytest.approx(float(scaled), rel=1e-9)


def test_half_is_the_default_factor_of_homogeneity() -> None:
    f = Linearizer(Identity(), Bent(EYE, offset=0.1))
    assert homogeneity_induced(f, vectors(1)) == homogeneity_induced(f, vectors(1), 0.5) == homogeneity(f, vectors(1))


def test_idempotency_of_projections_and_multiples(sinh: Invertible) -> None:
    f = Linearizer(sinh, DenseOperator(MATRIX[:2]), Identity())
    x = vectors(1)
    assert idempotency(f.row_projection(), x) < 1e-14
    assert idempotency(f.null_projection(), x) < 1e-14
    assert idempotency(lambda v: v.abs(), x) == 0
    assert idempotency(lambda v: 1.25 * v, x) == pytest.approx(0.25)
    # sin(x) stays where it is but for its own sine.
    assert idempotency(torch.sin, x) == pytest.approx(float((x.sin().sin() - x.sin()).norm() / x.sin().norm()))


def test_the_four_equations_hold_of_the_pseudo_inverse(sinh: Invertible) -> None:
    f = Linearizer(sinh, DenseOperator(MATRIX[:, :1] @ MATRIX[:1] + MATRIX[:, 3:] @ MATRIX[2:3]))
    found = penrose(f, f.pinv(), vectors(1), vectors(2))
    assert max(vars(found).values()) < 1e-13
    wide = Linearizer(sinh, DenseOperator(MATRIX[:3]))
    found = penrose(wide, wide.pinv(), vectors(1), vectors(2)[:5, :3])
    assert max(vars(found).values()) < 1e-13


X = torch.tensor([[3.0, 4.0], [1.0, 2.0], [0.0, 1.0]], dtype=torch.float64)
Y = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("matrix", "inverse", "expected"),
    [
        # A G A = diag(1, 0) x in place of x = (3, 4), (1, 2), (0, 1).
        ([[1, 0], [0, 1]], [[1, 0], [0, 0]], {"first": (21 / 31) ** 0.5}),
        # G A G = diag(1, 0) y in place of diag(1, 2) y of the unit vectors.
        ([[1, 0], [0, 0]], [[1, 0], [0, 2]], {"second": (4 / 5) ** 0.5}),
        # A G = (1, 3; 0, 0): 3 (y₁ z₂ - y₂ z₁) of the unit vectors, both ways.
        ([[1, 0], [0, 0]], [[1, 3], [0, 0]], {"third": 3.0}),
        # G A = (1, 0; 3, 0), whose asymmetry is -3 (x₁ z₂ - x₂ z₁): of the three pairs 2, 1 and -3, and the squared
        # norms are 25, 5 and 1.
        ([[1, 0], [0, 0]], [[1, 0], [3, 0]], {"fourth": 3 * (14 / 155) ** 0.5}),
    ],
    ids=["first", "second", "third", "fourth"],
)
@pytest.mark.parametrize("curved", ["neither", "domain", "codomain"])
def test_each_equation_fails_alone(
    matrix: list[list[float]], inverse: list[list[float]], expected: dict[str, float], curved: str, sinh: Invertible
) -> None:
    """The last two at the same size through a nonlinear g, whose inner product they are taken in."""
    g_x = sinh if curved == "domain" else Identity()
    g_y = sinh if curved == "codomain" else Identity()
    a, b = (DenseOperator(torch.tensor(rows, dtype=torch.float64)) for rows in (matrix, inverse))
    found = vars(penrose(Linearizer(g_x, a, g_y), Linearizer(g_y, b, g_x), g_x.inverse(X)[0], g_y.inverse(Y)[0]))
    in_pixels = {"domain": "second", "codomain": "first"}.get(curved)
    for name, value in found.items():
        if name == in_pixels and name in expected:
            assert 0.1 < value != pytest.approx(expected[name], rel=1e-3)
        else:
            assert value == pytest.approx(expected.get(name, 0.0), rel=1e-12, abs=1e-14)


def test_symmetry_of_a_single_vector_is_refused() -> None:
    f = Linearizer(Identity(), DenseOperator(EYE))
    for x, y in ((vectors(1)[:1], vectors(2)), (vectors(1), vectors(2)[:1])):
        with pytest.raises(ValueError, match=f"got {len(x)} of x and {len(y)} of y"):
            penrose(f, f.pinv(), x, y)


def test_nothing_carries_gradients(sinh: Invertible) -> None:
    """What is measured keeps no graph, whatever its networks learn."""
    seen: list[bool] = []

    def watched(x: Tensor) -> Tensor:
        seen.append(torch.is_grad_enabled())
        return x

    f = Linearizer(sinh, DenseOperator(EYE))
    idempotency(watched, vectors(1))
    penrose(f, watched, vectors(1), vectors(2))
    assert not any(seen)
    assert len(seen) > 3


class Stretched(Identity):
    """g(x) = 10⁴ x, with an inverse that is half of what it should be."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return 1e4 * x, x.new_zeros(len(x))

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return 0.5e-4 * y, y.new_zeros(len(y))


def test_a_wrong_inverse_is_as_wrong_where_latents_are_large() -> None:
    assert roundtrip(Stretched(), vectors(1).float()) == pytest.approx(0.5, rel=1e-5)


def test_a_small_map_that_is_not_linear_is_measured_by_its_own_size() -> None:
    class Small(Linearizer):
        def forward(self, x: Tensor) -> Tensor:
            return 1e-4 * x.abs()

    x = vectors(1).float()
    f = Small(Identity(), DenseOperator(EYE.float()))
    assert additivity(f, x, -x) == pytest.approx(1, rel=1e-5)  # 0 in place of 2|x|
    assert homogeneity(f, x, -0.5) == pytest.approx(2, rel=1e-5)
