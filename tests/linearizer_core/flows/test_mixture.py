"""Mixtures of logistics: closed forms, their solved inverse and its implicit gradients, and the coupling."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import logit
from scipy.stats import logistic
from torch import Tensor, nn

from linearizer_core.flows import Invertible
from linearizer_core.flows.couplings import CLAMP
from linearizer_core.flows.implicit import monotone_root
from linearizer_core.flows.mixture import MixtureCoupling, logistic_mixture, logistic_mixture_inverse

CheckInvertible = Callable[[Invertible, Tensor, Tensor], None]


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


def mixture(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, locations and log scales, the latter moderate."""
    return (
        normal(*shape, seed=1, dtype=dtype),
        normal(*shape, seed=2, dtype=dtype),
        normal(*shape, seed=3).to(dtype) / 2,
    )


def coupling(channels: int, components: int = 4, scale: float = 0.3) -> MixtureCoupling:
    torch.manual_seed(0)
    built = MixtureCoupling(channels, Conditioner, components).double()
    with torch.no_grad():
        for seed, conditioner in enumerate((built.first, built.second)):
            conditioner.outer.copy_(scale * normal(*conditioner.outer.shape, seed=seed))
    return built


def scalars(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# The mixture


def test_one_component_is_affine() -> None:
    x, location, log_scale = normal(50), scalars(0.7), scalars(0.4)
    y, log_derivative = logistic_mixture(x, scalars(-3.0), location, log_scale)
    torch.testing.assert_close(y, (x - 0.7) * math.exp(-0.4), rtol=0, atol=1e-14)
    torch.testing.assert_close(log_derivative, torch.full_like(x, -0.4), rtol=0, atol=1e-14)


def test_it_is_the_logit_of_the_distribution_function_of_scipy() -> None:
    logits, locations, log_scales = (p.numpy() for p in mixture(60, 4))
    x = 2 * normal(60)
    weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    cdf = (weights * logistic.cdf(x[:, None], locations, np.exp(log_scales))).sum(1)
    pdf = (weights * logistic.pdf(x[:, None], locations, np.exp(log_scales))).sum(1)
    y, log_derivative = logistic_mixture(x, *mixture(60, 4))
    np.testing.assert_allclose(y.numpy(), logit(cdf), rtol=0, atol=1e-11)
    np.testing.assert_allclose(log_derivative.numpy(), np.log(pdf / cdf / (1 - cdf)), rtol=0, atol=1e-11)


def test_its_derivatives_are_smooth() -> None:
    x = normal(20).requires_grad_()
    y, log_derivative = logistic_mixture(x, *mixture(20, 3))
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(slope.log(), log_derivative, rtol=0, atol=1e-12)
    parameters = [p.requires_grad_() for p in mixture(20, 3)]
    assert torch.autograd.gradgradcheck(lambda *args: logistic_mixture(*args), (x, *parameters))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_its_tails_are_lines(dtype: torch.dtype) -> None:
    # Far out the widest component is all: y → (x - μ) / s - log w on the right, + log w on the left.
    logits, locations, log_scales = scalars(0.3, -1.2, 0.5), scalars(1.0, -2.0, 0.5), scalars(0.1, 0.9, -0.4)
    log_weight = float(logits.log_softmax(0)[1])
    x = torch.tensor([1e4, -1e4, 1e6, -1e6], dtype=dtype, requires_grad=True)
    y, log_derivative = logistic_mixture(x, logits.to(dtype), locations.to(dtype), log_scales.to(dtype))
    expected = (x.detach().double() + 2) * math.exp(-0.9) - x.detach().double().sign() * log_weight
    torch.testing.assert_close(y.double(), expected, rtol=4 * torch.finfo(dtype).eps, atol=0)
    torch.testing.assert_close(log_derivative, torch.full_like(x, -0.9), rtol=0, atol=1e-6)
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(slope, torch.full_like(x, math.exp(-0.9)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_components_leave_the_plateau_finite(dtype: torch.dtype) -> None:
    locations = torch.tensor([-200.0, 200.0], dtype=dtype)
    x = torch.linspace(-1e4, 1e4, 201, dtype=dtype)
    y, log_derivative = logistic_mixture(x, torch.zeros(2, dtype=dtype), locations, torch.zeros(2, dtype=dtype))
    assert (y.diff() >= 0).all()
    assert torch.isfinite(log_derivative).all()
    # In the middle log F' = log σ'(200) and F (1 - F) = 1/4.
    assert float(log_derivative[100]) == pytest.approx(-200 + math.log(4), rel=1e-6)
    back, log_back = logistic_mixture_inverse(y, torch.zeros(2, dtype=dtype), locations, torch.zeros(2, dtype=dtype))
    assert torch.isfinite(log_back).all()
    again = logistic_mixture(back, torch.zeros(2, dtype=dtype), locations, torch.zeros(2, dtype=dtype))[0]
    torch.testing.assert_close(again, y, rtol=1e-6, atol=1e-6)


# Its inverse


def test_the_inverse_is_that_of_brent() -> None:
    parameters = mixture(40, 4)
    y = 4 * normal(40)
    x, log_derivative = logistic_mixture_inverse(y, *parameters)
    for i, target in enumerate(y.tolist()):
        row = [p[i] for p in parameters]
        expected = brentq(
            lambda v, row=row, target=target: float(logistic_mixture(scalars(v), *row)[0]) - target,
            -100,
            100,
            xtol=1e-14,
        )
        assert float(x[i]) == pytest.approx(expected, abs=1e-12)
    torch.testing.assert_close(log_derivative, -logistic_mixture(x, *parameters)[1], rtol=0, atol=0)


def test_the_inverse_has_first_and_second_derivatives() -> None:
    y = normal(4).requires_grad_()
    parameters = [p.requires_grad_() for p in mixture(4, 3)]
    for of in (lambda *args: logistic_mixture_inverse(*args)[0], logistic_mixture_inverse):
        assert torch.autograd.gradcheck(of, (y, *parameters))
        assert torch.autograd.gradgradcheck(of, (y, *parameters))


@pytest.mark.parametrize("magnitude", [1.0, 1e4])
def test_the_inverse_in_float32_is_that_in_float64(magnitude: float) -> None:
    parameters = [p.float() for p in mixture(300, 4)]
    y = magnitude * normal(300, dtype=torch.float32)
    x, log_derivative = logistic_mixture_inverse(y, *parameters)
    expected, expected_log_derivative = logistic_mixture_inverse(y.double(), *[p.double() for p in parameters])
    torch.testing.assert_close(x.double(), expected, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(log_derivative.double(), expected_log_derivative, rtol=0, atol=1e-4)


# Roots


def cubic(x: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    return a * x**3 + x, (3 * a * x**2 + 1).log()


def cardano(y: Tensor, a: Tensor) -> Tensor:
    """The root of a x³ + x = y, a > 0."""
    return 2 / (3 * a).sqrt() * ((1.5 * (3 * a).sqrt() * y).asinh() / 3).sinh()


def solve_cubic(y: Tensor, a: Tensor) -> Tensor:
    return monotone_root(cubic, y, -y.detach().abs(), y.detach().abs(), a)


def test_roots_and_their_derivatives_are_those_of_cardano() -> None:
    y, a = (10 * normal(30)).requires_grad_(), normal(30, seed=1).exp().requires_grad_()
    found, expected = solve_cubic(y, a), cardano(y, a)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)
    weight = normal(30, seed=2)
    first = [torch.autograd.grad((weight * x).sum(), [y, a], create_graph=True) for x in (found, expected)]
    torch.testing.assert_close(first[0], first[1], rtol=1e-11, atol=1e-12)
    second = [torch.autograd.grad(sum(g.sin().sum() for g in grads), [y, a], create_graph=True) for grads in first]
    torch.testing.assert_close(second[0], second[1], rtol=1e-9, atol=1e-11)
    third = [torch.autograd.grad(sum(g.sin().sum() for g in grads), [y, a]) for grads in second]
    torch.testing.assert_close(third[0], third[1], rtol=1e-8, atol=1e-10)


def test_gradients_go_only_where_they_are_wanted() -> None:
    y, a = normal(5), normal(5, seed=1).exp()
    for wanted in ((y.clone().requires_grad_(), a), (y, a.clone().requires_grad_())):
        leaf = wanted[0] if wanted[0].requires_grad else wanted[1]
        (found,) = torch.autograd.grad(solve_cubic(*wanted).sum(), leaf)
        (expected,) = torch.autograd.grad(cardano(*wanted).sum(), leaf)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
        assert found.grad_fn is None
    assert not solve_cubic(y, a).requires_grad


def test_parameters_broadcast() -> None:
    a = scalars(2.0).requires_grad_()
    y = normal(3, 4)
    (found,) = torch.autograd.grad(solve_cubic(y, a).sum(), a)
    (expected,) = torch.autograd.grad(cardano(y, a).sum(), a)
    torch.testing.assert_close(found, expected)


def test_what_is_kept_for_backward_does_not_grow_with_the_iterations() -> None:
    kept: list[list[int]] = []
    for size in (0.0, 1e6):  # the first is solved by its bracket, the other takes many steps
        calls = []
        a = scalars(2.0).requires_grad_()

        def counted(x: Tensor, a: Tensor, calls: list[int] = calls) -> tuple[Tensor, Tensor]:
            calls.append(len(x))
            return cubic(x, a)

        sizes: list[int] = []
        y = torch.full((50,), size, dtype=torch.float64)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            monotone_root(counted, y, -y, y, a)
        kept.append([len(calls), sum(sizes)])
    assert kept[0][0] < 4 < 8 < kept[1][0]
    assert kept[0][1] == kept[1][1] == 51


NASTY: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "flat in the middle": lambda x: (x**9, (9 * x**8).log()),
    "steep in the middle": lambda x: (x.sign() * x.abs() ** (1 / 9), (x.abs() ** (-8 / 9) / 9).log()),
    "saturating": lambda x: ((50 * x).atan(), (50 / (1 + (50 * x) ** 2)).log()),
    "exponential": lambda x: (x.exp(), x),
}


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_few_evaluations_are_enough_where_newton_alone_diverges(name: str, dtype: torch.dtype) -> None:
    calls = []

    def f(x: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(len(x))
        return NASTY[name](x)

    roots = torch.tensor([-1.3, -0.2, 0.3, 1.1, 3.0], dtype=dtype)
    y = NASTY[name](roots)[0]
    found = monotone_root(f, y, torch.full_like(y, -7.0), torch.full_like(y, 20.0))
    condition = (-NASTY[name](roots)[1]).exp() * y.abs() + roots.abs()
    assert ((found - roots).abs() <= 8 * torch.finfo(dtype).eps * condition).all()
    assert len(calls) < 50


def test_where_f_is_flat_the_root_stays_in_its_bracket_and_the_search_ends() -> None:
    calls = []

    def f(x: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(len(x))
        return logistic_mixture(x, torch.zeros(2), torch.tensor([-30.0, 30.0]), torch.zeros(2))

    y = torch.tensor([1e-7, -1e-7, 3e-8, math.nan])
    x = monotone_root(f, y, torch.full_like(y, -31.0), torch.full_like(y, 31.0))
    assert x.isnan().tolist() == [False, False, False, True]
    assert float(x[:3].abs().max()) < 31
    torch.testing.assert_close(f(x)[0][:3], y[:3], rtol=0, atol=2e-7)
    assert len(calls) < 40
    # A staircase as rounding makes one: no Newton step is taken from its treads, and the search ends at the jump.
    y = torch.tensor([1.5e-5])
    x = monotone_root(lambda x: (1e-4 * x.floor(), torch.full_like(x, -30.0)), y, -3 * torch.ones(1), 5 * torch.ones(1))
    torch.testing.assert_close(x, torch.ones(1), rtol=0, atol=1e-6)


def test_what_is_not_finite_gives_nan_and_leaves_the_rest() -> None:
    y = scalars(1.0, math.nan, 2.0, math.inf, -3.0)
    a = scalars(1.0, 1.0, math.nan, 1.0, 0.5)
    found = solve_cubic(y, a)
    assert found.isnan().tolist() == [False, True, True, True, False]
    torch.testing.assert_close(found[[0, 4]], cardano(y, a)[[0, 4]])
    mixed, log_derivative = logistic_mixture_inverse(scalars(math.nan, 0.5), *mixture(2, 3))
    assert mixed.isnan().tolist() == log_derivative.isnan().tolist() == [True, False]
    assert solve_cubic(y[:0], a[:0]).shape == (0,)
    calls = []
    monotone_root(lambda x, a: calls.append(0) or cubic(x, a), y[1:2], -y[1:2], y[1:2], a[1:2])
    assert len(calls) == 2


def test_a_bracket_without_a_root_raises() -> None:
    y = scalars(1.0, 5.0, -5.0)
    with pytest.raises(ArithmeticError, match=r"f must reach y inside the bracket .*; it did not for 2 of 3 entries"):
        monotone_root(cubic, y, torch.full_like(y, -1.0), torch.full_like(y, 1.0), torch.ones_like(y))


def test_iterations_are_bounded() -> None:
    y = scalars(1e6)
    with pytest.raises(ArithmeticError, match="within 3 iterations; it did not for 1 of 1 entries"):
        monotone_root(cubic, y, -y, y, torch.ones_like(y), iterations=3)


# The coupling


@pytest.mark.parametrize("event", [(5,), (4, 3, 2)], ids=str)
@pytest.mark.parametrize("components", [1, 3])
def test_round_trips_and_log_determinants(
    event: tuple[int, ...], components: int, check_invertible: CheckInvertible
) -> None:
    g = coupling(event[0], components)
    x = 2 * normal(4, *event)
    label = torch.linspace(-1, 1, 4, dtype=torch.float64)
    y, log_det = g(x, label)
    assert log_det.shape == (4,)
    assert float((y - x).detach().abs().max()) > 0.3
    check_invertible(g, x, label)


@pytest.mark.parametrize("event", [(4,), (5, 2, 2)], ids=str)
def test_it_starts_as_the_identity_and_learns(event: tuple[int, ...]) -> None:
    g = MixtureCoupling(event[0], Conditioner).double()
    x = (2 * normal(40, *event)).requires_grad_()
    y, log_det = g(x)
    torch.testing.assert_close(y, x, rtol=0, atol=1e-14)
    torch.testing.assert_close(log_det, torch.zeros_like(log_det), rtol=0, atol=1e-13)
    torch.testing.assert_close(g.inverse(x)[0], x, rtol=0, atol=1e-14)
    g = coupling(event[0])
    y, log_det = g(x)
    for value in (y.square().sum() + log_det.sum(), g.inverse(x)[0].square().sum() + g.inverse(x)[1].sum()):
        grads = torch.autograd.grad(value, [x, *g.parameters()])
        assert all(float(grad.abs().amin()) > 0 for grad in grads)


def test_gradients_are_those_of_finite_differences() -> None:
    theta = normal(2, 2 * 8, seed=4).requires_grad_()
    x = normal(2, 2).requires_grad_()
    g = MixtureCoupling(4, Conditioner, components=2).double()
    assert torch.autograd.gradcheck(g.transform, (x, theta))
    assert torch.autograd.gradcheck(g.untransform, (x, theta))


@pytest.mark.parametrize("event", [(2,), (2, 3, 1)], ids=str)
def test_the_order_of_parameters(event: tuple[int, ...]) -> None:
    g = MixtureCoupling(4, Conditioner, components=3).double()
    logits, locations, log_scales = normal(3), normal(3, seed=1), 3 * normal(3, seed=2)
    theta = torch.zeros(5, 11 * 2, *event[1:], dtype=torch.float64)
    own = torch.cat([logits, locations, log_scales, scalars(3.0, 0.7)])
    theta[:, 1::2] = own.view(1, 11, *[1] * len(event[1:]))  # the second channel
    x = normal(5, *event, seed=3)
    y, log_det = g.transform(x, theta)
    torch.testing.assert_close(y[:, 0], x[:, 0], rtol=0, atol=1e-14)
    expected, log_derivative = logistic_mixture(
        x[:, 1], logits, scalars(0.5, 1.0, 1.5) * locations, 2 * (log_scales / 2).tanh()
    )
    a = 2 * math.tanh(1.5)
    torch.testing.assert_close(y[:, 1], expected * math.exp(a) + 0.7)
    torch.testing.assert_close(log_det, (log_derivative + a).reshape(5, -1).sum(1))
    assert CLAMP == 2.0


def test_components_part_in_training() -> None:
    # Equal components together are affine: only when they part can they bend to x + 2 tanh(2x), which no line fits.
    torch.manual_seed(0)
    theta = torch.zeros(14, dtype=torch.float64, requires_grad=True)
    g = MixtureCoupling(2, Conditioner).double()
    x = torch.linspace(-3, 3, 30, dtype=torch.float64)[:, None]
    target = x + 2 * (2 * x).tanh()
    optimiser = torch.optim.Adam([theta], 0.1)
    for _ in range(80):
        loss = (g.transform(x, theta.expand(30, 14))[0] - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    line = torch.cat([x, torch.ones_like(x)], 1)
    affine = (line @ torch.linalg.lstsq(line, target).solution - target).square().mean()
    assert float(loss.detach()) < 0.25 * float(affine)


def test_float32_far_outside() -> None:
    g = coupling(4).float()
    x = torch.tensor([1e4, -1e4, 1e-30, 0.0]).expand(4, 4).clone().requires_grad_()
    for way in (g.forward, g.inverse):
        y, log_det = way(x)
        grads = torch.autograd.grad(y.sum() + log_det.sum(), [x, *g.parameters()])
        assert all(torch.isfinite(value).all() for value in (y, log_det, *grads))
    torch.testing.assert_close(g.inverse(g(x)[0])[0], x, rtol=1e-5, atol=1e-4)
    near = 2 * normal(500, 4, dtype=torch.float32)
    torch.testing.assert_close(g.inverse(g(near)[0])[0], near, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(
    channels=st.integers(2, 5),
    sides=st.sampled_from([(), (1, 3), (2, 2)]),
    components=st.integers(1, 6),
    batch=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_any_shape_round_trips(channels: int, sides: tuple[int, ...], components: int, batch: int, seed: int) -> None:
    g = coupling(channels, components)
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


def test_no_component() -> None:
    with pytest.raises(ValueError, match="a mixture needs at least one component, got 0"):
        MixtureCoupling(4, Conditioner, components=0)


def test_steep_mixtures_far_out_are_solved_to_the_precision_of_x() -> None:
    """Where the slope is e², neighbouring numbers near 10⁴ are further apart in value than the usual tolerance."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        locations, log_scales, logits = (torch.randn(400, 3, generator=generator) for _ in range(3))
        x = 1e4 * torch.randn(400, generator=generator)
        mixture = (logits, 1e4 * locations, 2 * log_scales.tanh())
        back, _ = logistic_mixture_inverse(logistic_mixture(x, *mixture)[0], *mixture)
        known = torch.isfinite(back)  # NaN between components that are so far apart that nothing is known of x
        assert 0.3 < float(known.float().mean()) < 0.7
        assert float(((back - x).abs() / (1 + x.abs()))[known].median()) < 1e-5


def test_inverses_at_every_size_are_right_or_nan() -> None:
    """Also where components of 1e30 lie 1e30 apart, and the mixture is flat in between: any x there has the same y."""
    for dtype in (torch.float32, torch.float64):
        for size in (0.0, 1e-30, 1.0, 1e4, 1e10, 1e30):
            generator = torch.Generator().manual_seed(0)
            logits, locations, log_scales = torch.randn(3, 2000, 4, generator=generator, dtype=torch.float64).to(dtype)
            x = size * torch.randn(2000, generator=generator, dtype=torch.float64).to(dtype)
            for scale in (1.0, size):
                mixture = (scale * logits, size * locations, 2 * log_scales.tanh())
                y, log_derivative = logistic_mixture(x, *mixture)
                back, back_log_derivative = logistic_mixture_inverse(y, *mixture)
                assert bool(y.isfinite().all())
                error, lost = (back - x).abs() / (1 + x.abs()), back.isnan()
                assert not (error > 1e-2).any()
                assert bool(lost.any()) == (size > 1)
                assert not lost.any() or float(log_derivative[lost].median()) < -100
                assert float(error[~lost].max()) < 1e-2
                if size <= 1:
                    torch.testing.assert_close(back_log_derivative, -log_derivative, rtol=0, atol=1e-3)


def test_what_the_shift_of_a_coupling_drowns_is_not_told() -> None:
    """y = mixture + b in single precision: with b = 1e10 nothing is left of a mixture between -1 and 1."""
    theta = torch.zeros(1, 14)
    theta[0, 4:8] = torch.tensor([-4000.0, -4000.0, 4000.0, 4000.0])
    coupling = MixtureCoupling(2, Conditioner)
    x = torch.tensor([[6500.0]])
    for b, known in ((0.0, True), (1e10, False)):
        theta[0, 13] = b
        back, _ = coupling.untransform(coupling.transform(x, theta)[0], theta)
        assert bool(back.isfinite()) is known
        if known:
            torch.testing.assert_close(back, x, rtol=1e-3, atol=0)
