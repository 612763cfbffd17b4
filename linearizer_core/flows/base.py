"""The contract of invertible maps, and their composition."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Literal, cast

import torch
from torch import Tensor, nn

from linearizer_core.flows.recompute import Step, recompute, run


class Invertible(nn.Module, ABC):
    """An invertible map between tensors of shape ``(batch, *event)``.

    Implementations MUST return from both directions the mapped tensor and the log of the absolute Jacobian
    determinant of the direction that was taken, ``(batch,)``; the two directions' values are each other's
    negatives. They MUST hold no randomness, so that g and g⁻¹ are inverses at every call. They MUST hand
    ``label``, ``(batch,)``, to the networks inside that take one, and otherwise ignore it. They CAN be
    data-dependent at the start through ``initialise``.
    """

    @abstractmethod
    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """g(x) and log|det ∂g/∂x|."""

    @abstractmethod
    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """g⁻¹(y) and log|det ∂g⁻¹/∂y|."""

    def initialise(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Fit data-dependent parameters to a batch of inputs and return its image."""
        return self(x, label)[0]


class Identity(Invertible):
    """g(x) = x: the control in which a Linearizer is an ordinary linear map."""

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x, x.new_zeros(len(x))

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return y, y.new_zeros(len(y))


class Chain(Invertible):
    """The composition of invertible maps, first to last.

    ``memory`` is ``"store"``, which keeps every map's activations for the backward pass, or ``"recompute"``, which
    recovers them from the output by the maps' inverses: memory constant in depth for time, on the terms of
    ``linearizer_core.flows.recompute``. Values and log-determinants are the same.

    Raises ``ValueError`` for another ``memory``.
    """

    def __init__(self, maps: Iterable[Invertible], memory: Literal["store", "recompute"] = "store") -> None:
        super().__init__()
        if memory not in ("store", "recompute"):
            raise ValueError(f"memory must be 'store' or 'recompute', got {memory!r}")
        self.maps = nn.ModuleList(maps)
        self.memory = memory

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._run([Step(step, step.inverse, step) for step in self._maps()], x, label)

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._run([Step(step.inverse, step, step) for step in reversed(self._maps())], y, label)

    def _maps(self) -> list[Invertible]:
        return cast(list[Invertible], list(self.maps))

    def _run(self, steps: list[Step], x: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        return recompute(steps, x, label) if self.memory == "recompute" else run(steps, x, label)

    @torch.no_grad()
    def initialise(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        for step in self._maps():
            x = step.initialise(x, label)
        return x


class Labelled(Invertible):
    """A network at a fixed label: one labelled network serves as g_x at one value and as g_y at another."""

    def __init__(self, network: Invertible, label: float) -> None:
        super().__init__()
        self.network = network
        self.label = label

    def _labels(self, x: Tensor) -> Tensor:
        return x.new_full((len(x),), self.label)

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.network(x, self._labels(x))

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.network.inverse(y, self._labels(y))

    def initialise(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return self.network.initialise(x, self._labels(x))
