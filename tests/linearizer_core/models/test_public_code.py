"""The paper's diffusion model beside its public code, with the same weights, where that code is on the machine.

It is looked for in the folder that LINEARIZER_PUBLIC_CODE names, or beside the project in ``Linearizer``
(assafshocher/Linearizer on GitHub, at adfca2c). Its LPIPS distance needs weights that are not: both sides take squares.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from linearizer_core import LinearDiffusion
from linearizer_core.experiment.configuration import TrialConfig, from_mapping
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.evaluation import capped_psnr
from linearizer_core.experiment.families.diffusion import diffusion_losses
from linearizer_core.experiment.losses import total_loss
from linearizer_core.experiment.recipes import expand
from linearizer_core.flows import ActNorm, AffineCoupling, Chain, Flatten, Invertible, Labelled, LUMixing, Squeeze
from linearizer_core.flows.couplings import CLAMP
from linearizer_core.operators.base import DenseOperator, LinearOperator
from linearizer_core.operators.time_dependent import TimeOperator
from linearizer_core.solvers import EULER, RK4

ROOT = Path(__file__).parents[3]
FOLDER = Path(os.environ.get("LINEARIZER_PUBLIC_CODE", ROOT.parent / "Linearizer"))
SIDE, LAYERS, RANK, STEPS = 8, 1, 3, 20
EVENT = (1, SIDE, SIDE)


@pytest.fixture(scope="module")
def public() -> Iterator[Any]:
    """The modules of the public code, imported from where it is."""
    if not (FOLDER / "one_step").is_dir():
        pytest.skip(f"the paper's public code is not in {FOLDER} (LINEARIZER_PUBLIC_CODE names its folder)")
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER / "one_step"))
        patch.syspath_prepend(str(FOLDER))
        distances = ModuleType("piq")
        distances.LPIPS = lambda **options: lambda a, b: (a - b).square()  # type: ignore[attr-defined]
        patch.setitem(sys.modules, "piq", distances)
        yield SimpleNamespace(
            unet=importlib.import_module("common.song__unet").creat_song_unet,
            g=importlib.import_module("one_step.modules.invertable_network").InverseUnet,
            operator=importlib.import_module("one_step.modules.linear_network").TimeDependentLoRALinearLayer,
            linearizer=importlib.import_module("one_step.modules.one_step_linearizer").OneStepLinearizer,
            matcher=importlib.import_module("one_step.train_one_step").FlowMatcher,
        )
    for name in set(sys.modules) - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture(scope="module")
def theirs(public: Any) -> Any:
    """Their flow matcher with weights under which every part of it does something, without its dropout."""
    torch.manual_seed(0)
    g = public.g(LAYERS, 1, SIDE, public.unet, model_channels=16)
    linearizer = public.linearizer(gx=g, linear_network=public.operator(SIDE * SIDE, RANK, 16)).eval()
    with torch.no_grad():
        for block in g.g.blocks:
            block.actnorm.initialized = True
            block.actnorm.bias.normal_(0, 0.2)
            block.actnorm.log_scale.normal_(0, 0.2)
            block.mix.W.add_(0.1 * torch.randn_like(block.mix.W))
            for coupling in (block.F, block.G):
                last = list(coupling.cond.net.dec.values())[-1]
                last.weight.normal_(0, 0.05)
                last.bias.normal_(0, 0.2)
    return public.matcher(linearizer)


class Network(nn.Module):
    """Their network as ours take its outputs: x ↦ (x + shift)·exp(s) is x·exp(s) + shift·exp(s)."""

    def __init__(self, coupling: Any) -> None:
        super().__init__()
        self.coupling = coupling

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        shift, s = self.coupling._shift_log_scale(x, label)
        assert float(s.detach().abs().max()) < CLAMP, "ours are clamped softly at 2, theirs hard at 5"
        return torch.cat([((s + CLAMP) / (2 * CLAMP)).logit(), shift * s.exp()], 1)


class Halves(Invertible):
    """The halves of the channels exchanged: of theirs the first is transformed first."""

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return torch.cat(x.chunk(2, 1)[::-1], 1), x.new_zeros(len(x))

    inverse = forward


class Unsqueeze(Squeeze):
    """The way back from channels to space."""

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().inverse(x)

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().forward(y)


class Operator(TimeOperator):
    """Their A(t), which multiplies rows from the right."""

    def __init__(self, layer: Any) -> None:
        super().__init__(SIDE * SIDE)
        self.layer = layer

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        return torch.einsum("bed,be->bd", self.layer.get_lin_t(t), z)

    def at(self, times: Tensor) -> list[list[LinearOperator]]:
        return [[DenseOperator(matrix.T.detach()) for matrix in self.layer.get_lin_t(step)] for step in times]

    def initialise(self, z1: Tensor) -> None:
        raise AssertionError("it has weights")


@torch.no_grad()
def blocks(theirs: Any) -> list[Invertible]:
    """Our layers with the weights of a block of theirs."""
    channels = len(theirs.mix.W)
    norm, mixing = ActNorm(channels), LUMixing(channels)
    norm.mean.copy_(-theirs.actnorm.bias.flatten())
    norm.log_scale.copy_(theirs.actnorm.log_scale.flatten())
    norm.initialised.fill_(True)
    permutation, lower, upper = torch.linalg.lu(theirs.mix.W)
    mixing.permutation.copy_(permutation)
    mixing.lower.copy_(lower.tril(-1))
    mixing.upper.copy_(upper.triu(1))
    mixing.sign.copy_(upper.diagonal().sign())
    mixing.log_diagonal.copy_(upper.diagonal().abs().log())
    coupling = AffineCoupling(channels, lambda inputs, outputs: nn.Identity())
    coupling.first, coupling.second = Network(theirs.F), Network(theirs.G)
    return [norm, Halves(), coupling, Halves(), mixing]


@pytest.fixture(scope="module")
def ours(theirs: Any) -> LinearDiffusion:
    """Our model with the same weights; their samplers stop one step before time 1."""
    layers = [layer for block in theirs.linearizer.net_gx.g.blocks for layer in blocks(block)]
    g = Chain([Squeeze(), *layers, Unsqueeze(), Flatten(EVENT)])
    operator = Operator(theirs.linearizer.linear_network)
    return LinearDiffusion(Labelled(g, 1.0), Labelled(g, 0.0), operator, EVENT, end=1 - 1 / STEPS)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(16, *EVENT, generator=torch.Generator().manual_seed(1))


def test_g_and_its_inverse(theirs: Any, ours: LinearDiffusion, images: Tensor) -> None:
    for mode, g in (("gx", ours.g_x), ("gy", ours.g_y)):
        network = theirs.linearizer.net_gx
        with torch.no_grad():
            z = network(images, mode=mode)
            assert float((z - images).square().mean()) > 0.01
            torch.testing.assert_close(g(images)[0], z.flatten(1), rtol=1e-4, atol=1e-4)
            back = network.inverse(images, mode=mode)
            torch.testing.assert_close(g.inverse(images.flatten(1))[0], back, rtol=1e-4, atol=1e-4)


def test_the_loss_with_the_same_draws(theirs: Any, ours: LinearDiffusion, images: Tensor) -> None:
    train = from_mapping(TrialConfig, expand({"recipe": "paper"})).train
    torch.manual_seed(5)
    expected = float(theirs.training_losses(images, noise_level=train.sigma).detach())
    draws = Draws(torch.Generator().manual_seed(5))
    found = total_loss(diffusion_losses(ours, images, replace(train, distance="mse"), draws), train.loss)
    assert expected > 0.1
    assert float(found.detach()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("method", "solver"), [("euler", EULER), ("rk", RK4)])
def test_stepping(theirs: Any, ours: LinearDiffusion, images: Tensor, method: str, solver: Any) -> None:
    expected = theirs.sample(images, "cpu", steps=STEPS, method=method)
    torch.testing.assert_close(ours.sample_stepping(images, STEPS - 1, solver), expected, rtol=1e-3, atol=1e-3)


def test_one_step_of_euler(theirs: Any, ours: LinearDiffusion, images: Tensor) -> None:
    expected = theirs.sample_one_step(images, "cpu", sampling_method="euler", T=STEPS)
    with torch.no_grad():
        found = ours.generator(ours.collapse(STEPS - 1, EULER))(images)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_one_step_of_rk4_is_that_of_stepping_in_ours_alone(theirs: Any, ours: LinearDiffusion, images: Tensor) -> None:
    """Their stages are not nested: what their one step gives is not what their steps give."""
    stepped = theirs.sample(images, "cpu", steps=STEPS, method="rk")
    with torch.no_grad():
        collapsed = ours.generator(ours.collapse(STEPS - 1, RK4))(images)
    assert capped_psnr(collapsed, stepped) > 100
    assert capped_psnr(theirs.sample_one_step(images, "cpu", sampling_method="rk", T=STEPS), stepped) < 80
