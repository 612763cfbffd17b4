"""A training step: the same numbers as PyTorch's own pieces, few operators, and nothing that waits for the device."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from linearizer_core.experiment.configuration import (
    FlowConfig,
    ModelConfig,
    OperatorConfig,
    OperatorsConfig,
    TrainConfig,
    TrialConfig,
    from_mapping,
)
from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.graph import Recorder
from linearizer_core.experiment.losses import Losses
from linearizer_core.experiment.recipes import expand
from linearizer_core.experiment.step import Step
from linearizer_core.experiment.training import Trainer

WAITS = ("item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__float__", "__int__", "__index__")
"""What makes Python wait for a tensor's values."""


def trial(family: str = "diffusion", recipe: str = "default", **train: Any) -> TrialConfig:
    values = {"family": family, "recipe": recipe, "model": {"flow": {"depth": 2, "width": 16}}, "train": train}
    config: TrialConfig = from_mapping(TrialConfig, expand(values))
    return config


def test_steps_are_those_of_an_ordinary_loop(digits: ImageData) -> None:
    """Beside Adam, clipping and an average that know of each parameter by itself, in float64."""
    config = trial(batch_size=64, lr=1e-2, clip=0.5, ema=0.9, dequantise=0.0)
    trainer = Trainer(config, digits)
    model = copy.deepcopy(trainer.model).double()
    plain, average = copy.deepcopy(model), copy.deepcopy(model)
    losses = Losses(trainer.family, model, config)
    step = Step(losses, copy.deepcopy(model), config.train)
    optimiser = torch.optim.Adam(plain.parameters(), lr=1e-2, betas=(0.9, 0.99))
    clipped = 0
    for i in range(5):
        images = digits.train.batch(torch.arange(64 * i, 64 * i + 64)).double()
        draws = Draws(torch.Generator().manual_seed(i))
        draws.groups = digits.train_labels[64 * i : 64 * i + 64]
        rate = 1e-2 / (i + 1)
        step(images, draws, rate, torch.Generator())
        optimiser.zero_grad()
        optimiser.param_groups[0]["lr"] = rate
        loss = trainer.family.losses(plain, images, config, draws)["likelihood"]
        loss.backward()
        clipped += float(torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)) > 0.5
        optimiser.step()
        with torch.no_grad():
            for mean, value in zip(average.parameters(), plain.parameters(), strict=True):
                mean.copy_(value if i == 0 else 0.9 * mean + 0.1 * value)
    assert clipped
    for name, value in plain.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), value, rtol=0, atol=1e-9)
    for name, value in average.named_parameters():
        torch.testing.assert_close(step.averaged.get_parameter(name), value, rtol=0, atol=1e-9)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each of ``WAITS`` was called."""
    called: Counter[str] = Counter()

    def counted(name: str) -> Callable[..., Any]:
        original = getattr(Tensor, name)

        def call(self: Tensor, *args: Any, **options: Any) -> Any:
            called[name] += 1
            return original(self, *args, **options)

        return call

    for name in WAITS:
        monkeypatch.setattr(Tensor, name, counted(name))
    return called


@pytest.mark.parametrize(
    ("family", "recipe"),
    [
        ("diffusion", "default"),
        ("diffusion", "learned"),
        ("diffusion", "paper"),
        ("idempotent", "default"),
        ("style", "default"),
        ("flow_matching", "default"),
        ("mean_flow", "default"),
        ("inverse", "default"),
        ("regression", "default"),
        ("dynamics", "default"),
        ("koopman", "default"),
    ],
)
def test_steps_do_not_wait_for_what_is_computed(
    family: str, recipe: str, digits: ImageData, waits: Counter[str]
) -> None:
    """An epoch of twice the steps waits no oftener: only at its end is anything read."""
    found = []
    for steps in (2, 4):
        trainer = Trainer(trial(family, recipe, batch_size=64, steps=steps), digits)
        trainer.train_epoch()  # of which the first step starts the optimiser
        waits.clear()
        trainer.train_epoch()
        found.append(dict(waits))
    assert found[0] == found[1] == {"tolist": 1}


def operators_per_step(trainer: Trainer) -> float:
    """Leaf operators of ATen in an epoch, by step."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        trainer.train_epoch()
    found = [event for event in profiled.events() if event.name.startswith("aten::")]
    leaves = [each for each in found if not any(child.name.startswith("aten::") for child in each.cpu_children)]
    return len(leaves) / trainer.steps_per_epoch


