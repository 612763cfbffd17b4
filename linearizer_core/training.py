"""Training of one trial: a deterministic loop that yields once an epoch and can go on from its own state."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from linearizer_core.config import LossConfig, TrainConfig, TrialConfig
from linearizer_core.data import ImageData
from linearizer_core.diffusion import LinearDiffusion
from linearizer_core.models import build_diffusion
from linearizer_core.operators.rank_one import RankOneLayer


class TrainingDiverged(ArithmeticError):
    """The loss stopped being finite."""


@dataclass(frozen=True)
class EpochResult:
    """``epoch`` is 1-based; ``metrics`` maps ``train/<term>`` to its mean over the epoch."""

    epoch: int
    metrics: dict[str, float]


class Trainer:
    """Trains the model of a configuration on a device.

    ``model`` is what the optimiser moves, ``averaged`` its exponential moving average, which is what gets
    evaluated and kept. All noise of an epoch comes from ``(seed, epoch)``, so a trainer that goes on from a
    saved state does what it would have done without the break.
    """

    def __init__(self, config: TrialConfig, data: ImageData, device: torch.device | str = "cpu") -> None:
        self.config = config
        self.device = torch.device(device)
        self.images = data.train.to(self.device)
        self.epoch = 0
        self.steps_per_epoch = max(1, len(self.images) // config.train.batch_size)
        model = build_diffusion(config.model, config.evaluate, data.event, config.seed).to(self.device)
        self._fit_to_data(model)
        self.model = model
        self._averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.train.ema))
        self._perturbed, self._perturbed_averaged = (
            [module for module in each.modules() if isinstance(module, RankOneLayer)]
            for each in (model, self._averaged)
        )
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=config.train.lr, betas=(0.9, 0.99), fused=True)

    @property
    def averaged(self) -> LinearDiffusion:
        """The averaged model; the model itself where ``train.ema`` is 0."""
        if self.config.train.ema == 0:
            return self.model
        module = self._averaged.module
        assert isinstance(module, LinearDiffusion)
        return module

    def _fit_to_data(self, model: LinearDiffusion) -> None:
        """Actnorm and the operator's starting point, from one pass over up to 4,096 images and as much noise."""
        generator = self._generator(0)
        images = self.images[:4096]
        noise = torch.randn(images.shape, generator=generator, device=self.device)
        images = images + self.config.train.dequantise * torch.randn(
            images.shape, generator=generator, device=self.device
        )
        with torch.no_grad():
            latents = model.g_x.initialise(images)
            model.g_y.initialise(noise)
            model.operator.initialise(latents)

    def _generator(self, epoch: int) -> torch.Generator:
        # Neighbouring seeds and epochs must not share noise: spread them over the 64-bit range.
        mixed = (self.config.seed * 0x9E3779B97F4A7C15 + epoch * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**63
        return torch.Generator(self.device).manual_seed(mixed)

    def _learning_rate(self, step: int) -> float:
        """Linear rise over the warm-up, then half a cosine that would reach zero one step after the last."""
        config = self.config.train
        total = config.epochs * self.steps_per_epoch
        warmup = max(1, round(config.warmup * total))
        if step < warmup:
            return config.lr * (step + 1) / warmup
        return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

    def train_epoch(self) -> EpochResult:
        """One pass over the training split.

        Raises ``TrainingDiverged`` when a term of the loss or the gradient is not finite, or an inverse has no value.
        """
        config = self.config.train
        generator = self._generator(self.epoch + 1)
        merging = self._generator(-(self.epoch + 1))
        order = torch.randperm(len(self.images), generator=generator, device=self.device)
        sums: dict[str, Tensor] = {}
        self.model.train()
        for i in range(self.steps_per_epoch):
            batch = self.images[order[i * config.batch_size : (i + 1) * config.batch_size]]
            self.optimiser.zero_grad(set_to_none=True)
            try:
                terms = diffusion_losses(self.model, batch, config, generator)
                loss = total_loss(terms, config.loss)
                for layer in self._perturbed:
                    loss = loss + layer.penalty()
                loss.backward()
            except ArithmeticError as error:  # an inverse that is lost to rounding
                raise TrainingDiverged(f"in epoch {self.epoch + 1}: {error}") from error
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
            for group in self.optimiser.param_groups:
                group["lr"] = self._learning_rate(self.epoch * self.steps_per_epoch + i)
            self.optimiser.step()
            if (self.epoch * self.steps_per_epoch + i + 1) % config.merge_every == 0:
                for layer in self._perturbed:
                    layer.merge(self.optimiser, merging)
            if config.ema:
                self._update_average()
            for name, value in {"loss": loss, "gradient_norm": norm, **terms}.items():
                sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value.detach()
        self.epoch += 1
        means = {f"train/{name}": float(value) / self.steps_per_epoch for name, value in sums.items()}
        broken = [name for name, value in means.items() if not math.isfinite(value)]
        if broken:
            raise TrainingDiverged(f"not finite in epoch {self.epoch}: {', '.join(sorted(broken))}")
        return EpochResult(self.epoch, means)

    @torch.no_grad()
    def _update_average(self) -> None:
        self._averaged.update_parameters(self.model)
        # The average takes the perturbed matrices as they are now, so their perturbations must be those of now as well.
        for averaged, layer in zip(self._perturbed_averaged, self._perturbed, strict=True):
            averaged.u.copy_(layer.u)
            averaged.v.copy_(layer.v)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers to go on from, for ``torch.save``."""
        return {
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "averaged": self._averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that ``state_dict`` of the same configuration gave."""
        self.epoch = state["epoch"]
        self.model.load_state_dict(state["model"])
        self._averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])


