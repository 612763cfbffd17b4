"""The linearity metrics: zero for a Linearizer, and the exact value for planted faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from linearizer_core.diffusion import LinearDiffusion
from linearizer_core.flows import Identity, Invertible
from linearizer_core.linearizer import Linearizer
from linearizer_core.metrics.linearity import additivity, homogeneity, relative_error, roundtrip
from linearizer_core.operators import DenseOperator
from linearizer_core.solvers import EULER


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
    assert roundtrip(model.g_x, v) < bound


def test_a_planted_offset_is_found_at_its_size() -> None:
    f = Linearizer(Identity(), Identity(), Bent(EYE, offset=0.1))
    u, v = vectors(1), vectors(2)
    offset = torch.full_like(u, 0.1)
    assert additivity(f, u, v) == pytest.approx(float(offset.norm() / (u + v + 0.2).norm()))
    assert homogeneity(f, u) == pytest.approx(float(0.5 * offset.norm() / (0.5 * (u + 0.1)).norm()))


def test_a_planted_square_is_found_at_its_size() -> None:
    f = Linearizer(Identity(), Identity(), Bent(EYE, bend=0.2))
    u, v = vectors(1), vectors(2)
    parts = u + v + 0.2 * (u.square() + v.square())
    assert additivity(f, u, v) == pytest.approx(float((0.4 * u * v).norm() / parts.norm()))
    residual = 3 * u + 0.2 * 9 * u.square() - 3 * (u + 0.2 * u.square())
    expected = residual.norm() / (3 * (u + 0.2 * u.square())).norm()
    assert homogeneity(f, u, factor=3.0) == pytest.approx(float(expected))


def test_a_planted_non_linearity_is_found_through_a_nonlinear_g(sinh: Invertible) -> None:
    f = Linearizer(sinh, sinh, Bent(EYE, bend=0.2))
    assert additivity(f, vectors(1), vectors(2)) > 1e-2
    assert homogeneity(f, vectors(1)) > 1e-2
    straight = Linearizer(sinh, sinh, DenseOperator(EYE))
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
