"""Every flow on an empty batch, on what is not finite, and on entries of extreme sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch

from linearizer_core.errors import InputValueError
from linearizer_core.experiment.configuration import FlowConfig
from linearizer_core.experiment.networks import build_flow
from linearizer_core.flows import Invertible

EVENT = (1, 4, 4)


def configurations() -> Iterator[FlowConfig]:
    """Each value of each choice, beside the others' first ones."""
    for conditioner in ("mlp", "conv", "unet"):
        levels = 1 if conditioner == "mlp" else 2
        for coupling in ("affine", "additive", "spline", "mixture"):
            yield FlowConfig(
                conditioner=conditioner,  # type: ignore[arg-type]
                coupling=coupling,  # type: ignore[arg-type]
                levels=levels,
                depth=2,
                width=4,
                frame="pixels",
            )
        for mixing in ("householder", "p4", "p4_orthogonal", "permutation"):
            yield FlowConfig(
                conditioner=conditioner,  # type: ignore[arg-type]
                mixing=mixing,  # type: ignore[arg-type]
                levels=levels,
                depth=2,
                width=4,
                frame="pixels",
                memory="recompute",
            )
    yield FlowConfig(kind="identity")
    yield FlowConfig(kind="linear", frame="principal")
    yield FlowConfig(kind="linear", frame="pixels")
    yield FlowConfig(conditioner="mlp", frame="principal", depth=1, width=4)


def named(config: FlowConfig) -> str:
    return f"{config.kind}-{config.conditioner}-{config.coupling}-{config.mixing}-{config.memory}-{config.frame}"


FLOWS = {named(config): config for config in configurations()}


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("name", FLOWS)
def test_an_empty_batch_gives_an_empty_result(name: str, labelled: bool) -> None:
    g = build_flow(FLOWS[name], EVENT, labelled)
    label = torch.zeros(0) if labelled else None
    x, z = torch.zeros(0, *EVENT, requires_grad=True), torch.zeros(0, 16, requires_grad=True)
    for result, shape in ((g(x, label), (0, 16)), (g.inverse(z, label), (0, *EVENT))):
        assert result[0].shape == shape
        assert result[1].shape == (0,)
        (result[0].sum() + result[1].sum()).backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("name", [n for n, c in FLOWS.items() if c.kind != "identity"])
def test_nothing_is_fitted_to_an_empty_batch(name: str) -> None:
    with pytest.raises(InputValueError, match="at least one input"):
        build_flow(FLOWS[name], EVENT).initialise(torch.zeros(0, *EVENT))


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_image_that_is_not_finite_spoils_itself_alone(
    name: str, value: float, randomise: Callable[..., torch.nn.Module]
) -> None:
    torch.manual_seed(0)
    g = randomise(build_flow(FLOWS[name], EVENT), 1)
    assert isinstance(g, Invertible)
    x = torch.randn(3, *EVENT)
    expected = g(x)[0]
    x[1, 0, 3, 3] = value
    z, log_det = g(x)
    assert not bool(z[1].isfinite().all())
    torch.testing.assert_close(z[::2], expected[::2], rtol=1e-4, atol=1e-4)
    assert bool(log_det[::2].isfinite().all())
    try:
        back = g.inverse(z)[0]
    except ArithmeticError:
        return
    assert not bool(back[1].isfinite().all())


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e30])
def test_round_trips_at_every_size(name: str, size: float, randomise: Callable[..., torch.nn.Module]) -> None:
    """In float64; what is lost is rounding beside the larger of image and latent."""
    torch.manual_seed(0)
    g = randomise(build_flow(FLOWS[name], EVENT).double(), 1)
    assert isinstance(g, Invertible)
    x = size * torch.randn(3, *EVENT, dtype=torch.float64)
    with torch.no_grad():
        z = g(x)[0]
        back = g.inverse(z)[0]
    assert bool(z.isfinite().all())
    if size > 1 and FLOWS[name].coupling == "mixture":
        return  # flat between components that lie this many scales apart, as its docstring says
    assert float((back - x).abs().max()) <= 1e-6 * max(float(x.abs().max()), float(z.abs().max()))


def test_a_single_value_has_nothing_to_couple() -> None:
    with pytest.raises(ValueError, match="at least two channels"):
        build_flow(FlowConfig(conditioner="mlp", frame="pixels"), (1, 1, 1))
    g = build_flow(FlowConfig(kind="linear", frame="pixels"), (1, 1, 1))
    x = torch.randn(4, 1, 1, 1)
    torch.testing.assert_close(g.inverse(g.initialise(x))[0], x)
