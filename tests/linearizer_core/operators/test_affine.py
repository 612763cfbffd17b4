"""Affine maps against their homogeneous matrices, scipy's exponential, and closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import partial

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from torch import Tensor

from linearizer_core.errors import InputValueError, LinsweepError, NotFiniteError
from linearizer_core.operators import (
    P4,
    AffineOperator,
    ConvolutionalOperator,
    DenseOperator,
    DiagonalOperator,
    Factors,
    LinearOperator,
    LowRankOperator,
    OrthogonalP4,
    OrthogonalProjection,
    ScaledIdentityPlusLowRank,
)
from linearizer_core.operators.base import phi

DIM = 6
close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
eye = partial(torch.eye, dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def factors(out_dim: int = DIM, in_dim: int = DIM, r: int = 2) -> Factors:
    return Factors(normal(out_dim, r, seed=1) / 2, normal(in_dim, r, seed=2) / 2)


@torch.no_grad()
def learned(cls: type[P4] | type[OrthogonalP4]) -> LinearOperator:
    torch.manual_seed(0)
    module = cls(DIM).double()
    for parameter in module.parameters():
        parameter += 0.3 * normal(*parameter.shape, seed=3)
    return module.operator()


LINEAR: dict[str, Callable[[], LinearOperator]] = {
    "dense": lambda: DenseOperator(normal(DIM, DIM) / 2),
    "dense, rank 3": lambda: DenseOperator(normal(DIM, 3, seed=1) @ normal(3, DIM, seed=2) / 2),
    "dense tall": lambda: DenseOperator(normal(DIM, 4)),
    "dense wide": lambda: DenseOperator(normal(4, DIM)),
    "zero": lambda: DenseOperator(torch.zeros(DIM, DIM, dtype=torch.float64)),
    "diagonal": lambda: DiagonalOperator(torch.tensor([0.5, -2.0, 0.0, 1.0, 1e-9, 0.7], dtype=torch.float64)),
    "diagonal, regular": lambda: DiagonalOperator(torch.tensor([0.5, -2.0, 0.2, 1.0, 1.5, 0.7], dtype=torch.float64)),
    "low rank": lambda: LowRankOperator(normal(2, 2, seed=3), factors()),
    "low rank, rectangular core": lambda: LowRankOperator(
        normal(3, 2, seed=3), Factors(normal(DIM, 3, seed=1) / 2, normal(DIM, 2, seed=2) / 2)
    ),
    "low rank tall": lambda: LowRankOperator(normal(2, 2, seed=3), factors(DIM, 4)),
    "projection": lambda: OrthogonalProjection.onto(normal(DIM, 2)),
    "identity plus low rank": lambda: ScaledIdentityPlusLowRank(0.7, normal(2, 2, seed=3), factors()),
    "identity plus low rank, alpha 0": lambda: ScaledIdentityPlusLowRank(0.0, normal(2, 2, seed=3), factors()),
    "convolution": lambda: ConvolutionalOperator.from_kernel(normal(2, 2, 1, 3) / 2, 1, 3),
    "rank one": lambda: learned(P4),
    "orthogonal": lambda: learned(OrthogonalP4),
}
SQUARE = [name for name in LINEAR if not name.endswith(("tall", "wide"))]
square = pytest.mark.parametrize("name", SQUARE)


def affine(name: str, seed: int = 7) -> tuple[AffineOperator, Tensor, Tensor]:
    """The map, its matrix and its offset."""
    linear = LINEAR[name]()
    offset = normal(linear.shape[0], seed=seed)
    return AffineOperator(linear, offset), linear.to_dense().detach().clone(), offset.clone()


def homogeneous(matrix: Tensor, offset: Tensor, last: float = 1.0) -> Tensor:
    """[[A, b], [0, last]]."""
    found = torch.zeros(len(matrix) + 1, matrix.shape[1] + 1, dtype=torch.float64)
    found[:-1, :-1], found[:-1, -1], found[-1, -1] = matrix, offset, last
    return found


@pytest.fixture(params=LINEAR)
def case(request: pytest.FixtureRequest) -> tuple[AffineOperator, Tensor, Tensor]:
    return affine(request.param)


def test_it_is_its_matrix_and_its_offset(case: tuple[AffineOperator, Tensor, Tensor]) -> None:
    f, matrix, offset = case
    z = normal(5, matrix.shape[1], seed=9)
    assert f.shape == tuple(matrix.shape)
    assert f.like.dtype == torch.float64
    close(f.apply(z), z @ matrix.T + offset)
    close(f.to_dense(), homogeneous(matrix, offset))
    close(f.scale(-2.5).to_dense(), homogeneous(-2.5 * matrix, -2.5 * offset))


@pytest.mark.parametrize("left", LINEAR)
@pytest.mark.parametrize("right", LINEAR)
def test_composing_multiplies_homogeneous_matrices(left: str, right: str) -> None:
    (f, matrix_f, offset_f), (h, matrix_h, offset_h) = affine(left, seed=7), affine(right, seed=8)
    if f.shape[1] != h.shape[0]:
        for first, second in ((f, h), (f.linear, h), (f, h.linear)):
            with pytest.raises(ValueError, match="cannot compose operators of shapes"):
                first.compose(second)
        return
    expected = homogeneous(matrix_f, offset_f) @ homogeneous(matrix_h, offset_h)
    close(f.compose(h).to_dense(), expected)
    close((f @ h).to_dense(), expected)
    close((f.linear @ h).to_dense(), homogeneous(matrix_f, 0 * offset_f) @ homogeneous(matrix_h, offset_h))
    close((f @ h.linear).to_dense(), homogeneous(matrix_f @ matrix_h, offset_f))


@pytest.mark.parametrize("left", LINEAR)
@pytest.mark.parametrize("right", LINEAR)
def test_adding(left: str, right: str) -> None:
    (f, matrix_f, offset_f), (h, matrix_h, offset_h) = affine(left, seed=7), affine(right, seed=8)
    if f.shape != h.shape:
        for first, second in ((f, h), (f.linear, h), (f, h.linear)):
            with pytest.raises(ValueError, match="cannot add operators of shapes"):
                first.add(second)
        return
    close(f.add(h).to_dense(), homogeneous(matrix_f + matrix_h, offset_f + offset_h))
    close(f.linear.add(h).to_dense(), homogeneous(matrix_f + matrix_h, offset_h))
    close(f.add(h.linear).to_dense(), homogeneous(matrix_f + matrix_h, offset_f))


@square
def test_powers_are_those_of_the_homogeneous_matrix(name: str) -> None:
    f, matrix, offset = affine(name)
    for n in (0, 1, 2, 3, 6):
        close(f.power(n).to_dense(), torch.linalg.matrix_power(homogeneous(matrix, offset), n))
    if np.linalg.matrix_rank(matrix.numpy()) < DIM:
        with pytest.raises(InputValueError, match=r"a singular operator has no negative power, got n = -2"):
            f.power(-2)
        return
    expected = torch.linalg.matrix_power(torch.linalg.inv(homogeneous(matrix, offset)), 2)
    close(f.power(-2).to_dense(), expected, rtol=1e-7)


@square
@pytest.mark.parametrize("t", [0.0, 1.0, -0.7, 3.0])
def test_the_flow_is_scipys_exponential_of_the_augmented_matrix(name: str, t: float) -> None:
    f, matrix, offset = affine(name)
    expected = torch.from_numpy(expm(t * homogeneous(matrix, offset, last=0.0).numpy()))
    close(f.exp(t).to_dense(), expected)
    assert type(f.exp(t).linear) is type(f.linear.exp(t))


@square
def test_the_flow_solves_its_equation(name: str) -> None:
    """d/dt F_t(z) = A F_t(z) + b and F_s ∘ F_t = F_{s+t}."""
    f, _, _ = affine(name)
    z, h = normal(4, DIM, seed=9), 1e-5
    slope = (f.exp(0.5 + h).apply(z) - f.exp(0.5 - h).apply(z)) / (2 * h)
    close(slope, f.apply(f.exp(0.5).apply(z)), rtol=1e-7, atol=1e-7)
    close((f.exp(0.3) @ f.exp(0.9)).to_dense(), f.exp(1.2).to_dense())


@pytest.mark.parametrize("alpha", [-1000.0, -30.0])
def test_the_flow_of_a_strong_decay_with_a_drift(alpha: float) -> None:
    """From 0 along αI: (e^α - 1)/α b; along αI - αP, where P b is not moved, b itself."""
    frame, b = torch.linalg.qr(normal(DIM, 3))[0], normal(DIM, seed=1)
    decay = ScaledIdentityPlusLowRank(alpha, 0 * eye(3), Factors(frame, frame))
    close(AffineOperator(decay, b).exp().offset, math.expm1(alpha) / alpha * b)
    undone = ScaledIdentityPlusLowRank(alpha, -alpha * eye(3), Factors(frame, frame))
    inside = frame @ (frame.T @ b)
    close(AffineOperator(undone, b).exp().offset, inside + math.expm1(alpha) / alpha * (b - inside))


@pytest.mark.parametrize("size", [1e-200, 1e-3, 1e3, 1e200])
@square
def test_the_flow_is_linear_in_an_offset_of_any_size(name: str, size: float) -> None:
    f, _, offset = affine(name)
    found = AffineOperator(f.linear, size * offset).exp(0.8).offset
    close(found / size, f.exp(0.8).offset)


def test_phi_of_a_diagonal_keeps_its_digits_and_its_gradient() -> None:
    """φ₁(x) = 1 + x/2 + …, φ₁'(0) = 1/2, against the series in exact decimals."""
    values = [0.0, 1e-300, -1e-16, 3e-9, 1e-4, 0.4999, -0.5, 0.51, -3.0, 20.0, -700.0]

    def series(x: float, derivative: bool) -> float:
        total, power, factorial = Decimal(0), Decimal(1), Decimal(1)
        for n in range(3000):
            factorial *= n + 1  # (n + 1)!
            total += power / factorial * ((n + 1) / Decimal(n + 2) if derivative else 1)
            power *= Decimal(x)
        return float(total)

    x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    found = AffineOperator(DiagonalOperator(x), torch.ones_like(x)).exp().offset
    found.sum().backward()
    with localcontext() as context:
        context.prec = 700  # what is left of terms as large as e^700
        expected = torch.tensor([series(value, False) for value in values], dtype=torch.float64)
        slopes = torch.tensor([series(value, True) for value in values], dtype=torch.float64)
    torch.testing.assert_close(found.detach(), expected, rtol=1e-14, atol=0)
    torch.testing.assert_close(x.grad, slopes, rtol=1e-13, atol=0)


