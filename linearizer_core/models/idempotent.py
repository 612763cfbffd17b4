"""Idempotent Linearizers f = g⁻¹ P g, and the Gaussian that their images are sampled from (arXiv 2510.08570, 4.3).

P is an orthogonal projection, so f(f(x)) = f(x) by construction: f projects any image onto the images that P leaves
unchanged. A Gaussian fitted to the training images' latents in the image of P makes the image of f samplable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor

from linearizer_core.errors import InputValueError
from linearizer_core.flows.base import Chain, Invertible
from linearizer_core.linearizer import Linearizer
from linearizer_core.models.base import Event, Model
from linearizer_core.operators.projections import FrameProjection, SpectrumProjection

LARGEST_FACTOR = 512
"""Maximum number of columns of the fitted Gaussian's factor if the rank is learned and could reach the dimension."""

STEEPNESS = 0.1
"""Distance of a coordinate's logit from the threshold at which it is dropped, per factor of e in value: coordinates
near the threshold can cross it in training, the others cannot."""

EXACT = 2048
"""Largest dimension for which all eigenvectors are computed though only some are needed."""

OVERSAMPLING = 16
POWERS = 4

Sums = tuple[Tensor, Tensor, Tensor]
Reduction = Callable[[Callable[[], Sums]], Sums]
"""Takes a function that returns this process's sums, and returns the sums over all processes."""


def own_sums(work: Callable[[], Sums]) -> Sums:
    """The reduction of a single process: its own sums."""
    return work()


