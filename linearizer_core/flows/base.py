"""The contract of invertible maps, and their composition."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Literal, cast

import torch
from torch import Tensor, nn

from linearizer_core.errors import InputValueError
from linearizer_core.flows.recompute import Step, recompute, run
from linearizer_core.short import Short, by

Shape = tuple[int, ...]


class Invertible(Short, ABC):
    """An invertible map between tensors of shape ``(batch, *event)``.

    Both directions MUST return the mapped tensor and the log of the absolute Jacobian determinant of that direction,
    ``(batch,)``; the values of the two directions are each other's negatives. Implementations MUST hold no randomness,
    so that g and g⁻¹ are inverses at every call. They MUST pass ``label``, ``(batch,)``, to inner networks that take
    one, and otherwise ignore it. They CAN be data-dependent at the start through ``initialise``, and declare what they
    know of shapes in ``keeps_shape``, ``in_shape`` and ``out_shape``.

    >>> import math, torch, linearizer_core as lc
    >>> class Double(lc.flows.Invertible):
    ...     def forward(self, x, label=None):
    ...         return 2 * x, x.new_full((len(x),), x[0].numel() * math.log(2))
    ...     def inverse(self, y, label=None):
    ...         return y / 2, y.new_full((len(y),), -y[0].numel() * math.log(2))
    >>> Double()(torch.ones(1, 2))
    (tensor([[2., 2.]]), tensor([1.3863]))
    """

    keeps_shape = False
    """Whether outputs have the shape of inputs."""

    @abstractmethod
    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """g(x) and log|det ∂g/∂x|."""

    @abstractmethod
    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """g⁻¹(y) and log|det ∂g⁻¹/∂y|."""

    def initialise(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Fit data-dependent parameters to a batch of inputs and return its image."""
        return self(x, label)[0]

    @property
    def in_shape(self) -> Shape | None:
        """The shape of one input; None if the map does not know it."""
        return None

    def out_shape(self, shape: Shape | None) -> Shape | None:
        """The shape of the output for an input of the given shape; None if it is not known."""
        return shape if self.keeps_shape else None

    def extra_repr(self) -> str:
        into = self.in_shape
        out = self.out_shape(into)
        return f"{by(into)} → {by(out)}" if into and out else ""


class VolumePreserving(Invertible):
    """An invertible map whose log-determinants are zero everywhere, so that a chain computes values alone.

    Implementations MUST define ``move`` and ``back``, which give the two directions.

    >>> import torch, linearizer_core as lc
    >>> class Flip(lc.flows.VolumePreserving):
    ...     def move(self, x, label=None):
    ...         return x.flip(1)
    ...     def back(self, y, label=None):
    ...         return y.flip(1)
    >>> Flip()(torch.tensor([[1.0, 2.0]]))
    (tensor([[2., 1.]]), tensor([0.]))
    """

    @abstractmethod
    def move(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """g(x)."""

    @abstractmethod
    def back(self, y: Tensor, label: Tensor | None = None) -> Tensor:
        """g⁻¹(y)."""

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.move(x, label), x.new_zeros(len(x))

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.back(y, label), y.new_zeros(len(y))


class Identity(VolumePreserving):
    """g(x) = x: the control that makes a Linearizer an ordinary linear map.

    >>> import torch, linearizer_core as lc
    >>> g = lc.flows.Identity()
    >>> x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    >>> z, log_det = g(x)
    >>> log_det.shape, torch.allclose(g.inverse(z)[0], x, atol=1e-4)
    (torch.Size([8]), True)
    >>> g
    Identity()
    """

    keeps_shape = True

    def move(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return x

    def back(self, y: Tensor, label: Tensor | None = None) -> Tensor:
        return y


class Chain(Invertible):
    """The composition of invertible maps, first to last.

    ``memory`` is ``"store"``, which keeps every map's activations for the backward pass, or ``"recompute"``, which
    recovers them from the output through the inverses: memory constant in depth in exchange for time, on the conditions
    stated in ``linearizer_core.flows.recompute``. Values and log-determinants are the same.

    Raises ``ValueError`` for another ``memory``.

    >>> import torch, linearizer_core as lc
    >>> g = lc.flows.Chain([lc.flows.ActNorm(4), lc.flows.LUMixing(4)])
    >>> x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    >>> z, log_det = g(x)
    >>> log_det.shape, torch.allclose(g.inverse(z)[0], x, atol=1e-4)
    (torch.Size([8]), True)
    >>> g
    Chain(2 layers)
    """

    def __init__(self, maps: Iterable[Invertible], memory: Literal["store", "recompute"] = "store") -> None:
        super().__init__()
        if memory not in ("store", "recompute"):
            raise InputValueError(f"memory must be 'store' or 'recompute', got {memory!r}")
        self.maps = nn.ModuleList(maps)
        self.memory = memory

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._run([_step(each) for each in self._maps()], x, label)

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._run([_step(each).reversed() for each in reversed(self._maps())], y, label)

    def _maps(self) -> list[Invertible]:
        return cast(list[Invertible], list(self.maps))

    def _run(self, steps: list[Step], x: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        return recompute(steps, x, label) if self.memory == "recompute" else run(steps, x, label)

    @property
    def in_shape(self) -> Shape | None:
        return self._maps()[0].in_shape if len(self.maps) else None

    def out_shape(self, shape: Shape | None) -> Shape | None:
        for step in self._maps():
            shape = step.out_shape(shape)
        return shape

    def extra_repr(self) -> str:
        shapes = super().extra_repr()
        layers = f"{len(self.maps)} layer{'s' * (len(self.maps) != 1)}"
        return f"{layers}, {shapes}" if shapes else layers

    @torch.no_grad()
    def initialise(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        for step in self._maps():
            x = step.initialise(x, label)
        return x


def _step(each: Invertible) -> Step:
    """A map as a step of a chain, without log-determinants if these are zero."""
    if isinstance(each, VolumePreserving):
        return Step(lambda x, label: (each.move(x, label), None), lambda y, label: (each.back(y, label), None), each)
    return Step(each, each.inverse, each)


class Labelled(Invertible):
    """A network with a fixed label: one labelled network can be g_x at one label and g_y at another.

    >>> import torch, linearizer_core as lc
    >>> network = lc.flows.coupling((4,), depth=1, width=8, labelled=True)
    >>> g_x, g_y = lc.flows.Labelled(network, 1.0), lc.flows.Labelled(network, 0.0)
    >>> x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    >>> g_x(x)[0].shape
    torch.Size([8, 4])
    """

    def __init__(self, network: Invertible, label: float) -> None:
        super().__init__()
        self.network = network
        self.label = label

    @property
    def in_shape(self) -> Shape | None:
        return self.network.in_shape

    def out_shape(self, shape: Shape | None) -> Shape | None:
        return self.network.out_shape(shape)

    def extra_repr(self) -> str:
        return f"{self.network!r}, label {self.label:g}"

    def _labels(self, x: Tensor) -> Tensor:
        return x.new_full((len(x),), self.label)

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.network(x, self._labels(x))

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.network.inverse(y, self._labels(y))

    def initialise(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return self.network.initialise(x, self._labels(x))