def test_the_exponential_of_no_motion_is_a_translation() -> None:
    b = normal(DIM, seed=3)
    for linear in (
        DenseOperator(torch.zeros(DIM, DIM, dtype=torch.float64)),
        DiagonalOperator(torch.zeros(DIM, dtype=torch.float64)),
        ScaledIdentityPlusLowRank(0.0, 0 * eye(2), factors()),
        ConvolutionalOperator.from_kernel(torch.zeros(2, 2, 1, 1, dtype=torch.float64), 1, 3),
    ):
        flow = AffineOperator(linear, b).exp(4.0)
        close(flow.to_dense(), homogeneous(eye(DIM), 4 * b))


def test_a_rotation_about_a_point() -> None:
    """Rotations about p compose by their angles, keep p, and are the flow of an infinitesimal one about p."""

    def rotation(angle: float) -> AffineOperator:
        c, s = math.cos(angle), math.sin(angle)
        matrix = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
        return AffineOperator(DenseOperator(matrix), p - matrix @ p)

    p = torch.tensor([3.0, -1.0], dtype=torch.float64)
    close((rotation(0.3) @ rotation(0.8)).to_dense(), rotation(1.1).to_dense())
    close(rotation(0.3).power(7).to_dense(), rotation(2.1).to_dense())
    close(rotation(0.3).power(-2).to_dense(), rotation(-0.6).to_dense())
    close(rotation(0.3).fixed_point(), p)
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    close(AffineOperator(DenseOperator(turn), -turn @ p).exp(0.3).to_dense(), rotation(0.3).to_dense())
    east = p + torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    close(rotation(math.pi / 2).apply(east), p + torch.tensor([[0.0, 1.0]], dtype=torch.float64))