class Rotation(Invertible):
    """y = Qᵀx with a fixed orthogonal Q, initially the identity: ``(batch, dim)`` to the same.

    Q is the buffer ``axes``, held by columns: saved with the network, but not trained.
    """

    keeps_shape = True

    axes: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("axes", torch.eye(dim))

    def extra_repr(self) -> str:
        return f"{len(self.axes)}"

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x @ self.axes, x.new_zeros(len(x))

    def inverse(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return y @ self.axes.T, y.new_zeros(len(y))


class IdempotentLinearizer(Model):
    """f = g⁻¹ P g with P an orthogonal projection, and a Gaussian in P's image to sample from.

    If the rank is learned, P is diagonal and its frame is a ``Rotation`` appended to ``g``. ``price`` is the squared
    error of an image that a coordinate must save to be kept at the start; at 0 all are kept. The buffers
    ``latent_mean`` ``(dim,)``, ``latent_factor`` F ``(dim, m)`` and ``latent_rest`` ``(dim,)`` hold the Gaussian
    N(mean, F Fᵀ + diag(rest²)) that ``settle`` fits; they are zero before. m is the rank or, if that is learned, the
    dimension up to 512. F's columns are orthogonal, the longest first.

    >>> import torch, linearizer_core as lc
    >>> g = lc.flows.coupling((1, 4, 4), depth=1, width=8)
    >>> model = lc.models.IdempotentLinearizer(g, lc.operators.projection(16, 4), (1, 4, 4))
    >>> x = torch.randn(8, 1, 4, 4)
    >>> torch.allclose(model(model(x)), model(x), atol=1e-4)
    True
    >>> model.settle([x])
    >>> model.sample(3, torch.Generator().manual_seed(0)).shape
    torch.Size([3, 1, 4, 4])
    """

    latent_mean: Tensor
    latent_factor: Tensor
    latent_rest: Tensor

    def __init__(
        self, g: Invertible, projection: FrameProjection | SpectrumProjection, event: Event, price: float = 0.0
    ) -> None:
        super().__init__()
        if isinstance(projection, FrameProjection):
            dim, columns = projection.weight.shape
            self.g = g
        else:
            dim = len(projection.logits)
            columns = min(dim, LARGEST_FACTOR)
            self.g = Chain([g, Rotation(dim)])
        self.projection = projection
        self.event = event
        self.price = price
        self.register_buffer("latent_mean", torch.zeros(dim))
        self.register_buffer("latent_factor", torch.zeros(dim, columns))
        self.register_buffer("latent_rest", torch.zeros(dim))

    @torch.no_grad()
    def initialise(self, images: Tensor) -> None:
        """Fit g to images ``(count, *event)``, and P to the directions of its latents that explain the pixels best.

        With g the identity this is principal component analysis about 0, the best that a projection can do. A learned
        spectrum starts with the coordinates that minimise the squared error plus ``price`` times the rank for a linear
        g: from equal logits all coordinates would be dropped at the same step.
        """
        latents = self.g.initialise(images)
        if isinstance(self.projection, FrameProjection):
            self.projection.weight.copy_(telling_axes(images, latents, self.projection.weight.shape[1]))
            return
        rotation = cast(Rotation, cast(Chain, self.g).maps[-1])
        axes = telling_axes(images, latents, latents.shape[1])
        rotation.axes.copy_(rotation.axes @ axes)
        if self.price:
            spared = _spared(images, latents @ axes)
            self.projection.logits.copy_(STEEPNESS * (spared / self.price).log())

    def projector(self) -> Linearizer:
        """f as a Linearizer from the space of g to itself."""
        return Linearizer(self.g, self.projection.operator())

    def forward(self, x: Tensor) -> Tensor:
        """f(x) for ``(batch, *event)``."""
        return self.projector()(x)

    @torch.no_grad()
    def settle(self, batches: Iterable[Tensor], reduction: Reduction = own_sums) -> None:
        """Fit the Gaussian to the mean and covariance of P g(x) over batches of images ``(batch, *event)``.

        If P's rank exceeds the factor's columns, the covariance is that of factor analysis: the leading principal
        directions, and the remaining variance of each coordinate. With several processes, each passes its own batches,
        and ``reduction``, which adds up their sums, gives all of them the Gaussian of all batches.

        Raises ``ValueError`` for fewer than two images.
        """
        count, total, squares = reduction(lambda: self._moments(batches))
        if count < 2:
            raise InputValueError(f"a covariance needs at least two images, got {int(count)}")
        mean = total / count
        covariance = (squares - count * torch.outer(mean, mean)) / (count - 1)
        values, vectors = _leading(covariance, self.latent_factor.shape[1])
        factor = vectors * values.clamp_min(0).sqrt()
        self.latent_mean.copy_(mean)
        self.latent_factor.copy_(factor)
        self.latent_rest.copy_((covariance.diagonal() - factor.square().sum(1)).clamp_min(0).sqrt())

    def _moments(self, batches: Iterable[Tensor]) -> Sums:
        """The number of images, and the sums of P g(x) and of its outer products, in float64."""
        operator = self.projection.operator()
        dim = len(self.latent_mean)
        count, total = (torch.zeros(shape, dtype=torch.float64, device=self.device) for shape in ((), (dim,)))
        squares = torch.zeros(dim, dim, dtype=torch.float64, device=self.device)
        for images in batches:
            z = operator.apply(self.g(images.to(self.device, self.dtype))[0]).double()
            count, total = count + len(z), total + z.sum(0)
            squares.addmm_(z.T, z)
        return count, total, squares

    def latent_noise(self, count: int, generator: torch.Generator) -> Tensor:
        """Standard normal noise from which ``images`` makes ``count`` images, drawn on the generator's device."""
        columns = self.latent_factor.shape[1] + len(self.latent_mean)
        drawn = torch.randn(count, columns, generator=generator, device=generator.device, dtype=self.dtype)
        return drawn.to(self.device)

    @torch.no_grad()
    def images(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """Images g⁻¹(P (mean + temperature (F ε + rest ⊙ ε'))), ``(count, *event)``, which f leaves unchanged.

        ``noise`` is ε and ε' side by side, ``(count, m + dim)``. Before ``settle`` all images are the induced space's
        zero vector.
        """
        dim, columns = self.latent_factor.shape
        along, rest = noise.split([columns, dim], 1)
        deviation = along @ self.latent_factor.T + rest * self.latent_rest
        images: Tensor = self.g.inverse(self.projection(self.latent_mean + temperature * deviation))[0]
        return images

    def sample(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """``images`` of noise drawn from the generator, ``(count, *event)``."""
        return self.images(self.latent_noise(count, generator), temperature)


def isometry(latents: Tensor, origin: Tensor, images: Tensor) -> Tensor:
    """The mean of log²(‖g(x) - g(0)‖² / ‖x‖²): zero if g preserves distances from 0, and scale-invariant.

    ``latents`` are g(x) ``(batch, dim)``, ``origin`` is g(0) ``(1, dim)`` or ``(dim,)``, ``images`` are x.
    """
    smallest = torch.finfo(latents.dtype).tiny
    mapped = (latents - origin).square().sum(1).clamp_min(smallest)
    return (mapped / images.flatten(1).square().sum(1).clamp_min(smallest)).log().square().mean()


@torch.no_grad()
def telling_axes(images: Tensor, latents: Tensor, count: int) -> Tensor:
    """The ``count`` leading right singular vectors of Σ x zᵀ, ``(dim, count)``, from x ``(n, *event)``, z ``(n, dim)``.

    They are orthonormal. For z = x they are the principal axes about 0; for white latents of an affine g, the
    directions whose loss costs the most in pixels.
    """
    moment = images.flatten(1).double().T @ latents.double()
    return _leading(moment.T @ moment, count)[1].to(latents.dtype)


def _spared(images: Tensor, latents: Tensor) -> Tensor:
    """By how much each latent alone reduces the mean of ‖x‖² in linear regression, ``(dim,)``, always above 0."""
    pixels = images.flatten(1)
    smallest = torch.finfo(latents.dtype).tiny
    explained = (pixels.T @ latents).square().sum(0) / latents.square().sum(0).clamp_min(smallest)
    return (explained / len(pixels)).clamp_min(smallest)


def _leading(matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` largest eigenvalues, descending, and eigenvectors of a positive semidefinite matrix."""
    if len(matrix) <= EXACT or 4 * count > len(matrix):
        values, vectors = torch.linalg.eigh(matrix)
        return values.flip(0)[:count], vectors.flip(1)[:, :count]
    with torch.random.fork_rng():  # svd_lowrank starts from random directions, which must be the same every time
        torch.manual_seed(0)
        vectors, values, _ = torch.svd_lowrank(matrix, q=count + OVERSAMPLING, niter=POWERS)
    return values[:count], vectors[:, :count]
