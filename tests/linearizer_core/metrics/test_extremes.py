"""Every metric on what is hardest for arithmetic: the closed form, a number that is not finite, or an error."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from linearizer_core.errors import InputValueError, NotFiniteError
from linearizer_core.experiment.configuration import FlowConfig
from linearizer_core.experiment.networks import build_flow
from linearizer_core.linearizer import Linearizer
from linearizer_core.metrics.gaussianity import gaussianity
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
from linearizer_core.metrics.neighbours import neighbourhood
from linearizer_core.metrics.perceptual import gradient_ssim
from linearizer_core.metrics.quality import (
    bits_per_dimension,
    frechet_distance,
    kernel_distance,
    psnr,
    sliced_wasserstein,
)
from linearizer_core.metrics.similarity import ssim
from linearizer_core.metrics.spectrum import effective_rank, energy_rank, numerical_rank, stable_rank
from linearizer_core.operators import DiagonalOperator

Sets = Callable[[Tensor, Tensor], object]

DISTANCES: dict[str, Sets] = {
    "swd": sliced_wasserstein,
    "frechet": frechet_distance,
    "kernel": kernel_distance,
    "psnr": psnr,
    "neighbours": neighbourhood,
    "ssim": lambda a, b: ssim(a[:, None, None], b[:, None, None]).mean(),
    "gaussianity": lambda a, _: gaussianity(a),
}
SPECTRA: dict[str, Callable[[Tensor], float]] = {
    "effective": effective_rank,
    "energy": energy_rank,
    "stable": stable_rank,
    "numerical": numerical_rank,
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def numbers(found: object) -> list[float]:
    return [float(x) for x in (vars(found).values() if hasattr(found, "__dataclass_fields__") else [found])]


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_one_value_that_is_not_finite_spoils_the_number_or_is_refused(name: str, value: float) -> None:
    a, b = normal(12, 3, seed=1), normal(12, 3, seed=2)
    a[4, 1] = value
    try:
        found = numbers(DISTANCES[name](a, b))
    except NotFiniteError:
        return
    if name == "psnr":
        assert not math.isfinite(found[0])
    else:
        assert any(not math.isfinite(x) for x in found), found


@pytest.mark.parametrize("name", DISTANCES)
def test_an_empty_set_is_refused_by_name(name: str) -> None:
    if name == "ssim":
        assert ssim(torch.zeros(0, 1, 4, 4), torch.zeros(0, 1, 4, 4)).shape == (0,)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputValueError):
            DISTANCES[name](normal(0, 3), normal(0, 3))


@pytest.mark.parametrize("name", DISTANCES)
def test_sets_without_a_dimension_are_refused(name: str) -> None:
    with pytest.raises(InputValueError):
        DISTANCES[name](normal(12, 0), normal(12, 0))


@pytest.mark.parametrize("name", [name for name in DISTANCES if name != "gaussianity"])
def test_sets_of_different_dimensions_are_refused(name: str) -> None:
    with pytest.raises(InputValueError):
        DISTANCES[name](normal(12, 3), normal(12, 1))


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_distances_of_shifted_sets_at_every_size_in_one_dimension(size: float) -> None:
    """b = a + c: the sliced distance is |c|, the Fréchet distance c²."""
    a = size * normal(50, 1)
    b = a + 3 * size
    assert sliced_wasserstein(a, b) == pytest.approx(3 * size, rel=1e-12)
    assert frechet_distance(a, b) == pytest.approx(9 * size**2, rel=1e-12)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-14 * size**2)
    near = neighbourhood(a, a)
    assert (near.precision, near.recall, near.coverage) == (1, 1, 1)
    assert psnr(a, b, peak=3 * size) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("size", [2.0**-600, 2.0**-340, 1.0, 2.0**340, 2.0**600])
def test_shapes_do_not_depend_on_the_size(size: float) -> None:
    """Squares of 1e-180 are 0, and those of 1e180 infinite: every point was in every ball, and no sample was skewed."""
    a, b = normal(40, 3, seed=1), normal(40, 3, seed=2)
    assert neighbourhood(size * a, size * b) == neighbourhood(a, b)
    found, expected = gaussianity(size * a.square()), gaussianity(a.square())
    assert (found.skewness, found.kurtosis) == pytest.approx((expected.skewness, expected.kurtosis))
    assert found.norm_ratio == pytest.approx(size * expected.norm_ratio)
    assert frechet_distance(size * a, size * b) == pytest.approx(size * size * frechet_distance(a, b))


A = torch.ones(4, 3)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: sliced_wasserstein(A, A, projections=0),
        lambda: sliced_wasserstein(A + 0j, A + 0j),
        lambda: sliced_wasserstein(A[:, 0], A[:, 0]),
        lambda: frechet_distance(A + 1j, A + 0j),
        lambda: kernel_distance(A, A, degree=0),
        lambda: kernel_distance(A, A, degree=-1),
        lambda: kernel_distance(A, A, degree=0.5),  # type: ignore[arg-type]
        lambda: kernel_distance(A, A, block=0),
        lambda: psnr(A, A, peak=0),
        lambda: psnr(A, A, peak=-1),
        lambda: psnr(A, A, peak=math.nan),
        lambda: psnr(A + 1j, A + 0j),
        lambda: ssim(A[None], A[None]),
        lambda: ssim(A[None, None], A[None, None], peak=0.0),
        lambda: gradient_ssim(torch.zeros(0, 1, 8, 8), torch.zeros(0, 1, 8, 8)),
        lambda: gradient_ssim(torch.zeros(2, 1, 8, 8), torch.zeros(3, 1, 8, 8)),
        lambda: energy_rank(A[0], 1.5),
        lambda: energy_rank(A[0], 0),
        lambda: energy_rank(A[0], math.nan),
        lambda: numerical_rank(A[0], -1),
        lambda: numerical_rank(A[0], math.nan),
        *(lambda f=f: f(A) for f in SPECTRA.values()),  # a batch is no spectrum
        *(lambda f=f: f(torch.tensor([1.0, -1.0])) for f in SPECTRA.values()),
    ],
)
def test_what_gives_no_number_is_refused(ask: Callable[[], object]) -> None:
    with pytest.raises(InputValueError):
        ask()


@pytest.mark.parametrize("name", SPECTRA)
def test_whole_numbers_are_singular_values_too(name: str) -> None:
    assert SPECTRA[name](torch.tensor([3, 2, 0])) == pytest.approx(SPECTRA[name](torch.tensor([3.0, 2.0, 0.0])))


def test_a_list_is_no_set_of_samples() -> None:
    with pytest.raises(TypeError, match="must be a tensor, got list"):
        frechet_distance([[1.0], [2.0]], [[1.0], [2.0]])  # type: ignore[arg-type]


def test_repeated_values_have_no_distance_and_no_shape() -> None:
    same = torch.full((8, 3), 0.25)
    assert sliced_wasserstein(same, same) == frechet_distance(same, same) == kernel_distance(same, same) == 0
    assert psnr(same, same) == math.inf
    near = neighbourhood(same, same)
    assert (near.precision, near.recall, near.coverage) == (1, 1, 1)
    assert math.isnan(gaussianity(same).skewness)
    assert gaussianity(same).norm_spread == 0


def test_one_sample_has_no_covariance() -> None:
    for distance in (frechet_distance, kernel_distance):
        with pytest.raises(InputValueError, match="at least two of each set, got 1 and 9"):
            distance(normal(1, 3), normal(9, 3))


def test_bits_per_dimension_of_no_dimension() -> None:
    with pytest.raises(InputValueError, match="dim must be at least 1, got 0"):
        bits_per_dimension(torch.zeros(3), 0, 256)


@pytest.mark.parametrize("name", SPECTRA)
def test_the_zero_map_has_rank_zero_by_every_measure(name: str) -> None:
    assert SPECTRA[name](torch.zeros(5)) == SPECTRA[name](torch.zeros(0)) == 0


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_spectrum_that_is_not_finite_is_refused(name: str, value: float) -> None:
    with pytest.raises(InputValueError, match="finite"):
        SPECTRA[name](torch.tensor([1.0, value]))


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_ranks_do_not_depend_on_the_size(name: str, size: float) -> None:
    assert SPECTRA[name](size * torch.ones(4, dtype=torch.float64)) == pytest.approx(4)
    assert SPECTRA[name](torch.tensor([size, 0.0])) == pytest.approx(1)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-9])
def test_residuals_of_a_map_whose_output_is_rounding_are_rounding(
    size: float, randomise: Callable[..., torch.nn.Module]
) -> None:
    torch.manual_seed(0)
    g = build_flow(FlowConfig(frame="pixels", depth=2, width=8), (1, 4, 4)).requires_grad_(False)
    randomise(g, 3)
    x, y = torch.randn(2, 8, 1, 4, 4)
    f = Linearizer(g, DiagonalOperator(torch.full((16,), size)))
    rest = penrose(f, f.pinv(), x, y)
    for residual in (
        additivity(f, x, y),
        additivity_induced(f, x, y),
        homogeneity(f, x),
        homogeneity_induced(f, x),
        homogeneity_induced(f, x, 0.0),
        rest.first,
        rest.third,
    ):
        assert 0 <= residual < 1e-5
    if not size:
        assert idempotency(f, x) < 1e-5
        assert max(rest.second, rest.fourth) < 1e-5


def test_a_map_that_is_small_and_not_linear_is_told_apart() -> None:
    g = build_flow(FlowConfig(kind="identity"), (1, 2, 2))

    class Squares(Linearizer):
        def forward(self, x: Tensor) -> Tensor:
            return 1e-3 * x.square()

    x = torch.ones(4, 1, 2, 2)
    assert additivity(Squares(g, DiagonalOperator(torch.ones(4))), x, x) == pytest.approx(1)  # (2² - 1 - 1) / 2


def test_relative_errors_of_nothing() -> None:
    zero, one = torch.zeros(3), torch.ones(3)
    assert relative_error(zero, zero) == 0
    assert relative_error(one, zero) == math.inf
    assert relative_error(1e-9 * one, zero, one) == pytest.approx(1e-9)
    assert math.isnan(relative_error(math.nan * one, one, one))
    assert math.isnan(relative_error(one, math.nan * one, one))
    with pytest.raises(InputValueError, match="same shape"):
        relative_error(one, torch.ones(3, 1))


def test_the_round_trip_of_zeros_is_relative_to_their_latents(randomise: Callable[..., torch.nn.Module]) -> None:
    g = randomise(build_flow(FlowConfig(frame="pixels", depth=2, width=8), (1, 4, 4)), 3)
    assert roundtrip(g, torch.zeros(2, 1, 4, 4)) < 1e-5  # type: ignore[arg-type]
