"""Training of one trial: a deterministic loop that yields once an epoch and can go on from its own state."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from linearizer_core.config import LossConfig, TrialConfig
from linearizer_core.data import ImageData, epoch_order
from linearizer_core.families import family_of
from linearizer_core.model import Model
from linearizer_core.operators.rank_one import RankOneLayer

STARTING_IMAGES = 4096
"""Training images that data-dependent parameters are fitted to."""


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
        self.family = family_of(config)
        self.images = data.train.to(self.device)
        self.epoch = 0
        whole = len(self.images) // config.train.batch_size
        if not whole:
            raise ValueError(f"a batch of {config.train.batch_size} exceeds the {len(self.images)} training images")
        self.steps_per_epoch = min(config.train.steps or whole, whole)
        self.model = self.family.build(config, data.event).to(self.device)
        generator = self._generator(0)
        first = self._dequantised(self.images.head(STARTING_IMAGES), generator)
        self.family.initialise(self.model, first, generator)
        self._averaged = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.train.ema))
        self._perturbed, self._perturbed_averaged = (
            [module for module in each.modules() if isinstance(module, RankOneLayer)]
            for each in (self.model, self._averaged)
        )
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=config.train.lr, betas=(0.9, 0.99), fused=True)

    @property
    def averaged(self) -> Model:
        """The averaged model; the model itself where ``train.ema`` is 0."""
        module = self._averaged.module if self.config.train.ema else self.model
        assert isinstance(module, Model)
        return module

    def _dequantised(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images with the configured noise: without it a flow could put unbounded density on grey levels."""
        deviation = self.config.train.dequantise
        if not deviation:
            return images
        return images + deviation * torch.randn(images.shape, generator=generator, device=images.device)

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
        order = epoch_order(len(self.images), self.config.seed, self.epoch)
        order = order[: self.steps_per_epoch * config.batch_size]
        sums: dict[str, Tensor] = {}
        self.model.train()
        for i, batch in enumerate(self.images.batches(order, config.batch_size)):
            self.optimiser.zero_grad(set_to_none=True)
            try:
                images = self._dequantised(batch, generator)
                terms = self.family.losses(self.model, images, self.config, generator)
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


def total_loss(terms: Mapping[str, Tensor], weights: LossConfig) -> Tensor:
    """The weighted sum of the terms."""
    total = sum(getattr(weights, name) * term for name, term in terms.items())
    if not isinstance(total, Tensor):
        raise ValueError("every weight of train.loss is zero: there is nothing to train")
    return total


if __name__ == "__main__":
    from linearizer_core.cli import main

    raise SystemExit(main())
