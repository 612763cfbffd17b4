"""Every linear operator against the dense matrix that it stands for, by torch.linalg and numpy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from linearizer_core.operators import DenseOperator, Factors, LinearOperator, ScaledIdentityPlusLowRank

DIM = 7
close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scaled_identity(alpha: float, u: Tensor, core: Tensor, v: Tensor) -> tuple[LinearOperator, Tensor]:
    """The operator, and the matrix that it is."""
    matrix = alpha * torch.eye(len(u), dtype=torch.float64) + u @ core @ v.T
    return ScaledIdentityPlusLowRank(alpha, core, Factors(u, v)), matrix


def dense(matrix: Tensor) -> tuple[LinearOperator, Tensor]:
    return DenseOperator(matrix), matrix.clone()


def projection_complement() -> tuple[LinearOperator, Tensor]:
    """I - QQᵀ: rank-deficient although its α is 1."""
    frame, _ = torch.linalg.qr(normal(DIM, 2))
    return scaled_identity(1.0, frame, -torch.eye(2, dtype=torch.float64), frame)


def composed(alpha: float) -> tuple[LinearOperator, Tensor]:
    """A product on factors that are not shared, so the core is of stacked blocks."""
    a, matrix_a = scaled_identity(alpha, normal(DIM, 2, seed=1), normal(2, 2, seed=2), normal(DIM, 2, seed=3))
    b, matrix_b = scaled_identity(0.5, normal(DIM, 1, seed=4), normal(1, 1, seed=5), normal(DIM, 1, seed=6))
    return a.compose(b), matrix_a @ matrix_b


def low_rank(alpha: float, r: int, s: int) -> tuple[LinearOperator, Tensor]:
    return scaled_identity(alpha, normal(DIM, r, seed=1), normal(r, s, seed=2), normal(DIM, s, seed=3))


def spans_all() -> tuple[LinearOperator, Tensor]:
    """A small α that hardly matters: the low-rank part is regular by itself."""
    values = torch.linspace(1, 2, DIM, dtype=torch.float64)
    u, v = (torch.linalg.qr(normal(DIM, DIM, seed=seed))[0] for seed in (1, 2))
    return scaled_identity(1e-9, u, torch.diag(values), v)


CASES: dict[str, Callable[[], tuple[LinearOperator, Tensor]]] = {
    "dense": lambda: dense(normal(DIM, DIM)),
    "dense tall": lambda: dense(normal(DIM, 4)),
    "dense wide": lambda: dense(normal(4, DIM)),
    "dense rank 3": lambda: dense(normal(DIM, 3, seed=1) @ normal(3, DIM, seed=2)),
    "dense zero": lambda: dense(torch.zeros(DIM, DIM, dtype=torch.float64)),
    "low rank": lambda: low_rank(0.7, 2, 2),
    "negative alpha": lambda: low_rank(-0.5, 2, 2),
    "alpha 0": lambda: low_rank(0.0, 2, 2),
    "alpha 0, spans all": lambda: low_rank(0.0, 5, 5),
    "rectangular core": lambda: low_rank(0.3, 3, 1),
    "wider than the space": lambda: low_rank(0.3, DIM, DIM),
    "small alpha": lambda: low_rank(1e-4, 2, 2),
    "small alpha, spans all": spans_all,
    "shared u and v": lambda: scaled_identity(0.4, f := normal(DIM, 2, seed=1), normal(2, 2, seed=2), f),
    "deficient core": lambda: scaled_identity(
        0.0, normal(DIM, 3, seed=1), normal(3, 1, seed=2) @ normal(1, 3, seed=3), normal(DIM, 3, seed=4)
    ),
    "projection complement": projection_complement,
    "zero": lambda: scaled_identity(0.0, normal(DIM, 2), 0 * normal(2, 2), normal(DIM, 2)),
    "stacked": lambda: composed(0.8),
    "stacked, alpha 0": lambda: composed(0.0),
}
SQUARE = [name for name in CASES if name not in ("dense tall", "dense wide")]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[LinearOperator, Tensor]:
    return CASES[request.param]()


def penrose_errors(a: LinearOperator, matrix: Tensor, pinv: LinearOperator) -> list[float]:
    """The largest entry of the residual of each of the four identities, relative to what is compared."""
    p = pinv.to_dense()
    pairs = [
        (matrix @ p @ matrix, matrix),
        (p @ matrix @ p, p),
        ((matrix @ p).T, matrix @ p),
        ((p @ matrix).T, p @ matrix),
    ]
    assert pinv.shape == (a.shape[1], a.shape[0])
    return [float((left - right).abs().max() / right.abs().max().clamp_min(1)) for left, right in pairs]


def test_apply_is_the_matrix_product(case: tuple[LinearOperator, Tensor]) -> None:
    operator, matrix = case
    z = normal(5, matrix.shape[1], seed=9)
    assert operator.shape == tuple(matrix.shape)
    close(operator.apply(z), z @ matrix.T)
    close(operator.to_dense(), matrix)


def test_adjoint(case: tuple[LinearOperator, Tensor]) -> None:
    operator, matrix = case
    x, y = normal(5, matrix.shape[1], seed=8), normal(5, matrix.shape[0], seed=9)
    close(operator.adjoint().to_dense(), matrix.T)
    close((operator.apply(x) * y).sum(1), (x * operator.adjoint().apply(y)).sum(1))


def test_scale(case: tuple[LinearOperator, Tensor]) -> None:
    operator, matrix = case
    close(operator.scale(-2.5).to_dense(), -2.5 * matrix)


def test_singular_values_are_all_of_them_descending(case: tuple[LinearOperator, Tensor]) -> None:
    operator, matrix = case
    close(operator.singular_values(), torch.linalg.svdvals(matrix))


def test_rank(case: tuple[LinearOperator, Tensor]) -> None:
    operator, matrix = case
    assert operator.rank() == np.linalg.matrix_rank(matrix.numpy())


def test_condition(case: tuple[LinearOperator, Tensor]) -> None:
    operator, matrix = case
    values = np.linalg.svd(matrix.numpy(), compute_uv=False)
    if values[-1] > 1e-12 * values[0]:
        assert operator.condition() == pytest.approx(values[0] / values[-1], rel=1e-6)
    else:
        assert operator.condition() > 1e12


def test_pinv_satisfies_the_penrose_identities(case: tuple[LinearOperator, Tensor]) -> None:
    operator, matrix = case
    assert max(penrose_errors(operator, matrix, operator.pinv())) < 1e-9


def test_pinv_is_applied_like_its_matrix(case: tuple[LinearOperator, Tensor]) -> None:
    operator, matrix = case
    y = normal(5, matrix.shape[0], seed=9)
    expected = y @ torch.linalg.pinv(matrix).T
    largest = max(1.0, expected.abs().max().item())
    close(operator.pinv().apply(y) / largest, expected / largest)


@pytest.mark.parametrize("name", SQUARE)
def test_shift(name: str) -> None:
    operator, matrix = CASES[name]()
    expected = matrix - 0.3 * torch.eye(DIM, dtype=torch.float64)
    close(operator.shift(-0.3).to_dense(), expected)


@pytest.mark.parametrize(("left", "right"), list(product(CASES, CASES)))
def test_compose_and_add(left: str, right: str) -> None:
    a, matrix_a = CASES[left]()
    b, matrix_b = CASES[right]()
    if matrix_a.shape[1] == matrix_b.shape[0]:
        close(a.compose(b).to_dense(), matrix_a @ matrix_b)
        close((a @ b).to_dense(), matrix_a @ matrix_b)
    else:
        with pytest.raises(ValueError, match=r"cannot compose operators of shapes .* inner dimensions differ"):
            a.compose(b)
    if matrix_a.shape == matrix_b.shape:
        close(a.add(b).to_dense(), matrix_a + matrix_b)
    else:
        with pytest.raises(ValueError, match="cannot add operators of shapes"):
            a.add(b)


def test_a_rectangular_operator_has_no_shift() -> None:
    with pytest.raises(ValueError, match=r"only a square operator can be shifted .* this one is \(7, 4\)"):
        CASES["dense tall"]()[0].shift(1.0)


def on_shared_factors(cores: Tensor, alphas: list[float]) -> list[ScaledIdentityPlusLowRank]:
    u, v = normal(DIM, 2, seed=1), normal(DIM, 2, seed=3)
    return [ScaledIdentityPlusLowRank(alpha, core, Factors(u, v)) for alpha, core in zip(alphas, cores, strict=True)]


def test_products_on_shared_factors_stay_narrow() -> None:
    alphas = [0.9, -0.4, 0.0, 1.3, 0.7]
    operators = on_shared_factors(normal(5, 2, 2, seed=7), alphas)
    matrix = torch.eye(DIM, dtype=torch.float64)
    total: LinearOperator = operators[0].scale(0.0).shift(1.0)
    for operator in operators:
        total = operator.compose(total).add(operator)
        matrix = operator.to_dense() @ matrix + operator.to_dense()
    assert isinstance(total, ScaledIdentityPlusLowRank)
    assert total.core.shape == (2, 2)
    close(total.to_dense(), matrix)


def test_alphas_multiply_and_add() -> None:
    a, b = on_shared_factors(normal(2, 2, 2), [0.9, -0.4])
    assert (product_ := a.compose(b)).shape == (DIM, DIM)
    assert isinstance(product_, ScaledIdentityPlusLowRank)
    assert product_.alpha == pytest.approx(-0.36)
    sum_ = a.add(b)
    assert isinstance(sum_, ScaledIdentityPlusLowRank)
    assert sum_.alpha == pytest.approx(0.5)


@pytest.mark.parametrize("combine", ["compose", "add"])
def test_factors_that_are_not_shared_are_stacked(combine: str) -> None:
    a, _ = CASES["low rank"]()
    b, _ = CASES["rectangular core"]()
    combined = getattr(a, combine)(b)
    assert isinstance(combined, ScaledIdentityPlusLowRank)
    assert combined.core.shape == (2 + 3, 2 + 1)


@pytest.mark.parametrize("structured", [False, True])
def test_rcond_drops_small_singular_values(structured: bool) -> None:
    values = torch.tensor([4.0, 1.0, 1e-3], dtype=torch.float64)
    frame = torch.linalg.qr(normal(DIM, 3))[0]
    operator: LinearOperator = DenseOperator(frame * values @ frame.T)
    if structured:
        operator = ScaledIdentityPlusLowRank(0.0, torch.diag(values), Factors(frame, frame))
    assert (operator.rank(), operator.rank(rcond=1e-2), operator.rank(rcond=0.5)) == (3, 2, 1)
    expected = frame[:, :2] / values[:2] @ frame[:, :2].T
    close(operator.pinv(rcond=1e-2).to_dense(), expected)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    dim=st.integers(1, 9),
    r=st.integers(1, 6),
    s=st.integers(1, 6),
    alpha=st.sampled_from([0.0, 1.0, -2.0, 0.01]),
    core_rank=st.integers(0, 6),
    seed=st.integers(0, 1000),
)
def test_any_shape_and_rank(dim: int, r: int, s: int, alpha: float, core_rank: int, seed: int) -> None:
    core = normal(r, core_rank, seed=seed + 1) @ normal(core_rank, s, seed=seed + 2)
    operator, matrix = scaled_identity(alpha, normal(dim, r, seed=seed + 3), core, normal(dim, s, seed=seed + 4))
    assert max(penrose_errors(operator, matrix, operator.pinv(rcond=1e-10))) < 1e-6
    close(operator.singular_values(), torch.linalg.svdvals(matrix))
    close(operator.compose(operator).to_dense(), matrix @ matrix)
    close(operator.compose(operator.adjoint()).to_dense(), matrix @ matrix.T)
