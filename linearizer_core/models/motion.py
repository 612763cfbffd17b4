"""Moving images: frames of sequences in which one image turns about its centre, or drifts across the frame."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, interpolate, pad

from linearizer_core.models.base import Event

SATURATED = 1 - 1e-6
"""Largest value whose contrast is undone."""
FINER = 2
"""How many times finer than the frames the grid is on which images are turned: interpolation blurs less there, and
about equally at all angles."""


def turned(images: Tensor, angles: Tensor) -> Tensor:
    """Square images ``(batch, channels, side, side)``, black at -1, turned about their centre by ``angles`` in radians.

    ``angles`` are ``(batch,)``. Each image is turned once, by bilinear interpolation on a finer grid, and averaged back
    to its own pixels. What lies outside the inscribed circle is black at every angle, so nothing leaves the frame.

    >>> import torch
    >>> bar = -torch.ones(1, 1, 8, 8)
    >>> bar[..., 2:6, 3:5] = 1.0
    >>> quarter = turned(bar, torch.tensor([torch.pi / 2]))
    >>> torch.allclose(quarter, turned(bar, torch.zeros(1)).mT, atol=1e-5)
    True
    """
    side = images.shape[-1]
    fine = interpolate(images + 1, scale_factor=FINER, mode="bilinear", align_corners=False)
    # The places of pixels before the turn, in [-1, 1]; affine_grid gives the same, but not for several models at once.
    count = FINER * side
    places = (2 * torch.arange(count, device=images.device, dtype=images.dtype) + 1) / count - 1
    x, y = places, places[:, None]
    cosines, sines = (each.to(images.dtype)[:, None, None] for each in (angles.cos(), angles.sin()))
    grid = torch.stack([cosines * x - sines * y, sines * x + cosines * y], -1)
    made = avg_pool2d(grid_sample(fine, grid, mode="bilinear", padding_mode="zeros", align_corners=False), FINER)
    centred = torch.arange(side, device=images.device, dtype=images.dtype) - (side - 1) / 2
    inside = centred.square()[:, None] + centred.square() <= (side / 2) ** 2
    return made * inside.to(made.dtype) - 1


def drifted(images: Tensor, turns: Tensor) -> Tensor:
    """Images ``(batch, channels, height, width)`` moved right by ``turns`` ``(batch,)`` widths, around the edge.

    The shift is by the Fourier transform of each row, and exact for any fraction of a pixel: two shifts are one by
    their sum. To make it so, the highest frequency of an even width is removed at every shift.

    >>> import torch
    >>> x = torch.randn(1, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    >>> torch.allclose(drifted(x, torch.tensor([0.4])), x.roll(2, 3), atol=1e-5)
    True
    """
    width = images.shape[-1]
    waves = torch.fft.rfft(images, dim=-1)
    frequencies = torch.arange(waves.shape[-1], device=images.device, dtype=images.dtype)
    kept = (2 * frequencies < width).to(images.dtype)
    phases = -math.tau * turns.to(images.dtype)[:, None] * frequencies
    shift = torch.polar(kept.expand_as(phases), phases)[:, None, None]
    return torch.fft.irfft(waves * shift, n=width, dim=-1)


MOTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "rotation": lambda images, turns: turned(images, math.tau * turns),
    "drift": drifted,
}
"""Motions by name: functions of images and of the share of a whole turn, or of the width, ``(batch,)``."""


@dataclass(frozen=True)
class Motion:
    """Sequences of frames made from single images: at time t, an image has made t / ``period`` of a turn.

    ``padding`` pixels of black are added on each side first. With ``contrast`` c > 0, what is seen is
    tanh(c x) / tanh(c): each pixel on a scale that saturates, so that frames are no longer linear in what moves.

    >>> import torch
    >>> motion = Motion("drift", period=16, padding=2, contrast=0.0)
    >>> motion.shape((1, 8, 8)), motion.angle
    ((1, 12, 12), 0.39269908169872414)
    >>> motion.frames(torch.zeros(3, 1, 8, 8), torch.tensor([0.0, 0.5, 15.0])).shape
    torch.Size([3, 1, 12, 12])
    """

    name: str
    period: int
    padding: int
    contrast: float

    @property
    def angle(self) -> float:
        """The angle of one step in radians, by which the first harmonic of the motion turns."""
        return math.tau / self.period

    def shape(self, event: Event) -> Event:
        """The shape of frames made from images ``event``."""
        return event[0], event[1] + 2 * self.padding, event[2] + 2 * self.padding

    def frames(self, images: Tensor, times: Tensor) -> Tensor:
        """The frame of each image ``(batch, *event)`` at its own time in steps ``(batch,)``, ``(batch, *shape)``.

        Each frame is made from the image itself and not from the frame before, so nothing adds up over time.
        """
        moved = MOTIONS[self.name](pad(images, (self.padding,) * 4, value=-1.0), times / self.period)
        return torch.tanh(self.contrast * moved) / math.tanh(self.contrast) if self.contrast else moved

    def at(self, images: Tensor, time: float) -> Tensor:
        """The frames of all images at one time, ``(batch, *shape)``."""
        return self.frames(images, images.new_full((len(images),), time))

    def again(self, frames: Tensor, steps: float) -> Tensor:
        """Frames moved on by a number of steps: exact for drift, while rotation blurs a second time."""
        c, turns = self.contrast, frames.new_full((len(frames),), steps / self.period)
        if not c:
            return MOTIONS[self.name](frames, turns)
        plain = torch.atanh((frames * math.tanh(c)).clamp(-SATURATED, SATURATED)) / c
        return torch.tanh(c * MOTIONS[self.name](plain, turns)) / math.tanh(c)


def check_motion(name: str, event: Event) -> str:
    """What is wrong with images of this shape for a motion; empty if nothing is.

    >>> check_motion("drift", (1, 9, 8)), check_motion("rotation", (1, 9, 8))
    ('', 'rotation needs square images, got 9×8')
    """
    if name == "rotation" and event[1] != event[2]:
        return f"rotation needs square images, got {event[1]}×{event[2]}"
    return ""
