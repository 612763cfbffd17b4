"""Every linear operator against the dense matrix that it stands for, by torch.linalg and numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from torch import Tensor

from linearizer_core.operators import (
    DenseOperator,
    DiagonalOperator,
    Factors,
    LinearOperator,
    LowRankOperator,
    OrthogonalProjection,
    ScaledIdentityPlusLowRank,
)
from linearizer_core.operators.factored import complement_of

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


def rectangular(out_dim: int, in_dim: int, r: int, s: int) -> tuple[LinearOperator, Tensor]:
    u, core, v = normal(out_dim, r, seed=1), normal(r, s, seed=2), normal(in_dim, s, seed=3)
    return LowRankOperator(core, Factors(u, v)), u @ core @ v.T


def diagonal(*values: float) -> tuple[LinearOperator, Tensor]:
    tensor = torch.tensor(values, dtype=torch.float64)
    return DiagonalOperator(tensor), torch.diag(tensor)


def projection(rank: int) -> tuple[LinearOperator, Tensor]:
    frame, _ = torch.linalg.qr(normal(DIM, rank, seed=5))
    return OrthogonalProjection.of(frame), frame @ frame.T


def symmetric() -> tuple[LinearOperator, Tensor]:
    core = normal(2, 2, seed=2)
    return scaled_identity(0.4, f := normal(DIM, 2, seed=1), core + core.T, f)


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
    "symmetric": symmetric,
    "low rank, no identity": lambda: rectangular(DIM, DIM, 2, 3),
    "low rank, full": lambda: rectangular(DIM, DIM, DIM, DIM),
    "low rank, wider than the space": lambda: rectangular(DIM, DIM, DIM + 2, DIM + 1),
    "low rank tall": lambda: rectangular(DIM, 4, 2, 2),
    "low rank wide": lambda: rectangular(4, DIM, 3, 2),
    "diagonal": lambda: diagonal(0.5, -2.0, 1.0, 1.0, 3.0, -0.1, 0.2),
    "diagonal, singular": lambda: diagonal(0.5, -2.0, 0.0, 1.0, 0.0, -0.1, 0.2),
    "projection": lambda: projection(3),
    "projection on everything": lambda: projection(DIM),
    "stacked": lambda: composed(0.8),
    "stacked, alpha 0": lambda: composed(0.0),
}
SQUARE = [name for name in CASES if not name.endswith(("tall", "wide"))]
square = pytest.mark.parametrize("name", SQUARE)


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


def test_pinv_of_the_pinv(case: tuple[LinearOperator, Tensor]) -> None:
    operator, matrix = case
    again = operator.pinv(rcond=1e-12).pinv(rcond=1e-12).to_dense()
    close(again, matrix, atol=1e-6 * max(1.0, float(operator.pinv(rcond=1e-12).singular_values()[0])))


def test_projections(case: tuple[LinearOperator, Tensor]) -> None:
    """Onto the row space A⁺A, the range A A⁺ and the null space I - A⁺A, by numpy's pseudo-inverse."""
    operator, matrix = case
    p = torch.from_numpy(np.linalg.pinv(matrix.numpy(), rcond=1e-12))
    close(operator.row_projection().to_dense(), p @ matrix, atol=1e-8)
    close(operator.range_projection().to_dense(), matrix @ p, atol=1e-8)
    null = operator.null_projection().to_dense()
    close(null, torch.eye(matrix.shape[1], dtype=torch.float64) - p @ matrix, atol=1e-8)
    close(matrix @ null, torch.zeros_like(matrix), atol=1e-8)
    close(null @ null, null, atol=1e-8)


@pytest.mark.parametrize("k", [1, 3, None])
def test_svd(case: tuple[LinearOperator, Tensor], k: int | None) -> None:
    operator, matrix = case
    found = operator.svd(k)
    count = min(matrix.shape) if k is None else k
    identity = torch.eye(count, dtype=torch.float64)
    assert (found.u.shape, found.v.shape) == ((matrix.shape[0], count), (matrix.shape[1], count))
    close(found.s, torch.linalg.svdvals(matrix)[:count])
    close(found.u.T @ found.u, identity)
    close(found.v.T @ found.v, identity)
    close(matrix @ found.v, found.u * found.s)
    close(matrix.T @ found.u, found.v * found.s)
    if k is None:
        close(found.u * found.s @ found.v.T, matrix)


