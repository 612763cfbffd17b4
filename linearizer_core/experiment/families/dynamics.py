"""The dynamics family: images that move, predicted by powers of one operator over one g."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.cores import core
from linearizer_core.experiment.data import ImageData, load
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.evaluation import (
    COUNTED,
    SAMPLE_SEED,
    Curve,
    Evaluation,
    Quality,
    in_batches,
    megaflops,
    timed,
)
from linearizer_core.experiment.families.base import Family
from linearizer_core.experiment.families.linear import SPECTRUM_KEYS, linearity, linearity_keys, lipschitz, spectrum
from linearizer_core.experiment.families.motion import (
    DYNAMICS_KEYS,
    Predict,
    errors,
    held_out,
    motion_of,
    motion_references,
    predicted,
    prediction_keys,
    prediction_losses,
    successive,
    turning,
)
from linearizer_core.experiment.networks import build_flow
from linearizer_core.flows.conditioners import fitted_values
from linearizer_core.models.base import Event
from linearizer_core.models.dynamics import Dynamics, Moving
from linearizer_core.operators import LearnedRotation
from linearizer_core.operators.base import LinearOperator

CONTROLS = ("random", "reversed")
"""Controls: random rotations in place of A, and A⁻¹, which lets time run backwards."""


class DynamicsFamily(Family):
    """Frames of moving images as one space, in which a step of time is a linear map."""

    operators = ("rotation", "transition")
    terms: tuple[str, ...] = ("prediction", "backward", "latent")

    def build(self, config: TrialConfig, event: Event, classes: int = 0) -> Dynamics:
        """The model for images ``event``; raises ``ValueError`` for an operator of another family."""
        motion = motion_of(config)
        frame = motion.shape(event)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.init_seed)
            g = build_flow(config.model.flow, frame)
            return Dynamics(g, core("dynamics", config.model, frame), event, motion)

    def initialise(
        self, model: Moving, images: Tensor, generator: torch.Generator, groups: Tensor | None = None
    ) -> None:
        model.initialise(*successive(model.motion, images))

    def losses(self, model: Moving, images: Tensor, config: TrialConfig, draws: Draws) -> dict[str, Tensor]:
        """The terms of ``prediction_losses`` for a batch ``(batch, *event)`` of images."""
        return prediction_losses(model, images, config, draws)

    @torch.no_grad()
    def sample(self, model: Moving, count: int, config: TrialConfig, generator: torch.Generator) -> Tensor:
        """Frames ``(count, *frame)`` predicted a whole period after upright images of the validation split.

        The generator chooses the images. Raises ``DataError`` if the configured data set is missing.
        """
        images = load(config.data).validation
        chosen = torch.randint(len(images), (count,), generator=generator, device=generator.device)
        images = images[chosen.cpu()].to(model.device, model.dtype)
        return predicting(model)(model.motion.at(images, 0), model.motion.period)

    @torch.no_grad()
    def interim(self, model: Moving, config: TrialConfig, data: ImageData, quality: Quality) -> dict[str, float]:
        images = held_out(config, data)["quality"].to(model.device)
        found = errors(predicting(model), config, images)
        return {"quality/psnr_auc": Curve(list(config.evaluate.steps), found).area()}

    @torch.no_grad()
    def evaluate(self, model: Dynamics, config: TrialConfig, data: ImageData, quality: Quality) -> Evaluation:
        found = moving(model, config, data)
        summary, f = found.summary, model.linearizer()
        images = held_out(config, data)["quality"].to(model.device)
        start = model.motion.at(images, 0)
        summary |= linearity(f, start, start) | lipschitz({"g": (model.g, start)})
        summary |= spectrum(f.operator)
        summary |= self._controls(model, config, data)
        return Evaluation(summary, found.curves, found.grids, {"A": f.operator.singular_values().cpu()})

    def _controls(self, model: Dynamics, config: TrialConfig, data: ImageData) -> dict[str, float]:
        """By what factor squared errors one step ahead grow with other operators, and angles that mean nothing."""
        images = held_out(config, data)["test"].to(model.device)
        start, target = model.motion.at(images, 0), model.motion.at(images, 1)
        dim = math.prod(model.frame)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SAMPLE_SEED)
            chance = LearnedRotation(dim)
            chance.frame.copy_(torch.randn(dim, dim))
            chance.angles.copy_((2 * torch.rand(dim // 2) - 1) * math.pi)
        chance = chance.to(model.device, model.dtype)
        others: dict[str, LinearOperator] = {"random": chance.operator(), "reversed": model.steps(-1)}
        made = {"": model.operator(), **others}
        error = {
            name: (in_batches(lambda x, a=a: model.decode(a.apply(model.encode(x))), start) - target).square().mean()
            for name, a in made.items()
        }
        found = {f"controls/{name}": float(error[name] / error[""]) for name in others}
        angles = turning(others["random"], model.encode, config, images)
        return found | {"dynamics/angle_error_random": angles["dynamics/angle_error_mean"]}

    def references(self, config: TrialConfig, data: ImageData, quality: Quality) -> dict[str, Evaluation]:
        return motion_references(config, data)

    def metrics(self, config: TrialConfig) -> tuple[str, ...]:
        return ()  # each predicted frame is compared with the real one

    def interim_keys(self, config: TrialConfig) -> list[str]:
        return ["quality/psnr_auc"]

    def summary_keys(self, config: TrialConfig) -> list[str]:
        keys = [*moving_keys(config), *linearity_keys(), "linearity/lipschitz_g", "linearity/lipschitz_g_inverse"]
        keys += [f"controls/{name}" for name in CONTROLS]
        return [*keys, "dynamics/angle_error_random", *SPECTRUM_KEYS]


def predicting(model: Moving) -> Predict:
    """The model's predictions for many frames, with one operator for any number of steps."""

    def predict(frames: Tensor, steps: float) -> Tensor:
        operator = model.steps(steps)
        return in_batches(lambda x: model.decode(operator.apply(model.encode(x))), frames)

    return predict


def moving(model: Moving, config: TrialConfig, data: ImageData) -> Evaluation:
    """What ``moving_keys`` name, with curves and pictures, for the Linearizer and for its baseline."""
    found = predicted(predicting(model), config, data, model.device)
    summary = found.summary
    images = held_out(config, data)["test"].to(model.device)
    summary |= turning(model.operator(), model.encode, config, images)
    start = model.motion.at(images, 0)
    _, summary["cost/sample_ms_collapsed"] = timed(model.device, lambda: predicting(model)(start, config.train.horizon))
    summary["cost/sample_mflop_collapsed"] = megaflops(lambda x: model.ahead(x, 1), start[:COUNTED])
    summary["cost/params"] = float(fitted_values(model))
    return found


def moving_keys(config: TrialConfig) -> list[str]:
    """The keys of ``moving``."""
    return [
        *prediction_keys(config),
        *DYNAMICS_KEYS,
        "cost/sample_ms_collapsed",
        "cost/sample_mflop_collapsed",
        "cost/params",
    ]
