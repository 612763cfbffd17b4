"""The interface between a family of models and training, evaluation and the record."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.data.images import Images
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.evaluation import Evaluation, Quality, references
from linearizer_core.models.base import Event, Model

DIFFUSION_OPERATORS = ("affine", "time_lowrank", "time_diagonal", "time_factors", "time_dense")
"""Operators of diffusion models, and of the baselines that take their size."""


class Family(ABC):
    """A family defines how its model is built, initialised, trained and measured.

    ``model`` is always the result of ``build`` for the same configuration. All randomness comes from the generators
    passed in, or from fixed seeds. Methods that apply a model to many images do so through ``in_batches``, which
    divides them among the workers that are present; everything else is the same on each worker.

    ``operators`` are the kinds of ``model.operator`` that the family accepts besides those that plugins register for
    it; if empty, it does not use one. ``terms`` are the terms of ``train.loss`` that it uses; other terms returned by
    ``losses`` have weight 1.
    """

    operators: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()

    @abstractmethod
    def build(self, config: TrialConfig, event: Event, classes: int = 0) -> Model:
        """The model for images ``event`` = ``(channels, height, width)``, with weights fixed by the seed.

        ``classes`` is the number of the data's labels, 0 if there are none.
        """

    def groups(self, config: TrialConfig, data: ImageData) -> Tensor | None:
        """What the model is told about each training image, its label or cluster, ``(count,)``; None if nothing."""
        return None

    @abstractmethod
    def initialise(self, model: Any, images: Tensor, generator: torch.Generator, groups: Tensor | None = None) -> None:
        """Fit data-dependent parts to training images ``(count, *event)`` and their ``groups``."""

    def regroup(self, model: Any, config: TrialConfig, images: Images, groups: Tensor, epoch: int) -> Tensor | None:
        """The training images' new groups from ``epoch`` (0-based) on; None if they do not change.

        ``model`` is the averaged model.
        """
        return None

    def take_groups(self, model: Any, groups: Tensor) -> None:  # noqa: B027 - most families have no groups
        """Update the parts of a model that depend only on the groups, after these changed."""

    @abstractmethod
    def losses(self, model: Any, images: Tensor, config: TrialConfig, draws: Draws) -> dict[str, Tensor]:
        """The loss terms for a batch ``(batch, *event)``; terms of weight zero are left out.

        With several workers, each has its rows of the batch: the mean over workers of the terms, and of their
        gradients, MUST be that of the whole batch.
        """

    def meets(self, config: TrialConfig) -> bool:
        """Whether ``losses`` requests all workers' rows from ``draws``, which it then does once per step."""
        return False

    def settle(self, model: Any, data: ImageData) -> None:  # noqa: B027 - most families have nothing to settle
        """Fit what sampling needs from the training images, before ``evaluate`` and before a model is saved."""

    @abstractmethod
    def sample(self, model: Any, count: int, config: TrialConfig, generator: torch.Generator) -> Tensor:
        """Images ``(count, *event)``, by one application of the model's operator if it has one."""

    @abstractmethod
    def interim(self, model: Any, config: TrialConfig, data: ImageData, quality: Quality) -> dict[str, float]:
        """The metrics of ``interim_keys``, cheap enough to be measured during training."""

    @abstractmethod
    def evaluate(self, model: Any, config: TrialConfig, data: ImageData, quality: Quality) -> Evaluation:
        """The evaluation at the end of a trial: the metrics of ``summary_keys``, curves and images."""

    def metrics(self, config: TrialConfig) -> tuple[str, ...]:
        """The sample quality metrics that are measured: the configured ones, if the family makes samples."""
        return config.evaluate.quality

    def references(self, config: TrialConfig, data: ImageData, quality: Quality) -> dict[str, Evaluation]:
        """The reference rows for all other numbers, by label; they need no model."""
        return references(data, config.evaluate, quality)

    @abstractmethod
    def interim_keys(self, config: TrialConfig) -> list[str]:
        """The keys of the metrics measured during training."""

    @abstractmethod
    def summary_keys(self, config: TrialConfig) -> list[str]:
        """The keys of the final metrics."""
