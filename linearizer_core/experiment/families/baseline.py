"""Common parts of the baselines: an ordinary network with the size, frame and labels of a Linearizer."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from linearizer_core.experiment.configuration import EvaluateConfig, TrialConfig
from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.evaluation import (
    Evaluation,
    Quality,
    as_sampled,
    in_batches,
    sampling_noise,
    score_keys,
    scores,
    step_counts,
    step_keys,
    sureness_keys,
)
from linearizer_core.experiment.families.affine import AffineDiffusionFamily, cost_of
from linearizer_core.experiment.families.base import DIFFUSION_OPERATORS, Family
from linearizer_core.experiment.families.diffusion import Diffusion
from linearizer_core.experiment.groups import groups
from linearizer_core.experiment.networks import on_vectors
from linearizer_core.flows.conditioners import Conditioner, fitted_values
from linearizer_core.flows.principal_axes import LeadingAxes
from linearizer_core.models.base import Event
from linearizer_core.models.transport import Transport
from linearizer_core.models.velocity_networks import velocity_network


class Baseline(Family):
    """A network that moves noise to images, compared with the same configuration's diffusion Linearizer.

    It takes from the Linearizer its size, counted by ``fitted_values``; its frame, of which it uses the leading
    coordinates if it is the principal one; its labels or clusters; the temperatures to try on the validation split; and
    the noise and labels of samples.
    """

    operators = DIFFUSION_OPERATORS
    terms = ("flow",)

    times: int = 1
    """Number of times among the network's inputs."""

    @abstractmethod
    def model(self, network: Conditioner, event: Event, told: int, frame: LeadingAxes | None) -> Transport:
        """The model with a given network."""

    @abstractmethod
    def step(
        self, model: Any, config: TrialConfig, noise: Tensor, which: Tensor, steps: int, temperature: float
    ) -> Tensor:
        """Images from one batch of noise and labels, in ``steps`` steps."""

    def headline(self, evaluate: EvaluateConfig) -> int:
        """The number of steps used for sampling, since there is no operator to collapse to."""
        return evaluate.steps[-1]

    def build(self, config: TrialConfig, event: Event, classes: int = 0) -> Transport:
        affine = config.model.operator.kind == "affine"
        compared = AffineDiffusionFamily() if affine else Diffusion()
        flow, frame, told = config.model.flow, _frame(config, event), _told(config, classes)
        size = fitted_values(compared.build(config, event, classes)) - (fitted_values(frame) if frame else 0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.init_seed)
            network = velocity_network(
                event if frame is None else frame.axes.shape[1:],
                size,
                convolutional=not on_vectors(flow),
                depth=flow.depth,
                activation=flow.activation,
                attention=flow.attention,
                told=told,
                times=self.times,
            )
        model = self.model(network, event, told, frame)
        model.classes = classes if _by(config) == "label" else 0
        return model

    def groups(self, config: TrialConfig, data: ImageData) -> Tensor | None:
        by = _by(config)
        return None if by == "one" else groups(by, config.model.operators.count, data)

    @torch.no_grad()
    def initialise(
        self, model: Transport, images: Tensor, generator: torch.Generator, groups: Tensor | None = None
    ) -> None:
        model.initialise(images, groups)

    @torch.no_grad()
    def sample(self, model: Transport, count: int, config: TrialConfig, generator: torch.Generator) -> Tensor:
        """Images by the family's number of steps, at the chosen temperature."""
        source = _Source.of(model, count, generator)
        return source.draw(self, config, self.headline(config.evaluate), model.temperature)

    @torch.no_grad()
    def interim(self, model: Transport, config: TrialConfig, data: ImageData, quality: Quality) -> dict[str, float]:
        steps = self.headline(config.evaluate)
        source = _Source.of(model, config.evaluate.samples, sampling_noise(config))
        # A hundred steps at every temperature after every epoch would take far longer than the training.
        evaluate = config.evaluate if steps == 1 else replace(config.evaluate, temperatures=())
        values = _tried(lambda each: source.draw(self, config, steps, each), evaluate, quality).values
        measured = {f"quality/{name}_k{steps}": value for name, value in values.items()}
        return measured | as_sampled(measured, config.evaluate, f"k{steps}")

    @torch.no_grad()
    def evaluate(self, model: Transport, config: TrialConfig, data: ImageData, quality: Quality) -> Evaluation:
        evaluate = self._stepped(config.evaluate)
        steps = self.headline(evaluate)
        source = _Source.of(model, evaluate.samples, sampling_noise(config))
        tried = _tried(lambda each: source.draw(self, config, steps, each), evaluate, quality, test=True)
        model.choose(tried.temperature)
        stepping = step_counts(
            lambda k: source.draw(self, config, k, tried.temperature), evaluate, quality, model.device
        )
        summary = stepping.summary | tried.summary
        for k in self._tested(evaluate):
            summary |= scores(quality, stepping.images[k], f"k{k}", ["test"])
        summary |= as_sampled(summary, evaluate, f"k{steps}") | quality.sureness(stepping.images[steps])
        if _by(config) == "label":
            images, judge = stepping.images[steps].clamp(-1, 1), quality.classifier
            accuracy = judge.accuracy(images, source.which) if judge is not None else math.nan
            summary["quality/judged_accuracy"] = accuracy
        summary["cost/params"] = float(fitted_values(model))
        return Evaluation(summary, stepping.curves, stepping.grids())

    def interim_keys(self, config: TrialConfig) -> list[str]:
        ways = (f"k{self.headline(config.evaluate)}", "sampled")
        return [f"quality/{name}_{how}" for how in ways for name in config.evaluate.quality]

    def summary_keys(self, config: TrialConfig) -> list[str]:
        evaluate = self._stepped(config.evaluate)
        keys = step_keys(evaluate) + score_keys(evaluate, "sampled") + sureness_keys(evaluate)
        keys += [f"test/{name}_k{k}" for k in self._tested(evaluate) for name in evaluate.quality]
        if evaluate.temperatures:
            keys += [*score_keys(evaluate, "t1"), "sampling/temperature"]
        if _by(config) == "label":
            keys.append("quality/judged_accuracy")
        return [*keys, "cost/params"]

    def _stepped(self, evaluate: EvaluateConfig) -> EvaluateConfig:
        """The evaluation settings with the number of sampling steps added to the step counts."""
        return replace(evaluate, steps=tuple(sorted({self.headline(evaluate), *evaluate.steps})))

    def _tested(self, evaluate: EvaluateConfig) -> list[int]:
        """The step counts that are also scored on the test split."""
        return sorted({self.headline(evaluate), evaluate.steps[-1]})


