"""Reflections and permutations of channels, against dense matrices and by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from linearizer_core.flows.base import Invertible
from linearizer_core.flows.mixing import HouseholderMixing, Permutation


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def householder(channels: int, reflections: int | None = None, seed: int = 0) -> HouseholderMixing:
    torch.manual_seed(seed)
    return HouseholderMixing(channels, reflections).double()


def permutation(channels: int, seed: int = 0) -> Permutation:
    torch.manual_seed(seed)
    return Permutation(channels)


def product(vectors: Tensor) -> Tensor:
    """H_k ⋯ H_1, one dense reflection after the other."""
    matrix = torch.eye(vectors.shape[1], dtype=vectors.dtype)
    for v in vectors:
        matrix = matrix - 2 * torch.outer(v, v @ matrix) / v.dot(v)
    return matrix


CASES = [householder(5), householder(5, 2), householder(3, 8), permutation(5)]


@pytest.mark.parametrize("reflections", [1, 2, 7, 9])
@pytest.mark.parametrize("count", [1, 3, 50], ids="{} rows".format)
@pytest.mark.parametrize("sides", [(), (2, 3)], ids=str)
def test_it_is_the_product_of_dense_reflections(reflections: int, count: int, sides: tuple[int, ...]) -> None:
    g = householder(7, reflections)
    x = normal(count, 7, *sides)
    matrix = product(g.vectors)
    y, log_det = g(x)
    torch.testing.assert_close(y, torch.einsum("ij,bj...->bi...", matrix, x), rtol=0, atol=1e-13)
    assert torch.equal(log_det, torch.zeros(count, dtype=torch.float64))
    back, log_det = g.inverse(x)
    torch.testing.assert_close(back, torch.einsum("ij,bi...->bj...", matrix, x), rtol=0, atol=1e-13)
    assert torch.equal(log_det, torch.zeros(count, dtype=torch.float64))


def test_it_is_the_product_of_lapack() -> None:
    # LAPACK holds v_i = (0, …, 0, 1, …) with τ_i = 2 / ‖v_i‖², and multiplies H_1 ⋯ H_k.
    g = householder(6, 4)
    lower = normal(6, 4).tril(-1) + torch.eye(6, 4, dtype=torch.float64)
    with torch.no_grad():
        g.vectors.copy_(lower.T)
    expected = torch.linalg.householder_product(
        torch.cat([lower, torch.zeros(6, 2, dtype=torch.float64)], 1), 2 / lower.square().sum(0)
    )
    torch.testing.assert_close(g.inverse(torch.eye(6, dtype=torch.float64))[0].T, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_it_is_orthogonal_whatever_the_vectors(scale: float) -> None:
    g = householder(12, 40)
    with torch.no_grad():
        g.vectors.mul_(scale * normal(40, 1, seed=1).exp())
        g.vectors[1:4] = g.vectors[0]  # equal vectors among them
    matrix = g(torch.eye(12, dtype=torch.float64))[0]
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(12, dtype=torch.float64), rtol=0, atol=1e-13)
    single = g.float()(torch.eye(12))[0]
    torch.testing.assert_close(single @ single.T, torch.eye(12), rtol=0, atol=2e-6)


@pytest.mark.parametrize("channels", [4, 5])
def test_it_starts_as_a_random_reflection_of_every_direction(channels: int) -> None:
    first, second = (householder(channels, seed=seed)(torch.eye(channels, dtype=torch.float64))[0] for seed in (0, 1))
    assert float((first - second).detach().abs().max()) > 0.1
    assert float((first - torch.eye(channels, dtype=torch.float64)).detach().abs().max()) > 0.1
    torch.testing.assert_close(
        torch.linalg.det(first), torch.tensor((-1.0) ** channels, dtype=torch.float64), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("count", [1, 40])
def test_gradients(count: int) -> None:
    g = householder(4, 3)
    x = normal(count, 4)
    weight = normal(count, 4, seed=1)
    for found, matrix in ((g(x)[0], product(g.vectors)), (g.inverse(x)[0], product(g.vectors).T)):
        expected = torch.autograd.grad((weight * (x @ matrix.T)).sum(), g.vectors)[0]
        torch.testing.assert_close(torch.autograd.grad((weight * found).sum(), g.vectors)[0], expected)
        assert float(expected.abs().min()) > 1e-6

    def image(vectors: Tensor, x: Tensor) -> Tensor:
        return torch.func.functional_call(g, {"vectors": vectors}, (x,))[0]

    x = normal(2, 4).requires_grad_()
    assert torch.autograd.gradcheck(image, (g.vectors, x))
    assert torch.autograd.gradgradcheck(image, (g.vectors, x))


def test_permutation_by_hand() -> None:
    g = permutation(4)
    g.load_state_dict({"order": torch.tensor([2, 0, 3, 1])})
    x = torch.tensor([[10.0, 11.0, 12.0, 13.0]])
    y, log_det = g(x)
    assert y.tolist() == [[12, 10, 13, 11]]
    assert g.inverse(x)[0].tolist() == [[11, 13, 10, 12]]
    assert log_det.tolist() == g.inverse(x)[1].tolist() == [0]
    assert g(x[:, :, None, None])[0].flatten().tolist() == [12, 10, 13, 11]


def test_permutations_are_drawn_at_random_and_stay() -> None:
    orders = [tuple(permutation(6, seed).order.tolist()) for seed in range(5)]
    assert len(set(orders)) > 3
    assert all(sorted(order) == list(range(6)) for order in orders)
    g = permutation(6)
    x = normal(2, 6)
    assert torch.equal(g(x)[0], g(x)[0])
    assert torch.equal(g.double().order, torch.tensor(orders[0]))


@pytest.mark.parametrize("g", CASES, ids=lambda g: type(g).__name__)
@pytest.mark.parametrize("sides", [(), (2, 1)], ids=str)
def test_jacobians(g: Invertible, sides: tuple[int, ...]) -> None:
    channels = g.vectors.shape[1] if isinstance(g, HouseholderMixing) else 5
    row = normal(channels, *sides)
    for way in (g.forward, g.inverse):
        jacobian = torch.autograd.functional.jacobian(lambda v, way=way: way(v[None])[0][0], row)
        square = jacobian.reshape(row.numel(), row.numel())
        torch.testing.assert_close(
            square @ square.T, torch.eye(row.numel(), dtype=torch.float64), rtol=0, atol=1e-13
        )  # orthogonal, hence of log-determinant 0
        assert way(row[None], torch.ones(1))[1].tolist() == [0]  # and a label is no matter


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    channels=st.integers(1, 7),
    reflections=st.integers(1, 9),
    sides=st.sampled_from([(), (1, 1), (3, 2)]),
    batch=st.integers(0, 9),
    seed=st.integers(0, 1000),
)
def test_any_shape_round_trips(channels: int, reflections: int, sides: tuple[int, ...], batch: int, seed: int) -> None:
    x = normal(batch, channels, *sides, seed=seed)
    for g in (householder(channels, reflections, seed), permutation(channels, seed)):
        y, log_det = g(x)
        assert y.shape == x.shape
        assert log_det.shape == (batch,)
        torch.testing.assert_close(g.inverse(y)[0], x, rtol=0, atol=1e-13)
        torch.testing.assert_close(g(g.inverse(x)[0])[0], x, rtol=0, atol=1e-13)
        torch.testing.assert_close(y.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1))


@pytest.mark.parametrize("build", [householder, permutation])
def test_state_dict_round_trip(build: type[Invertible]) -> None:
    g, other = build(6, seed=0), build(6, seed=1)
    x = normal(3, 6)
    assert not torch.equal(other(x)[0], g(x)[0])
    other.load_state_dict(g.state_dict())
    assert torch.equal(other(x)[0], g(x)[0])
    assert torch.equal(other.inverse(x)[0], g.inverse(x)[0])


def test_no_reflection() -> None:
    with pytest.raises(ValueError, match="a product of reflections needs at least one, got 0"):
        HouseholderMixing(4, 0)
