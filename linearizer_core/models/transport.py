"""Common parts of models that move noise to images with an ordinary network: frame, labels and temperature."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from linearizer_core.flows.conditioners import Conditioner
from linearizer_core.flows.principal_axes import LeadingAxes
from linearizer_core.models.base import Event, Model, draw_labels
from linearizer_core.models.velocity_networks import ResidualMLP

LOUDNESS = 3.0
"""Scale of a label's one-hot vector next to inputs of about unit variance, since it is one entry among many."""


def _at_temperature_one(_: nn.Module, state: dict[str, Tensor], prefix: str, *__: object) -> None:
    """Set a temperature of 1 for weights saved before the temperature was chosen."""
    state.setdefault(f"{prefix}chosen", torch.ones(()))


class Transport(Model):
    """A network of x_t = (1-t) x0 + t x1 in a ``frame``, conditioned on one of ``groups`` labels or clusters.

    The frame is the images' own, or their leading principal coordinates. Noise is drawn for whole images either way,
    and the frame takes its leading entries, so that every model is given the same noise. With ``groups`` 0 there is no
    conditioning. The buffer ``proportions`` ``(groups,)`` holds the proportions in which samples' labels are drawn.

    >>> import torch, linearizer_core as lc
    >>> options = {"depth": 1, "activation": "gelu", "attention": False}
    >>> network = lc.models.velocity_network((1, 4, 4), 2000, convolutional=False, **options)
    >>> model = lc.models.FlowMatching(network, (1, 4, 4))
    >>> isinstance(model, lc.models.Transport), model.labels(2, torch.Generator()).tolist(), model.temperature
    (True, [0, 0], 1.0)
    """

    proportions: Tensor
    chosen: Tensor

    def __init__(self, network: Conditioner, event: Event, groups: int = 0, frame: LeadingAxes | None = None) -> None:
        super().__init__()
        self.network = network
        self.event = event
        self.groups = groups
        self.frame = frame
        if groups:
            self.register_buffer("proportions", torch.full((groups,), 1 / groups))
        self.register_buffer("chosen", torch.ones(()))
        self.register_load_state_dict_pre_hook(_at_temperature_one)  # type: ignore[no-untyped-call]

    @property
    def temperature(self) -> float:
        """The default factor on the noise."""
        return float(self.chosen)

    def choose(self, temperature: float) -> None:
        """Set the default temperature of samples."""
        self.chosen.fill_(temperature)

    @torch.no_grad()
    def initialise(self, images: Tensor, groups: Tensor | None = None) -> None:
        """Fit the frame to training images, and the proportions to all labels or clusters ``(count,)``."""
        if self.frame is not None:
            self.frame.initialise(images)
        if self.groups and groups is not None:
            self.proportions.copy_(torch.bincount(groups, minlength=self.groups) / len(groups))

    def encode(self, images: Tensor) -> Tensor:
        """Images ``(batch, *event)`` in the frame's coordinates: ``(batch, count)``, or unchanged."""
        return images if self.frame is None else self.frame.encode(images)

    def decode(self, x: Tensor) -> Tensor:
        """The images with given coordinates in the frame."""
        return x if self.frame is None else self.frame.decode(x)

    def start(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The starting point of sampling in the frame, from noise ``(batch, *event)``."""
        kept = noise if self.frame is None else noise.flatten(1)[:, : self.frame.axes.shape[1]]
        return temperature * kept

    def labels(self, count: int, generator: torch.Generator) -> Tensor:
        """The label of each of ``count`` samples, drawn by the proportions; zeros, without a draw, if unconditional."""
        if not self.groups:
            return torch.zeros(count, dtype=torch.int64, device=self.device)
        return draw_labels(self.proportions, count, generator).to(self.device)

    def field(self, x: Tensor, times: Tensor, which: Tensor | None) -> Tensor:
        """The network at x in the frame, times ``(batch,)`` or ``(batch, count)`` and labels ``which`` ``(batch,)``."""
        flat = isinstance(self.network, ResidualMLP)
        inputs = x.flatten(1) if flat else x
        if self.groups:
            assert which is not None
            told = LOUDNESS * torch.eye(self.groups, dtype=x.dtype, device=x.device)[which]
            if not flat:
                told = told[..., None, None].expand(-1, -1, *x.shape[2:])
            inputs = torch.cat([inputs, told], 1)
        return self.network(inputs, times).view(x.shape)
