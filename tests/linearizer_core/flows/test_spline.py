"""Rational-quadratic splines: against zuko and by hand, and the coupling that they make."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from zuko.transforms import MonotonicRQSTransform

from linearizer_core.flows import Invertible
from linearizer_core.flows.spline import MINIMUM, SplineCoupling, rational_quadratic, rational_quadratic_inverse

CheckInvertible = Callable[[Invertible, Tensor, Tensor], None]

# Two unequal bins each side of (0, 0.5), by hand; the bound is 2.
WIDTHS = torch.tensor([0.5, 1.5, 1.2, 0.8], dtype=torch.float64)
HEIGHTS = torch.tensor([1.0, 1.5, 0.3, 1.2], dtype=torch.float64)
DERIVATIVES = torch.tensor([0.7, 3.0, 0.2], dtype=torch.float64)
KNOTS = [(-1.5, -1.0, 0.7), (0.0, 0.5, 3.0), (1.2, 0.8, 0.2)]


class Conditioner(nn.Module):
    """One hidden layer on channels, which the label shifts; zero at the start."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inner = nn.Parameter(torch.randn(6, inputs))
        self.outer = nn.Parameter(torch.zeros(outputs, 6))

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        hidden = torch.einsum("hc,bc...->bh...", self.inner, x)
        if label is not None:
            hidden = hidden + label.view(-1, *[1] * (x.ndim - 1))
        return torch.einsum("oh,bh...->bo...", self.outer, hidden.tanh())


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def coupling(channels: int, scale: float = 0.5, **options: float) -> SplineCoupling:
    torch.manual_seed(0)
    built = SplineCoupling(channels, Conditioner, **options).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for seed, conditioner in enumerate((built.first, built.second)):
            conditioner.outer.copy_(scale * normal(*conditioner.outer.shape, seed=seed))
    return built


def test_it_passes_through_its_knots_with_the_given_derivatives() -> None:
    for x, y, derivative in KNOTS:
        for side in (-1e-12, 0.0, 1e-12):
            at = torch.tensor(x + side, dtype=torch.float64, requires_grad=True)
            value, log_derivative = rational_quadratic(at, WIDTHS, HEIGHTS, DERIVATIVES, 2.0)
            (slope,) = torch.autograd.grad(value, at)
            assert float(value.detach()) == pytest.approx(y, abs=1e-11)
            assert float(slope) == pytest.approx(derivative, abs=1e-10)
            assert float(log_derivative.detach().exp()) == pytest.approx(derivative, abs=1e-10)
            back, log_back = rational_quadratic_inverse(
                torch.tensor(y + side, dtype=torch.float64), WIDTHS, HEIGHTS, DERIVATIVES, 2.0
            )
            assert float(back) == pytest.approx(x, abs=1e-11)
            assert float(log_back.exp()) == pytest.approx(1 / derivative, abs=1e-8)


def test_equation_4_by_hand() -> None:
    # The middle of the second bin, ξ = 1/2: slope 1, derivatives 0.7 and 3.
    value, log_derivative = rational_quadratic(
        torch.tensor(-0.75, dtype=torch.float64), WIDTHS, HEIGHTS, DERIVATIVES, 2.0
    )
    denominator = 1 + (0.7 + 3.0 - 2) / 4
    assert float(value) == pytest.approx(-1 + 1.5 * (1 / 4 + 0.7 / 4) / denominator, abs=1e-14)
    assert float(log_derivative.exp()) == pytest.approx((3.0 + 2 + 0.7) / 4 / denominator**2, abs=1e-14)


@pytest.mark.parametrize("bound", [0.5, 3.0])
def test_the_same_knots_give_what_zuko_gives(bound: float) -> None:
    # zuko holds knots at cumulated sides and all derivatives: its inner ones are ours.
    shape = (400, 6)
    theirs = MonotonicRQSTransform(2 * normal(*shape), 2 * normal(*shape, seed=1), normal(400, 5, seed=2), bound)
    knots = theirs.horizontal.diff(), theirs.vertical.diff(), theirs.derivatives[:, 1:-1]
    x = 0.7 * bound * normal(400, seed=3)
    assert (x.abs() > bound).any()
    y, log_derivative = rational_quadratic(x, *knots, bound)
    expected, expected_log_derivative = theirs.call_and_ladj(x)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(log_derivative, expected_log_derivative, rtol=0, atol=1e-11)
    assert float((y - x).abs().max()) > 0.1 * bound
    inverse, log_inverse = rational_quadratic_inverse(x, *knots, bound)
    torch.testing.assert_close(inverse, theirs.inv(x), rtol=0, atol=1e-11)
    torch.testing.assert_close(log_inverse, -theirs.call_and_ladj(inverse)[1], rtol=0, atol=1e-8)


