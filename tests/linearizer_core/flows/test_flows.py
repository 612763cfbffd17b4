"""One suite over all invertible maps and built flows: round trip, log-determinant, gradients, saving."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from linearizer_core.experiment.configuration import FlowConfig
from linearizer_core.experiment.networks import build_flow
from linearizer_core.flows import (
    ActNorm,
    AffineCoupling,
    Chain,
    Flatten,
    Identity,
    Invertible,
    Labelled,
    LUMixing,
    Squeeze,
)
from linearizer_core.flows.activations import activation
from linearizer_core.flows.conditioners import MLP, ConvNet, parameters
from linearizer_core.flows.couplings import CLAMP

Event = tuple[int, ...]
small_mlp = partial(MLP, width=8, activation="gelu")
small_conv = partial(ConvNet, width=8, activation="silu", kernel=3)


def flow(event: tuple[int, int, int], labelled: bool = False, **fields: object) -> Callable[[], Invertible]:
    return lambda: build_flow(FlowConfig(**{"depth": 2, "width": 8, **fields}), event, labelled)  # type: ignore[arg-type]


CASES: dict[str, tuple[Callable[[], Invertible], Event]] = {
    "identity": (Identity, (5,)),
    "flatten": (lambda: Flatten((2, 3, 2)), (2, 3, 2)),
    "squeeze": (Squeeze, (2, 4, 2)),
    "actnorm flat": (lambda: ActNorm(5), (5,)),
    "actnorm image": (lambda: ActNorm(3), (3, 2, 4)),
    "coupling even": (lambda: AffineCoupling(4, small_mlp), (4,)),
    "coupling odd": (lambda: AffineCoupling(5, small_mlp), (5,)),
    "coupling image": (lambda: AffineCoupling(3, small_conv), (3, 4, 2)),
    "mixing flat": (lambda: LUMixing(6), (6,)),
    "mixing image": (lambda: LUMixing(4), (4, 3, 2)),
    "chain": (lambda: Chain([ActNorm(4), LUMixing(4), AffineCoupling(4, small_mlp), LUMixing(4)]), (4,)),
    "empty chain": (lambda: Chain([]), (4,)),
    "built identity": (flow((1, 3, 2), kind="identity"), (1, 3, 2)),
    "built mlp": (flow((1, 3, 3)), (1, 3, 3)),
    "built mlp colour": (flow((3, 2, 2), activation="relu"), (3, 2, 2)),
    "built conv": (flow((1, 4, 6), conditioner="conv"), (1, 4, 6)),
    "built conv 1×1": (flow((2, 4, 2), conditioner="conv", kernel=1, activation="silu"), (2, 4, 2)),
    "built conv 5×5": (flow((1, 4, 4), conditioner="conv", kernel=5), (1, 4, 4)),
    "built additive, householder": (flow((1, 3, 3), coupling="additive", mixing="householder"), (1, 3, 3)),
    "built spline, permutation": (flow((1, 3, 3), coupling="spline", bins=5, mixing="permutation"), (1, 3, 3)),
    "built spline conv": (flow((1, 4, 4), coupling="spline", conditioner="conv", mixing="householder"), (1, 4, 4)),
    "built mixture": (flow((1, 3, 3), coupling="mixture", components=3), (1, 3, 3)),
    "built unet": (flow((1, 4, 4), conditioner="unet", attention=True, activation="swiglu"), (1, 4, 4)),
    "built levels": (flow((1, 8, 4), conditioner="conv", levels=2), (1, 8, 4)),
    "built p4": (flow((1, 4, 4), conditioner="conv", mixing="p4"), (1, 4, 4)),
    "built recompute": (flow((1, 3, 3), memory="recompute"), (1, 3, 3)),
    "built recompute levels": (flow((1, 4, 8), conditioner="conv", levels=2, memory="recompute"), (1, 4, 8)),
    "labelled": (lambda: Labelled(flow((1, 3, 3), labelled=True)(), 0.0), (1, 3, 3)),
}
NONLINEAR = [
    *("coupling even", "coupling odd", "coupling image", "chain", "built mlp", "built conv"),
    *("built additive, householder", "built spline, permutation", "built mixture", "built unet", "built levels"),
    *("built p4", "built recompute", "labelled"),
]


def batch(event: Event, seed: int = 1, count: int = 4) -> Tensor:
    return torch.randn(count, *event, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(name: str, seed: int = 0) -> tuple[Invertible, Tensor]:
    torch.manual_seed(seed)
    construct, event = CASES[name]
    return construct().double(), batch(event)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, randomise: Callable[..., nn.Module]) -> tuple[Invertible, Tensor]:
    g, x = build(request.param)
    randomise(g)
    return g, x


def test_round_trip(case: tuple[Invertible, Tensor]) -> None:
    g, x = case
    y, log_det = g(x)
    assert log_det.shape == (len(x),)
    torch.testing.assert_close(g.inverse(y)[0], x, rtol=0, atol=1e-10)
    there_and_back = g(g.inverse(batch(tuple(y.shape[1:]), seed=2))[0])[0]
    torch.testing.assert_close(there_and_back, batch(tuple(y.shape[1:]), seed=2), rtol=0, atol=1e-10)


def test_log_determinants(case: tuple[Invertible, Tensor]) -> None:
    g, x = case
    y, forward = g(x)
    _, inverse = g.inverse(y)
    torch.testing.assert_close(inverse, -forward, rtol=0, atol=1e-10)
    for way, start, stated in ((g.forward, x, forward), (g.inverse, y.detach(), inverse)):
        for row, value in list(zip(start, stated, strict=True))[:2]:
            jacobian = torch.autograd.functional.jacobian(lambda v, way=way: way(v[None])[0][0], row)
            expected = torch.linalg.slogdet(jacobian.reshape(row.numel(), row.numel())).logabsdet
            torch.testing.assert_close(value, expected, rtol=0, atol=1e-9)


def test_gradients_reach_every_parameter(case: tuple[Invertible, Tensor]) -> None:
    g, x = case
    y, log_det = g(x.requires_grad_())
    (y.square().sum() + log_det.sum() + g.inverse(0.5 * y)[0].square().sum()).backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    for name, parameter in g.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_repeated_calls_agree_in_both_modes(case: tuple[Invertible, Tensor]) -> None:
    g, x = case
    first = g.train()(x)[0]
    assert torch.equal(first, g(x)[0])
    assert torch.equal(first, g.eval()(x)[0])
    assert torch.equal(g.inverse(first)[0], g.train().inverse(first)[0])


@pytest.mark.parametrize("name", CASES)
def test_state_dict_round_trip(name: str, randomise: Callable[..., nn.Module]) -> None:
    g, x = build(name, seed=0)
    g.initialise(batch(CASES[name][1], seed=5, count=32))
    randomise(g)
    other, _ = build(name, seed=1)
    other.load_state_dict(g.state_dict())
    assert torch.equal(other(x)[0], g(x)[0])
    other.initialise(3 * batch(CASES[name][1], seed=6, count=32) + 1)
    assert torch.equal(other(x)[0], g(x)[0])  # what was loaded is not fitted again


@pytest.mark.parametrize("name", NONLINEAR)
def test_randomised_flows_are_nonlinear_and_fresh_ones_affine(
    name: str, randomise: Callable[..., nn.Module], curvature: Callable[..., float]
) -> None:
    g, x = build(name)
    other = batch(tuple(x.shape[1:]), seed=3)
    assert curvature(g, x, other) < 1e-12
    randomise(g)
    assert curvature(g, x, other) > 0.02


@pytest.mark.parametrize("name", ["built mlp", "built conv", "mixing flat", "mixing image"])
def test_a_fresh_flow_is_a_rotation(name: str) -> None:
    torch.manual_seed(0)
    construct, event = CASES[name]
    g, x = construct().double(), batch(event)
    y, log_det = g(x)
    torch.testing.assert_close(y.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1), rtol=1e-5, atol=0)
    torch.testing.assert_close(log_det, torch.zeros_like(log_det), rtol=0, atol=1e-5)


@pytest.mark.parametrize("event", [(5,), (3, 4, 2)])
def test_actnorm_normalises_the_first_batch_only(event: Event) -> None:
    norm = ActNorm(event[0]).double()
    assert "initialised" in norm.state_dict()
    assert not norm.initialised
    x = 7 * batch(event, count=50) - 3
    y = norm.initialise(x)
    dims = [d for d in range(x.ndim) if d != 1]
    torch.testing.assert_close(y.mean(dims), torch.zeros(event[0], dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(y.var(dims), torch.ones(event[0], dtype=torch.float64))
    torch.testing.assert_close(norm.inverse(y)[0], x)
    assert norm.initialised
    assert torch.equal(norm.initialise(x + 1), norm(x + 1)[0])
    assert norm.initialise(x + 1).mean() > 0.1


def test_actnorm_takes_a_constant_channel() -> None:
    norm = ActNorm(2).double()
    x = torch.stack([torch.full((20,), -1.0), torch.linspace(0, 1, 20)], 1).double()
    y = norm.initialise(x)
    assert torch.equal(y[:, 0], torch.zeros(20, dtype=torch.float64))
    assert float(norm(x + torch.tensor([1.0, 0.0]))[0][:, 0].detach().abs().max()) <= 20.001


def test_chain_initialises_each_map_on_what_reaches_it() -> None:
    torch.manual_seed(0)
    chain = Chain([ActNorm(4), LUMixing(4), ActNorm(4)]).double()
    x = torch.linspace(1, 4, 4, dtype=torch.float64) * batch((4,), count=200)
    y = chain.initialise(x)
    assert torch.equal(y, chain(x)[0])
    torch.testing.assert_close(y.var(0), torch.ones(4, dtype=torch.float64))


def test_squeeze_by_hand() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    squeezed, log_det = Squeeze()(x)
    assert squeezed.shape == (1, 4, 2, 2)
    assert squeezed[0, :, 0, 1].tolist() == [2, 3, 6, 7]
    assert log_det.tolist() == [0]


def test_mixing_is_its_matrix_on_every_pixel() -> None:
    torch.manual_seed(0)
    mixing = LUMixing(4).double()
    columns = mixing(torch.eye(4, dtype=torch.float64))[0]  # row i: the image of unit vector i
    x = batch((4, 3, 2))
    torch.testing.assert_close(mixing(x)[0], torch.einsum("ij,bihw->bjhw", columns, x))
    torch.testing.assert_close(
        mixing(x)[1], 6 * torch.linalg.slogdet(columns).logabsdet.expand(len(x)), rtol=0, atol=1e-12
    )


def test_coupling_scale_is_softly_clamped() -> None:
    coupling = AffineCoupling(4, small_mlp).double()
    first, second = coupling.first, coupling.second
    assert isinstance(first, MLP)
    assert isinstance(second, MLP)
    biases = [first.layers[-1].bias, second.layers[-1].bias]
    with torch.no_grad():
        for bias in biases:
            bias.fill_(3.0)
    x = batch((4,))
    y, log_det = coupling(x)
    # s = 2 tanh(3 / 2) at each of the four channels, whatever the input
    scale = 2.0 * torch.tanh(torch.tensor(1.5, dtype=torch.float64))
    assert CLAMP == 2.0
    torch.testing.assert_close(log_det, (4 * scale).expand(len(x)))
    torch.testing.assert_close(y, x * scale.exp() + 3.0)
    log_det.sum().backward()
    slope = biases[0].grad[0] / len(x)
    torch.testing.assert_close(slope, 1 - torch.tanh(torch.tensor(1.5, dtype=torch.float64)) ** 2)


@settings(deadline=None, max_examples=15, derandomize=True)
@given(
    channels=st.integers(1, 3),
    height=st.integers(1, 3),
    width=st.integers(1, 3),
    depth=st.integers(1, 4),
    conditioner=st.sampled_from(["mlp", "conv"]),
    seed=st.integers(0, 100),
)
def test_flows_of_any_shape_round_trip(
    channels: int, height: int, width: int, depth: int, conditioner: str, seed: int
) -> None:
    torch.manual_seed(seed)
    event = (channels, 2 * height, 2 * width)
    g = flow(event, depth=depth, conditioner=conditioner)().double()
    with torch.no_grad():
        for parameter in g.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = batch(event, seed)
    y, log_det = g(x)
    assert y.shape == (len(x), channels * 4 * height * width)
    back, back_log_det = g.inverse(y)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-9)
    torch.testing.assert_close(back_log_det, -log_det, rtol=0, atol=1e-9)


def test_depth_is_the_number_of_blocks() -> None:
    for depth in (1, 3):
        g = build_flow(FlowConfig(depth=depth, width=8), (1, 2, 2))
        assert sum(isinstance(m, AffineCoupling) for m in g.modules()) == depth


def test_parameters_by_hand() -> None:
    assert parameters(small_mlp(3, 4)) == (3 * 8 + 8) + (8 * 8 + 8) + (8 * 4 + 4)
    assert parameters(small_conv(2, 4)) == (2 * 8 * 9 + 8) + (8 * 8 + 8) + (8 * 4 * 9 + 4)


def test_one_channel_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="a coupling needs at least two channels to split, got 1"):
        AffineCoupling(1, small_mlp)


def test_odd_images_cannot_be_squeezed() -> None:
    with pytest.raises(ValueError, match="image sides must be multiples of 2, got 3×4"):
        flow((1, 3, 4), conditioner="conv")()


def test_unknown_activation() -> None:
    with pytest.raises(ValueError, match="unknown activation 'tanh'; use one of gelu, relu, silu"):
        activation("tanh")


@pytest.mark.parametrize("event", [(12,), (12, 3, 2)], ids=str)
@pytest.mark.parametrize("count", [1, 2, 40])
def test_mixing_inverts_the_same_matrix_for_few_rows_as_for_many(event: Event, count: int) -> None:
    torch.manual_seed(8)
    g = LUMixing(12).double()
    with torch.no_grad():
        for parameter in g.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, dtype=parameter.dtype))
    matrix = g(torch.eye(12, dtype=torch.float64))[0].T  # its columns are the images of the basis
    y = batch(event, count=count)
    expected = torch.linalg.solve(matrix, y.movedim(1, 0).flatten(1)).view(12, count, *event[1:]).movedim(0, 1)
    torch.testing.assert_close(g.inverse(y)[0], expected, rtol=0, atol=1e-11)


def test_one_network_serves_at_two_labels(randomise: Callable[..., nn.Module], curvature: Callable[..., float]) -> None:
    torch.manual_seed(0)
    network = flow((1, 3, 3), labelled=True)().double()
    randomise(network)
    g_x, g_y = Labelled(network, 1.0), Labelled(network, 0.0)
    x = batch((1, 3, 3))
    assert float((g_x(x)[0] - g_y(x)[0]).detach().norm() / g_x(x)[0].detach().norm()) > 1e-3
    torch.testing.assert_close(g_x(x)[0], network(x, torch.ones(4, dtype=torch.float64))[0])
    torch.testing.assert_close(g_y.inverse(g_y(x)[0])[0], x, rtol=0, atol=1e-10)
    with pytest.raises(ValueError, match="label"):
        network(x)


def test_levels_squeeze_and_let_half_the_channels_leave() -> None:
    g = build_flow(FlowConfig(conditioner="conv", levels=3, depth=2, width=4), (1, 16, 8))
    couplings = [m for m in g.modules() if isinstance(m, AffineCoupling)]
    assert [c.split * 2 for c in couplings] == [4, 4, 8, 8, 16, 16]
    assert g(torch.zeros(2, 1, 16, 8))[0].shape == (2, 128)
    with pytest.raises(
        ValueError, match="squeezes 2×2 blocks 3 times, so image sides must be multiples of 8, got 16×4"
    ):
        build_flow(FlowConfig(conditioner="conv", levels=3), (1, 16, 4))


@pytest.mark.parametrize("conditioner", ["mlp", "conv"])
def test_recomputing_gives_the_gradients_of_storing(conditioner: str) -> None:
    gradients = []
    for memory in ("store", "recompute"):
        torch.manual_seed(0)
        g = flow((1, 4, 4), depth=6, conditioner=conditioner, memory=memory)().double()
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in g.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        z, log_det = g(batch((1, 4, 4)))
        (z.square().sum() - log_det.sum() + g.inverse(z.detach() + 0.1)[0].sin().sum()).backward()
        gradients.append([parameter.grad for parameter in g.parameters()])
    for stored, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, stored, rtol=1e-9, atol=1e-9)


def test_actnorm_takes_a_single_value() -> None:
    norm = ActNorm(3).double()
    y = norm.initialise(torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64))
    assert torch.equal(y, torch.zeros(1, 3, dtype=torch.float64))
