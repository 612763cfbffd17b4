"""Injective layers and networks: left inverses, the layers' matrices, tight Lipschitz bounds, gradients, saving."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from linearizer_core.flows.actnorm import ActNorm
from linearizer_core.flows.base import Chain, Identity
from linearizer_core.flows.conditioners import MLP
from linearizer_core.flows.couplings import AffineCoupling
from linearizer_core.flows.injective import Injective, InjectiveConv, InjectiveDense, InjectiveNetwork
from linearizer_core.flows.mixing import LUMixing
from linearizer_core.flows.spanning import relu_injective
from linearizer_core.flows.squeeze import Flatten, Squeeze

Event = tuple[int, ...]
close = partial(torch.testing.assert_close, rtol=0, atol=1e-10)

CASES: dict[str, tuple[Callable[[], Injective], Event, Event]] = {
    "dense": (lambda: InjectiveDense(3, 6), (3,), (6,)),
    "dense, extra rows": (lambda: InjectiveDense(4, 11), (4,), (11,)),
    "dense of one": (lambda: InjectiveDense(1, 2), (1,), (2,)),
    "conv": (lambda: InjectiveConv(2, 4, 3, (4, 6)), (2, 4, 6), (4, 4, 6)),
    "conv, extra rows": (lambda: InjectiveConv(2, 7, 3, (5, 4)), (2, 5, 4), (7, 5, 4)),
    "conv 1×1": (lambda: InjectiveConv(3, 6, 1, (2, 3)), (3, 2, 3), (6, 2, 3)),
    "conv 2×2": (lambda: InjectiveConv(1, 3, 2, (4, 5)), (1, 4, 5), (3, 4, 5)),
    "conv of the image's size": (lambda: InjectiveConv(1, 2, 4, (4, 4)), (1, 4, 4), (2, 4, 4)),
    "network": (lambda: InjectiveNetwork([InjectiveDense(3, 6), InjectiveDense(6, 13)]), (3,), (13,)),
    "network of images": (
        lambda: InjectiveNetwork(
            [
                Squeeze(),
                InjectiveConv(4, 8, 3, (3, 4)),
                InjectiveConv(8, 17, 3, (3, 4)),
                Flatten((17, 3, 4)),
                InjectiveDense(204, 410),
            ]
        ),
        (1, 6, 8),
        (410,),
    ),
    "isometries": (lambda: InjectiveNetwork([Identity(), Flatten((2, 3, 2))]), (2, 3, 2), (12,)),
    "empty network": (lambda: InjectiveNetwork([]), (3,), (3,)),
    "nested": (
        lambda: InjectiveNetwork([InjectiveNetwork([InjectiveDense(2, 5)]), InjectiveDense(5, 10)]),
        (2,),
        (10,),
    ),
    "mixed": (
        lambda: InjectiveNetwork(
            [
                Flatten((1, 2, 2)),
                Chain([ActNorm(4), AffineCoupling(4, partial(MLP, width=8, activation="gelu")), LUMixing(4)]),
                InjectiveDense(4, 9),
                AffineCoupling(9, partial(MLP, width=8, activation="gelu")),
                InjectiveDense(9, 18),
                ActNorm(18),
            ]
        ),
        (1, 2, 2),
        (18,),
    ),
}
BOUNDED = [name for name in CASES if name != "mixed"]
DENSE = {"dense": (3, 6), "dense, extra rows": (4, 11), "dense of one": (1, 2)}


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def number(value: Tensor) -> float:
    return float(value.detach())


def wide(event: Event, seed: int = 1, count: int = 60) -> Tensor:
    """Inputs of sizes from 1e-3 to 1e3, with zeros among them."""
    x = normal(count, *event, seed=seed)
    x[0] = 0
    x[1].flatten()[::2] = 0
    sizes = torch.logspace(-3, 3, count, dtype=torch.float64)
    return x * sizes.view(-1, *[1] * len(event))


def scatter(module: nn.Module, seed: int = 0) -> None:
    """Draw every parameter anew; convolutions and couplings only move, as nothing else keeps them well conditioned."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            if name.endswith("kernel") or ".first." in name or ".second." in name:
                p.add_(0.05 * noise)
            else:
                p.copy_(0.6 * noise / max(1, p.shape[-1] / 4) ** 0.5)


def build(name: str, seed: int = 0, scattered: bool = True) -> tuple[Injective, Tensor]:
    torch.manual_seed(seed)
    construct, event, _ = CASES[name]
    g = construct().double()
    if scattered:
        scatter(g, seed)
    return g, wide(event)


