"""The networks inside couplings: known outputs, labels, locality, and couplings of them against autograd."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from linearizer_core.flows import AffineCoupling
from linearizer_core.flows.activations import ACTIVATIONS
from linearizer_core.flows.conditioners import MLP, Conditioner, ConvNet, LabelEmbedding, Modulation, parameters
from linearizer_core.flows.unet import Residual, SelfAttention, UNet

NETWORKS: dict[str, tuple[Callable[..., Conditioner], tuple[int, ...]]] = {
    "mlp": (MLP, ()),
    "conv 1×1": (partial(ConvNet, kernel=1), (2, 3)),
    "conv 3×3": (partial(ConvNet, kernel=3), (2, 3)),
    "unet": (partial(UNet, attention=False), (3, 2)),
    "unet attention": (partial(UNet, attention=True), (3, 2)),
}
IMAGES = [name for name, (_, sides) in NETWORKS.items() if sides]
LABELS = torch.tensor([0.0, 1.0, 0.3, 0.3], dtype=torch.float64)
EACH = pytest.mark.parametrize("name", NETWORKS)


def build(name: str, inputs: int = 3, outputs: int = 4, **options: Any) -> Conditioner:
    torch.manual_seed(0)
    return NETWORKS[name][0](inputs, outputs, **{"width": 6, "activation": "gelu", **options}).double()


def batch(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inputs_of(name: str, channels: int = 3) -> Tensor:
    return batch(4, channels, *NETWORKS[name][1])


def moved(network: nn.Module, scale: float = 0.2) -> Any:
    """The network with every parameter moved, so that none is zero."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(scale * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return network


# Known values


def test_mlp_by_hand() -> None:
    net = moved(build("mlp"))
    x = inputs_of("mlp")
    (w1, b1), (w2, b2), (w3, b3) = ((m.weight, m.bias) for m in net.layers if isinstance(m, nn.Linear))
    h = functional.gelu(functional.gelu(x @ w1.T + b1) @ w2.T + b2)
    torch.testing.assert_close(net(x), h @ w3.T + b3, rtol=0, atol=1e-13)


def test_convnet_by_hand() -> None:
    net = moved(build("conv 3×3", activation="swiglu"))
    x = inputs_of("conv 3×3")
    first, _, second, _, last = net.layers
    a, b = functional.conv2d(x, first.weight, first.bias, padding=1).chunk(2, 1)
    h = a * b * b.sigmoid()
    a, b = (torch.einsum("oi,bihw->bohw", second.weight[..., 0, 0], h) + second.bias[:, None, None]).chunk(2, 1)
    expected = functional.conv2d(a * b * b.sigmoid(), last.weight, last.bias, padding=1)
    torch.testing.assert_close(net(x), expected, rtol=0, atol=1e-13)


def test_label_embedding_by_hand() -> None:
    embedding = LabelEmbedding().double()
    t = 0.3
    waves = [f(math.pi * 2**k * t) for f in (math.sin, math.cos) for k in range(6)]
    h = embedding.linear.weight @ torch.tensor(waves, dtype=torch.float64) + embedding.linear.bias
    found = embedding(torch.tensor([t], dtype=torch.float64))[0]
    torch.testing.assert_close(found, h / (1 + (-h).exp()), rtol=0, atol=1e-5)  # π was rounded to float32


@pytest.mark.parametrize("sides", [(), (2, 3)])
def test_modulation_by_hand(sides: tuple[int, ...]) -> None:
    modulation = Modulation(3).double()
    x, features = batch(2, 3, *sides), batch(2, 32, seed=2)
    gamma, beta = (features @ modulation.linear.weight.T + modulation.linear.bias).split(3, 1)
    expected = torch.empty_like(x)
    for row in range(2):
        for channel in range(3):
            expected[row, channel] = (1 + gamma[row, channel]) * x[row, channel] + beta[row, channel]
    torch.testing.assert_close(modulation(x, features), expected, rtol=0, atol=1e-13)