@pytest.mark.parametrize("k", [0, 99])
def test_svd_count_out_of_range(case: tuple[LinearOperator, Tensor], k: int) -> None:
    with pytest.raises(ValueError, match=rf"k must be between 1 and \d .* got {k}"):
        case[0].svd(k)


def test_lstsq(case: tuple[LinearOperator, Tensor]) -> None:
    operator, matrix = case
    y = normal(5, matrix.shape[0], seed=9)
    expected = np.linalg.lstsq(matrix.numpy(), y.T.numpy(), rcond=1e-12)[0].T
    largest = max(1.0, float(np.abs(expected).max()))
    close(operator.lstsq(y) / largest, torch.from_numpy(expected) / largest)


@square
def test_solve(name: str) -> None:
    operator, matrix = CASES[name]()
    y = normal(5, DIM, seed=9)
    if np.linalg.matrix_rank(matrix.numpy()) < DIM:
        with pytest.raises(ValueError, match=r"the operator is singular \(rank \d of 7\); use lstsq"):
            operator.solve(y)
        return
    expected = torch.linalg.solve(matrix, y.T).T
    largest = max(1.0, float(expected.abs().max()))
    close(operator.solve(y) / largest, expected / largest)


@square
def test_trace_and_logdet(name: str) -> None:
    operator, matrix = CASES[name]()
    close(operator.trace(), matrix.trace())
    if np.linalg.matrix_rank(matrix.numpy()) < DIM:
        assert float(operator.logdet()) < -25
    else:
        close(operator.logdet(), torch.linalg.slogdet(matrix).logabsdet)


@square
@pytest.mark.parametrize("n", [0, 1, 2, 3, 6])
def test_power(name: str, n: int) -> None:
    operator, matrix = CASES[name]()
    expected = torch.linalg.matrix_power(matrix, n)
    close(
        operator.power(n).to_dense() / expected.abs().max().clamp_min(1), expected / expected.abs().max().clamp_min(1)
    )


@square
def test_negative_power(name: str) -> None:
    operator, matrix = CASES[name]()
    if np.linalg.matrix_rank(matrix.numpy()) < DIM:
        with pytest.raises(ValueError, match=r"singular operator has no negative power, got n = -2 at rank \d of 7"):
            operator.power(-2)
        return
    expected = torch.linalg.matrix_power(torch.linalg.inv(matrix), 2)
    close(operator.power(-2).to_dense() / expected.abs().max(), expected / expected.abs().max(), atol=1e-8)


@square
def test_exp(name: str) -> None:
    operator, matrix = CASES[name]()
    scale = float(torch.linalg.matrix_norm(matrix, 2).clamp_min(1))
    for t in (1.0 / scale, -0.7 / scale):
        close(operator.exp(t).to_dense(), torch.from_numpy(expm(t * matrix.numpy())))
    s, t = 0.3 / scale, 0.9 / scale
    close(operator.exp(s).compose(operator.exp(t)).to_dense(), operator.exp(s + t).to_dense())
    close(operator.exp(0.0).to_dense(), torch.eye(DIM, dtype=torch.float64))


@square
@pytest.mark.parametrize("k", [1, 2, None])
def test_eig(name: str, k: int | None) -> None:
    operator, matrix = CASES[name]()
    found = operator.eig(k)
    count = DIM if k is None else k
    expected = np.linalg.eigvals(matrix.numpy())
    magnitudes = np.sort(np.abs(expected))[::-1][:count]
    np.testing.assert_allclose(found.values.abs().numpy(), magnitudes, atol=1e-7)
    assert found.vectors.shape == (DIM, count)
    close(found.vectors.norm(dim=0), torch.ones(count, dtype=torch.float64))
    close(matrix.to(found.vectors.dtype) @ found.vectors, found.vectors * found.values, atol=1e-7)
    if not np.iscomplex(expected).any():
        assert not found.values.is_complex()
    if torch.equal(matrix, matrix.T):
        close(found.vectors.T @ found.vectors, torch.eye(count, dtype=torch.float64))
    if count == DIM:
        assert np.linalg.matrix_rank(found.vectors.numpy(), tol=1e-7) == DIM


def test_a_defective_operator_has_too_few_eigenvectors() -> None:
    jordan = torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    with pytest.raises(ValueError, match="the operator does not have 2 independent eigenvectors"):
        DenseOperator(jordan).eig()
    close(DenseOperator(jordan).eig(1).values, torch.ones(1, dtype=torch.float64))