@pytest.mark.parametrize("name", ["dense", "diagonal", "low rank", "identity plus low rank", "convolution"])
def test_a_contraction_comes_to_its_fixed_point(name: str) -> None:
    linear = LINEAR[name]()
    f = AffineOperator(linear.scale(0.5 / float(linear.singular_values()[0])), normal(DIM, seed=7))
    p = f.fixed_point()
    close(f.apply(p[None])[0], p)
    close(f.power(100).apply(normal(3, DIM, seed=9)), p.expand(3, DIM))
    field = AffineOperator(f.linear.shift(-1.0), f.offset)  # ż = f(z) - z rests at p
    close(field.exp(60.0).apply(normal(3, DIM, seed=9)), p.expand(3, DIM))


def test_the_fixed_point_of_least_norm() -> None:
    """Of the line of fixed points of a map that leaves the second coordinate, the one nearest to 0."""
    f = AffineOperator(DenseOperator(torch.tensor([[0.5, 1.0], [0.0, 1.0]], dtype=torch.float64)), 0 * normal(2))
    close(f.fixed_point(), torch.zeros(2, dtype=torch.float64))
    f = AffineOperator(f.linear, torch.tensor([5.0, 0.0], dtype=torch.float64))  # -z₁/2 + z₂ = -5
    close(f.fixed_point(), torch.tensor([2.0, -4.0], dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-20, 1.0, 1e30])
