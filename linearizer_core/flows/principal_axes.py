"""The data's principal axes as the coordinates of a flow, and flows on the leading axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from linearizer_core.errors import InputValueError
from linearizer_core.flows.base import Invertible, VolumePreserving


class PrincipalAxes(VolumePreserving):
    """y = Qᵀ(x - mean), with Q the principal axes of the first batch passed to ``initialise``, the largest first.

    ``(batch, dim)`` to the same; mean and Q are buffers, so they are saved with the network and not trained. Followed
    by an actnorm, it makes Gaussian inputs standard normal (Hotelling, 1933).
    """

    keeps_shape = True
    fitted = ("mean", "axes")

    mean: Tensor
    axes: Tensor
    initialised: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("axes", torch.eye(dim))
        self.register_buffer("initialised", torch.tensor(False))

    def extra_repr(self) -> str:
        return f"{len(self.mean)}"

    def move(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return (x - self.mean) @ self.axes

    def back(self, y: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.addmm(self.mean, y, self.axes.T)

    @torch.no_grad()
    def initialise(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        if not self.initialised:
            if not x.numel():
                raise InputValueError(f"principal axes need at least one input, got shape {tuple(x.shape)}")
            mean, axes, _ = principal_axes(x)
            self.mean.copy_(mean)
            self.axes.copy_(axes)
            self.initialised.fill_(True)
        return self.forward(x)[0]


class LeadingAxes(nn.Module):
    """Images in their ``count`` leading principal coordinates, with one common scale: y = Vᵀ(x - mean) / scale.

    ``encode`` maps ``(batch, *event)`` to ``(batch, count)``; ``decode`` maps back, with the other coordinates at their
    mean. The scale is half the largest coordinate's standard deviation: a single one, which preserves the images'
    geometry. Mean, V and scale are buffers fitted by ``initialise``. Models that need not be invertible use this frame.

    >>> import torch, linearizer_core as lc
    >>> x = torch.randn(100, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    >>> frame = lc.flows.LeadingAxes((1, 2, 2), 3)
    >>> y = frame.initialise(x)
    >>> y.shape, frame.decode(y).shape, [round(value, 2) for value in y.std(0, correction=0).tolist()][0]
    (torch.Size([100, 3]), torch.Size([100, 1, 2, 2]), 2.0)
    """

    fitted = ("mean", "axes", "scale")

    mean: Tensor
    axes: Tensor
    scale: Tensor

    def __init__(self, event: Sequence[int], count: int) -> None:
        super().__init__()
        self.event = tuple(event)
        dim = math.prod(self.event)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("axes", torch.eye(dim)[:, :count].clone())
        self.register_buffer("scale", torch.ones(()))

    def encode(self, x: Tensor) -> Tensor:
        """The coordinates of images."""
        return (x.flatten(1) - self.mean) @ self.axes / self.scale

    def decode(self, y: Tensor) -> Tensor:
        """The images with given coordinates."""
        return torch.addmm(self.mean, y * self.scale, self.axes.T).view(len(y), *self.event)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> Tensor:
        """Fit to images ``(batch, *event)`` and return their coordinates."""
        mean, axes, variances = principal_axes(x.flatten(1))
        self.mean.copy_(mean)
        self.axes.copy_(axes[:, : self.axes.shape[1]])
        if variances[0] > 0:
            self.scale.copy_(variances[0].sqrt() / 2)
        return self.encode(x)


def principal_axes(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The mean ``(dim,)`` of rows ``(count, dim)``, their principal axes ``(dim, dim)`` as columns, and the variances.

    All in float64, the largest variance first.
    """
    values = x.double()
    mean = values.mean(0)
    centred = values - mean
    variances, axes = torch.linalg.eigh(centred.T @ centred)
    axes = axes.flip(1)
    # An axis has two directions; choosing the one with a positive largest entry gives the same on every machine.
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    return mean, axes * largest.sign(), variances.flip(0).clamp_min(0) / len(values)


class Leading(Invertible):
    """An invertible map on the ``count`` leading coordinates; the others pass unchanged.

    ``(batch, dim)`` to the same. Raises ``ValueError`` for a count below 1.
    """

    keeps_shape = True

    def __init__(self, inner: Invertible, count: int) -> None:
        super().__init__()
        if count < 1:
            raise InputValueError(f"a flow needs at least one coordinate, got {count}")
        self.inner = inner
        self.count = count

    def extra_repr(self) -> str:
        return f"{self.count}, {self.inner!r}"

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.count >= x.shape[1]:
            return self.inner(x, label)
        leading, log_det = self.inner(x[:, : self.count], label)
        return torch.cat([leading, x[:, self.count :]], 1), log_det

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.count >= y.shape[1]:
            return self.inner.inverse(y, label)
        leading, log_det = self.inner.inverse(y[:, : self.count], label)
        return torch.cat([leading, y[:, self.count :]], 1), log_det

    @torch.no_grad()
    def initialise(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.cat([self.inner.initialise(x[:, : self.count], label), x[:, self.count :]], 1)