def test_a_label_modulates_both_hidden_layers() -> None:
    net = moved(build("mlp", labelled=True))
    x = inputs_of("mlp")
    features = net.embedding(LABELS)
    first, gate, act, second, other, _, last = net.layers
    expected = last(act(other(second(act(gate(first(x), features))), features)))
    torch.testing.assert_close(net(x, LABELS), expected, rtol=0, atol=1e-13)
    without = last(act(second(act(first(x)))))
    assert float((net(x, LABELS) - without).detach().abs().min()) > 1e-3


def test_attention_by_hand() -> None:
    attention = moved(SelfAttention(4).double())
    x = batch(2, 4, 2, 3)
    normed = attention.norm(x)
    q, k, v = (
        torch.einsum("oi,bihw->bohw", attention.project.weight[..., 0, 0], normed)
        .add(attention.project.bias[:, None, None])
        .flatten(2)
        .split(4, 1)
    )
    mixed = torch.zeros_like(q)
    for row in range(2):
        for i in range(6):
            scores = torch.stack([q[row, :, i] @ k[row, :, j] / 2 for j in range(6)]).exp()  # √c = 2
            mixed[row, :, i] = sum(scores[j] / scores.sum() * v[row, :, j] for j in range(6))
    added = torch.einsum("oi,bip->bop", attention.last.weight[..., 0, 0], mixed) + attention.last.bias[:, None]
    torch.testing.assert_close(attention(x), x + added.view_as(x), rtol=0, atol=1e-13)


def test_attention_is_equivariant_under_permutations_of_pixels() -> None:
    attention = moved(SelfAttention(8).double())
    x, order = batch(2, 8, 5, 1), torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(attention(x[:, :, order]), attention(x)[:, :, order], rtol=0, atol=1e-13)