def test_a_rotation_has_complex_eigenvalues() -> None:
    rotation = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.5]], dtype=torch.float64)
    for operator in (
        DenseOperator(rotation),
        scaled_identity(0.0, torch.eye(3).double(), rotation, torch.eye(3).double())[0],
    ):
        found = operator.eig()
        assert found.values.is_complex()
        np.testing.assert_allclose(sorted(found.values.imag.numpy()), [-1, 0, 1], atol=1e-12)
        close(rotation.to(found.vectors.dtype) @ found.vectors, found.vectors * found.values)


@pytest.mark.parametrize("use", ["shift", "power", "exp", "eig", "solve", "trace", "logdet"])
@pytest.mark.parametrize("name", ["dense tall", "low rank tall"])
def test_square_only(name: str, use: str) -> None:
    operator, arguments = CASES[name]()[0], {"shift": [1.0], "power": [2], "solve": [normal(1, DIM)]}.get(use, [])
    with pytest.raises(ValueError, match=r"only a square operator can be .* this one is \(7, 4\)"):
        getattr(operator, use)(*arguments)


@pytest.mark.parametrize("n", [2, 3])
def test_structure_is_kept_by_algebra(n: int) -> None:
    a, _ = CASES["low rank"]()
    b, _ = CASES["low rank, no identity"]()
    c, _ = CASES["diagonal"]()
    d, _ = CASES["projection"]()
    e, _ = CASES["dense"]()
    kept: list[tuple[LinearOperator, type[LinearOperator]]] = [
        (a.power(n), ScaledIdentityPlusLowRank),
        (a.exp(), ScaledIdentityPlusLowRank),
        (a.pinv(), ScaledIdentityPlusLowRank),
        (a.adjoint(), ScaledIdentityPlusLowRank),
        (a.compose(b), LowRankOperator),
        (b.compose(a), LowRankOperator),
        (a.add(b), ScaledIdentityPlusLowRank),
        (b.add(a), ScaledIdentityPlusLowRank),
        (b.power(n), LowRankOperator),
        (b.exp(), ScaledIdentityPlusLowRank),
        (b.shift(0.5), ScaledIdentityPlusLowRank),
        (b.compose(e), LowRankOperator),
        (e.compose(b), LowRankOperator),
        (c.compose(b), LowRankOperator),
        (b.row_projection(), OrthogonalProjection),
        (b.null_projection(), ScaledIdentityPlusLowRank),
        (c.power(n), DiagonalOperator),
        (c.exp(), DiagonalOperator),
        (c.add(c), DiagonalOperator),
        (c.pinv(), DiagonalOperator),
        (c.null_projection(), DiagonalOperator),
        (d.power(n), OrthogonalProjection),
        (d.pinv(), OrthogonalProjection),
        (d.adjoint(), OrthogonalProjection),
        (d.exp(), ScaledIdentityPlusLowRank),
        (a.compose(e), DenseOperator),
        (a.add(c), DenseOperator),
    ]
    for i, (operator, kind) in enumerate(kept):
        assert type(operator) is kind, i


def test_powers_and_exponentials_stay_on_their_factors() -> None:
    a, _ = CASES["low rank"]()
    assert isinstance(a, ScaledIdentityPlusLowRank)
    for operator in (a.power(5), a.exp(0.3), a.power(2).add(a).compose(a)):
        assert isinstance(operator, ScaledIdentityPlusLowRank)
        assert operator.factors.shared_with(a.factors)


@pytest.mark.parametrize("combine", ["compose", "add"])
@pytest.mark.parametrize("name", ["low rank", "low rank, no identity"])
def test_factors_as_wide_as_the_space_become_a_matrix(name: str, combine: str) -> None:
    a, matrix_a = CASES[name]()
    b, matrix_b = CASES["alpha 0, spans all" if combine == "compose" else "low rank, full"]()
    combined = getattr(a, combine)(b)
    close(combined.to_dense(), matrix_a @ matrix_b if combine == "compose" else matrix_a + matrix_b)
    if name == "low rank" or combine == "add":
        assert isinstance(combined, DenseOperator)


def test_projection_onto_dependent_vectors() -> None:
    vectors = normal(DIM, 2) @ normal(2, 4, seed=1)
    found = OrthogonalProjection.onto(vectors)
    assert found.rank() == 2
    expected = vectors @ torch.linalg.pinv(vectors)
    close(found.to_dense(), expected)
    close(found.complement().to_dense(), torch.eye(DIM, dtype=torch.float64) - expected)
    close(found.compose(found).to_dense(), expected)