def test_a_map_without_a_fixed_point_says_so(dtype: torch.dtype, size: float) -> None:
    b = size * normal(DIM).to(dtype)
    shear = torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=dtype)
    frame = torch.linalg.qr(normal(DIM, 3))[0].to(dtype)
    without: list[AffineOperator] = [
        AffineOperator(DiagonalOperator(torch.ones(DIM, dtype=dtype)), b),
        AffineOperator(DenseOperator(torch.eye(DIM, dtype=dtype)), b),
        AffineOperator(DenseOperator(shear), b[:2]),
        AffineOperator(OrthogonalProjection.of(frame), frame @ b[:3]),
        AffineOperator(OrthogonalProjection.of(frame).complement(), b),
    ]
    for f in without:
        with pytest.raises(InputValueError, match="the affine map has no fixed point: A - I cannot undo its offset"):
            f.fixed_point()
    f = AffineOperator(OrthogonalProjection.of(frame), b - frame @ (frame.T @ b))
    torch.testing.assert_close(f.apply(f.fixed_point()[None])[0] / size, f.fixed_point() / size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [2, 9])
@pytest.mark.parametrize("smallest", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("missing", [0, 1])
def test_a_fixed_point_is_found_where_rounding_is_magnified(
    dtype: torch.dtype, dim: int, smallest: float, missing: int
) -> None:
    """A - I = Q diag(s) Pᵀ with singular values down to 1e-4, and one direction that it does not reach."""
    for seed in range(5):
        q, p = (torch.linalg.qr(normal(dim, dim, seed=seed + k))[0][:, : dim - missing] for k in (0, 50))
        values = torch.logspace(0, math.log10(smallest), dim - missing, dtype=torch.float64)
        offset = q @ (values * normal(dim - missing, seed=seed))
        linear = DenseOperator((eye(dim) + q * values @ p.T).to(dtype))
        point = AffineOperator(linear, offset.to(dtype)).fixed_point().double()
        expected = -p @ ((q.T @ offset) / values)
        tolerance = 200 * dim * torch.finfo(dtype).eps / smallest
        assert float((point - expected).norm()) < tolerance * float(expected.norm())
        if missing:
            left = torch.linalg.qr(torch.cat([q, normal(dim, 1)], 1))[0][:, -1]
            with pytest.raises(InputValueError, match="no fixed point"):
                AffineOperator(linear, (offset + 0.1 * offset.norm() * left).to(dtype)).fixed_point()


def test_pinv_satisfies_the_affine_penrose_identities(case: tuple[AffineOperator, Tensor, Tensor]) -> None:
    """f f⁺ f = f, f⁺ f f⁺ = f⁺, f f⁺ and f⁺ f orthogonal projections, the latter linear; by homogeneous matrices."""
    f, matrix, offset = case
    p = f.pinv()
    m, w = homogeneous(matrix, offset), p.to_dense()
    assert p.shape == (f.shape[1], f.shape[0])
    close(m @ w @ m, m, rtol=1e-8, atol=1e-8)
    close(w @ m @ w, w, rtol=1e-7, atol=1e-7)
    onto, kept = m @ w, w @ m
    for projection in (onto, kept):
        close(projection[:-1, :-1], projection[:-1, :-1].T, atol=1e-8)
        close(projection @ projection, projection, atol=1e-8)
    close(kept[:-1, -1], torch.zeros(f.shape[1], dtype=torch.float64), atol=1e-8)


def test_pinv_is_the_nearest_preimage_of_least_norm(case: tuple[AffineOperator, Tensor, Tensor]) -> None:
    f, matrix, offset = case
    y = normal(5, matrix.shape[0], seed=9)
    expected = torch.from_numpy(np.linalg.lstsq(matrix.numpy(), (y - offset).T.numpy(), rcond=1e-12)[0].T)
    for found in (f.pinv(rcond=1e-12).apply(y), f.lstsq(y, rcond=1e-12)):
        close(found, expected, rtol=1e-7)


def test_the_pinv_of_the_pinv_reaches_zero() -> None:
    """(f⁺)⁺(z) = A z + A A⁺ b, f itself where b is in the range of A."""
    f, matrix, offset = affine("dense, rank 3")
    again = f.pinv().pinv()
    close(again.linear.to_dense(), matrix)
    close(again.offset, matrix @ torch.linalg.pinv(matrix, rtol=1e-12) @ offset)
    assert float((again.offset - offset).norm()) > 0.1
    reached = AffineOperator(f.linear, matrix @ offset)
    close(reached.pinv().pinv().to_dense(), reached.to_dense())


def test_projections(case: tuple[AffineOperator, Tensor, Tensor]) -> None:
    f, matrix, offset = case
    inverse = torch.from_numpy(np.linalg.pinv(matrix.numpy(), rcond=1e-12))
    row, null, onto = f.row_projection(), f.null_projection(), f.range_projection()
    close(row.to_dense(), inverse @ matrix, atol=1e-8)
    close(null.to_dense(), eye(matrix.shape[1]) - inverse @ matrix, atol=1e-8)
    range_ = matrix @ inverse
    close(onto.to_dense(), homogeneous(range_, offset - range_ @ offset), atol=1e-8)
    z, y = normal(5, matrix.shape[1], seed=8), normal(5, matrix.shape[0], seed=9)
    close(onto.apply(f.apply(z)), f.apply(z), atol=1e-8)  # what f reaches stays
    close((y - onto.apply(y)) @ matrix, torch.zeros(5, matrix.shape[1], dtype=torch.float64), atol=1e-8)
    close(f.apply(row.apply(z)), f.apply(z), atol=1e-8)
    close(f.apply(null.apply(z)), offset.expand(5, -1), atol=1e-8)


@square
def test_solve(name: str) -> None:
    f, matrix, offset = affine(name)
    y = normal(5, DIM, seed=9)
    if np.linalg.matrix_rank(matrix.numpy()) < DIM:
        with pytest.raises(ValueError, match="singular"):
            f.solve(y)
        return
    close(f.apply(f.solve(y)), y)
    close(f.solve(y), torch.linalg.solve(matrix, (y - offset).T).T)


def test_what_is_of_the_matrix_is_that_of_the_linear_part(case: tuple[AffineOperator, Tensor, Tensor]) -> None:
    f, matrix, _ = case
    values = torch.linalg.svdvals(matrix)
    found = f.svd()
    close(found.u * found.s @ found.v.T, matrix)
    close(f.singular_values(), values)
    assert f.rank() == np.linalg.matrix_rank(matrix.numpy())
    if f.rank() == min(f.shape) and values[-1] > 1e-8:
        assert f.condition() == pytest.approx(float(values[0] / values[-1]))
    if f.shape[0] == f.shape[1]:
        close(f.trace(), matrix.trace())
        close(f.shift(0.3).to_dense(), homogeneous(matrix + 0.3 * eye(DIM), f.offset))
        if f.rank() == DIM:
            close(f.logdet(), torch.linalg.slogdet(matrix).logabsdet)
    else:
        for use in (f.trace, f.logdet, f.eig, f.exp, f.fixed_point, partial(f.power, 2), partial(f.shift, 1.0)):
            with pytest.raises(ValueError, match="only a square operator can be"):
                use()


def test_eigenvectors_are_stretched_about_the_fixed_point() -> None:
    f, _, _ = affine("identity plus low rank")
    p, found = f.fixed_point(), f.eig(1)
    x = found.vectors[:, 0].real
    close(f.apply((p + x)[None])[0], p + float(found.values.real) * x)


def test_an_adjoint_is_of_linear_maps_alone(case: tuple[AffineOperator, Tensor, Tensor]) -> None:
    f, matrix, offset = case
    with pytest.raises(InputValueError, match="an affine map with an offset has no adjoint; use that of its linear"):
        f.adjoint()
    close(AffineOperator(f.linear, 0 * offset).adjoint().to_dense(), matrix.T)


def test_combinations_whose_weights_sum_to_one_are_kept(case: tuple[AffineOperator, Tensor, Tensor]) -> None:
    f, _, offset = case
    z, weights = normal(3, f.shape[1], seed=9), torch.tensor([0.5, 1.7, -1.2], dtype=torch.float64)
    close(f.apply(weights[None] @ z), weights[None] @ f.apply(z))
    other = 2 * weights[None]
    close(f.apply(other @ z) - other @ f.apply(z), -offset[None])  # any other sum w is off by (1 - w) b


def test_structure_is_kept() -> None:
    f, _, _ = affine("identity plus low rank")
    g, _, _ = affine("diagonal")
    kept = [
        (f @ f, ScaledIdentityPlusLowRank),
        (f.power(5), ScaledIdentityPlusLowRank),
        (f.exp(), ScaledIdentityPlusLowRank),
        (f.pinv(), ScaledIdentityPlusLowRank),
        (g @ g, DiagonalOperator),
        (g.exp(), DiagonalOperator),
        (g.range_projection(), DiagonalOperator),
        (affine("projection")[0].range_projection(), OrthogonalProjection),
        (affine("convolution")[0].exp(), ConvolutionalOperator),
    ]
    assert [type(operator.linear) for operator, _ in kept] == [kind for _, kind in kept]


def test_nothing_of_the_size_of_the_matrix_is_formed() -> None:
    dim = 200_000
    low = Factors(normal(dim, 2, seed=1) / dim**0.5, normal(dim, 2, seed=2) / dim**0.5)
    f = AffineOperator(ScaledIdentityPlusLowRank(-0.5, normal(2, 2), low), normal(dim, seed=3))
    z = normal(1, dim, seed=4)
    close(f.exp(0.3).apply(f.exp(0.7).apply(z)), f.exp().apply(z))
    p = f.fixed_point()
    close(f.apply(p[None])[0], p)
    close(f.exp(-80.0).power(-1).apply(f.solve(0 * z)), f.solve(0 * z))  # where the flow rests


@pytest.mark.parametrize("name", ["dense", "dense tall", "convolution", "identity plus low rank"])
def test_it_shows_itself_as_the_others(name: str) -> None:
    f, _, _ = affine(name)
    shown = repr(f.linear).partition("(")[2]
    assert repr(f) == f"AffineOperator({shown}"


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputValueError, match=r"the offset of DenseOperator\(6 → 4\) must be \(4,\), got \(6,\)"):
        AffineOperator(LINEAR["dense wide"](), normal(6))
    with pytest.raises(InputValueError, match=r"must be \(4,\), got \(1, 4\)"):
        AffineOperator(LINEAR["dense wide"](), normal(1, 4))
    with pytest.raises(TypeError, match="linear must be a LinearOperator, got Tensor"):
        AffineOperator(normal(2, 2), normal(2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="linear must be a LinearOperator, got AffineOperator"):
        AffineOperator(affine("dense")[0], normal(6))  # type: ignore[arg-type]


def test_an_empty_batch_gives_an_empty_batch(case: tuple[AffineOperator, Tensor, Tensor]) -> None:
    f, matrix, _ = case
    assert f.apply(normal(0, matrix.shape[1])).shape == (0, matrix.shape[0])
    assert f.lstsq(normal(0, matrix.shape[0])).shape == (0, matrix.shape[1])


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("kind", ["dense", "diagonal", "low rank", "scaled"])
def test_of_no_dimension_or_one(dim: int, kind: str) -> None:
    a = torch.full((dim, dim), 0.5, dtype=torch.float64)
    linear: LinearOperator = {
        "dense": DenseOperator(a),
        "diagonal": DiagonalOperator(a.diagonal()),
        "low rank": LowRankOperator(a, Factors(torch.ones_like(a), torch.ones_like(a))),
        "scaled": ScaledIdentityPlusLowRank(0.25, a / 2, Factors(torch.ones_like(a), torch.ones_like(a))),
    }[kind]
    f = AffineOperator(linear, torch.full((dim,), 3.0, dtype=torch.float64))

    def line(slope: float, offset: float) -> Tensor:
        return homogeneous(
            torch.full((dim, dim), slope, dtype=torch.float64), torch.full((dim,), offset, dtype=torch.float64)
        )

    close(f.to_dense(), line(0.5, 3))
    close(f.power(2).to_dense(), line(0.25, 4.5))
    close(f.exp().to_dense(), line(math.exp(0.5), 6 * math.expm1(0.5)))
    close(f.pinv().to_dense(), line(2, -6))
    close(f.range_projection().to_dense(), line(1, 0))
    close(f.fixed_point(), torch.full((dim,), 6.0, dtype=torch.float64))
    assert f.rank() == dim


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["linear", "offset"])
@pytest.mark.parametrize("kind", ["dense", "diagonal"])
def test_what_is_not_finite_is_refused_or_stays_so(value: float, where: str, kind: str) -> None:
    matrix, offset = eye(3) / 2, normal(3)
    (matrix if where == "linear" else offset)[(0,) * (2 if where == "linear" else 1)] = value
    f = AffineOperator(DenseOperator(matrix) if kind == "dense" else DiagonalOperator(matrix.diagonal()), offset)
    for use in (
        lambda: f.apply(eye(3)),
        lambda: f.to_dense(),
        lambda: f.power(2).to_dense(),
        lambda: f.exp().to_dense(),
        lambda: f.pinv().to_dense(),
        lambda: f.range_projection().to_dense(),
        lambda: f.solve(eye(3)),
        lambda: f.lstsq(eye(3)),
        lambda: f.fixed_point(),
    ):
        try:
            found = use()
        except (LinsweepError, torch.linalg.LinAlgError):  # type: ignore[attr-defined]
            continue
        assert not bool(found.isfinite().all())
    if where == "offset":
        with pytest.raises(NotFiniteError, match=r"1 of .* entries are not finite"):
            f.fixed_point()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_very_small_and_very_large(dtype: torch.dtype, size: float) -> None:
    """Scaled by s, f⁺ is f⁺(y / s) and the affine range is s times as far away."""
    f, matrix, offset = affine("dense, rank 3")
    g = AffineOperator(DenseOperator((size * matrix).to(dtype)), (size * offset).to(dtype))
    y = normal(4, DIM, seed=9)
    close_ = partial(torch.testing.assert_close, rtol=1e-3 if dtype == torch.float32 else 1e-9, atol=1e-3)
    close_(g.pinv().apply((size * y).to(dtype)).double(), f.pinv().apply(y))
    close_(g.range_projection().apply((size * y).to(dtype)).double() / size, f.range_projection().apply(y))


