"""What training, evaluation and the record need of a family of models."""

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
"""Of diffusion models, and of the baselines that have their size."""


class Family(ABC):
    """A recipe over the core: how its model is built, started, trained and measured.

    ``model`` is always what ``build`` gave for the same configuration. Everything random comes from the generators
    that are handed in, or from fixed seeds. Whatever applies a model to many images does so by ``in_batches``, which
    divides them among the workers that are present; all else is the same on each of them.

    ``operators`` are the kinds of ``model.operator`` that it takes, beside those that plugins register for it; without
    any it does not ask for one. ``terms`` are those of ``train.loss`` that are its own: others that ``losses`` gives
    count as they are.
    """

    operators: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()

    @abstractmethod
    def build(self, config: TrialConfig, event: Event, classes: int = 0) -> Model:
        """The model for images ``event`` = ``(channels, height, width)``, its weights fixed by the seed.

        ``classes`` is the number of the data's labels, 0 where there are none.
        """

    def groups(self, config: TrialConfig, data: ImageData) -> Tensor | None:
        """What the model is told of each training image, its label or cluster, ``(count,)``; None where nothing is."""
        return None

    @abstractmethod
    def initialise(self, model: Any, images: Tensor, generator: torch.Generator, groups: Tensor | None = None) -> None:
        """Fit what starts from data to training images ``(count, *event)`` and what ``groups`` says of them."""

    def regroup(self, model: Any, config: TrialConfig, images: Images, groups: Tensor, epoch: int) -> Tensor | None:
        """The groups of the training images from ``epoch`` (0-based) on, where they change; None where they do not.

        ``model`` is the averaged one.
        """
        return None

    def take_groups(self, model: Any, groups: Tensor) -> None:  # noqa: B027 - most families know nothing of them
        """Fit to changed groups what of a model follows from them alone."""

    @abstractmethod
    def losses(self, model: Any, images: Tensor, config: TrialConfig, draws: Draws) -> dict[str, Tensor]:
        """The terms of the loss for a batch ``(batch, *event)``; terms of weight zero are left out.

        Of several workers each has its rows of the batch: the mean of the workers' terms, and of their gradients, MUST
        be that of the whole batch.
        """

    def meets(self, config: TrialConfig) -> bool:
        """Whether ``losses`` asks ``draws`` for everyone's rows, which is then once a step."""
        return False

    def settle(self, model: Any, data: ImageData) -> None:  # noqa: B027 - most families have nothing to settle
        """Fit what sampling needs of the training images, before ``evaluate`` and before a model is kept."""

    @abstractmethod
    def sample(self, model: Any, count: int, config: TrialConfig, generator: torch.Generator) -> Tensor:
        """Images ``(count, *event)`` by one application of the model's operator, where it has one."""

    @abstractmethod
    def interim(self, model: Any, config: TrialConfig, data: ImageData, quality: Quality) -> dict[str, float]:
        """The metrics of ``interim_keys``: cheap enough to be taken during training."""

    @abstractmethod
    def evaluate(self, model: Any, config: TrialConfig, data: ImageData, quality: Quality) -> Evaluation:
        """The evaluation at the end of a trial: the metrics of ``summary_keys``, curves and images."""

    def metrics(self, config: TrialConfig) -> tuple[str, ...]:
        """The sample quality metrics that are taken: those that are configured, if the family makes samples."""
        return config.evaluate.quality

    def references(self, config: TrialConfig, data: ImageData, quality: Quality) -> dict[str, Evaluation]:
        """The rows that place every other number, by label; they need no model."""
        return references(data, config.evaluate, quality)

    @abstractmethod
    def interim_keys(self, config: TrialConfig) -> list[str]:
        """The keys of the metrics taken during training."""

    @abstractmethod
    def summary_keys(self, config: TrialConfig) -> list[str]:
        """The keys of the end scalars."""