def test_it_is_increasing_and_the_identity_outside() -> None:
    x = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    y, log_derivative = rational_quadratic(x, WIDTHS, HEIGHTS, DERIVATIVES, 2.0)
    assert (y.diff() > 0).all()
    assert float(y.diff().max()) < 0.001 * 1.01 * float(log_derivative.exp().max())  # no jump
    for f in (rational_quadratic, rational_quadratic_inverse):
        value, log_slope = f(x, WIDTHS, HEIGHTS, DERIVATIVES, 2.0)
        outside = x.abs() >= 2
        assert torch.equal(value[outside], x[outside])
        assert torch.equal(log_slope[outside], torch.zeros_like(x[outside]))
        assert float((value - x)[~outside].abs().max()) > 0.5


@pytest.mark.parametrize("event", [(5,), (4, 3, 2)], ids=str)
def test_round_trips_and_log_determinants(event: tuple[int, ...], check_invertible: CheckInvertible) -> None:
    g = coupling(event[0])
    x = 2 * normal(6, *event)
    label = torch.linspace(-1, 1, 6, dtype=torch.float64)
    y, log_det = g(x, label)
    assert log_det.shape == (6,)
    assert float((y - x).detach().abs().max()) > 0.3
    check_invertible(g, x, label)


def test_gradients_are_those_of_finite_differences() -> None:
    theta = normal(2, 3 * 11, seed=4).requires_grad_()
    x = normal(2, 3).requires_grad_()
    g = SplineCoupling(6, Conditioner, bins=4).double()
    assert torch.autograd.gradcheck(g.transform, (x, theta))
    assert torch.autograd.gradcheck(g.untransform, (x, theta))


@pytest.mark.parametrize("event", [(4,), (5, 2, 2)], ids=str)
def test_it_starts_as_the_identity_and_learns(event: tuple[int, ...]) -> None:
    g = SplineCoupling(event[0], Conditioner).double()
    x = (2 * normal(40, *event)).requires_grad_()
    y, log_det = g(x)
    assert float(x.detach().abs().max()) > g.bound
    torch.testing.assert_close(y, x, rtol=0, atol=1e-14)
    torch.testing.assert_close(log_det, torch.zeros_like(log_det), rtol=0, atol=1e-13)
    torch.testing.assert_close(g.inverse(x)[0], x, rtol=0, atol=1e-14)
    for value in (y.square().sum() + log_det.sum(), g.inverse(x)[0].square().sum()):
        grads = torch.autograd.grad(value, [g.first.outer, g.second.outer])
        assert all(float(grad.abs().amin()) > 0 for grad in grads)
    (coupling(event[0])(x)[0].square().sum()).backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("event", [(2,), (2, 3, 1)], ids=str)
