"""All learned values of a model in one tensor, so that a step handles them at once instead of one by one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

ALIGNED = 64
"""Parameters start at multiples of this number of values: matrix-product kernels read at least 16 bytes at a time."""


class FlatParameters:
    """Parameters as views of ``values`` ``(size,)``, and their gradients as views of ``gradient`` ``(size,)``.

    The parameters keep their values; the padding between them is zero and stays so. ``whole`` is all of it as one
    parameter, whose gradient is ``gradient``.

    Raises ``ValueError`` without parameters, and if they differ in dtype or device.

    >>> import torch
    >>> layer = torch.nn.Linear(2, 1)
    >>> flat = FlatParameters(list(layer.parameters()))
    >>> flat.take(torch.autograd.grad(layer(torch.ones(1, 2)).sum(), flat.parameters))
    >>> with torch.no_grad():
    ...     _ = flat.values.zero_()
    >>> layer.weight.tolist(), flat.gradient.sum().item()
    ([[0.0, 0.0]], 3.0)
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        kinds = {(parameter.dtype, parameter.device) for parameter in parameters}
        if len(kinds) != 1:
            found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds)) or "none"
            raise ValueError(f"flat parameters must have one dtype and one device, got {found}")
        self.parameters = list(parameters)
        self.starts = [0]
        for parameter in parameters:
            self.starts.append(self.starts[-1] + -(-parameter.numel() // ALIGNED) * ALIGNED)
        self._parts: list[tuple[slice, nn.Parameter]] = []
        first = parameters[0]
        self.values = torch.zeros(self.starts[-1], dtype=first.dtype, device=first.device)
        self.gradient = torch.zeros_like(self.values)
        for parameter, view in zip(parameters, self.views(self.values), strict=True):
            view.copy_(parameter.detach())
        self._point()
        self.whole = self.part(0, len(parameters))

    def part(self, start: int, stop: int) -> nn.Parameter:
        """The parameters from ``start`` to before ``stop`` as one parameter, whose gradient is theirs."""
        own = slice(self.starts[start], self.starts[stop])
        part = nn.Parameter(self.values[own])
        part.grad = self.gradient[own]
        self._parts.append((own, part))
        return part

    def move(self, values: Tensor, gradient: Tensor) -> None:
        """Move values and gradient to other tensors ``(size,)``, for instance in shared memory."""
        self.values, self.gradient = values.copy_(self.values), gradient.copy_(self.gradient)
        self._point()

    def views(self, flat: Tensor) -> list[Tensor]:
        """Each parameter's part of ``(…, size)``, in its shape: ``(…, *shape)``."""
        return [
            flat[..., start : start + parameter.numel()].view(*flat.shape[:-1], *parameter.shape)
            for start, parameter in zip(self.starts, self.parameters, strict=False)
        ]

    def _point(self) -> None:
        self._gradients = self.views(self.gradient)
        for parameter, view, gradient in zip(self.parameters, self.views(self.values), self._gradients, strict=True):
            parameter.data, parameter.grad = view, gradient
        for own, part in self._parts:
            part.data, part.grad = self.values[own], self.gradient[own]

    def take(self, gradients: Sequence[Tensor | None]) -> None:
        """Copy in the parameters' gradients; None, for a parameter that the loss does not depend on, becomes zero."""
        take(self._gradients, gradients)


def take(places: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Copy gradients to their places, zeros for None; many small ones at once on a GPU."""
    found = [(place, each) for place, each in zip(places, gradients, strict=True) if each is not None]
    missing = [place for place, each in zip(places, gradients, strict=True) if each is None]
    if found:
        torch._foreach_copy_([place for place, _ in found], [each for _, each in found])
    if missing:
        torch._foreach_zero_(missing)
