"""Training of one trial: a deterministic loop that yields after each epoch and can resume from its own state."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from linearizer_core.errors import LinsweepError
from linearizer_core.experiment.checks import recomputation_problems, worker_problems
from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.data import ImageData, epoch_order
from linearizer_core.experiment.draws import Draws, dequantised
from linearizer_core.experiment.families import family_of
from linearizer_core.experiment.graph import CudaGraphs
from linearizer_core.experiment.losses import Losses
from linearizer_core.experiment.step import Step
from linearizer_core.experiment.workers import ALONE, LOST, Workers
from linearizer_core.models.base import Model

STARTING_IMAGES = 4096
"""Number of training images to which data-dependent parameters are fitted."""


class TrainingDiverged(LinsweepError, ArithmeticError):
    """The loss or a gradient is no longer finite."""


@dataclass(frozen=True)
class EpochResult:
    """``epoch`` is 1-based; ``metrics`` maps ``train/<term>`` to its mean over the epoch, which took ``seconds``."""

    epoch: int
    metrics: dict[str, float]
    seconds: float = 0.0


@dataclass(frozen=True)
class Epoch:
    """The images that an epoch visits, ``order`` ``(steps · rows,)``, and the source of its steps' ``draws``.

    ``merging`` draws the perturbations that follow merges.
    """

    order: Tensor
    draws: Draws
    merging: torch.Generator


class Trainer:
    """Trains the model of a configuration on a device; with several workers, each has its own device.

    ``model`` is updated by the optimiser; ``averaged`` is its exponential moving average, which is evaluated and saved,
    or the model itself if ``train.ema`` is 0. All noise of an epoch depends only on its number and ``order_seed``, so a
    trainer that resumes from a saved state does what it would have done without the break. Several workers train what
    one would, up to rounding: each has its rows of every batch, and their gradients are averaged. ``warnings`` lists
    requests of the configuration that could not be met.

    Raises ``ValueError`` for a batch that exceeds the training images or cannot be divided among the workers, and for
    training options that do not work with recomputed activations.
    """

    model: Model
    averaged: Model

    def __init__(
        self, config: TrialConfig, data: ImageData, device: torch.device | str = "cpu", workers: Workers = ALONE
    ) -> None:
        self.config = config
        self.device = torch.device(device)
        self.workers = workers
        self.family = family_of(config)
        self.images = data.train.to(self.device)
        self.epoch = 0
        self.warnings: list[str] = []
        for name, message in (worker_problems(config, workers.count) | recomputation_problems(config)).items():
            raise ValueError(f"{name}: {message}")
        whole = len(self.images) // config.train.batch_size
        if not whole:
            raise ValueError(f"a batch of {config.train.batch_size} exceeds the {len(self.images)} training images")
        self.steps_per_epoch = min(config.train.steps or whole, whole)
        self.rows = config.train.batch_size // workers.count
        self.model = self.family.build(config, data.event, data.classes).to(self.device)
        groups = self.family.groups(config, data)
        self._groups = None if groups is None else groups.to(self.device)
        self._regrouped: Tensor | None = None
        generator = self._generator(config.init_seed, 0)
        first = dequantised(
            self.images.head(STARTING_IMAGES), config.train.dequantise, self.model.dtype, Draws(generator)
        )
        self.family.initialise(self.model, first, generator, self._groups)
        for tensor in self.model.state_dict().values():
            tensor.copy_(workers.leading(tensor))
        self._losses = Losses(self.family, self.model, config)
        self._check_precision()
        if config.train.compile:
            self._check_compiled(first[: self.rows])
        self.averaged = copy.deepcopy(self.model) if config.train.ema else self.model
        recorder = CudaGraphs() if self.device.type == "cuda" and config.train.graph == "auto" else None
        self.step = Step(self._losses, self.averaged, config.train, recorder)
        self.optimiser = self.step.optimiser

    def _check_precision(self) -> None:
        """Train in float32 if any worker's device does not support bfloat16."""
        lacking = self.device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
        if self._losses.precision and self._any(lacking):
            self._losses.precision = None
            self.warnings.append("train.precision: bfloat16 is not supported by the device; training is in float32")

    def _check_compiled(self, images: Tensor) -> None:
        """Try one step and discard it; fall back to uncompiled losses if any worker cannot compile them."""
        failed = ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the compiler warns about itself
                draws = Draws(self._generator(self.config.init_seed, 0), self.workers)
                draws.groups = None if self._groups is None else self._groups[: len(images)]
                loss, _ = self._losses(images, draws)
                torch.autograd.grad(loss, list(self.model.parameters()), allow_unused=True)
        except LOST:
            pass  # training will report it
        except Exception as error:  # noqa: BLE001 - whatever the compiler raises is reported below
            failed = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        self._losses.lost.clear()
        if self._any(bool(failed)):
            self._losses.uncompiled()
            self.warnings.append(f"train.compile: compilation failed; training continues without it ({failed})")

    def _any(self, here: bool) -> bool:
        """Whether it is true on any worker."""
        return bool(self.workers.total(torch.tensor(float(here))) > 0)

    def _generator(self, seed: int, epoch: int) -> torch.Generator:
        # Neighbouring seeds and epochs must not share noise: spread them over the 64-bit range.
        mixed = (seed * 0x9E3779B97F4A7C15 + epoch * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**63
        return torch.Generator(self.device).manual_seed(mixed)

    def _learning_rate(self, step: int) -> float:
        """A linear rise during warm-up, then ``train.schedule``; the cosine reaches zero one step after the last."""
        config = self.config.train
        constant = config.schedule == "constant"
        total = (1 if constant else config.epochs) * self.steps_per_epoch
        warmup = max(1, round(config.warmup * total))
        if step < warmup:
            return config.lr * (step + 1) / warmup
        if constant:
            return config.lr
        return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

    def train_epoch(self) -> EpochResult:
        """One pass over the training split.

        Raises ``TrainingDiverged`` on all workers if a loss term or the gradient is not finite, or if an inverse has no
        value.
        """
        started = time.perf_counter()
        epoch = self.begin_epoch()
        for i, batch in enumerate(self.images.batches(epoch.order, self.rows)):
            epoch.draws.waited = False
            epoch.draws.groups = self.groups_of(epoch.order[i * self.rows : (i + 1) * self.rows])
            try:
                self.step(batch, epoch.draws, self.rate(i), epoch.merging)
            except LOST as error:  # an inverse was lost to rounding
                raise TrainingDiverged(f"in epoch {self.epoch + 1}: {error}") from error
        if self.step.recorded is not None and self.step.recorded.failure:
            self.warn_of_graph(self.step.recorded.failure)
        return replace(self.end_epoch(), seconds=time.perf_counter() - started)

    def begin_epoch(self) -> Epoch:
        """The order, draws and merging generator for the steps of the next epoch."""
        self._regroup()
        self.step.forget()
        self.model.train()
        seed, number = self.config.order_seed, self.epoch + 1
        draws = Draws(self._generator(seed, number), self.workers)
        return Epoch(self._order(), draws, self._generator(seed, -number))

    def groups_of(self, index: Tensor) -> Tensor | None:
        """The label or cluster of the training images at ``index`` ``(rows,)``; None if the model is unconditional."""
        return None if self._groups is None else self._groups[index]

    def rate(self, step: int) -> float:
        """The learning rate of a step of the epoch, 0-based."""
        return self._learning_rate(self.epoch * self.steps_per_epoch + step)

    def end_epoch(self) -> EpochResult:
        """The means over the epoch's steps; raises ``TrainingDiverged`` like ``train_epoch``."""
        self.epoch += 1
        self._check_lost()
        # The names are in the same order on all workers.
        totals = self.workers.total(self.step.sums).tolist()
        means = {
            f"train/{name}": total / self.workers.count / self.steps_per_epoch
            for name, total in zip(self.step.names, totals, strict=True)
        }
        broken = [name for name, value in means.items() if not math.isfinite(value)]
        if broken:
            raise TrainingDiverged(f"not finite in epoch {self.epoch}: {', '.join(sorted(broken))}")
        return EpochResult(self.epoch, means)

    def warn_of_graph(self, failure: str) -> None:
        """Warn, once, that steps cannot be recorded."""
        message = f"train.graph: steps cannot be recorded, so Python launches each kernel ({failure})"
        if message not in self.warnings:
            self.warnings.append(message)

    def _order(self) -> Tensor:
        """The images that this worker visits in the epoch, on the device."""
        order = epoch_order(len(self.images), self.config.order_seed, self.epoch, self.workers.rank, self.workers.count)
        order = order[: self.steps_per_epoch * self.rows]
        if self.device.type == "cuda":
            order = order.pin_memory()  # so that the copy is asynchronous
        return order.to(self.device, non_blocking=True)

    def _regroup(self) -> None:
        if self._groups is None:
            return
        with torch.no_grad():
            groups = self.family.regroup(self.averaged, self.config, self.images, self._groups, self.epoch)
            if groups is not None:
                self._groups = self._regrouped = groups
                for model in (self.model, self.averaged):
                    self.family.take_groups(model, groups)

    def _check_lost(self) -> None:
        """Raise, on all workers, an error that any of them had to defer."""

        def tell() -> None:
            for error in self._losses.lost[:1]:
                raise error

        try:
            self.workers.together(tell)
        except LOST as error:
            raise TrainingDiverged(f"in epoch {self.epoch}: {error}") from error

    def state_dict(self) -> dict[str, Any]:
        """The tensors and numbers needed to resume, for ``torch.save``."""
        return {
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict()["state"],
            "groups": self._regrouped,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state returned by ``state_dict`` for the same configuration."""
        self.epoch = state["epoch"]
        self.step.go_on(self.epoch * self.steps_per_epoch)
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state["optimiser"]})
        self._regrouped = state.get("groups")  # missing in states of earlier versions
        if self._regrouped is not None:
            self._groups = self._regrouped = self._regrouped.to(self.device)


def fit(trainer: Trainer) -> Generator[EpochResult, None, None]:
    """Train up to the configured number of epochs, yielding after each."""
    while trainer.epoch < trainer.config.train.epochs:
        yield trainer.train_epoch()