def test_the_order_of_parameters(event: tuple[int, ...]) -> None:
    g = SplineCoupling(4, Conditioner, bins=3, bound=2.0).double()
    widths, heights, derivatives = normal(3), normal(3, seed=1), normal(2, seed=2)
    theta = torch.zeros(5, 8 * 2, *event[1:], dtype=torch.float64)
    theta[:, 1::2] = torch.cat([widths, heights, derivatives]).view(1, 8, *[1] * len(event[1:]))  # the second channel
    x = normal(5, *event, seed=3)
    y, log_det = g.transform(x, theta)
    torch.testing.assert_close(y[:, 0], x[:, 0], rtol=0, atol=1e-14)

    def sides(logits: Tensor) -> Tensor:
        return 4 * (0.9 * logits.exp() / logits.exp().sum() + 0.1 / 3)

    slopes = 0.1 + 0.9 * derivatives.exp().log1p() / math.log(2)
    expected, log_derivative = rational_quadratic(x[:, 1], sides(widths), sides(heights), slopes, 2.0)
    torch.testing.assert_close(y[:, 1], expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(log_det, log_derivative.flatten(1).sum(1) if x.ndim > 2 else log_derivative)
    assert MINIMUM == 0.1


def test_no_parameters_collapse_a_bin_or_a_derivative() -> None:
    g = SplineCoupling(2, Conditioner, bins=4, bound=2.0).double()
    theta = torch.zeros(1, 11, dtype=torch.float64)
    theta[0, [0, 4]] = 1e4  # all width and height to the first bin
    theta[0, 8:] = -1e4
    corner = torch.tensor([[2 - 3 * 0.1]], dtype=torch.float64)  # the first bin ends three least bins before the bound
    y, log_det = g.transform(corner, theta)
    torch.testing.assert_close(y, corner, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_det, torch.tensor([0.1], dtype=torch.float64).log(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", [0.3, 3.0, 1000.0])
def test_float32_is_finite_at_knots_and_far_outside(scale: float) -> None:
    bins, count = 8, 200
    g = SplineCoupling(4, Conditioner, bins)
    theta = (scale * normal(count, (3 * bins - 1) * 2, seed=5)).float().requires_grad_()
    logits = theta.detach().unflatten(1, (-1, 2))[:, :bins]
    edges = 8 * (0.9 * logits.softmax(1) + 0.1 / bins).cumsum(1) - 4
    far = torch.tensor([1e4, -1e4, 1e30, -1e30]).expand(2, 4).T.expand(count, 4, 2)
    points = torch.cat([edges, edges.nextafter(edges + 1), edges.nextafter(edges - 1), far], 1)
    for column in points.unbind(1):
        x = column.clone().requires_grad_()
        for way in (g.transform, g.untransform):
            y, log_det = way(x, theta)
            assert torch.isfinite(y).all()
            assert torch.isfinite(log_det).all()
            grads = torch.autograd.grad(y.sum() + log_det.sum(), [x, theta])
            assert all(torch.isfinite(grad).all() for grad in grads)
    for column in far.unbind(1):
        assert torch.equal(g.transform(column, theta)[0], column)
        assert torch.equal(g.untransform(column, theta)[0], column)


def test_an_infinite_entry_leaves_gradients_finite() -> None:
    g = SplineCoupling(4, Conditioner).double()
    theta = normal(2, 23 * 2).requires_grad_()
    x = torch.tensor([[math.inf, 0.5], [1.0, -math.inf]], dtype=torch.float64)
    for way in (g.transform, g.untransform):
        y, log_det = way(x, theta)
        assert y.isinf().tolist() == [[True, False], [False, True]]
        (grad,) = torch.autograd.grad(y[0, 1] + y[1, 0] + log_det.sum(), theta)
        assert torch.isfinite(grad).all()
        assert float(grad.abs().max()) > 0


def test_float32_round_trip() -> None:
    g = SplineCoupling(4, Conditioner)
    theta = 0.5 * normal(5000, 23 * 2, dtype=torch.float32)
    x = 2 * normal(5000, 2, seed=1, dtype=torch.float32)
    y, log_det = g.transform(x, theta)
    back, back_log_det = g.untransform(y, theta)
    assert float((y - x).abs().max()) > 1
    torch.testing.assert_close(back, x, rtol=0, atol=1e-5)
    torch.testing.assert_close(back_log_det, -log_det, rtol=0, atol=1e-4)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    channels=st.integers(2, 5),
    sides=st.sampled_from([(), (1, 3), (2, 2)]),
    bins=st.integers(2, 9),
    bound=st.floats(0.5, 6),
    batch=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_any_shape_round_trips(
    channels: int, sides: tuple[int, ...], bins: int, bound: float, batch: int, seed: int
) -> None:
    g = coupling(channels, bins=bins, bound=bound)
    x = 2 * normal(batch, channels, *sides, seed=seed)
    y, log_det = g(x)
    back, back_log_det = g.inverse(y)
    assert y.shape == x.shape
    torch.testing.assert_close(back, x, rtol=0, atol=1e-10)
    torch.testing.assert_close(back_log_det, -log_det, rtol=0, atol=1e-9)


def test_labels_reach_both_conditioners() -> None:
    g = coupling(4)
    x = normal(3, 4)
    ones, zeros = torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for way in (g.forward, g.inverse):
        assert torch.equal(way(x, zeros)[0], way(x)[0])
        assert ((way(x, ones)[0] - way(x)[0]).abs() > 1e-4).all()


def test_state_dict_round_trip() -> None:
    g, other = coupling(4), coupling(4, scale=0.1)
    x = normal(3, 4)
    assert not torch.equal(other(x)[0], g(x)[0])
    other.load_state_dict(g.state_dict())
    assert torch.equal(other(x)[0], g(x)[0])


def test_errors() -> None:
    with pytest.raises(ValueError, match="a spline needs at least two bins to bend, got 1"):
        SplineCoupling(4, Conditioner, bins=1)
    with pytest.raises(ValueError, match=r"the bound of a spline must be positive, got 0\.0"):
        SplineCoupling(4, Conditioner, bound=0.0)
    with pytest.raises(ValueError, match="the bound of a spline must be positive, got nan"):
        SplineCoupling(4, Conditioner, bound=math.nan)
