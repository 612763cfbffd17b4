"""The data's principal axes as the coordinates of a flow, and flows on the leading ones of them."""

from __future__ import annotations

import torch
from torch import Tensor

from linearizer_core.errors import InputValueError
from linearizer_core.flows.base import Invertible


class PrincipalAxes(Invertible):
    """y = Qᵀ(x - mean), with Q the principal axes of the first batch that it is initialised with, the largest first.

    ``(batch, dim)`` to the same; mean and Q are buffers, so they are saved with the network and not trained. With an
    actnorm behind it, it makes a Gaussian set of inputs standard normal (Hotelling, 1933).
    """

    keeps_shape = True

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

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (x - self.mean) @ self.axes, x.new_zeros(len(x))

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return torch.addmm(self.mean, y, self.axes.T), y.new_zeros(len(y))

    @torch.no_grad()
    def initialise(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        if not self.initialised:
            if not x.numel():
                raise InputValueError(f"principal axes are those of at least one input, got shape {tuple(x.shape)}")
            values = x.double()
            self.mean.copy_(values.mean(0))
            centred = values - values.mean(0)
            _, axes = torch.linalg.eigh(centred.T @ centred)
            axes = axes.flip(1)
            # An axis has two directions: the one in which its largest entry is positive is the same on every machine.
            largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
            self.axes.copy_(axes * largest.sign())
            self.initialised.fill_(True)
        return self.forward(x)[0]


class Leading(Invertible):
    """An invertible map of the ``count`` leading coordinates; the others pass as they are.

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
        leading, log_det = self.inner(x[:, : self.count], label)
        return torch.cat([leading, x[:, self.count :]], 1), log_det

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        leading, log_det = self.inner.inverse(y[:, : self.count], label)
        return torch.cat([leading, y[:, self.count :]], 1), log_det

    @torch.no_grad()
    def initialise(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.cat([self.inner.initialise(x[:, : self.count], label), x[:, self.count :]], 1)
