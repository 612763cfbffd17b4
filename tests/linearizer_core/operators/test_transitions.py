"""Operators of one time step: fitted to known motions, their inverses, and powers that are not whole."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.linalg import fractional_matrix_power
from torch import Tensor

from linearizer_core.errors import InputValueError
from linearizer_core.flows import Chain, Flatten, Identity
from linearizer_core.linearizer import Linearizer
from linearizer_core.operators import (
    AffineOperator,
    DenseOperator,
    Factors,
    LearnedRotation,
    LearnedTransition,
    LowRankOperator,
    dynamic_modes,
)
from linearizer_core.operators.transitions import rotations

close = partial(torch.testing.assert_close, rtol=0, atol=1e-9)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(*angles: float, dim: int, seed: int = 0) -> Tensor:
    """A rotation by given angles in random orthogonal planes."""
    frame = torch.linalg.qr(normal(dim, dim, seed=seed))[0]
    return frame @ rotations(torch.tensor(angles, dtype=torch.float64), dim) @ frame.T


def angles_of(matrix: Tensor) -> list[float]:
    return sorted(float(each) for each in torch.linalg.eigvals(matrix).angle() if each > 1e-9)


def test_a_known_system_is_recovered_from_noisy_rows() -> None:
    known = [0.2, 0.7, 1.9, 2.8]
    a, z = rotation(*known, dim=9), normal(20_000, 9, seed=1)
    after = z @ a.T + 0.01 * normal(20_000, 9, seed=2)
    for learned in (LearnedRotation(9).double(), LearnedTransition(9).double()):
        learned.fit(z, after)
        found = learned.operator().to_dense().detach()
        assert angles_of(found) == pytest.approx(known, abs=1e-3)
        assert float((found - a).abs().max()) < 1e-3


def test_dynamic_modes_are_least_squares() -> None:
    x, y = normal(200, 6), normal(200, 6, seed=1)
    expected = np.linalg.lstsq(x.numpy(), y.numpy(), rcond=None)[0].T
    np.testing.assert_allclose(dynamic_modes(x, y).to_dense().numpy(), expected, atol=1e-10)
    assert dynamic_modes(x.float(), y.float()).to_dense().dtype == torch.float32


def test_modes_of_few_dimensions_are_least_squares_in_the_leading_ones() -> None:
    x = normal(200, 6) * torch.tensor([5.0, 4.0, 3.0, 0.1, 0.1, 0.1]).double()
    y = x @ rotation(0.4, 0.9, 1.4, dim=6).T
    found = dynamic_modes(x, y, 3)
    axes = np.linalg.svd(x.numpy(), full_matrices=False)[2][:3].T
    core = np.linalg.lstsq(x.numpy() @ axes, y.numpy() @ axes, rcond=None)[0].T
    np.testing.assert_allclose(found.to_dense().numpy(), axes @ core @ axes.T, atol=1e-10)
    assert found.rank() == 3


@pytest.mark.parametrize("rank", [0, 1, 4, 5])
def test_a_rotation_is_orthogonal_in_its_span_whatever_its_parameters(rank: int) -> None:
    learned = LearnedRotation(6, rank).double().requires_grad_(False)
    for i, parameter in enumerate(learned.parameters()):
        parameter += normal(*parameter.shape, seed=i)
    a = learned.operator()
    size = rank or 6
    close(a.singular_values(), torch.tensor([1.0] * size + [0.0] * (6 - size)).double())
    close(learned.inverse().to_dense(), a.pinv().to_dense())
    close(learned.inverse().to_dense(), a.to_dense().T)


def test_angles_of_a_half_turn_and_what_stays_are_found() -> None:
    """A rotation with the eigenvalues 1, 1, -1 and -1, besides one by 1.2."""
    a, z = rotation(1.2, math.pi, 0.0, dim=6), normal(50, 6, seed=1)
    learned = LearnedRotation(6).double()
    learned.fit(z, z @ a.T)
    close(learned.operator().to_dense().detach(), a)
    assert sorted(learned.angles.detach().abs().tolist()) == pytest.approx([0.0, 1.2, math.pi])


def test_a_rotation_in_few_dimensions_finds_those_with_the_largest_variance() -> None:
    z = normal(5000, 6)
    z[:, 4:] *= 0.1
    turn = torch.block_diag(rotation(0.3, 0.8, dim=4), rotation(2.0, dim=2))
    learned = LearnedRotation(6, 4).double()
    learned.fit(z, z @ turn.T)
    assert sorted(learned.angles.detach().abs().tolist()) == pytest.approx([0.3, 0.8], abs=0.02)


def test_a_transition_stays_invertible_where_nothing_varies() -> None:
    z = normal(100, 6)
    z[:, 3:] = 0.0
    turn = torch.block_diag(rotation(0.5, dim=3), torch.eye(3).double())
    learned = LearnedTransition(6).double()
    learned.fit(z, z @ turn.T)
    assert float((learned.operator().to_dense().detach() - turn).abs().max()) < 1e-3
    close((learned.inverse() @ learned.operator()).to_dense().detach(), torch.eye(6).double())


@pytest.mark.parametrize("rank", [0, 3])
def test_a_transition_has_its_pseudo_inverse(rank: int) -> None:
    learned = LearnedTransition(6, rank).double().requires_grad_(False)
    for i, parameter in enumerate(learned.parameters()):
        parameter += 0.3 * normal(*parameter.shape, seed=i)
    close(learned.inverse().to_dense(), learned.operator().pinv().to_dense())


# Powers that are not whole


@pytest.mark.parametrize("t", [0.5, 1.7, -0.3, 3.0])
def test_principal_powers_are_scipys(t: float) -> None:
    matrix = rotation(0.4, 1.3, dim=5) @ torch.diag(torch.tensor([0.5, 0.9, 1.0, 1.2, 2.0]).double())
    found = DenseOperator(matrix).principal_power(t).to_dense()
    np.testing.assert_allclose(found.numpy(), fractional_matrix_power(matrix.numpy(), t).real, atol=1e-10)


def test_powers_of_a_rotation_turn_by_a_part_of_its_angles() -> None:
    a = DenseOperator(rotation(0.6, 2.4, dim=4))
    close(a.principal_power(0.5).to_dense(), rotation(0.3, 1.2, dim=4))
    halves = a.principal_power(0.25) @ a.principal_power(0.75)
    close(halves.to_dense(), a.to_dense())


def test_a_negative_eigenvalue_keeps_its_real_part() -> None:
    a = DenseOperator(torch.diag(torch.tensor([-4.0, 9.0]).double()))
    close(a.principal_power(0.5).to_dense(), torch.diag(torch.tensor([0.0, 3.0]).double()))
    close(a.principal_power(1.0).to_dense(), a.to_dense())


def test_low_rank_has_its_powers_in_its_span() -> None:
    frame = torch.linalg.qr(normal(8, 3))[0]
    core = rotation(0.7, dim=3) * 1.1
    a = LowRankOperator(core, Factors(frame, frame))
    root = a.principal_power(0.5)
    assert isinstance(root, LowRankOperator)
    close((root @ root).to_dense(), a.to_dense())
    close(root.to_dense(), DenseOperator(a.to_dense()).principal_power(0.5).to_dense())
    # Also with other factors on both sides.
    skew = LowRankOperator(core, Factors(frame, frame + 0.1 * normal(8, 3, seed=1)))
    close(skew.principal_power(0.5).power(2).to_dense(), skew.to_dense())


def test_a_linearizer_has_powers_in_between() -> None:
    f = Linearizer(Chain([Flatten((1, 2, 2)), Identity()]), DenseOperator(rotation(0.6, 2.4, dim=4)))
    x = normal(3, 1, 2, 2)
    close(f.principal_power(0.5)(f.principal_power(0.5)(x)), f(x))
    close(f.principal_power(-1)(f(x)), x)
    affine = Linearizer(f.g_x, AffineOperator(f.operator, normal(4)))
    with pytest.raises(ValueError, match="an affine core has no principal power"):
        affine.principal_power(0.5)


@pytest.mark.parametrize(
    ("matrix", "t", "said"),
    [
        ([[1.0, 1.0], [0.0, 1.0]], 0.5, "does not have a full set of eigenvectors"),
        ([[1.0, 0.0], [0.0, 0.0]], -0.5, "a singular operator has no negative power, got t = -0.5"),
    ],
)
def test_powers_that_do_not_exist(matrix: list[list[float]], t: float, said: str) -> None:
    with pytest.raises(InputValueError, match=said):
        DenseOperator(torch.tensor(matrix)).principal_power(t)


def test_what_is_refused() -> None:
    with pytest.raises(InputValueError, match=r"rank must be between 0 \(all\) and the dimension 4, got 5"):
        LearnedRotation(4, 5)
    with pytest.raises(InputValueError, match=r"rank must be between 0 \(all\) and the dimension 4, got -1"):
        LearnedTransition(4, -1)
    with pytest.raises(InputValueError, match=r"equally many rows, got \(3, 2\) and \(2, 2\)"):
        dynamic_modes(torch.ones(3, 2), torch.ones(2, 2))
    with pytest.raises(InputValueError, match=r"between 0 .* and the dimension 2, got 3"):
        dynamic_modes(torch.ones(3, 2), torch.ones(3, 2), 3)