@pytest.mark.parametrize(("dim", "q", "count"), [(7, 3, 2), (7, 3, 4), (5, 0, 5), (40, 30, 10), (3, 3, 0)])
def test_complement(dim: int, q: int, count: int) -> None:
    basis = torch.linalg.qr(normal(dim, q))[0] if q else normal(dim, 0)
    found = torch.cat([basis, complement_of(basis, count)], 1)
    close(found.T @ found, torch.eye(q + count, dtype=torch.float64), atol=1e-13)


@square
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
    found = operator.svd()
    close(found.u * found.s @ found.v.T, matrix)
    close(operator.trace(), matrix.trace())
    largest = torch.linalg.matrix_exp(matrix / (1 + matrix.norm()))
    close(operator.exp(1 / (1 + float(matrix.norm()))).to_dense(), largest)
    close(operator.compose(operator).to_dense(), matrix @ matrix)
    close(operator.compose(operator.adjoint()).to_dense(), matrix @ matrix.T)


@pytest.fixture
def every_warning() -> Iterator[None]:
    """Torch warns of some things once a process otherwise."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


@pytest.mark.usefixtures("every_warning")
@pytest.mark.parametrize("name", ["dense", "low rank", "low rank, no identity", "diagonal", "symmetric"])
def test_operators_that_carry_gradients_answer_without_complaint(name: str) -> None:
    """The algebra of learned operators: numbers come out plain, tensors with their gradients."""
    operator, _ = CASES[name]()
    leaf = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    learned = {
        DenseOperator: lambda o: DenseOperator(leaf * o.matrix),
        DiagonalOperator: lambda o: DiagonalOperator(leaf * o.values),
        LowRankOperator: lambda o: LowRankOperator(leaf * o.core, o.factors),
        ScaledIdentityPlusLowRank: lambda o: ScaledIdentityPlusLowRank(o.alpha, leaf * o.core, o.factors),
    }[type(operator)](operator)
    assert learned.rank() == operator.rank()
    assert learned.condition() == pytest.approx(operator.condition(), rel=1e-6, abs=1e30)
    close(learned.eig(2).values.detach().abs(), operator.eig(2).values.abs())
    learned.pinv().apply(normal(3, DIM)).sum().backward()
    assert leaf.grad is not None
    assert torch.isfinite(leaf.grad)
    close(learned.null_projection().to_dense().detach(), operator.null_projection().to_dense(), atol=1e-8)
    assert learned.exp(0.1).to_dense().requires_grad


def finite_difference(function: Callable[[Tensor], Tensor], at: Tensor, direction: Tensor) -> float:
    h = 1e-6
    return float((function(at + h * direction) - function(at - h * direction)) / (2 * h))


def along(function: Callable[[Tensor], Tensor], at: Tensor, direction: Tensor) -> float:
    leaf = at.clone().requires_grad_()
    function(leaf).backward()
    assert leaf.grad is not None
    return float((leaf.grad * direction).sum())


FRAME, OTHER = (torch.linalg.qr(normal(DIM, 3, seed=seed))[0] for seed in (1, 2))
WEIGHTS = normal(5, DIM, seed=6)
DIFFERENTIABLE: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "pinv of the identity": (lambda m: (DenseOperator(m).pinv().apply(WEIGHTS) ** 2).sum(), torch.eye(DIM).double()),
    "pinv on frames": (
        lambda c: (LowRankOperator(c, Factors(FRAME, OTHER)).pinv().apply(WEIGHTS) ** 2).sum(),
        torch.eye(3).double(),
    ),
    "pinv, α and frames": (
        lambda c: (ScaledIdentityPlusLowRank(0.5, c, Factors(FRAME, OTHER)).pinv().apply(WEIGHTS) ** 2).sum(),
        torch.eye(3).double(),
    ),
    "projection onto a frame": (lambda v: (OrthogonalProjection.onto(v).apply(WEIGHTS) ** 2).sum(), FRAME),
    "logdet where U and V span the same": (
        lambda u: ScaledIdentityPlusLowRank(0.1, torch.eye(3).double(), Factors(u, u.clone())).logdet(),
        FRAME,
    ),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_where_singular_values_are_repeated(name: str) -> None:
    function, at = DIFFERENTIABLE[name]
    direction = normal(*at.shape, seed=8)
    assert along(function, at, direction) == pytest.approx(finite_difference(function, at, direction), rel=1e-6)


def test_nothing_stale_is_kept_of_an_operator_with_gradients() -> None:
    u = FRAME.clone().requires_grad_()
    operator = ScaledIdentityPlusLowRank(0.5, torch.eye(3).double(), Factors(u, OTHER))
    with torch.no_grad():
        operator.rank()
        operator.trace()
    for _ in range(2):
        u.grad = None
        (operator.logdet() + operator.trace() + operator.singular_values().sum()).backward()
        assert u.grad is not None
        assert float(u.grad.abs().sum()) > 0
    plain = ScaledIdentityPlusLowRank(0.5, torch.eye(3).double(), Factors(FRAME, OTHER))
    assert plain.factors.gram is plain.factors.gram


@pytest.mark.parametrize(("dim", "r", "seed"), [(1, 7, 1), *((3, 5, seed) for seed in range(8)), (12, 4, 3)])
def test_eig_with_factors_that_are_dependent(dim: int, r: int, seed: int) -> None:
    u = normal(dim, 2, seed=seed) @ normal(2, r, seed=seed + 20)
    operator, matrix = scaled_identity(2.0, u, normal(r, r, seed=seed + 40), normal(dim, r, seed=seed + 60))
    found = operator.eig()
    expected = np.sort(np.abs(np.linalg.eigvals(matrix.numpy())))
    np.testing.assert_allclose(np.sort(found.values.abs().numpy()), expected, atol=1e-7)
    close(matrix.to(found.vectors.dtype) @ found.vectors, found.vectors * found.values, atol=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_products_that_are_symmetric_but_for_rounding_have_orthonormal_eigenvectors(seed: int) -> None:
    a = DenseOperator(normal(8, 40, seed=seed))
    q, _ = torch.linalg.qr(normal(6, 6, seed=seed))
    repeated = DenseOperator(q * torch.tensor([3.0, 2, 2, 2, 1, 1]).double()).compose(DenseOperator(q.T))
    _, core = (normal(3, 3, seed=seed), torch.diag(torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64)))
    power = ScaledIdentityPlusLowRank(0.5, core, Factors(FRAME, FRAME)).power(3)
    for operator, k in ((a.adjoint().compose(a), 10), (repeated, 6), (power, 4)):
        found = operator.eig(k)
        assert not found.values.is_complex()
        close(found.vectors.T @ found.vectors, torch.eye(k, dtype=torch.float64))


def test_exponential_of_a_strong_decay_that_the_core_undoes() -> None:
    """α = -1000 along with UCVᵀ = 1000 P: the exponential is P but for what underflows."""
    operator = ScaledIdentityPlusLowRank(-1000.0, 1000 * torch.eye(3).double(), Factors(FRAME, FRAME))
    close(operator.exp().to_dense(), FRAME @ FRAME.T)


def test_a_small_exact_alpha_is_no_rounding() -> None:
    dim = 12_288
    frame = torch.linalg.qr(torch.randn(dim, 4, generator=torch.Generator().manual_seed(0)))[0]
    operator = ScaledIdentityPlusLowRank(1e-3, torch.diag(torch.tensor([1.0, 0.7, 0.4, 0.2])), Factors(frame, frame))
    assert operator.rank() == dim
    z = torch.randn(3, dim, generator=torch.Generator().manual_seed(1))
    for back in (operator.solve(operator.apply(z)), operator.pinv().apply(operator.apply(z))):
        assert float((back - z).norm() / z.norm()) < 1e-4


def test_rank_zero() -> None:
    nothing = LowRankOperator(
        torch.zeros(0, 0).double(), Factors(torch.zeros(5, 0).double(), torch.zeros(5, 0).double())
    )
    zero = torch.zeros(5, 5, dtype=torch.float64)
    for operator in (nothing, nothing.pinv(), nothing.row_projection(), nothing.row_projection().scale(2.0).pinv()):
        close(operator.to_dense(), zero)
        assert operator.rank() == 0
    close(nothing.null_projection().to_dense(), torch.eye(5, dtype=torch.float64))
    close(OrthogonalProjection.onto(torch.zeros(5, 2).double()).to_dense(), zero)
    close(nothing.eig().values, torch.zeros(5, dtype=torch.float64))