DIFFERENTIABLE: dict[str, Callable[[AffineOperator], Tensor]] = {
    "apply": lambda f: f.apply(eye(DIM)),
    "exp": lambda f: f.exp(0.7).to_dense(),
    "power": lambda f: f.power(3).to_dense(),
    "pinv": lambda f: f.pinv(1e-6).to_dense(),
    "range": lambda f: f.range_projection(1e-6).offset,
    "fixed point": lambda f: f.fixed_point(),
}


@pytest.mark.parametrize("use", DIFFERENTIABLE)
@pytest.mark.parametrize("kind", ["dense", "diagonal", "scaled", "convolution"])
def test_gradients_flow_through_both_parts(use: str, kind: str) -> None:
    """Of the sum of squares, by autograd and by finite differences."""
    start = {
        "dense": normal(DIM, DIM) / 3,
        "diagonal": torch.tensor([0.3, -0.7, 1e-9, 0.2, 0.4, 1.4], dtype=torch.float64)
        + (0.1 if use in ("pinv", "range") else 0.0),
        "scaled": normal(2, 2, seed=3) / 2,
        "convolution": normal(2, 2, 1, 3) / 3,
    }[kind]
    build: Callable[[Tensor], LinearOperator] = {
        "dense": DenseOperator,
        "diagonal": DiagonalOperator,
        "scaled": lambda core: ScaledIdentityPlusLowRank(0.7, core, factors()),
        "convolution": lambda kernel: ConvolutionalOperator.from_kernel(kernel, 1, 3),
    }[kind]

    def loss(part: Tensor, offset: Tensor) -> Tensor:
        return DIFFERENTIABLE[use](AffineOperator(build(part), offset)).square().sum()

    parts = [start.requires_grad_(), normal(DIM, seed=5).requires_grad_()]
    assert torch.autograd.gradcheck(loss, parts, eps=1e-6, atol=1e-5, rtol=1e-5)


def test_phi_of_a_batch_of_matrices() -> None:
    matrices, b = normal(3, 4, 4), normal(3, 4, seed=1)
    expected = [
        torch.linalg.solve(m, torch.from_numpy(expm(m.numpy())) @ v - v) for m, v in zip(matrices, b, strict=True)
    ]
    close(phi(matrices, b), torch.stack(expected))
    close(phi(matrices, 0 * b), 0 * b)
