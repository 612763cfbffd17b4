"""Each activation against its closed form, in value, slope and growth, on vectors and on images."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from linearizer_core.flows.activations import ACTIVATIONS, GATED, POINTWISE, PolyNorm, activation, expansion

NAMES = list(ACTIVATIONS)
POINTS = [-3.0, -0.5, 0.0, 0.25, 2.0, 7.5]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


POINTWISE_FORMS = {
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "relu": lambda x: max(x, 0.0),
    "silu": lambda x: x * sigmoid(x),
    "aptx": lambda x: (1 + math.tanh(x)) * x / 2,
}
GATED_FORMS = {
    "glu": lambda a, b: a * sigmoid(b),
    "swiglu": lambda a, b: a * b * sigmoid(b),
    "bilinear": lambda a, b: a * b,
    "star": lambda a, b: a * min(max(b, 0.0), 6.0),
}


def doubles(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def away_from_kinks(*shape: int) -> Tensor:
    """Values with 0.3 < |x| < 2.3: no central difference crosses 0 or 6."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x.sign() * (0.3 + 2 * x.abs() / (1 + x.abs()))


def test_the_names() -> None:
    assert {*POINTWISE_FORMS, "polynorm"} == set(POINTWISE)
    assert set(GATED_FORMS) == set(GATED)


@pytest.mark.parametrize("name", POINTWISE_FORMS)
def test_pointwise_closed_forms(name: str) -> None:
    expected = doubles([[POINTWISE_FORMS[name](x) for x in POINTS]])
    torch.testing.assert_close(activation(name)(doubles([POINTS])), expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", GATED_FORMS)
def test_gated_closed_forms(name: str) -> None:
    pairs = [(a, b) for a in POINTS for b in POINTS]
    x = doubles([[a for a, _ in pairs] + [b for _, b in pairs]])
    expected = doubles([[GATED_FORMS[name](a, b) for a, b in pairs]])
    torch.testing.assert_close(activation(name)(x), expected, rtol=1e-14, atol=1e-15)


def test_polynorm_by_hand() -> None:
    # Over the channels (1, -2, 2) the mean squares of x, x² and x³ are 9/3, 33/3 and 129/3.
    x = doubles([[1.0, -2.0, 2.0]])
    norm = PolyNorm(eps=0.25).double()
    roots = [math.sqrt(m + 0.25) for m in (3, 11, 43)]
    expected = [[sum(v**i / root for i, root in enumerate(roots, 1)) / 3 for v in (1.0, -2.0, 2.0)]]
    torch.testing.assert_close(norm(x), doubles(expected), rtol=0, atol=1e-7)  # 1/3 was rounded to float32
    with torch.no_grad():
        norm.coefficients.copy_(doubles([0.5, 2.0, -1.0, 4.0]))
    expected = [[0.5 + 2 * v / roots[0] - v**2 / roots[1] + 4 * v**3 / roots[2] for v in (1.0, -2.0, 2.0)]]
    torch.testing.assert_close(norm(x), doubles(expected), rtol=1e-14, atol=0)


def test_aptx_far_below_zero_keeps_its_digits() -> None:
    # (1 + tanh x)·x/2 = x·e²ˣ/(1 + e²ˣ), which 1 + tanh x rounds to zero at -20.
    assert float(activation("aptx")(doubles([[-20.0]]))) == pytest.approx(-20 * math.exp(-40), rel=1e-12, abs=0)


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name: str) -> None:
    phi = activation(name).double()
    for shape in ((3, 4), (2, 4, 2, 1)):
        x = away_from_kinks(*shape).requires_grad_()
        inputs = (x, *phi.parameters())
        assert torch.autograd.gradcheck(lambda v, *_: phi(v), inputs)
        assert torch.autograd.gradgradcheck(lambda v, *_: phi(v), inputs)


@pytest.mark.parametrize(
    ("name", "slope"),
    [("gelu", 0.5), ("relu", 0), ("silu", 0.5), ("aptx", 0.5), ("polynorm", 1e5**0.5 / 3)]
    + [(name, 0) for name in GATED if name != "glu"],
)
def test_slopes_at_zero_are_finite(name: str, slope: float) -> None:
    x = torch.zeros(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    activation(name).double()(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.full_like(x, slope), rtol=1e-6, atol=0)


def test_slope_of_glu_at_zero() -> None:
    x = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    activation("glu")(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0.5, 0.0]]


@pytest.mark.parametrize("name", NAMES)
def test_growth(name: str) -> None:
    """Products of the input grow by its square, PolyNorm not at all, everything else no faster than the input."""
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(1))
    phi = activation(name)
    power = {"bilinear": 2, "swiglu": 2, "polynorm": 0}.get(name, 1)
    small, large = phi(100 * x).abs().max(), phi(1e5 * x).abs().max()
    assert torch.isfinite(large)
    assert float((large / small).detach()) <= 1.1 * 1000**power


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=8, derandomize=True)
@given(
    rows=st.integers(1, 3),
    channels=st.integers(1, 4),
    height=st.integers(1, 3),
    width=st.integers(1, 3),
)
def test_images_are_taken_pixel_by_pixel(name: str, rows: int, channels: int, height: int, width: int) -> None:
    phi = activation(name).double()
    x = torch.randn(rows, expansion(name) * channels, height, width, dtype=torch.float64)
    y = phi(x)
    assert y.shape == (rows, channels, height, width)
    for i in range(height):
        for j in range(width):
            torch.testing.assert_close(y[:, :, i, j], phi(x[:, :, i, j]), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_precision_is_kept(name: str) -> None:
    x = torch.randn(2, 4)
    assert activation(name)(x).dtype == torch.float32
    assert activation(name).double()(x.double()).dtype == torch.float64


def test_unknown_activation() -> None:
    names = "gelu, relu, silu, aptx, polynorm, glu, swiglu, bilinear, star"
    with pytest.raises(ValueError, match=f"^unknown activation 'tanh'; use one of {names}$"):
        activation("tanh")
