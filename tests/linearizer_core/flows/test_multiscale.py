"""The multi-scale architecture: order of the latents, round trips, log-determinants, data-dependent starts, labels."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from linearizer_core.flows.actnorm import ActNorm
from linearizer_core.flows.base import Chain, Identity, Invertible
from linearizer_core.flows.couplings import AffineCoupling
from linearizer_core.flows.mixing import LUMixing
from linearizer_core.flows.multiscale import MultiScale
from linearizer_core.flows.squeeze import Squeeze

CheckInvertible = Callable[[Invertible, Tensor, Tensor], None]

Event = tuple[int, int, int]


class Conditioner(nn.Module):
    """One hidden layer on channels, which the label shifts."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inner = nn.Parameter(torch.randn(5, inputs))
        self.outer = nn.Parameter(0.3 * torch.randn(outputs, 5))

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        hidden = torch.einsum("hc,bcij->bhij", self.inner, x)
        if label is not None:
            hidden = hidden + label.view(-1, 1, 1, 1)
        return torch.einsum("oh,bhij->boij", self.outer, hidden.tanh())


class Times(Invertible):
    """y = a x, and what it was called with is noted."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.labels: list[Tensor | None] = []

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.labels.append(label)
        return self.factor * x, torch.full((len(x),), x[0].numel()) * torch.tensor(self.factor).log().double()

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.labels.append(label)
        return y / self.factor, torch.full((len(y),), -y[0].numel()) * torch.tensor(self.factor).log().double()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def levels(event: Event, count: int) -> tuple[list[Invertible], list[Event]]:
    """Squeezed levels of actnorm, coupling and mixing, and the shapes that they end with."""
    maps: list[Invertible] = []
    shapes: list[Event] = []
    channels, height, width = event
    for _ in range(count):
        channels, height, width = 4 * channels, height // 2, width // 2
        maps.append(Chain([Squeeze(), ActNorm(channels), AffineCoupling(channels, Conditioner), LUMixing(channels)]))
        shapes.append((channels, height, width))
        channels //= 2
    return maps, shapes


def build(event: Event = (1, 4, 8), count: int = 2, seed: int = 0) -> MultiScale:
    torch.manual_seed(seed)
    maps, shapes = levels(event, count)
    g = MultiScale(maps, event, shapes).double()
    with torch.no_grad():
        for parameter in g.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return g


def test_latents_leave_finest_first() -> None:
    g = MultiScale([Squeeze(), Chain([Squeeze(), Times(10.0)])], (1, 4, 4), [(4, 2, 2), (8, 1, 1)])
    x = torch.arange(16.0, dtype=torch.float64).view(1, 1, 4, 4)
    y, log_det = g(x)
    # Each 2×2 block is (first, second; third, fourth channel): the lower rows leave, the upper rows go on.
    assert y.tolist() == [[4, 6, 12, 14, 5, 7, 13, 15, 0, 20, 80, 100, 10, 30, 90, 110]]
    torch.testing.assert_close(log_det, 8 * torch.tensor([10.0]).double().log())
    back, log_det = g.inverse(y)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(log_det, -8 * torch.tensor([10.0]).double().log())


def test_one_level_is_its_map_flattened() -> None:
    level = Chain([Squeeze(), AffineCoupling(4, Conditioner)]).double()
    g = MultiScale([level], (1, 2, 4), [(4, 1, 2)])
    x = normal(3, 1, 2, 4)
    expected, log_det = level(x)
    assert torch.equal(g(x)[0], expected.flatten(1))
    assert torch.equal(g(x)[1], log_det)


def test_levels_without_a_squeeze_and_an_odd_last_one() -> None:
    g = MultiScale([Identity(), Times(3.0)], (6, 1, 2), iter([(6, 1, 2), (3, 1, 2)]))
    x = normal(2, 6, 1, 2)
    y, _ = g(x)
    torch.testing.assert_close(y, torch.cat([x[:, 3:].flatten(1), 3 * x[:, :3].flatten(1)], 1))
    torch.testing.assert_close(g.inverse(y)[0], x)


@pytest.mark.parametrize(("event", "count"), [((1, 4, 8), 2), ((3, 2, 4), 1), ((1, 8, 8), 3)], ids=str)
def test_round_trips_and_log_determinants(event: Event, count: int, check_invertible: CheckInvertible) -> None:
    g = build(event, count)
    x = normal(3, *event)
    label = torch.linspace(-1, 1, 3, dtype=torch.float64)
    y, _ = g(x, label)
    assert y.shape == (3, x[0].numel())
    check_invertible(g, x, label)


def test_gradients_reach_every_parameter() -> None:
    g = build()
    for way, start in ((g.forward, normal(4, 1, 4, 8)), (g.inverse, normal(4, 32))):
        value, log_det = way(start)
        for grad in torch.autograd.grad(value.square().sum() + log_det.sum(), list(g.parameters())):
            assert torch.isfinite(grad).all()
            assert float(grad.abs().max()) > 0


def test_each_level_is_initialised_on_what_reaches_it() -> None:
    torch.manual_seed(0)
    maps, shapes = levels((1, 4, 4), 2)
    g = MultiScale(maps, (1, 4, 4), shapes).double()
    x = normal(300, 1, 4, 4) * torch.linspace(1, 5, 16, dtype=torch.float64).view(4, 4) + 3
    y = g.initialise(x)
    assert not y.requires_grad
    torch.testing.assert_close(y, g(x)[0], rtol=0, atol=1e-13)
    norms = [m for m in g.modules() if isinstance(m, ActNorm)]
    assert all(bool(norm.initialised) for norm in norms)
    entering = x
    for level, kept, norm in zip(maps, g.kept, norms, strict=True):
        assert isinstance(level, Chain)
        normal_ones = norm(level.maps[0](entering)[0])[0]
        torch.testing.assert_close(normal_ones.var((0, 2, 3)), torch.ones(len(norm.mean), dtype=torch.float64))
        entering = level(entering)[0][:, :kept]


def test_labels_reach_every_level() -> None:
    maps = [Times(2.0), Times(3.0)]
    g = MultiScale(maps, (2, 1, 1), [(2, 1, 1), (1, 1, 1)])
    x, label = normal(2, 2, 1, 1), torch.tensor([0.0, 1.0])
    g(x, label)
    g.inverse(x.flatten(1), label)
    g.initialise(x, label)
    g(x)
    for level in maps:
        assert [seen is label for seen in level.labels] == [True, True, True, False]


@settings(deadline=None, max_examples=15, derandomize=True)
@given(
    channels=st.integers(1, 3),
    height=st.integers(1, 2),
    width=st.integers(1, 3),
    count=st.integers(1, 3),
    batch=st.integers(1, 3),
)
def test_any_shape_round_trips(channels: int, height: int, width: int, count: int, batch: int) -> None:
    event = (channels, height * 2**count, width * 2**count)
    g = build(event, count)
    x = normal(batch, *event)
    y, log_det = g(x)
    back, back_log_det = g.inverse(y)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-10)
    torch.testing.assert_close(back_log_det, -log_det, rtol=0, atol=1e-9)


def test_state_dict_round_trip() -> None:
    g, other = build(seed=0), build(seed=1)
    x = normal(3, 1, 4, 8)
    assert not torch.equal(other(x)[0], g(x)[0])
    other.load_state_dict(g.state_dict())
    assert torch.equal(other(x)[0], g(x)[0])


def test_shapes_that_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="each level needs one shape, got 1 for 2 levels"):
        MultiScale([Squeeze(), Squeeze()], (1, 4, 4), [(4, 2, 2)])
    with pytest.raises(ValueError, match="each level needs one shape, got 0 for 0 levels"):
        MultiScale([], (1, 4, 4), [])
    with pytest.raises(ValueError, match=r"level 1 must keep the 16 values that enter it, got the shape \(4, 2, 1\)"):
        MultiScale([Squeeze()], (1, 4, 4), [(4, 2, 1)])
    with pytest.raises(ValueError, match=r"level 2 must keep the 8 values that enter it, got the shape \(16, 1, 1\)"):
        MultiScale([Squeeze(), Squeeze()], (1, 4, 4), [(4, 2, 2), (16, 1, 1)])
    with pytest.raises(ValueError, match="level 1 must end with an even number of channels to halve, got 3"):
        MultiScale([Identity(), Identity()], (3, 2, 2), [(3, 2, 2), (1, 2, 2)])


def test_tensors_of_other_shapes() -> None:
    g = MultiScale([Identity()], (1, 4, 4), [(4, 2, 2)])
    with pytest.raises(ValueError, match=r"the output of level 1 must be \(batch, 4, 2, 2\), got \(3, 1, 4, 4\)"):
        g(normal(3, 1, 4, 4))
    with pytest.raises(ValueError, match=r"the input must be \(batch, 1, 4, 4\), got \(3, 1, 4, 2\)"):
        g(normal(3, 1, 4, 2))
    with pytest.raises(ValueError, match=r"the latent must be \(batch, 16\), got \(3, 15\)"):
        g.inverse(normal(3, 15))