@dataclass(frozen=True)
class _Source:
    """The noise and labels of all samples of a model, the same as an affine model's for the same generator."""

    model: Transport
    noise: Tensor
    which: Tensor

    @staticmethod
    def of(model: Transport, count: int, generator: torch.Generator) -> _Source:
        noise = model.noise(count, generator)
        return _Source(model, noise, model.labels(count, generator))

    def draw(self, family: Baseline, config: TrialConfig, steps: int, temperature: float) -> Tensor:
        return in_batches(
            lambda x0, which: family.step(self.model, config, x0, which, steps, temperature), self.noise, self.which
        )


@dataclass(frozen=True)
class _Tried:
    """The best temperature on the validation split, its values there, and the record of the choice."""

    temperature: float
    values: dict[str, float]
    summary: dict[str, float]


def _tried(draw: Callable[[float], Tensor], evaluate: EvaluateConfig, quality: Quality, test: bool = False) -> _Tried:
    """Try samples at every temperature; no choice is recorded if temperature 1 is the only one.

    The validation split decides. With ``test``, temperature 1 is also scored on the test split.
    """
    found: dict[float, dict[str, float]] = {}
    summary: dict[str, float] = {}
    if test and not evaluate.temperatures:
        return _Tried(1.0, {}, {})  # these samples are among those of the step counts
    for temperature in sorted({1.0, *evaluate.temperatures}):
        images = draw(temperature)
        found[temperature] = quality(images)
        if test and temperature == 1.0:
            summary = {f"quality/{name}_t1": value for name, value in found[1.0].items()}
            summary |= scores(quality, images, "t1", ["test"])

    best = min(found, key=lambda each: cost_of(found[each], evaluate))
    return _Tried(best, found[best], summary | ({"sampling/temperature": best} if test else {}))


def _by(config: TrialConfig) -> str:
    """What the model is told about: nothing for ``one``, or if the Linearizer's operator is not affine."""
    return config.model.operators.by if config.model.operator.kind == "affine" else "one"


def _told(config: TrialConfig, classes: int) -> int:
    """The number of labels or clusters that the network is conditioned on; 0 if unconditional."""
    return {"one": 0, "label": max(classes, 1), "cluster": config.model.operators.count}[_by(config)]


def _frame(config: TrialConfig, event: Event) -> LeadingAxes | None:
    """The leading principal coordinates on which the Linearizer's couplings act; None for pixels."""
    flow, core = config.model.flow, config.model.operator
    if flow.frame == "pixels" or not on_vectors(flow) or flow.kind != "coupling":
        return None
    count = min(flow.coordinates, math.prod(event))
    return LeadingAxes(event, min(count, max(2, core.rank)) if core.kind == "time_diagonal" else count)
