"""Trials of one configuration that train at once, as one batched network; small ones fill neither a core nor a GPU."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from linearizer_core.experiment.configuration import SeedsConfig, TrialConfig
from linearizer_core.experiment.draws import Given, Noted, Request
from linearizer_core.experiment.flat import take
from linearizer_core.experiment.graph import Recorded
from linearizer_core.experiment.losses import Losses, perturbed
from linearizer_core.experiment.training import EpochResult, Trainer, TrainingDiverged
from linearizer_core.experiment.workers import LOST


class Together:
    """Trains the next epoch of several trainers at once: different seeds and learning rates of one configuration.

    Each gets the same numbers as alone, up to rounding: its own order, noise, clipping, optimiser and average. Only
    losses and gradients are computed for all by one batched network. A trainer that diverges, or is not asked for
    another epoch, is left out of the next. Any other error while several train is raised for each of them; some of the
    epoch's steps may have been taken by then.

    ``warnings`` says why trainers are trained one after the other, if they have to be.

    Raises ``ValueError`` for configurations that differ in more than seed and learning rate.
    """

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self._members: list[Trainer] = []
        self._found: dict[int, EpochResult | Exception] = {}
        self._batch: _Batch | None = None

    def join(self, trainer: Trainer) -> Generator[EpochResult, None, None]:
        """The epochs of a trainer up to its last, in the form of ``fit``.

        When the first member is asked for its next epoch, that epoch is trained for all members that have come equally
        far: so take the members' epochs in turn, and close the iterator of a trainer that should leave.
        """
        if self._members and shape_of(trainer.config) != shape_of(self._members[0].config):
            raise ValueError("trials that train together differ in nothing but seed and learning rate")
        self._members.append(trainer)
        return self._epochs(trainer)

    def reached(self, trainer: Trainer) -> int:
        """The last epoch of a trainer that was returned; it may have been trained further."""
        return trainer.epoch - isinstance(self._found.get(id(trainer)), EpochResult)

    def _epochs(self, trainer: Trainer) -> Generator[EpochResult, None, None]:
        try:
            while trainer.epoch < trainer.config.train.epochs or id(trainer) in self._found:
                if id(trainer) not in self._found:
                    self._train([each for each in self._members if each.epoch == trainer.epoch])
                result = self._found.pop(id(trainer))
                if isinstance(result, Exception):
                    raise result
                yield result
        finally:
            self._found.pop(id(trainer), None)
            self._members.remove(trainer)

    def _train(self, trainers: list[Trainer]) -> None:
        """Train an epoch of trainers that have reached the same epoch."""
        if len(trainers) > 1 and not self.warnings:
            if self._batch is None or self._batch.trainers != trainers:
                self._batch = _Batch(trainers)
            started = time.perf_counter()
            try:
                found = self._batch.train_epoch()
                seconds = (time.perf_counter() - started) / len(found)
                self._found |= {key: _in(seconds, result) for key, result in found.items()}
                return
            except NotTogether as error:
                self.warnings.append(f"training goes on one trial after the other: {error}")
                for trainer in trainers:
                    trainer.warnings += self.warnings
            except Exception as error:  # noqa: BLE001 - raised for each of them
                self._found |= dict.fromkeys(map(id, trainers), error)
                return
        for trainer in trainers:
            try:
                self._found[id(trainer)] = trainer.train_epoch()
            except TrainingDiverged as error:
                self._found[id(trainer)] = error


class NotTogether(Exception):
    """A loss that cannot be computed for several models at once; nothing has been trained."""


class _Batch:
    """Several trainers whose parameters and gradients are rows of two tensors ``(trainers, size)``."""

    def __init__(self, trainers: list[Trainer]) -> None:
        self.trainers = trainers
        flats = [trainer.step.flat for trainer in trainers]
        values = torch.stack([flat.values for flat in flats])
        gradients = torch.zeros_like(values)
        for flat, row, gradient in zip(flats, values, gradients, strict=True):
            flat.move(row, gradient)
        self._values = [view.requires_grad_() for view in flats[0].views(values)]
        self._gradients = flats[0].views(gradients)
        self._loss = _Loss(trainers[0].step.losses)
        names = {id(parameter): name for name, parameter in self._loss.named_parameters()}
        self._names = [names[id(parameter)] for parameter in flats[0].parameters]
        self._requests: list[Request] | None = None
        self._buffers = self._stacked()
        recorder = trainers[0].step.recorder
        self._recorded = None if recorder is None else Recorded(self._advance, recorder)

    def train_epoch(self) -> dict[int, EpochResult | TrainingDiverged]:
        """Train an epoch of each trainer; returns the results by the trainer's ``id``.

        Raises ``NotTogether`` before the first step.
        """
        first = self.trainers[0]
        rows, steps = first.rows, first.steps_per_epoch
        epochs = [trainer.begin_epoch() for trainer in self.trainers]
        for name, buffer in self._stacked().items():
            self._buffers[name].copy_(buffer)
        orders = torch.stack([epoch.order for epoch in epochs]).view(len(epochs), steps, rows)
        joint = orders.transpose(0, 1).flatten()
        lost: dict[int, TrainingDiverged] = {}
        for i, images in enumerate(first.images.batches(joint, len(epochs) * rows)):
            images = images.view(len(epochs), rows, *images.shape[1:])
            groups = self._groups(orders[:, i])
            if self._requests is None:
                self._requests = self._rehearse(images, groups)
            drawn = [_rows(request, [epoch.draws.generator for epoch in epochs]) for request in self._requests]
            for trainer in self.trainers:
                trainer.step.prepare(trainer.rate(i))
            inputs = [images, *([] if groups is None else [groups]), *drawn]
            if lost or not self._advanced(inputs):  # one diverged: the others train alone to the end of the epoch
                for j, trainer in enumerate(self.trainers):
                    if id(trainer) not in lost:
                        own = Given(self._requests, [each[j] for each in drawn], None if groups is None else groups[j])
                        try:
                            trainer.step.advance(trainer.step.differentiate(images[j], own))
                        except LOST as error:
                            lost[id(trainer)] = TrainingDiverged(f"in epoch {trainer.epoch + 1}: {error}")
            for trainer, epoch in zip(self.trainers, epochs, strict=True):
                trainer.step.finish(epoch.merging)
        if self._recorded is not None and self._recorded.failure:
            for trainer in self.trainers:
                trainer.warn_of_graph(self._recorded.failure)
        return {id(trainer): lost.get(id(trainer)) or _ended(trainer) for trainer in self.trainers}

    def _advanced(self, inputs: Sequence[Tensor]) -> bool:
        """Take a step of all at once; returns False, with nothing changed, if one trainer's numbers have diverged."""
        try:
            if self._recorded is None:
                self._advance(inputs)
            else:
                self._recorded(inputs)
        except LOST:
            return False
        return True

    def _advance(self, inputs: Sequence[Tensor]) -> None:
        requests = self._requests or []
        groups = inputs[1] if len(inputs) > 1 + len(requests) else None
        found = self._differentiate(inputs[0], groups, inputs[len(inputs) - len(requests) :])
        for j, trainer in enumerate(self.trainers):
            trainer.step.advance({name: each[j] for name, each in found.items()})

    def _differentiate(self, images: Tensor, groups: Tensor | None, drawn: Sequence[Tensor]) -> dict[str, Tensor]:
        """Write the gradients to their places; returns the loss and its terms, ``(trainers,)`` each."""
        found = self._losses(images, groups, drawn)
        gradients = torch.autograd.grad(found["loss"].sum(), self._values, allow_unused=True)
        take(self._gradients, gradients)
        return {name: each.detach() for name, each in found.items()}

    def _losses(self, images: Tensor, groups: Tensor | None, drawn: Sequence[Tensor]) -> dict[str, Tensor]:
        requests, several = self._requests or [], 0 if groups is not None else None

        def one(
            values: list[Tensor],
            buffers: Mapping[str, Tensor],
            images: Tensor,
            groups: Tensor | None,
            drawn: Sequence[Tensor],
        ) -> dict[str, Tensor]:
            state = {**dict(zip(self._names, values, strict=True)), **buffers}
            # A network shared by two others is one module, whose tensors are replaced once.
            inputs = (images, Given(requests, drawn, groups))
            found: dict[str, Tensor] = functional_call(self._loss, state, inputs, tie_weights=False)
            return found

        found: dict[str, Tensor] = vmap(one, (0, 0, 0, several, 0))(
            self._values, self._buffers, images, groups, list(drawn)
        )
        return found

    def _rehearse(self, images: Tensor, groups: Tensor | None) -> list[Request]:
        """The draws that a step requests when it trains alone; also checks that batched losses equal those.

        Raises ``NotTogether``.
        """
        if perturbed(self.trainers[0].model):
            raise NotTogether("matrices that perturbations are merged into change during training")
        count, sound = len(self.trainers), True
        generators = [torch.Generator(images.device).manual_seed(j) for j in range(count)]
        alone = []
        with torch.no_grad():
            for j, trainer in enumerate(self.trainers):
                draws = Noted(torch.Generator(images.device).manual_seed(j))
                draws.groups = None if groups is None else groups[j]
                try:
                    alone.append(trainer.step.losses(images[j], draws)[0])
                except LOST:
                    sound = False
                if sound or not j:
                    self._requests = draws.requests
            drawn = [_rows(request, generators) for request in self._requests or []]
            try:
                with torch.enable_grad():  # as a step finds it: what has a backward of its own may not be batched
                    together = self._losses(images, groups, drawn)["loss"].detach()
            except LOST:
                sound = False
            except Exception as error:
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                raise NotTogether(f"the loss cannot be batched ({reason})") from error
        if sound and not torch.allclose(together, torch.stack(alone), rtol=1e-4, atol=1e-5, equal_nan=True):
            raise NotTogether("the batched loss differs from the losses of the models alone")
        return self._requests or []

    def _stacked(self) -> dict[str, Tensor]:
        """The buffers of all models, stacked, by name."""
        each = [dict(_Loss(trainer.step.losses).named_buffers()) for trainer in self.trainers]
        return {name: torch.stack([buffers[name] for buffers in each]) for name in each[0]}

    def _groups(self, index: Tensor) -> Tensor | None:
        found = [trainer.groups_of(mine) for trainer, mine in zip(self.trainers, index, strict=True)]
        told = [each for each in found if each is not None]
        return torch.stack(told) if told else None


