"""Every operator on what is hardest for arithmetic: right against the matrix in float64, or an error; never near it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from linearizer_core.errors import LinsweepError
from linearizer_core.operators import (
    ConvolutionalOperator,
    DenseOperator,
    DiagonalOperator,
    Factors,
    LinearOperator,
    LowRankOperator,
    OrthogonalProjection,
    RankOnePerturbed,
    ReflectedOrthogonal,
    ScaledIdentityPlusLowRank,
)
from linearizer_core.operators.rank_one import dyadic_rotation

Build = Callable[[int, float, torch.dtype], LinearOperator]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def _dense(dim: int, size: float, dtype: torch.dtype) -> LinearOperator:
    return DenseOperator(size * normal(dim, dim, dtype=dtype))


def _diagonal(dim: int, size: float, dtype: torch.dtype) -> LinearOperator:
    return DiagonalOperator(size * normal(dim, dtype=dtype))


def _low_rank(dim: int, size: float, dtype: torch.dtype) -> LinearOperator:
    r = min(dim, 2)
    factors = Factors(normal(dim, r, seed=1, dtype=dtype), normal(dim, r, seed=2, dtype=dtype))
    return LowRankOperator(size * normal(r, r, seed=3, dtype=dtype), factors)


def _projection(dim: int, size: float, dtype: torch.dtype) -> LinearOperator:
    return OrthogonalProjection.onto(size * normal(dim, min(dim, 2), dtype=dtype))


def _scaled(dim: int, size: float, dtype: torch.dtype) -> LinearOperator:
    low_rank = _low_rank(dim, size, dtype)
    assert isinstance(low_rank, LowRankOperator)
    return ScaledIdentityPlusLowRank(0.5 * size, low_rank.core, low_rank.factors)


def _convolution(dim: int, size: float, dtype: torch.dtype) -> LinearOperator:
    return ConvolutionalOperator.from_kernel(size * normal(1, 1, 1, max(1, dim - 1), dtype=dtype), 1, dim)


def _rank_one(dim: int, size: float, dtype: torch.dtype) -> LinearOperator:
    eye = torch.eye(dim, dtype=dtype)
    log_det = torch.tensor(dim * math.log(size), dtype=dtype)
    u, v = normal(dim, seed=4, dtype=dtype), normal(dim, seed=5, dtype=dtype)
    return RankOnePerturbed(size * eye, eye / size, log_det, size * u, v)


def _reflected(dim: int, size: float, dtype: torch.dtype) -> LinearOperator:
    return ReflectedOrthogonal(
        torch.eye(dim, dtype=dtype), normal(dim, seed=6, dtype=dtype), normal(dim, seed=7, dtype=dtype)
    )


BUILD: dict[str, Build] = {
    "dense": _dense,
    "diagonal": _diagonal,
    "low_rank": _low_rank,
    "projection": _projection,
    "scaled": _scaled,
    "convolution": _convolution,
    "rank_one": _rank_one,
    "reflected": _reflected,
}
DECOMPOSE: dict[str, Callable[[LinearOperator], object]] = {
    "rank": lambda a: a.rank(),
    "condition": lambda a: a.condition(),
    "singular_values": lambda a: a.singular_values(),
    "svd": lambda a: a.svd(),
    "eig": lambda a: a.eig(),
    "pinv": lambda a: a.pinv().to_dense(),
    "row_projection": lambda a: a.row_projection().to_dense(),
    "range_projection": lambda a: a.range_projection().to_dense(),
    "null_projection": lambda a: a.null_projection().to_dense(),
    "solve": lambda a: a.solve(torch.ones(1, a.shape[0], dtype=a.like.dtype)),
    "lstsq": lambda a: a.lstsq(torch.ones(1, a.shape[0], dtype=a.like.dtype)),
    "logdet": lambda a: a.logdet(),
    "trace": lambda a: a.trace(),
    "exp": lambda a: a.exp().to_dense(),
    "power": lambda a: a.power(2).to_dense(),
}


@pytest.mark.parametrize("kind", BUILD)
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("dim", [1, 2, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ranks_and_inverses_at_every_size(kind: str, size: float, dim: int, dtype: torch.dtype) -> None:
    a = BUILD[kind](dim, size, dtype)
    matrix = a.to_dense().double()
    expected = int(torch.linalg.matrix_rank(matrix / matrix.abs().max(), rtol=1e-5))
    assert a.rank() == expected
    inverse = torch.linalg.pinv(matrix / matrix.abs().max(), rtol=1e-5) / matrix.abs().max()
    tolerance = 1e-3 if dtype == torch.float32 else 1e-8
    error = (a.pinv().to_dense().double() - inverse) / inverse.abs().max()
    assert float(error.abs().max()) < tolerance
    _, s, vh = torch.linalg.svd(matrix / matrix.abs().max())
    rows = vh[s > 1e-5]
    torch.testing.assert_close(a.row_projection().to_dense().double(), rows.T @ rows, rtol=0, atol=tolerance)
    null = a.null_projection()
    torch.testing.assert_close(
        null.to_dense().double(), torch.eye(dim, dtype=torch.float64) - rows.T @ rows, rtol=0, atol=tolerance
    )
    assert null.rank() == dim - expected
    assert a.row_projection().rank() == a.range_projection().rank() == expected


@pytest.mark.parametrize("kind", BUILD)
def test_an_empty_batch_gives_an_empty_batch(kind: str) -> None:
    a = BUILD[kind](4, 1.0, torch.float64)
    nothing = torch.zeros(0, 4, dtype=torch.float64)
    assert a.apply(nothing).shape == a.lstsq(nothing).shape == a.adjoint().apply(nothing).shape == (0, 4)


@pytest.mark.parametrize("kind", BUILD)
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("method", DECOMPOSE)
def test_what_is_not_finite_is_refused_or_stays_so(kind: str, value: float, method: str) -> None:
    a = BUILD[kind](4, 1.0, torch.float64)
    spoilt = {
        "dense": lambda: a.matrix,  # type: ignore[attr-defined]
        "diagonal": lambda: a.values,  # type: ignore[attr-defined]
        "low_rank": lambda: a.core,  # type: ignore[attr-defined]
        "projection": lambda: a.factors.u,  # type: ignore[attr-defined]
        "scaled": lambda: a.core,  # type: ignore[attr-defined]
        "convolution": lambda: a.spectrum,  # type: ignore[attr-defined]
        "rank_one": lambda: a.u,  # type: ignore[attr-defined]
        "reflected": lambda: a.u,  # type: ignore[attr-defined]
    }[kind]()
    spoilt[(0,) * spoilt.ndim] = value
    promised = {("projection", name) for name in ("pinv", "row_projection", "range_projection", "lstsq")}
    if (kind, method) in promised:
        return  # of a frame they are known without a look at it
    try:
        found = DECOMPOSE[method](a)
    except (LinsweepError, torch.linalg.LinAlgError):  # type: ignore[attr-defined]
        return
    values = vars(found).values() if hasattr(found, "__dataclass_fields__") else [found]
    assert not all(bool(torch.as_tensor(each).isfinite().all()) for each in values), found


@pytest.mark.parametrize("kind", ["dense", "diagonal", "low_rank", "projection", "scaled"])
@pytest.mark.parametrize("method", DECOMPOSE)
def test_of_no_dimension_everything_is_empty_or_refused(kind: str, method: str) -> None:
    nothing = torch.zeros(0, 0, dtype=torch.float64)
    a = {
        "dense": DenseOperator(nothing),
        "diagonal": DiagonalOperator(nothing[0:0].flatten()),
        "low_rank": LowRankOperator(nothing, Factors(nothing, nothing)),
        "projection": OrthogonalProjection.of(nothing),
        "scaled": ScaledIdentityPlusLowRank(1.0, nothing, Factors(nothing, nothing)),
    }[kind]
    try:
        found = DECOMPOSE[method](a)
    except LinsweepError:
        assert method == "condition"
        return
    if method in ("rank", "trace", "logdet"):
        assert found == 0
    elif isinstance(found, Tensor):
        assert not found.numel()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("n", "r"), [(8, 1), (64, 1), (64, 4), (64, 16), (400, 1)])
def test_the_complement_of_a_frame_has_the_rank_that_is_left(n: int, r: int, dtype: torch.dtype) -> None:
    for seed in range(10):
        frame = torch.linalg.qr(normal(n, r, seed=seed, dtype=dtype))[0]
        complement = OrthogonalProjection.of(frame).complement()
        assert complement.rank() == n - r
        assert float(complement.pinv().to_dense().abs().max()) < 1.01
        assert complement.null_projection().rank() == r
        assert float(complement.logdet()) == -math.inf
        with pytest.raises(ValueError, match="singular"):
            complement.solve(torch.ones(1, n, dtype=dtype))


def _frame(dim: int, r: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(normal(dim, r, seed=seed))[0]


CANCELLED: dict[str, tuple[LinearOperator, int]] = {
    "a square frame": (OrthogonalProjection.of(_frame(16, 16)).complement(), 0),
    "stacked factors": (
        LowRankOperator(torch.eye(2, dtype=torch.float64), Factors(_frame(16, 2), _frame(16, 2))).add(
            LowRankOperator(-torch.eye(2, dtype=torch.float64), Factors(1.7 * _frame(16, 2), _frame(16, 2) / 1.7))
        ),
        0,
    ),
    "complement less complement": (
        OrthogonalProjection.of(_frame(16, 3))
        .complement()
        .add(OrthogonalProjection.of(_frame(16, 3).clone()).complement().scale(-1.0)),
        0,
    ),
    "too many columns": (
        OrthogonalProjection.of(_frame(16, 9)).complement().add(
            OrthogonalProjection.of(_frame(16, 9).clone()).complement().scale(-1.0)
        ),
        0,
    ),
    "dense": (DenseOperator(_frame(16, 16) @ _frame(16, 16).T).scale(-3.0).shift(3.0), 0),
    "dense, of which nothing but a sum is left": (
        DenseOperator(_frame(16, 16) @ _frame(16, 16).T).shift(-1.0).scale(1e6).adjoint(), 0
    ),
    "diagonal": (DiagonalOperator(torch.full((16,), 0.1, dtype=torch.float64)).shift(0.2).shift(-0.3), 0),
    "diagonal, in part": (
        DiagonalOperator(torch.tensor([0.1, 1.0], dtype=torch.float64)).shift(0.2).shift(-0.3), 1
    ),
    "convolution": (
        ConvolutionalOperator.from_kernel(torch.full((1, 1, 1, 1), 0.1, dtype=torch.float64), 4, 4)
        .shift(0.2)
        .shift(-0.3),
        0,
    ),
    "alpha": (
        OrthogonalProjection.of(_frame(16, 3)).shift(0.1).shift(0.2).shift(-0.3), 3
    ),
    "rank one": (
        RankOnePerturbed(
            torch.eye(16, dtype=torch.float64),
            torch.eye(16, dtype=torch.float64),
            torch.zeros((), dtype=torch.float64),
            -_frame(16, 1)[:, 0],
            _frame(16, 1)[:, 0],
        ),
        15,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CANCELLED)
def test_what_is_left_of_terms_that_cancel_counts_as_zero(name: str) -> None:
    a, rank = CANCELLED[name]
    assert a.rank() == rank
    assert float(a.pinv().to_dense().abs().max()) < 10
    assert a.row_projection().rank() == rank
    assert a.null_projection().rank() == a.shape[1] - rank
    assert float(a.logdet()) == -math.inf
    assert a.condition() == math.inf
    with pytest.raises(ValueError, match="singular"):
        a.solve(torch.ones(1, a.shape[0], dtype=torch.float64))


def test_an_alpha_that_is_small_beside_the_core_is_no_rounding() -> None:
    frame = _frame(4096, 2)
    a = ScaledIdentityPlusLowRank(1e-13, torch.eye(2, dtype=torch.float64), Factors(frame, frame))
    assert a.rank() == 4096
    assert ScaledIdentityPlusLowRank(0.0, torch.eye(2, dtype=torch.float64), Factors(frame, frame)).rank() == 2


def test_factors_of_opposite_sizes_are_no_cancellation() -> None:
    u, v = normal(12, 2, seed=1), normal(12, 2, seed=2)
    sizes = torch.tensor([1e12, 1.0], dtype=torch.float64)
    a = LowRankOperator(torch.diag(1 / sizes), Factors(u * sizes, v))
    assert a.rank() == 2
    torch.testing.assert_close(a.pinv().to_dense(), torch.linalg.pinv(u @ v.T), rtol=1e-9, atol=1e-9)


def test_a_perturbation_whose_determinant_overflows_is_not_inverted_wrongly() -> None:
    eye, big = torch.eye(3), torch.full((3,), 1e30)
    a = RankOnePerturbed(eye, eye, torch.zeros(()), big, big)
    with pytest.raises(LinsweepError, match="not finite"):
        a.solve(torch.ones(1, 3))
    assert not a.inverse().to_dense().isfinite().all()


@pytest.mark.parametrize("seed", [0, 18])
def test_a_gaussian_matrix_plus_the_identity_has_its_determinant(seed: int) -> None:
    torch.manual_seed(seed)
    a = DenseOperator(torch.randn(784, 784)).shift(1.0)
    expected = torch.linalg.slogdet(a.to_dense().double()).logabsdet
    assert float(a.logdet()) == pytest.approx(float(expected), rel=1e-3)


def test_gaussian_factors_keep_their_rank_inverse_and_determinant() -> None:
    torch.manual_seed(0)
    n, r = 784, 392
    u, v, core = torch.randn(n, r) / 28, torch.randn(n, r) / 28, torch.randn(r, r) / r**0.5
    a = LowRankOperator(core, Factors(u, v))
    matrix = u.double() @ core.double() @ v.double().T
    values = torch.linalg.svdvals(matrix)
    assert a.rank() == int((values > n * torch.finfo(torch.float32).eps * values[0]).sum()) > 388
    image = a.apply(torch.randn(4, n))
    assert float((a.apply(a.pinv().apply(image)) - image).norm() / image.norm()) < 1e-3
    shifted = a.shift(1.0)
    assert shifted.rank() == n
    expected = torch.linalg.slogdet(matrix + torch.eye(n, dtype=torch.float64)).logabsdet
    assert float(shifted.logdet()) == pytest.approx(float(expected), abs=1e-2)


def test_three_hundred_sums_are_as_large_as_their_terms() -> None:
    one = DenseOperator(torch.eye(8))
    total: LinearOperator = one
    for _ in range(300):
        total = total.add(one)
    assert isinstance(total, DenseOperator)
    assert total.terms is not None
    assert float(total.terms) == pytest.approx(301)
    assert total.rank() == 8


def test_the_inverse_and_determinant_of_every_operator_of_a_thousand_dimensions() -> None:
    """A A⁺ A = A on its own images, and log|det A| by LAPACK in double precision, of several draws in single."""
    n = 784
    for seed in range(3):
        # The singular vectors of a dense one take a second: once.
        for kind in LARGE if seed == 0 else LARGE.keys() - {"dense"}:
            a = LARGE[kind](n, seed)
            image = a.apply(normal(2, n, seed=seed, dtype=torch.float32))
            again = a.apply(a.pinv().apply(image))
            assert float((again - image).norm() / image.norm()) < 1e-3, (kind, seed)
            found = float(a.logdet())
            if kind == "low_rank":
                assert found == -math.inf
            elif seed == 0:
                expected = torch.linalg.slogdet(a.to_dense().double()).logabsdet
                assert found == pytest.approx(float(expected), abs=2e-2, rel=1e-4), kind


def _wide_convolution(n: int, seed: int) -> LinearOperator:
    return ConvolutionalOperator.from_kernel(normal(1, 1, 3, 3, seed=seed, dtype=torch.float32), 28, n // 28)


def _rotated_rank_one(n: int, seed: int) -> LinearOperator:
    torch.manual_seed(seed)
    rotation, (u, v) = dyadic_rotation(n), normal(2, n, seed=seed, dtype=torch.float32)
    return RankOnePerturbed(rotation, rotation.T.contiguous(), torch.zeros(()), u, v)


LARGE: dict[str, Callable[[int, int], LinearOperator]] = {
    "dense": lambda n, seed: DenseOperator(normal(n, n, seed=seed, dtype=torch.float32)),
    "diagonal": lambda n, seed: DiagonalOperator(normal(n, seed=seed, dtype=torch.float32)),
    "low_rank": lambda n, seed: LowRankOperator(
        normal(16, 16, seed=seed, dtype=torch.float32),
        Factors(normal(n, 16, seed=seed + 1, dtype=torch.float32), normal(n, 16, seed=seed + 2, dtype=torch.float32)),
    ),
    "scaled": lambda n, seed: LARGE["low_rank"](n, seed).scale(1e-2).shift(0.5),
    "convolution": _wide_convolution,
    "rank_one": _rotated_rank_one,
    "reflected": lambda n, seed: ReflectedOrthogonal(
        torch.eye(n), *normal(2, n, seed=seed, dtype=torch.float32)
    ),
}  # fmt: skip


@pytest.mark.parametrize("n", [8, 784])
def test_a_perturbation_is_singular_by_its_terms_and_not_by_its_dimension(n: int) -> None:
    """δ = 1 + vᵀu of Gaussian vectors: 0.05 is well known beside terms of 784 in single precision, rounding is not."""
    eye = torch.eye(n)
    v, g, z = normal(3, n, seed=1).unbind()
    for delta in (0.05, -0.3, 2.0, 0.0):
        u = g + v * (delta - 1 - v @ g) / (v @ v)
        a = RankOnePerturbed(eye, eye, torch.zeros(()), u.float(), v.float())
        if not delta:
            assert float(a.logdet()) == -math.inf
            with pytest.raises(ValueError, match="singular"):
                a.solve(z[None].float())
            continue
        expected = torch.linalg.solve(torch.eye(n).double() + torch.outer(u.float().double(), v.float().double()), z)
        assert float((a.solve(z[None].float())[0] - expected).norm() / expected.norm()) < 1e-2
        assert float(a.logdet()) == pytest.approx(math.log(abs(delta)), abs=1e-2)


def test_reflections_have_no_size() -> None:
    """Squares of 1e30 overflow in single precision, and those of 1e-30 vanish: the reflection is the same."""
    eye, (u, v) = torch.eye(6), normal(2, 6, dtype=torch.float32)
    expected = ReflectedOrthogonal(eye, u, v).to_dense()
    assert float((expected @ expected.T - eye).abs().max()) < 1e-6
    for size in (1e-30, 1e30):
        a = ReflectedOrthogonal(eye, size * u, v / size)
        torch.testing.assert_close(a.to_dense(), expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(a.adjoint().to_dense(), expected.T, rtol=0, atol=1e-6)
        assert a.logdet() == 0


@pytest.mark.parametrize("method", DECOMPOSE)
def test_a_reflection_without_a_normal_is_refused_or_nan(method: str) -> None:
    a = ReflectedOrthogonal(torch.eye(4), torch.zeros(4), torch.ones(4))
    try:
        found = DECOMPOSE[method](a)
    except (LinsweepError, torch.linalg.LinAlgError):  # type: ignore[attr-defined]
        return
    assert isinstance(found, Tensor)
    assert not found.isfinite().any()