@pytest.mark.parametrize("sides", [(1, 1), (1, 4), (5, 3), (4, 6), (7, 2)], ids=str)
def test_unet_levels_are_aligned_at_any_size(sides: tuple[int, int]) -> None:
    """With each level's convolutions the identity: a pixel plus the one at the corner of its 2×2 block."""
    net = UNet(2, 2, width=2, activation="gelu", attention=False).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        for convolution in (net.stem, net.down, net.up, net.last):
            convolution.weight[:, :, 1, 1].fill_diagonal_(1.0)
    x = batch(2, 2, *sides)
    rows, columns = (torch.arange(side) // 2 * 2 for side in sides)
    torch.testing.assert_close(net(x), x + x[:, :, rows][:, :, :, columns], rtol=0, atol=1e-14)


def test_residual_block_by_hand() -> None:
    block = moved(Residual(4, "relu", False).double())
    x = batch(2, 4, 3, 5)
    norm, first, _, last = block.layers
    rows = x.flatten(1)
    normed = (x - rows.mean(1).view(2, 1, 1, 1)) / (rows.var(1, correction=0).view(2, 1, 1, 1) + norm.eps).sqrt()
    h = normed * norm.weight[:, None, None] + norm.bias[:, None, None]
    h = functional.conv2d(h, first.weight, first.bias, padding=1).clamp_min(0)
    expected = x + functional.conv2d(h, last.weight, last.bias, padding=1)
    torch.testing.assert_close(block(x, None), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("attention", [False, True])
def test_reach_of_a_pixel(attention: bool) -> None:
    """Through the lower level 14 pixels before and 12 behind an even one; with attention all of them."""
    net = moved(build("unet attention" if attention else "unet", 1, 1, activation="silu"))
    for block in (net.encode, net.middle, net.decode):
        block.layers[0] = nn.Identity()  # group statistics are of the whole image
    if attention:
        net.attention.norm = nn.Identity()
    x = batch(1, 1, 1, 64).requires_grad_()
    (gradient,) = torch.autograd.grad(net(x)[0, 0, 0, 32], x)
    reached = (gradient[0, 0, 0].nonzero()[:, 0] - 32).tolist()
    assert reached == list(range(-32, 32) if attention else range(-14, 13))


# Shapes and sizes


@settings(deadline=None, max_examples=20, derandomize=True)
@given(
    name=st.sampled_from(IMAGES),
    name_of_activation=st.sampled_from(list(ACTIVATIONS)),
    inputs=st.integers(1, 3),
    outputs=st.integers(1, 3),
    width=st.integers(2, 9),
    sides=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    rows=st.integers(1, 2),
    labelled=st.booleans(),
)
def test_images_of_any_size(
    name: str,
    name_of_activation: str,
    inputs: int,
    outputs: int,
    width: int,
    sides: tuple[int, int],
    rows: int,
    labelled: bool,
) -> None:
    net = moved(build(name, inputs, outputs, width=width, activation=name_of_activation, labelled=labelled))
    y = net(batch(rows, inputs, *sides), LABELS[:rows])
    assert y.shape == (rows, outputs, *sides)
    assert torch.isfinite(y).all()


def test_parameters_by_hand() -> None:
    assert parameters(MLP(3, 4, width=8, activation="gelu")) == (3 * 8 + 8) + (8 * 8 + 8) + (8 * 4 + 4)
    assert parameters(MLP(3, 4, width=8, activation="glu")) == (3 * 16 + 16) + (8 * 16 + 16) + (8 * 4 + 4)
    polynorm = MLP(3, 4, width=8, activation="polynorm")
    assert parameters(polynorm) == (3 * 8 + 8) + 4 + (8 * 8 + 8) + 4 + (8 * 4 + 4)
    convolutions = (2 * 8 * 9 + 8) + (8 * 8 + 8) + (8 * 4 * 9 + 4)
    assert parameters(ConvNet(2, 4, width=8, activation="silu", kernel=3)) == convolutions
    label = 12 * 32 + 32
    modulations = 2 * (32 * 16 + 16)
    assert parameters(MLP(3, 4, width=8, activation="gelu", labelled=True)) == 32 + 72 + 36 + label + modulations
    labelled = ConvNet(2, 4, width=8, activation="star", kernel=3, labelled=True)
    assert parameters(labelled) == convolutions + (2 * 8 * 9 + 8) + (8 * 8 + 8) + label + 2 * modulations


def test_unet_parameters_by_hand() -> None:
    def conv(inputs: int, outputs: int) -> int:
        return 9 * inputs * outputs + outputs

    stem, down, up, last = conv(3, 8), conv(8, 16), conv(16, 8), conv(8, 4)
    fine, coarse = (2 * c + 2 * conv(c, c) for c in (8, 16))
    plain = stem + down + up + last + 2 * fine + coarse
    assert parameters(UNet(3, 4, width=8, activation="gelu", attention=False)) == plain
    attention = 2 * 16 + (16 * 48 + 48) + (16 * 16 + 16)
    assert parameters(UNet(3, 4, width=8, activation="gelu", attention=True)) == plain + attention
    label = 12 * 32 + 32 + 2 * (32 * 16 + 16) + (32 * 32 + 32)
    assert parameters(UNet(3, 4, width=8, activation="gelu", attention=False, labelled=True)) == plain + label
    gated = 2 * conv(8, 8) + conv(16, 16)
    assert parameters(UNet(3, 4, width=8, activation="bilinear", attention=False)) == plain + gated


@EACH
@pytest.mark.parametrize("labelled", [False, True])
def test_zero_at_the_start(name: str, labelled: bool) -> None:
    net, x = build(name, labelled=labelled), inputs_of(name)
    assert torch.equal(net(x, LABELS), torch.zeros(4, 4, *x.shape[2:], dtype=torch.float64))
    coupling = AffineCoupling(3, lambda a, b: build(name, a, b, labelled=labelled))
    y, log_det = coupling(x, LABELS)
    assert torch.equal(y, x)
    assert torch.equal(log_det, torch.zeros(4, dtype=torch.float64))


# Labels


@EACH
def test_a_label_is_of_its_row_only(name: str) -> None:
    net = moved(build(name, labelled=True))
    x = inputs_of(name)[:1].expand(4, -1, *NETWORKS[name][1]).contiguous()
    y = net(x, LABELS)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert float((y[one] - y[other]).detach().abs().max()) > 0.01
    torch.testing.assert_close(y[2], y[3], rtol=0, atol=1e-13)
    torch.testing.assert_close(net(x[:1], LABELS[1:2]), y[1:2], rtol=0, atol=1e-13)


@EACH
@pytest.mark.parametrize("labelled", [False, True])
def test_rows_are_independent(name: str, labelled: bool) -> None:
    net, x = moved(build(name, labelled=labelled)), inputs_of(name)
    y = net(x, LABELS)
    for row in range(4):
        others, labels = batch(*x.shape, seed=9), LABELS.flip(0) + 0.1
        others[row], labels[row] = x[row], LABELS[row]
        torch.testing.assert_close(net(others, labels)[row], y[row], rtol=0, atol=1e-13)


@EACH
def test_labels_of_any_type(name: str) -> None:
    net, x = moved(build(name, labelled=True)), inputs_of(name)
    roles = torch.tensor([0, 1, 1, 0])
    assert torch.equal(net(x, roles), net(x, roles.double()))
    assert net.float()(x.float(), LABELS).dtype == torch.float32


@EACH
def test_a_labelled_network_needs_a_label_for_each_row(name: str) -> None:
    net, x = build(name, labelled=True), inputs_of(name)
    kind = type(net).__name__
    with pytest.raises(ValueError, match=rf"^a labelled {kind} needs a label of shape \(4,\), got None$"):
        net(x)
    for labels in (LABELS[:1], LABELS[:, None], LABELS[0]):
        got = str(tuple(labels.shape)).replace("(", r"\(").replace(")", r"\)")
        with pytest.raises(ValueError, match=rf"needs a label of shape \(4,\), got {got}$"):
            net(x, labels)


@EACH
def test_an_unlabelled_network_ignores_a_label(name: str) -> None:
    net, x = moved(build(name)), inputs_of(name)
    assert torch.equal(net(x, LABELS), net(x))


def test_impossible_sizes() -> None:
    with pytest.raises(ValueError, match="a convolution that preserves the image's size needs an odd kernel, got 4"):
        ConvNet(1, 1, width=4, activation="gelu", kernel=4)
    with pytest.raises(ValueError, match="needs a width of at least 2, got 1"):
        UNet(1, 1, width=1, activation="gelu", attention=False)
    with pytest.raises(ValueError, match="unknown activation 'tanh'"):
        MLP(1, 1, width=4, activation="tanh")


# As modules


@EACH
def test_modes_agree_bit_for_bit(name: str) -> None:
    net, x = moved(build(name, labelled=True)), inputs_of(name)
    y = net.train()(x, LABELS)
    assert torch.equal(y, net(x, LABELS))
    assert torch.equal(y, net.eval()(x, LABELS))


@EACH
def test_state_dict_round_trip(name: str) -> None:
    net, x = moved(build(name, labelled=True, activation="polynorm")), inputs_of(name)
    other = build(name, labelled=True, activation="polynorm")
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x, LABELS), net(x, LABELS))


