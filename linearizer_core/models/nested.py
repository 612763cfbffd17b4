"""Idempotent Linearizers of every rank over one g: f_r = g⁻¹ P_r g, with P_r the leading r coordinates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor

from linearizer_core.errors import InputValueError
from linearizer_core.flows.base import Chain, Invertible
from linearizer_core.linearizer import Linearizer
from linearizer_core.models.base import Event, Model, draw_labels
from linearizer_core.models.idempotent import Reduction, Rotation, Sums, own_sums, telling_axes
from linearizer_core.operators.projections import NestedProjection

PRIOR_IMAGES = 32
"""Number of images of the whole set added to each group's covariance, which would be singular for few images."""


class NestedIdempotent(Model):
    """Projectors f_r = g⁻¹ P_r g on images, one per rank r in 1 … dim; the image of each lies in that of the next.

    f_r f_s = f_min(r, s). Their coordinates are those of g, turned so that the leading ones tell most of the pixels; in
    training r is drawn anew for each image, so that one g serves every rank (Rippel, Gelbart & Adams, Learning Ordered
    Representations with Nested Dropout, 2014).

    Samples are drawn inside the image of f_r by one affine operator for each of ``count`` groups of images, N(m_k, Σ_k)
    of the leading coordinates, which ``settle`` fits: buffers ``means`` ``(count, dim)``, ``covariances``
    ``(count, dim, dim)`` and ``proportions`` ``(count,)``.

    >>> import torch, linearizer_core as lc
    >>> g = lc.flows.coupling((1, 4, 4), depth=1, width=8)
    >>> model = lc.models.NestedIdempotent(g, lc.operators.NestedProjection(16, 4), (1, 4, 4))
    >>> x = torch.randn(64, 1, 4, 4)
    >>> f, wider = model.projector(), model.projector(9)
    >>> torch.allclose(f(wider(x)), f(x), atol=1e-4), torch.allclose(wider(f(x)), f(x), atol=1e-4)
    (True, True)
    >>> model.settle([(x, torch.zeros(64, dtype=torch.int64))])
    >>> model.sample(3, torch.Generator().manual_seed(0), rank=2).shape
    torch.Size([3, 1, 4, 4])
    """

    by = "one"
    """What the groups are, by the name that a configuration has for it."""

    floor: Tensor
    means: Tensor
    covariances: Tensor
    proportions: Tensor
    chosen: Tensor

    def __init__(self, g: Invertible, projection: NestedProjection, event: Event, count: int = 1) -> None:
        super().__init__()
        dim = projection.dim
        self.g = Chain([g, Rotation(dim)])
        self.projection = projection
        self.event = event
        self.count = count
        self.register_buffer("floor", torch.ones(dim + 1))
        """The mean squared error of a value of images in so many principal components, by their number."""
        self.register_buffer("means", torch.zeros(count, dim))
        self.register_buffer("covariances", torch.zeros(count, dim, dim))
        self.register_buffer("proportions", torch.full((count,), 1 / count))
        self.register_buffer("chosen", torch.tensor(projection.rank))

    @property
    def dim(self) -> int:
        """Coordinates of g."""
        return self.projection.dim

    @property
    def rank(self) -> int:
        """The rank that samples are drawn at where no other is asked for."""
        return int(self.chosen)

    def choose(self, rank: int) -> None:
        """Draw samples at this rank from now on."""
        self.chosen.fill_(rank)

    @torch.no_grad()
    def initialise(self, images: Tensor) -> None:
        """Fit g to images ``(count, *event)``, turn it to what tells most of the pixels, and find what PCA loses."""
        latents = self.g.initialise(images)
        rotation = cast(Rotation, self.g.maps[-1])
        rotation.axes.copy_(rotation.axes @ telling_axes(images, latents, self.dim))
        pixels = images.flatten(1).double()
        values = torch.linalg.eigvalsh(torch.cov(pixels.T, correction=0)).clamp_min(0)
        lost = torch.cat([values.cumsum(0).flip(0), values.new_zeros(1)]) / self.dim
        # Of all components nothing is lost, and no error is small beside it: what the last one would lose is.
        self.floor.copy_(lost.clamp_min(float(lost[-2])).clamp_min(torch.finfo(torch.float32).tiny))

    def projector(self, rank: int | None = None) -> Linearizer:
        """f_r as a Linearizer, by default at the projection's own rank.

        Raises ``InputValueError`` for a rank outside 1 … ``dim``.
        """
        return Linearizer(self.g, self.projection.at(self.projection.rank if rank is None else rank))

    def forward(self, x: Tensor) -> Tensor:
        """f(x) for ``(batch, *event)``, at the projection's rank."""
        return self.projector()(x)

    def nested(self, latents: Tensor, ranks: Tensor) -> Tensor:
        """Images of latents ``(batch, dim)`` cut to their leading ``ranks`` ``(batch,)`` coordinates."""
        kept = torch.arange(self.dim, device=latents.device) < ranks[:, None]
        images: Tensor = self.g.inverse(latents * kept)[0]
        return images

    @torch.no_grad()
    def settle(self, batches: Iterable[tuple[Tensor, Tensor]], reduction: Reduction = own_sums) -> None:
        """Fit the Gaussian of each group's latents to batches of images ``(batch, *event)`` and groups ``(batch,)``.

        With several processes, each passes its own batches, and ``reduction``, which adds up their sums, gives all of
        them the Gaussians of all batches. Raises ``InputValueError`` for fewer than two images.
        """
        counts, totals, squares = reduction(lambda: self._moments(batches))
        images = counts.sum()
        if images < 2:
            raise InputValueError(f"a covariance needs at least two images, got {int(images)}")
        means = totals / counts.clamp_min(1)[:, None]
        own = squares - counts[:, None, None] * means[:, :, None] * means[:, None, :]
        common = own.sum(0) / images
        shares = counts[:, None, None]
        self.means.copy_(means)
        self.covariances.copy_((own + PRIOR_IMAGES * common) / (shares + PRIOR_IMAGES))
        self.proportions.copy_(counts / images)

    def _moments(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Sums:
        """For each group, the number of images and the sums of g(x) and of its outer products, in float64."""
        shapes = ((self.count,), (self.count, self.dim), (self.count, self.dim, self.dim))
        counts, totals, squares = (torch.zeros(each, dtype=torch.float64, device=self.device) for each in shapes)
        for images, groups in batches:
            z = self.g(images.to(self.device, self.dtype))[0].double()
            for k in groups.unique().tolist():
                own = z[groups.to(z.device) == k]
                counts[k] += len(own)
                totals[k] += own.sum(0)
                squares[k].addmm_(own.T, own)
        return counts, totals, squares

    def labels(self, count: int, generator: torch.Generator) -> Tensor:
        """The group of each of ``count`` samples, drawn in proportion to the groups' shares."""
        return draw_labels(self.proportions, count, generator).to(self.device)

    def roots(self, rank: int) -> Tensor:
        """The symmetric root of each group's covariance in the leading coordinates, ``(count, rank, rank)``."""
        values, vectors = torch.linalg.eigh(self.covariances[:, :rank, :rank].double())
        scaled = vectors * values.clamp_min(0).sqrt()[:, None, :]
        return (scaled @ vectors.mT).to(self.dtype)

    @torch.no_grad()
    def images(self, noise: Tensor, which: Tensor, roots: Tensor, temperature: float = 1.0) -> Tensor:
        """g⁻¹(m_k + T Σ_k^½ z0) in the leading coordinates, from noise ``(batch, *event)`` and groups ``(batch,)``.

        ``roots`` are those of a rank; f of that rank leaves the images as they are.
        """
        rank = roots.shape[1]
        leading = torch.einsum("bij,bj->bi", roots[which], noise.flatten(1)[:, :rank])
        z = torch.zeros(len(noise), self.dim, dtype=noise.dtype, device=noise.device)
        z[:, :rank] = self.means[which, :rank] + temperature * leading
        made: Tensor = self.g.inverse(z)[0]
        return made

    def sample(
        self, count: int, generator: torch.Generator, temperature: float = 1.0, rank: int | None = None
    ) -> Tensor:
        """``images`` of drawn noise and groups, ``(count, *event)``, by default at the chosen rank."""
        noise = self.noise(count, generator)
        roots = self.roots(self.rank if rank is None else rank)
        return self.images(noise, self.labels(count, generator), roots, temperature)