class _Loss(nn.Module):
    """A model's losses as a module whose parameters and buffers ``functional_call`` can replace."""

    def __init__(self, losses: Losses) -> None:
        super().__init__()
        self.model = losses.model
        self._losses = losses

    def forward(self, images: Tensor, draws: Given) -> dict[str, Tensor]:
        loss, terms = self._losses(images, draws)
        return {"loss": loss, **terms}


def shape_of(config: TrialConfig) -> TrialConfig:
    """A configuration without the parts that may differ between trials that train together: seeds and learning rate."""
    return replace(config, seed=0, seeds=SeedsConfig(), train=replace(config.train, lr=1.0))


def why_apart(config: TrialConfig) -> str | None:
    """Why trials of a configuration are trained one by one, None if they can train together; ``Together`` says more.

    >>> why_apart(TrialConfig()) is None
    True
    """
    if config.train.compile:
        return "train.compile compiles a single network"
    if config.plugins:
        return "it is not known beforehand whether a plugin's code can be batched"
    flow = config.model.flow
    if flow.kind == "coupling" and flow.mixing.startswith("p4"):
        return f"matrices of model.flow.mixing: {flow.mixing} change during training"
    if flow.kind == "coupling" and flow.memory == "recompute":
        return "activations of several networks cannot be recomputed (model.flow.memory)"
    return None


def _rows(request: Request, generators: Sequence[torch.Generator]) -> Tensor:
    into = request.empty(len(generators))
    for row, generator in zip(into, generators, strict=True):
        request.fill(row, generator)
    return into


def _in(seconds: float, result: EpochResult | TrainingDiverged) -> EpochResult | TrainingDiverged:
    return result if isinstance(result, TrainingDiverged) else replace(result, seconds=seconds)


def _ended(trainer: Trainer) -> EpochResult | TrainingDiverged:
    try:
        return trainer.end_epoch()
    except TrainingDiverged as error:
        return error