def test_a_step_has_few_operators(digits: ImageData) -> None:
    """The quickstart's had 2,126 where every parameter was clipped, moved and averaged by itself."""
    flow, operator = FlowConfig(depth=4, width=128), OperatorConfig(rank=16)
    model = ModelConfig(flow=flow, operator=operator, operators=OperatorsConfig(by="label"))
    trainer = Trainer(TrialConfig(model=model, train=TrainConfig(batch_size=128, lr=3e-3)), digits)
    trainer.train_epoch()
    assert operators_per_step(trainer) < 1300


def test_what_follows_the_gradients_takes_as_many_operators_for_any_model(digits: ImageData) -> None:
    """Clipping, Adam and the average: all parameters at once."""
    found = []
    for depth in (1, 3):
        flow = FlowConfig(depth=depth, width=16)
        trainer = Trainer(TrialConfig(model=ModelConfig(flow=flow), train=TrainConfig(batch_size=64)), digits)
        trainer.train_epoch()
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            trainer.step.move()
        found.append(sum(event.name.startswith("aten::") for event in profiled.events()))
    assert found[0] == found[1] < 60


class Calls:
    """A recorder without a GPU: what is replayed is the call itself, with the inputs where they were put."""

    def __init__(self) -> None:
        self.warmed, self.replayed = 0, 0

    def warm(self, run: Callable[[], None]) -> None:
        self.warmed += 1
        run()

    def record(self, run: Callable[[], None]) -> Callable[[], None]:
        def replay() -> None:
            self.replayed += 1
            run()

        return replay


def recorded(trainer: Trainer, recorder: Recorder) -> Trainer:
    trainer.step = Step(trainer.step.losses, trainer.averaged, trainer.config.train, recorder)
    trainer.optimiser = trainer.step.optimiser
    return trainer


@pytest.mark.parametrize(
    ("family", "recipe"),
    [("diffusion", "default"), ("diffusion", "learned"), ("style", "default"), ("mean_flow", "default")],
)
def test_recorded_steps_have_the_numbers_of_others(
    family: str, recipe: str, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the rounding of the rate to float32: of every step the noise, order and groups.

    Going on from a saved state is as if there had been no break, to the bit. A large ε keeps Adam from making whole
    steps of rounding where a gradient is zero.
    """
    monkeypatch.setattr(torch.optim, "Adam", partial(torch.optim.Adam, eps=0.01))
    config = trial(family, recipe, epochs=3, batch_size=64, steps=4)
    plain, calls = Trainer(config, digits), Calls()
    other = recorded(Trainer(config, digits), calls)
    for _ in range(2):
        assert other.train_epoch().metrics == pytest.approx(plain.train_epoch().metrics, rel=1e-4)
    assert (calls.warmed, calls.replayed) == (3, 4)  # after a first step that tells what is drawn
    again = recorded(Trainer(config, digits), Calls())
    again.load_state_dict(copy.deepcopy(other.state_dict()))
    found = other.train_epoch().metrics
    assert again.train_epoch().metrics == found == pytest.approx(plain.train_epoch().metrics, rel=1e-4)
    for name, value in other.averaged.state_dict().items():
        assert torch.equal(value, again.averaged.state_dict()[name]), name
        torch.testing.assert_close(value, plain.averaged.state_dict()[name], rtol=1e-3, atol=1e-5)


def test_a_step_that_cannot_be_recorded_is_taken_as_before(digits: ImageData) -> None:
    class Fails(Calls):
        def record(self, run: Callable[[], None]) -> Callable[[], None]:
            raise RuntimeError("operation not permitted\nwhen stream is capturing")

    config = trial(epochs=2, batch_size=64, steps=4)
    plain, other = Trainer(config, digits), recorded(Trainer(config, digits), Fails())
    for _ in range(2):
        assert other.train_epoch().metrics == pytest.approx(plain.train_epoch().metrics, rel=1e-4)
    assert other.warnings == [
        "train.graph: steps cannot be recorded, so Python launches each kernel (RuntimeError: operation not permitted "
        "when stream is capturing)"
    ]