@EACH
def test_first_and_second_derivatives(name: str) -> None:
    net = moved(build(name, 2, 2, width=4, labelled=True))
    x = batch(1, 2, *NETWORKS[name][1]).requires_grad_()
    label = torch.tensor([0.4], dtype=torch.float64)
    y = net(x, label)
    slopes = torch.autograd.grad(y.square().sum(), list(net.parameters()), create_graph=True)
    for (which, _), slope in zip(net.named_parameters(), slopes, strict=True):
        assert float(slope.detach().abs().max()) > 0, which
    assert torch.autograd.gradcheck(lambda v: net(v, label), (x,), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda v: net(v, label), (x,), fast_mode=True)


# Inside couplings


@EACH
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("labelled", [False, True])
def test_couplings_round_trip(name: str, activation: str, labelled: bool) -> None:
    g = moved(AffineCoupling(3, lambda a, b: build(name, a, b, width=4, activation=activation, labelled=labelled)))
    x = inputs_of(name)
    y, log_det = g(x, LABELS)
    back, back_log_det = g.inverse(y, LABELS)
    assert float((y - x).detach().abs().max()) > 0.05
    torch.testing.assert_close(back, x, rtol=0, atol=1e-10)
    torch.testing.assert_close(back_log_det, -log_det, rtol=0, atol=1e-10)
    other = g.inverse(y, 1 - LABELS)[0]
    assert (float((other - x).detach().abs().max()) > 1e-3) == labelled

    row, label = x[:1], LABELS[2:3]
    jacobian = torch.autograd.functional.jacobian(lambda v: g(v, label)[0], row).reshape(row.numel(), row.numel())
    expected = torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(g(row, label)[1][0], expected, rtol=0, atol=1e-10)
