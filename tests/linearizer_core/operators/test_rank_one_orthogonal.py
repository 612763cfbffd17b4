"""Orthogonal matrices under pairs of reflections: against their matrices, a closed-form gradient, and many merges."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from linearizer_core.operators.base import DenseOperator, LinearOperator
from linearizer_core.operators.diagonals import DiagonalOperator
from linearizer_core.operators.rank_one_orthogonal import OrthogonalP4, ReflectedOrthogonal

close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def eye(dim: int) -> Tensor:
    return torch.eye(dim, dtype=torch.float64)


def build(dim: int, seed: int = 0) -> tuple[ReflectedOrthogonal, Tensor]:
    """An operator, and the matrix that it is."""
    matrix, _ = torch.linalg.qr(normal(dim, dim, seed=seed))
    u, v = normal(dim, seed=seed + 1), normal(dim, seed=seed + 2)
    reflections = [eye(dim) - 2 * torch.outer(w, w) / (w @ w) for w in (u, v)]
    return ReflectedOrthogonal(matrix, u, v), matrix @ reflections[0] @ reflections[1]


def same(operator: LinearOperator, matrix: Tensor) -> None:
    assert isinstance(operator, ReflectedOrthogonal)
    assert operator.shape == matrix.shape
    z = normal(3, len(matrix), seed=9)
    close(operator.to_dense(), matrix)
    close(operator.apply(z), z @ matrix.T)
    close(operator.solve(operator.apply(z)), z)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(1, 9), st.integers(0, 20))
def test_against_the_matrix(dim: int, seed: int) -> None:
    a, a_matrix = build(dim, 3 * seed)
    b, b_matrix = build(dim, 3 * seed + 100)
    same(a, a_matrix)
    for transpose in (a.adjoint(), a.inverse(), a.pinv()):
        same(transpose, a_matrix.T)
    same(a @ b, a_matrix @ b_matrix)
    same(a.power(-3), torch.linalg.matrix_power(a_matrix.T, 3))
    assert a.logdet() == 0
    close(a.singular_values(), torch.linalg.svdvals(a_matrix))
    assert (a.rank(), a.condition()) == (dim, 1.0)
    found = a.svd((dim + 1) // 2)
    close(found.u.T @ found.u, eye(len(found.s)))
    close(found.v.T @ found.v, eye(len(found.s)))
    close(found.u * found.s, a_matrix @ found.v)
    for projection in (a.row_projection(), a.range_projection()):
        assert isinstance(projection, DiagonalOperator)
        assert torch.equal(projection.to_dense(), eye(dim))
    assert not a.null_projection().to_dense().any()


def test_what_leaves_the_structure() -> None:
    a, matrix = build(5)
    assert isinstance(a.scale(-0.5), DenseOperator)
    close(a.scale(-0.5).to_dense(), -0.5 * matrix)
    close((a @ DenseOperator(matrix)).to_dense(), matrix @ matrix)
    close(a.shift(1.0).to_dense(), matrix + eye(5))
    close(a.trace(), matrix.trace())
    with pytest.raises(ValueError, match="between 1 and 5"):
        a.svd(6)


def test_the_gradient_where_the_reflections_cancel() -> None:
    """Of <G, W> at u = v: twice (M - Mᵀ) v / ‖v‖² with M = AᵀG to u, and its negative to v."""
    torch.manual_seed(0)
    p4 = OrthogonalP4(6).double()
    assert torch.equal(p4.u, p4.v)
    close(p4.operator().to_dense(), p4.matrix)
    weights = normal(6, 6, seed=1)
    (weights * p4.operator().to_dense()).sum().backward()
    turn = p4.matrix.T @ weights
    v = p4.v.detach()
    expected = 2 * (turn - turn.T) @ v / (v @ v)
    assert expected.norm() > 0.1
    assert p4.u.grad is not None
    assert p4.v.grad is not None
    close(p4.u.grad, expected)
    close(p4.v.grad, -expected)


def test_gradients() -> None:
    a, _ = build(4)
    z = normal(3, 4, seed=5)

    def value(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        operator = ReflectedOrthogonal(a.matrix, u, v)
        return operator.apply(z), operator.inverse().apply(z)

    assert torch.autograd.gradcheck(value, (a.u.clone().requires_grad_(), a.v.clone().requires_grad_()))


def wander(p4: OrthogonalP4, merges: int) -> float:
    """Merge large random perturbations; how far from orthogonal the matrix got."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(merges):
        with torch.no_grad():
            p4.u.copy_(torch.randn(len(p4.u), generator=generator, dtype=torch.float64))
        expected = p4.operator().to_dense().detach()
        assert p4.merge(generator=generator)
        assert (p4.matrix - expected).abs().max() < 100 * torch.finfo(p4.matrix.dtype).eps
        assert torch.equal(p4.u, p4.v)
    return float((p4.matrix.T @ p4.matrix - torch.eye(len(p4.u), dtype=p4.u.dtype)).abs().max())