def fit(trainer: Trainer) -> Iterator[EpochResult]:
    """Train to the configured number of epochs, yielding after each."""
    while trainer.epoch < trainer.config.train.epochs:
        yield trainer.train_epoch()


def diffusion_losses(
    model: LinearDiffusion, images: Tensor, config: TrainConfig, generator: torch.Generator
) -> dict[str, Tensor]:
    """The terms of the loss for a batch ``(batch, *event)``, each a mean over the batch and the dimensions.

    The terms are those of arXiv 2510.08570, section 4.1 (z_t = (1-t) z0 + t z1, ẑ1 = A(t) z_t), and the negative
    log-likelihood per dimension of both ends under standard normal latents, up to its constant. Terms of
    weight zero are left out.
    """
    weights = config.loss

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)

    x1 = images + config.dequantise * normal(images) if config.dequantise else images
    x0 = normal(images)
    t = torch.rand(len(images), generator=generator, device=images.device, dtype=images.dtype)
    z1, log_det1 = model.g_x(x1)
    z0, log_det0 = model.g_y(x0)
    predicted = model.operator(t, torch.lerp(z0, z1, t[:, None]))
    terms: dict[str, Tensor] = {}
    if weights.flow:
        terms["flow"] = (predicted - z1).square().mean()
    if weights.noise:
        decoded = model.g_y.inverse(z0 + config.sigma * normal(z0))[0]
        terms["noise"] = (decoded - x0).square().mean()
    # Both inverse passes of g_x in one: the network is small and its cost is mostly per call.
    latents = [z1 + config.sigma * normal(z1)] if weights.data else []
    latents += [predicted] if weights.endpoint else []
    if latents:
        decoded_images = model.g_x.inverse(torch.cat(latents))[0].split(len(images))
        errors = [(image - x1).square().mean() for image in decoded_images]
        names = [name for name, weight in (("data", weights.data), ("endpoint", weights.endpoint)) if weight]
        terms.update(zip(names, errors, strict=True))
    if weights.likelihood:
        dim = z1.shape[1]
        terms["likelihood"] = (
            0.5 * (z1.square().mean() + z0.square().mean()) - (log_det1.mean() + log_det0.mean()) / dim
        )
    return terms


def total_loss(terms: Mapping[str, Tensor], weights: LossConfig) -> Tensor:
    """The weighted sum of the terms."""
    total = sum(getattr(weights, name) * term for name, term in terms.items())
    if not isinstance(total, Tensor):
        raise ValueError("every weight of train.loss is zero: there is nothing to train")
    return total
