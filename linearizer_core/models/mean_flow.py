"""MeanFlow, the one-step competitor: a network of average velocities (Geng et al., 2025, arXiv 2505.13447)."""

from __future__ import annotations

import warnings
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from linearizer_core.flows.conditioners import Conditioner
from linearizer_core.flows.principal_axes import LeadingAxes
from linearizer_core.grids import Grid, uniform
from linearizer_core.models.base import Event
from linearizer_core.models.transport import Transport


class MeanFlow(Transport):
    """x_t = (1-t) x0 + t x1 and a network u(x_t, t, r), the average velocity on the way from t to r ≥ t.

    (r - t) u = ∫ₜʳ v dτ, so x_r = x_t + (r - t) u(x_t, t, r): a single step over [0, 1] goes from noise to images. Time
    runs the other way in the paper. The network's inputs are t and r - t.

    >>> import torch, linearizer_core as lc
    >>> options = {"depth": 1, "activation": "gelu", "attention": False, "times": 2}
    >>> network = lc.models.velocity_network((1, 4, 4), 2000, convolutional=False, **options)
    >>> model = lc.models.MeanFlow(network, (1, 4, 4))
    >>> model.sample_stepping(torch.ones(2, 1, 4, 4), 1).shape
    torch.Size([2, 1, 4, 4])
    """

    def __init__(self, network: Conditioner, event: Event, groups: int = 0, frame: LeadingAxes | None = None) -> None:
        super().__init__(network, event, groups, frame)
        _load_forward_mode()

    def average_velocity(self, t: Tensor, r: Tensor, x: Tensor, which: Tensor | None = None) -> Tensor:
        """u(x, t, r) at x in the frame's coordinates, ``(batch, *event)`` or ``(batch, count)``, and times
        ``(batch,)``.
        """
        return self.field(x, torch.stack([t, r - t], 1), which)

    def with_rate(
        self, t: Tensor, r: Tensor, x: Tensor, velocity: Tensor, which: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """u and its total derivative along the path, du/dt = ∂u/∂t + ∂u/∂x · v at constant r, in one forward pass."""

        def along(point: Tensor, time: Tensor) -> Tensor:
            return self.average_velocity(time, r, point, which)

        found = torch.func.jvp(along, (x, t), (velocity, torch.ones_like(t)))
        return found[0], found[1]

    @torch.no_grad()
    def sample_stepping(
        self,
        x0: Tensor,
        steps: int = 1,
        grid: Grid = uniform,
        which: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Images from noise ``(batch, *event)``, by the average velocities over ``steps`` parts of [0, 1]."""
        x = self.start(x0, temperature)
        for start, stop in pairwise(grid(steps, 1.0)):
            t, r = x.new_full((len(x),), start), x.new_full((len(x),), stop)
            x = x + (stop - start) * self.average_velocity(t, r, x, which)
        return self.decode(x)


@lru_cache(maxsize=1)
def _load_forward_mode() -> None:
    """Make PyTorch load its forward mode, once and with warnings off: it warns of its own use of TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))