def test_a_thousand_merges_stay_orthogonal() -> None:
    torch.manual_seed(0)
    p4 = OrthogonalP4(16).double()
    start = p4.matrix.clone()
    assert wander(p4, 1000) < 1e-14
    assert p4.merges == 1000
    assert (p4.matrix - start).norm() > 1


def test_correction_takes_away_what_merging_gathers() -> None:
    torch.manual_seed(0)
    corrected, uncorrected = OrthogonalP4(16, correct_every=10), OrthogonalP4(16, correct_every=10**9)
    uncorrected.load_state_dict(corrected.state_dict())
    kept, lost = wander(corrected, 300), wander(uncorrected, 300)
    assert kept < 2e-6
    assert lost > 2 * kept
    uncorrected.correct()
    assert (uncorrected.matrix.T @ uncorrected.matrix - torch.eye(16)).abs().max() < 2e-6


def test_correction_squares_the_error() -> None:
    p4 = OrthogonalP4(5).double()
    p4.matrix.add_(1e-3 * normal(5, 5))
    error = p4.matrix.T @ p4.matrix - eye(5)
    u, _, vh = torch.linalg.svd(p4.matrix)
    p4.correct()
    close(p4.matrix.T @ p4.matrix - eye(5), -0.75 * error @ error, rtol=0, atol=10 * float(error.norm()) ** 3)
    p4.correct()
    close(p4.matrix, u @ vh)  # the polar factor: the nearest orthogonal matrix


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_dropped(bad: float) -> None:
    torch.manual_seed(0)
    p4 = OrthogonalP4(4).double()
    before = p4.matrix.clone()
    with torch.no_grad():
        p4.v[0] = bad
    assert not p4.merge(generator=torch.Generator().manual_seed(0))
    assert torch.equal(p4.matrix, before)
    assert torch.equal(p4.v, normal(4))
    assert torch.equal(p4.u, normal(4))
    assert p4.merges == 0


def test_a_reflection_without_a_normal_is_refused() -> None:
    p4 = OrthogonalP4(4)
    before, v = p4.matrix.clone(), p4.v.detach().clone()
    with torch.no_grad():
        p4.u.zero_()
    assert not p4.merge()
    assert torch.equal(p4.matrix, before)
    assert torch.equal(p4.v, v)


def fit(merge_every: int | None, steps: int = 400, dim: int = 5) -> list[float]:
    """Losses of fitting W to a random matrix of the same component of the orthogonal group."""
    torch.manual_seed(0)
    p4 = OrthogonalP4(dim).double()
    skew = normal(dim, dim, seed=3)
    target = p4.matrix @ torch.linalg.matrix_exp(skew - skew.T)
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(p4.parameters(), lr=0.02)
    losses = []
    for step in range(steps):
        optimiser.zero_grad()
        loss = (p4.operator().to_dense() - target).square().sum() + p4.penalty()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
        if merge_every and step % merge_every == merge_every - 1:
            p4.merge(optimiser, generator)
    close(p4.matrix.T @ p4.matrix, eye(dim))
    return losses


def test_training_with_merges_reaches_a_matrix_that_one_perturbation_cannot() -> None:
    merging, single = fit(merge_every=10), fit(merge_every=None)
    assert merging[-1] < 0.05 * merging[0]
    assert single[-1] > 0.1 * single[0]


def test_there_is_nothing_to_penalise() -> None:
    assert OrthogonalP4(3).penalty() == 0


def test_errors() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0 and 10"):
        OrthogonalP4(0)
