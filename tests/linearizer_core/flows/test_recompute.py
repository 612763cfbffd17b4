"""Recomputing chains: the gradients of storing ones, in memory that does not grow with depth, or an error."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from linearizer_core.flows import ActNorm, AffineCoupling, Chain, Flatten, Identity, Invertible, LUMixing, Squeeze
from linearizer_core.flows.recompute import TOLERANCE

Event = tuple[int, ...]
Way = Literal["forward", "inverse"]
FLAT, IMAGE = (5,), (3, 2, 4)


class Tiny(nn.Module):
    """A conditioner on rows or pixels that adds its label to what it sees."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inner = nn.Linear(inputs, 4)
        self.outer = nn.Linear(4, outputs)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        if label is not None:
            x = x + label.view(-1, *[1] * (x.ndim - 1))
        return self.outer(self.inner(x.movedim(1, -1)).tanh()).movedim(-1, 1)


class Calls(Invertible):
    """A learned scale that counts its calls, and how many of all results are alive at each."""

    def __init__(self, results: list[weakref.ref[torch.UntypedStorage]]) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
        self.there = self.back = self.alive = 0
        self.results = results

    def _scaled(self, x: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        self.alive = max(self.alive, sum(result() is not None for result in self.results))
        y = x * log_scale.exp()
        self.results.append(weakref.ref(y.untyped_storage()))
        return y, (x.shape[1] * log_scale).expand(len(x))

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.there += 1
        return self._scaled(x, self.scale)

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.back += 1
        return self._scaled(y, -self.scale)


class Forgetful(Invertible):
    """A map whose stated inverse is off by a factor, or not finite."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x, x.new_zeros(len(x))

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.factor * y, y.new_zeros(len(y))


def blocks(depth: int, channels: int, seed: int = 0) -> list[Invertible]:
    """``depth`` times ActNorm, AffineCoupling and LUMixing, near a rotation, every parameter moved."""
    torch.manual_seed(seed)
    maps: list[Invertible] = []
    for _ in range(depth):
        maps += [ActNorm(channels), AffineCoupling(channels, Tiny), LUMixing(channels)]
    with torch.no_grad():
        for step in maps:
            for parameter in step.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
            if isinstance(step, AffineCoupling):
                for conditioner in (step.first, step.second):
                    conditioner.outer.weight.mul_(0.3)  # type: ignore[union-attr]
    return maps


def batch(event: Event, seed: int = 1, count: int = 3) -> Tensor:
    return torch.randn(count, *event, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def take(g: Chain, way: Way, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return g(x, label) if way == "forward" else g.inverse(x, label)


def loss(y: Tensor, log_det: Tensor) -> Tensor:
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return (weights * y).sum() + y.pow(4).mean() + (0.1 * log_det).exp().sum()


def gradients(
    g: Chain,
    way: Way,
    x: Tensor,
    label: Tensor | None = None,
    measure: Callable[[Tensor, Tensor], Tensor] = loss,
) -> dict[str, Tensor | None]:
    """What reaches the input and every parameter."""
    x = x.detach().clone().requires_grad_(x.requires_grad)
    g.zero_grad()
    measure(*take(g, way, x, label)).backward()
    found = {"input": x.grad, **{name: parameter.grad for name, parameter in g.named_parameters()}}
    return {name: None if grad is None else grad.clone() for name, grad in found.items()}


def assert_same(stored: dict[str, Tensor | None], recomputed: dict[str, Tensor | None], tolerance: float) -> None:
    assert stored.keys() == recomputed.keys()
    for name, expected in stored.items():
        found = recomputed[name]
        assert (found is None) == (expected is None), name
        if expected is not None and found is not None:
            assert float((found - expected).norm()) <= tolerance * float(expected.norm()), name


def recomputing(g: Chain) -> Chain:
    """A copy of the chain, with those inside it, that recomputes."""
    twin = copy.deepcopy(g)
    for module in twin.modules():
        if isinstance(module, Chain):
            module.memory = "recompute"
    return twin


@pytest.mark.parametrize("way", ["forward", "inverse"])
@pytest.mark.parametrize("event", [FLAT, IMAGE], ids=str)
def test_gradients_of_a_deep_chain(event: Event, way: Way) -> None:
    g = Chain(blocks(16, event[0])).double()
    x = batch(event).requires_grad_()
    stored = gradients(g, way, x)
    assert len(stored) == 1 + 16 * (2 + 8 + 3)
    assert all(grad is not None and bool(grad.any()) for grad in stored.values())
    assert_same(stored, gradients(recomputing(g), way, x), 1e-9)
    assert_same(
        gradients(g.float(), way, x.detach().float().requires_grad_()),
        gradients(recomputing(g.float()), way, x.detach().float().requires_grad_()),
        1e-4,
    )


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    depth=st.integers(0, 4),
    event=st.one_of(st.tuples(st.integers(2, 5)), st.tuples(st.integers(2, 4), st.integers(1, 3), st.integers(1, 3))),
    count=st.integers(1, 3),
    way=st.sampled_from(["forward", "inverse"]),
    labelled=st.booleans(),
    differentiable=st.booleans(),
    seed=st.integers(0, 99),
)
def test_gradients_of_any_chain(
    depth: int, event: Event, count: int, way: Way, labelled: bool, differentiable: bool, seed: int
) -> None:
    g = Chain(blocks(depth, event[0], seed)).double()
    if not depth and not differentiable:
        return
    x = batch(event, seed, count).requires_grad_(differentiable)
    label = torch.arange(count).double() if labelled else None
    torch.testing.assert_close(take(recomputing(g), way, x, label), take(g, way, x, label), rtol=0, atol=1e-12)
    assert_same(gradients(g, way, x, label), gradients(recomputing(g), way, x, label), 1e-9)


@pytest.mark.parametrize("way", ["forward", "inverse"])
def test_numerical_gradients(way: Way) -> None:
    g = recomputing(Chain(blocks(2, 3)).double())

    def call(x: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        return take(g, way, x)

    # The parameters are given for gradcheck to move them, too.
    assert torch.autograd.gradcheck(call, (batch((3,), count=2).requires_grad_(), *g.parameters()))


def test_labels_reach_the_conditioners() -> None:
    g = recomputing(Chain(blocks(2, 4)).double())
    x = batch((4,)).requires_grad_()
    one, two = (gradients(g, "forward", x, torch.full((3,), value)) for value in (0.0, 1.0))
    assert_same(gradients(g, "forward", x), one, 1e-12)
    assert float((one["input"] - two["input"]).norm()) > 1e-3  # type: ignore[operator]
    with pytest.raises(ValueError, match="gives labels no gradient"):
        g(x, torch.zeros(3, requires_grad=True))


@pytest.mark.parametrize("way", ["forward", "inverse"])
@pytest.mark.parametrize("measure", [lambda y, _: y.square().sum(), lambda _, log_det: log_det.square().sum()])
def test_losses_of_one_of_the_two_results(way: Way, measure: Callable[[Tensor, Tensor], Tensor]) -> None:
    # A gradient that is not there is zero.
    g = Chain([Flatten((2, 2, 1)), *blocks(2, 4)]).double()
    start = (2, 2, 1) if way == "forward" else (4,)
    stored, recomputed = (
        {name: torch.zeros(()) if grad is None else grad for name, grad in found.items()}
        for found in (gradients(c, way, batch(start).requires_grad_(), None, measure) for c in (g, recomputing(g)))
    )
    for name, grad in stored.items():
        assert float((recomputed[name] - grad).norm()) <= 1e-9 * float(grad.norm()), name


@pytest.mark.parametrize("way", ["forward", "inverse"])
def test_maps_used_twice(way: Way) -> None:
    shared = blocks(1, 4)
    g = Chain([*shared, *blocks(1, 4, seed=1), *shared, shared[1]]).double()
    x = batch((4,)).requires_grad_()
    assert_same(gradients(g, way, x), gradients(recomputing(g), way, x), 1e-9)


@pytest.mark.parametrize("way", ["forward", "inverse"])
@pytest.mark.parametrize("memory", ["store", "recompute"])
def test_chains_in_chains(way: Way, memory: Literal["store", "recompute"]) -> None:
    inner = Chain([Identity(), *blocks(1, 8, seed=2), Chain(blocks(1, 8, seed=3))])
    g = Chain([Squeeze(), *blocks(1, 8), inner, Flatten((8, 1, 2)), Identity()]).double()
    twin = recomputing(g)
    twin.memory = memory
    x = batch((2, 2, 4) if way == "forward" else (16,)).requires_grad_()
    assert_same(gradients(g, way, x), gradients(twin, way, x), 1e-9)


@pytest.mark.parametrize("frozen", [range(6), [0, 4, 7], [8], range(9)], ids=str)
@pytest.mark.parametrize("differentiable", [False, True])
def test_frozen_maps(frozen: range | list[int], differentiable: bool) -> None:
    g = Chain(blocks(3, 4)).double()
    for index in frozen:
        g.maps[index].requires_grad_(False)
    twin = recomputing(g)
    x = batch((4,)).requires_grad_(differentiable)
    if len(frozen) == 9 and not differentiable:
        assert not any(result.requires_grad for result in twin(x))
    else:
        assert_same(gradients(g, "forward", x), gradients(twin, "forward", x), 1e-9)


def test_the_passes_that_are_made() -> None:
    results: list[weakref.ref[torch.UntypedStorage]] = []
    maps = [Calls(results) for _ in range(4)]
    g = Chain(maps, "recompute")
    maps[0].requires_grad_(False)
    gradients(g, "forward", batch((3,)))
    # Nothing before the first learned map is visited again, and that one's input is kept.
    assert [(step.there, step.back) for step in maps] == [(1, 0), (2, 0), (2, 1), (2, 1)]


def test_what_is_recovered_is_let_go() -> None:
    results: list[weakref.ref[torch.UntypedStorage]] = []
    maps = [Calls(results) for _ in range(9)]
    gradients(Chain(maps, "recompute"), "forward", batch((3,)).requires_grad_())
    assert len(results) == 9 + 9 + 8
    # The chain's output; the input and output of one step; and that output as it was recovered.
    assert max(step.alive for step in maps) == 4


def test_without_gradients_nothing_is_kept() -> None:
    g = recomputing(Chain(blocks(2, 4)).double())
    x = batch((4,)).requires_grad_()
    with torch.no_grad():
        y, log_det = g(x)
    assert not y.requires_grad
    assert not log_det.requires_grad
    torch.testing.assert_close(y, g(x)[0].detach(), rtol=0, atol=1e-12)


def test_hooks_of_gradients_run_once_and_gradients_accumulate() -> None:
    g = recomputing(Chain([*(shared := blocks(1, 4)), *shared]).double())
    seen: list[Tensor] = []
    for parameter in g.parameters():
        parameter.register_post_accumulate_grad_hook(seen.append)
    loss(*g(batch((4,)))).backward()
    assert sorted(map(id, seen)) == sorted(map(id, g.parameters()))
    once = [parameter.grad.clone() for parameter in g.parameters() if parameter.grad is not None]
    loss(*g(batch((4,)))).backward()
    for parameter, grad in zip(g.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * grad)


def test_buffers_and_parameters_are_left_alone() -> None:
    g = recomputing(Chain(blocks(2, 4)).double())
    before = copy.deepcopy(g.state_dict())
    gradients(g, "forward", batch((4,)).requires_grad_())
    assert all(torch.equal(value, before[name]) for name, value in g.state_dict().items())
    assert not any(step.initialised for step in g.maps if isinstance(step, ActNorm))


def peak_saved(g: Chain, way: Way, x: Tensor) -> int:
    """The most bytes of activations that are saved for backward at any one time of a training step."""
    known = {t.data_ptr() for t in (*g.parameters(), *g.buffers())}
    held = most = 0

    class Saved:
        def __init__(self, value: Tensor) -> None:
            self.value = value

    def release(size: int) -> None:
        nonlocal held
        held -= size

    def pack(value: Tensor) -> Saved:
        nonlocal held, most
        saved = Saved(value)
        if value.data_ptr() not in known:
            size = value.numel() * value.element_size()
            held += size
            most = max(most, held)
            weakref.finalize(saved, release, size)
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.value):
        loss(*take(g, way, x)).backward()
    assert held == 0
    return most


@pytest.mark.parametrize("way", ["forward", "inverse"])
def test_memory_does_not_grow_with_depth(way: Way) -> None:
    x = batch(IMAGE, count=16).requires_grad_()
    stored = [peak_saved(Chain(blocks(depth, 3)).double(), way, x) for depth in (2, 4, 16)]
    recomputed = [peak_saved(recomputing(Chain(blocks(depth, 3)).double()), way, x) for depth in (2, 4, 16)]
    assert stored[2] - stored[1] == pytest.approx(6 * (stored[1] - stored[0]))
    assert stored[1] > 1.8 * stored[0]
    assert recomputed[0] == recomputed[1] == recomputed[2]
    assert recomputed[2] < stored[0]


def test_what_does_not_invert_is_refused() -> None:
    x = batch((4,))
    for factor in (1 + 3 * TOLERANCE, float("nan")):
        y, _ = Chain([*blocks(1, 4), Forgetful(factor)], "recompute").double()(x)
        with pytest.raises(
            ArithmeticError, match=r"inverses accurate to 1e-03 of the largest entry, .* off by (2|3|nan)"
        ):
            y.sum().backward()
    g = Chain([*blocks(1, 4), Forgetful(1 + 0.1 * TOLERANCE)], "recompute").double()
    gradients(g, "forward", x)


def test_what_is_not_finite_gives_gradients_that_are_not() -> None:
    g = Chain(blocks(2, 4), "recompute").double()
    x = batch((4,))
    x[0, 0] = float("nan")
    grad = gradients(g, "forward", x)["maps.0.mean"]
    assert grad is not None
    assert grad.isnan().any()


def test_zeros_and_empty_batches() -> None:
    g = Chain([Flatten((4, 1, 1)), *blocks(2, 4)])
    for count in (0, 2):
        x = torch.zeros(count, 4, 1, 1, requires_grad=True)
        measure = lambda y, log_det: y.sum() + log_det.sum()  # noqa: E731
        stored, recomputed = (gradients(c, "forward", x, None, measure) for c in (g, recomputing(g)))
        assert_same(stored, recomputed, 1e-4)


def test_less_than_single_precision_is_refused() -> None:
    g = recomputing(Chain(blocks(1, 4)))
    x = batch((4,)).float()
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match="for maps and inverses, got autocast"):
        g(x)
    with pytest.raises(ValueError, match=r"for maps and inverses, got torch\.bfloat16"):
        g.bfloat16()(x.bfloat16())
    with torch.no_grad():
        assert g(x.bfloat16())[0].dtype == torch.bfloat16


def test_tensors_written_to_before_backward_are_refused() -> None:
    g = recomputing(Chain([*blocks(1, 4), ActNorm(4)]).double())
    y, _ = g(batch((4,)))
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    y, _ = g(batch((4,)))
    with torch.no_grad():
        next(g.parameters()).add_(1)
    with pytest.raises(ValueError, match="a parameter or buffer has changed since"):
        y.sum().backward()
    y, _ = g(batch((4,)))
    next(g.buffers()).fill_(True)
    with pytest.raises(ValueError, match="a parameter or buffer has changed since"):
        y.sum().backward()
    g = Chain([Calls([])], "recompute")
    y, _ = torch.func.functional_call(g, {"maps.0.scale": torch.zeros((), requires_grad=True)}, (batch((4,)),))
    with pytest.raises(ValueError, match="a parameter or buffer has changed since"):
        y.sum().backward()


def test_second_derivatives_are_refused() -> None:
    g = recomputing(Chain(blocks(1, 4)).double())
    x = batch((4,)).requires_grad_()
    with pytest.raises(ValueError, match="first derivatives only, got create_graph=True"):
        torch.autograd.grad(g(x)[0].sum(), x, create_graph=True)


def test_an_unknown_memory() -> None:
    with pytest.raises(ValueError, match="memory must be 'store' or 'recompute', got 'swap'"):
        Chain([], memory="swap")  # type: ignore[arg-type]
    assert Chain([]).memory == "store"