def conv_matrix(layer: InjectiveConv) -> Tensor:
    """B written out entry by entry: output pixel n is Σ_m K(m) x(n - m + centre), indices modulo the size."""
    c, k = layer.inputs, layer.kernel.shape[-1]
    h, w = layer.size
    dense = torch.zeros(c, h, w, c, h, w, dtype=torch.float64)
    for r in range(h):
        for s in range(w):
            for a in range(k):
                for b in range(k):
                    dense[:, r, s, :, (r - a + k // 2) % h, (s - b + k // 2) % w] += layer.kernel[:, :, a, b].detach()
    return dense.view(c * h * w, c * h * w)


@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_left_inverse(name: str, scattered: bool) -> None:
    g, x = build(name, scattered=scattered)
    y = g(x)
    assert tuple(y.shape[1:]) == CASES[name][2]
    scale = x.abs().flatten(1).amax(1).clamp_min(1).view(-1, *[1] * (x.ndim - 1))
    # The couplings' scales cost some digits at inputs of 1e3.
    torch.testing.assert_close(g.left_inverse(y) / scale, x / scale, rtol=0, atol=1e-8 if name == "mixed" else 1e-10)
    # g g† is a projection onto the range: away from it, it is idempotent but not the identity.
    if name not in ("isometries", "empty network"):
        z = normal(5, *CASES[name][2])
        projected = g(g.left_inverse(z))
        assert number(((projected - z).norm() / z.norm()).detach()) > 0.05
        torch.testing.assert_close(g(g.left_inverse(projected)), projected, rtol=1e-8, atol=1e-8)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(1, 5), st.integers(0, 4), st.integers(0, 10**6))
def test_dense_of_any_size_and_parameters(inputs: int, extra: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer = InjectiveDense(inputs, 2 * inputs + extra).double()
    scatter(layer, seed)
    x = wide((inputs,), seed, count=20)
    y = layer(x)
    torch.testing.assert_close(layer.left_inverse(y), x, rtol=1e-10, atol=1e-10)
    difference = normal(20, inputs, seed=seed + 1)
    moved = layer.left_inverse(layer(x + difference)) - layer.left_inverse(y)
    torch.testing.assert_close(moved, difference, rtol=1e-9, atol=1e-9)
    assert relu_injective(layer.weight())


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.integers(1, 3), st.integers(0, 2), st.integers(1, 4), st.integers(4, 7), st.integers(4, 7))
def test_conv_of_any_size(channels: int, extra: int, kernel: int, h: int, w: int) -> None:
    torch.manual_seed(h * w)
    layer = InjectiveConv(channels, 2 * channels + extra, kernel, (h, w)).double()
    scatter(layer, seed=kernel)
    x = normal(3, channels, h, w)
    y = layer(x)
    assert y.shape == (3, 2 * channels + extra, h, w)
    close(layer.left_inverse(y), x)


@pytest.mark.parametrize("name", DENSE)
def test_dense_is_its_matrix(name: str) -> None:
    layer, x = build(name)
    assert isinstance(layer, InjectiveDense)
    n, m = DENSE[name]
    weight, d = layer.weight(), layer.log_d.exp()
    b = weight[:n]
    assert weight.shape == (m, n)
    torch.testing.assert_close(weight[n : 2 * n], -d[:, None] * b)
    close(layer.mixing(x)[0] / 1e3, x @ b.T / 1e3)
    biases = [layer.bias, -d * layer.bias]
    if isinstance(layer.extra, nn.Linear):
        biases.append(layer.extra.bias)
    bias = torch.cat(biases)
    torch.testing.assert_close(layer(x), (x @ weight.T + bias).relu(), rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("name", DENSE)
def test_weights_are_a_directed_spanning_set_and_minimal(name: str) -> None:
    layer, _ = build(name)
    assert isinstance(layer, InjectiveDense)
    n, _ = DENSE[name]
    weight = layer.weight()
    assert relu_injective(weight)
    assert relu_injective(weight.float())
    for i in range(2 * n):
        assert not relu_injective(torch.cat([weight[:i], weight[i + 1 : 2 * n]]))


def test_weights_in_single_precision_are_a_directed_spanning_set() -> None:
    """Rounding bends the pairs -D B by some 1e-7, which counts as straight; there are too many rows to search."""
    for outputs in (40, 45):
        torch.manual_seed(0)
        layer = InjectiveDense(20, outputs)
        scatter(layer)
        weight = layer.weight()
        assert weight.dtype == torch.float32
        assert relu_injective(weight)
        with pytest.raises(ValueError, match="subsets to search"):
            relu_injective(weight[1:])


def test_a_fresh_dense_layer_is_a_rotation_and_its_negative() -> None:
    torch.manual_seed(0)
    layer, x = InjectiveDense(5, 10).double(), normal(7, 5)
    y = layer(x)
    torch.testing.assert_close(y.norm(dim=1), x.norm(dim=1), rtol=1e-5, atol=0)
    torch.testing.assert_close(number(layer.inverse_lipschitz()), 2**0.5, rtol=1e-5, atol=0)
    close(y[:, :5] * y[:, 5:], torch.zeros(7, 5, dtype=torch.float64))


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("conv")])
def test_conv_is_its_dense_matrix(name: str) -> None:
    layer, _ = build(name)
    assert isinstance(layer, InjectiveConv)
    event = CASES[name][1]
    x, b = normal(6, *event), conv_matrix(layer)
    flat = x.flatten(1)
    close(layer.linear(x).flatten(1), flat @ b.T)
    close(layer.solve(x).flatten(1), torch.linalg.solve(b, flat.T).T)
    c = event[0]
    p = (flat @ b.T).view(x.shape) + layer.bias
    y = layer(x)
    close(y[:, :c], p.relu())
    close(y[:, c : 2 * c], layer.log_d.exp() * (-p).relu())
    if isinstance(layer.extra, nn.Conv2d):
        around = (1, 1, 1, 1) if layer.extra.kernel_size == (3, 3) else (0, 1, 0, 1)
        close(y[:, 2 * c :], conv2d(pad(x, around, "circular"), layer.extra.weight, layer.extra.bias).relu())
    scale = (1 + (-2 * layer.log_d).exp()).rsqrt().expand(event).flatten()
    expected = 1 / torch.linalg.svdvals(scale[:, None] * b).min()
    torch.testing.assert_close(layer.inverse_lipschitz(), expected)


def test_conv_is_torch_s_with_the_kernel_turned() -> None:
    torch.manual_seed(0)
    layer, x = InjectiveConv(2, 4, 3, (4, 5)).double(), normal(3, 2, 4, 5)
    close(layer.linear(x), conv2d(pad(x, (1, 1, 1, 1), "circular"), layer.kernel.flip(2, 3)))


@pytest.mark.parametrize("channels", [1, 3, 12])
def test_a_fresh_conv_is_near_the_identity(channels: int) -> None:
    torch.manual_seed(0)
    layer = InjectiveConv(channels, 2 * channels, 3, (6, 6)).double()
    values = torch.linalg.svdvals(layer.blocks())
    assert 0.5 < number(values.min()) < 1 < number(values.max()) < 1.5
    x = normal(3, channels, 6, 6)
    assert 1e-3 < number((layer.linear(x) - x).norm() / x.norm()) < 0.25


@pytest.mark.parametrize(
    "kernel",
    [
        [[0.0, 1.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],  # blind at the horizontal Nyquist frequency
        [[0.0, 1.0, 0.0], [0.0, -2.0, 0.0], [0.0, 1.0, 0.0]],  # blind to constants
        [[0.0, 0.0, 0.0], [0.1, 0.1, 0.1], [0.0, 0.0, 0.0]],  # blind at a third of the width
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
        [[0.0, 0.0, 0.0], [0.0, float("nan"), 0.0], [0.0, 0.0, 0.0]],
    ],
)
def test_a_singular_convolution_has_no_left_inverse(kernel: list[list[float]]) -> None:
    for dtype, rounding in product((torch.float32, torch.float64), (0, 1)):
        layer = InjectiveConv(1, 2, 3, (5, 6)).to(dtype)
        with torch.no_grad():
            layer.kernel.copy_(torch.tensor([[kernel]]))
            layer.kernel[..., 1, 1] *= 1 + rounding * torch.finfo(dtype).eps
        with pytest.raises(ValueError, match="the convolution is singular at some frequency, so the layer has no left"):
            layer.left_inverse(layer(torch.ones(1, 1, 5, 6, dtype=dtype)))
    with torch.no_grad():
        layer.kernel.copy_(torch.tensor([[[[0.0, 0.0, 0.0], [0.1, 0.3, 0.1], [0.0, 0.0, 0.0]]]]))
    close(layer.left_inverse(layer(normal(2, 1, 5, 6))), normal(2, 1, 5, 6))


def test_channels_of_one_frequency_can_be_singular_together() -> None:
    layer = InjectiveConv(2, 4, 1, (3, 3)).double()
    with torch.no_grad():
        layer.kernel.copy_(torch.tensor([[1.0, 2.0], [3.0, 6.0]]).view(2, 2, 1, 1))
    with pytest.raises(ValueError, match="singular"):
        layer.left_inverse(torch.zeros(1, 4, 3, 3, dtype=torch.float64))


@pytest.mark.parametrize("name", BOUNDED)
def test_lipschitz_bound_is_never_violated(name: str) -> None:
    g, _ = build(name)
    bound = number(g.inverse_lipschitz().detach())
    _, event, latent = CASES[name]
    x, other = normal(400, *event, seed=2), normal(400, *event, seed=3)
    other[200:] = x[200:] + 1e-3 * other[200:]
    pairs = [(g(x), g(other)), (normal(400, *latent, seed=4), normal(400, *latent, seed=5))]
    for y, moved in pairs:
        inputs = (g.left_inverse(y) - g.left_inverse(moved)).flatten(1).norm(dim=1)
        ratio = inputs / (y - moved).flatten(1).norm(dim=1)
        assert number(ratio.max()) <= bound * (1 + 1e-12)
        assert number(ratio.max()) > (0.999 if name in ("isometries", "empty network") else 0.0)


@pytest.mark.parametrize("name", ["dense", "dense of one", "conv", "conv 1×1", "conv of the image's size"])
def test_lipschitz_bound_is_attained_without_extra_rows(name: str) -> None:
    """At the direction c that B⁻¹ stretches most, inputs on two sides of every kink: p = c, p' = -c / d²."""
    layer, _ = build(name)
    assert isinstance(layer, InjectiveDense | InjectiveConv)
    event = CASES[name][1]
    b = conv_matrix(layer) if isinstance(layer, InjectiveConv) else layer.weight()[: event[0]]
    d = layer.log_d.exp().expand(event).flatten()
    u, s, _ = torch.linalg.svd((1 + d**-2).rsqrt()[:, None] * b)
    c = u[:, -1] / (1 + d**-2).sqrt()
    positions = torch.stack([c, -c / d**2]).view(2, *event)
    # Where c < 0 the two swap their sides of the kink: there p = c / d² and p' = -c.
    flipped = torch.stack([c / d**2, -c]).view(2, *event)
    x = layer.solve(torch.where(positions[:1] > 0, positions, flipped) - layer.bias)
    y = layer(x)
    ratio = (x[0] - x[1]).norm() / (y[0] - y[1]).norm()
    torch.testing.assert_close(ratio, layer.inverse_lipschitz())
    torch.testing.assert_close(ratio, 1 / s.min())


def test_lipschitz_bound_by_hand() -> None:
    """B = diag(2, 1), D = diag(1, ½): p₂ from 1 to -4 is told from outputs (1, 0) and (0, 2): 5 / √5."""
    layer = InjectiveDense(2, 4).double()
    with torch.no_grad():
        layer.mixing.permutation.copy_(torch.eye(2))
        layer.mixing.sign.fill_(1.0)
        for parameter in (layer.mixing.lower, layer.mixing.upper):
            parameter.zero_()
        layer.mixing.log_diagonal.copy_(torch.tensor([2.0, 1.0]).double().log())
        layer.log_d.copy_(torch.tensor([1.0, 0.5]).double().log())
    x = torch.tensor([[0.0, 1.0], [0.0, -4.0]], dtype=torch.float64)
    y = layer(x)
    close(y, torch.tensor([[0, 1, 0, 0], [0, 0, 0, 2]], dtype=torch.float64))
    close(number(layer.inverse_lipschitz()), 5**0.5)
    close(number((y[0] - y[1]).norm()), 5**0.5)
    # Not the product of both maxima, √5 / σ_min(B), where the large gain and the small D meet in one row.
    with torch.no_grad():
        layer.log_d.copy_(torch.tensor([0.5, 1.0]).double().log())
    close(number(layer.inverse_lipschitz()), 2**0.5)


def test_lipschitz_bounds_multiply() -> None:
    g, _ = build("network of images")
    assert isinstance(g, InjectiveNetwork)
    expected = torch.ones((), dtype=torch.float64)
    for i in (1, 2, 4):
        layer = g.layers[i]
        assert isinstance(layer, Injective)
        expected = expected * layer.inverse_lipschitz()
    torch.testing.assert_close(g.inverse_lipschitz(), expected)
    assert number(build("isometries")[0].inverse_lipschitz()) == 1


def test_lipschitz_bound_is_infinite_where_a_frequency_is_lost() -> None:
    layer = InjectiveConv(1, 2, 1, (2, 2))
    with torch.no_grad():
        layer.kernel.zero_()
    assert layer.inverse_lipschitz().isinf()


def test_lipschitz_bound_is_unknown_for_couplings() -> None:
    with pytest.raises(ValueError, match=r"injective layers and isometries \(Flatten, Squeeze, Identity\), got Chain"):
        build("mixed")[0].inverse_lipschitz()


def test_left_inverses_of_relu_layers_are_affine_and_couplings_make_them_nonlinear() -> None:
    for name, affine in (("network", True), ("network of images", True), ("mixed", False)):
        g, _ = build(name)
        u, v = normal(4, *CASES[name][2], seed=2), normal(4, *CASES[name][2], seed=3)
        origin = g.left_inverse(torch.zeros_like(u))
        gap = g.left_inverse(u + v) - g.left_inverse(u) - g.left_inverse(v) + origin
        relative = number((gap.norm() / (g.left_inverse(u + v) - origin).norm()).detach())
        assert relative < 1e-10 if affine else relative > 1e-2


@pytest.mark.parametrize("name", CASES)
def test_gradients_reach_every_parameter(name: str) -> None:
    g, _ = build(name, seed=2)
    x = normal(16, *CASES[name][1]).requires_grad_()
    y = g(x)
    loss = y.square().sum() + g.left_inverse(y.detach().roll(1, 1)).square().sum()
    loss.backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    for key, parameter in g.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        # A triangular matrix keeps to its own triangle, of which a single channel has nothing.
        if name != "dense of one" or "mixing" not in key:
            assert parameter.grad.any(), key


@pytest.mark.parametrize("name", ["dense", "conv", "network"])
def test_the_bound_can_be_trained(name: str) -> None:
    g, _ = build(name)
    before = g.inverse_lipschitz()
    before.backward()
    with torch.no_grad():
        for parameter in g.parameters():
            if parameter.grad is not None:
                parameter.sub_(1e-3 * parameter.grad / before)
    assert number(g.inverse_lipschitz()) < number(before)


@pytest.mark.parametrize("name", CASES)
def test_state_dict_round_trip(name: str) -> None:
    g, x = build(name, seed=0)
    other, _ = build(name, seed=1)
    if name not in ("isometries", "empty network"):
        assert not torch.equal(other(x), g(x))
    other.load_state_dict(g.state_dict())
    assert torch.equal(other(x), g(x))
    assert torch.equal(other.left_inverse(g(x)), g.left_inverse(g(x)))
    assert torch.equal(other.train()(x), other.eval()(x))


def test_initialise_reaches_the_maps_between() -> None:
    torch.manual_seed(0)
    norm, last = ActNorm(6), ActNorm(14)
    g = InjectiveNetwork([InjectiveDense(3, 6), norm, InjectiveNetwork([InjectiveDense(6, 14), last])]).double()
    x = 3 * normal(200, 3) + 1
    y = g.initialise(x)
    assert norm.initialised
    assert not InjectiveNetwork([InjectiveDense(3, 6)]).initialise(x.float()).requires_grad
    close(y, g(x).detach())
    close(y.mean(0), torch.zeros(14, dtype=torch.float64))
    close(g.left_inverse(y), x)


@pytest.mark.parametrize("outputs", [0, 3, 5])
def test_fewer_than_two_outputs_an_input(outputs: int) -> None:
    message = f"an injective ReLU layer of 3 inputs needs at least twice as many outputs, got {outputs}"
    with pytest.raises(ValueError, match=message):
        InjectiveDense(3, outputs)
    with pytest.raises(ValueError, match=message):
        InjectiveConv(3, outputs, 3, (4, 4))


@pytest.mark.parametrize("kernel", [0, 4])
def test_a_kernel_fits_into_the_image(kernel: int) -> None:
    with pytest.raises(ValueError, match=rf"between 1 and the sides of the image \(3, 6\), got {kernel}"):
        InjectiveConv(1, 2, kernel, (3, 6))


@pytest.mark.parametrize("shape", [(1, 1, 4, 5), (1, 1, 3, 4), (1, 4)])
def test_images_of_another_size(shape: tuple[int, ...]) -> None:
    layer = InjectiveConv(1, 2, 3, (4, 4))
    with pytest.raises(ValueError, match=r"the layer takes images of size \(4, 4\), got \("):
        layer(torch.zeros(shape))


@pytest.mark.parametrize("outputs", [6, 8])
def test_outputs_of_another_layer(outputs: int) -> None:
    with pytest.raises(ValueError, match=rf"the layer has 7 outputs, got \(2, {outputs}\) to invert"):
        InjectiveDense(3, 7).left_inverse(torch.zeros(2, outputs))
