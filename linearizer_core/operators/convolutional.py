"""Circular convolutions of images, stored and combined frequency by frequency."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeGuard

import torch
from torch import Tensor
from torch.nn.functional import pad

from linearizer_core.errors import InputValueError
from linearizer_core.operators.base import SVD, Eigen, LinearOperator, finite, leading, phi, pseudo_inverse, size


@dataclass(frozen=True)
class _Half:
    """The roles of rfft2's flattened frequencies in the whole spectrum of a real image.

    ``own`` are their own conjugates; ``pairs`` represent themselves and their conjugates; ``twins`` are conjugates of
    ``originals`` that rfft2 keeps as well.
    """

    own: Tensor
    pairs: Tensor
    twins: Tensor
    originals: Tensor


@dataclass(frozen=True)
class _Chosen:
    """A selection of the vectors found at the frequencies; ``place`` indexes first those of ``own``, then of ``pairs``.

    A ``paired`` vector stands for two, itself and its conjugate; the conjugate is marked ``second``.
    """

    place: Tensor
    paired: Tensor
    second: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class ConvolutionalOperator(LinearOperator):
    """A circular convolution of ``(in_channels, height, width)`` images, flattened to rows of ``(batch, dim)``.

    ``spectrum`` ``(height, width // 2 + 1, out_channels, in_channels)`` is complex: one matrix per rfft2 frequency,
    each acting independently. All methods work on these matrices. Only ``to_dense`` and a full ``svd`` or ``eig``,
    whose results are dim×dim, form anything of that size.

    ``terms`` is the size of the terms that the spectrum was added up from, as in ``DenseOperator``.

    The dtype must be float32 or float64, which have complex counterparts. Raises ``ValueError`` if the spectrum does
    not fit images of this width, and for kernels and rows in half precision.

    >>> import torch, linearizer_core as lc
    >>> a = lc.operators.ConvolutionalOperator.from_kernel(torch.ones(2, 1, 3, 3), 4, 4)
    >>> a.apply(torch.ones(1, 16)).shape
    torch.Size([1, 32])
    >>> a
    ConvolutionalOperator(16 → 32, 1 → 2 channels of 4×4)
    """

    spectrum: Tensor
    width: int
    terms: Tensor | None = None

    def __post_init__(self) -> None:
        if self.spectrum.ndim != 4 or not self.spectrum.is_complex() or self.spectrum.shape[1] != self.width // 2 + 1:
            raise InputValueError(
                "a spectrum must be complex (height, width // 2 + 1, out_channels, in_channels), "
                f"got {self.spectrum.dtype} {tuple(self.spectrum.shape)} for width {self.width}"
            )

    @classmethod
    def from_kernel(cls, kernel: Tensor, height: int, width: int) -> ConvolutionalOperator:
        """The operator of conv2d with ``kernel`` ``(out_channels, in_channels, rows, columns)`` and circular padding.

        As with ``Conv2d(padding="same", padding_mode="circular")``, the centre is the tap ``((rows - 1) // 2,
        (columns - 1) // 2)``. A kernel larger than the image wraps around it.

        Raises ``ValueError`` for a kernel that does not have four dimensions, and for an image without pixels.
        """
        if kernel.ndim != 4 or height < 1 or width < 1:
            raise InputValueError(
                "a kernel must be (out_channels, in_channels, rows, columns) and an image must have pixels, "
                f"got {tuple(kernel.shape)} for {height}×{width}"
            )
        _whole(kernel)
        rows, columns = kernel.shape[2:]
        tiled = pad(kernel, (0, -columns % width, 0, -rows % height))
        taps = tiled.unflatten(3, (-1, width)).unflatten(2, (-1, height)).sum((2, 4))
        taps = taps.roll((-((rows - 1) // 2), -((columns - 1) // 2)), (2, 3))
        # Cross-correlation with a real kernel is multiplication by the conjugate of its spectrum.
        return cls(torch.fft.rfft2(taps).conj().permute(2, 3, 0, 1), width)

    @property
    def height(self) -> int:
        """The height of the images."""
        return self.spectrum.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        pixels = self.height * self.width
        return self.spectrum.shape[2] * pixels, self.spectrum.shape[3] * pixels

    @property
    def like(self) -> Tensor:
        return self.spectrum.real

    def _detail(self) -> str:
        out, into = self.spectrum.shape[2:]
        return f"{into} → {out} channels of {self.height}×{self.width}"

    def apply(self, z: Tensor) -> Tensor:
        return self._filter(z, lambda x: self.spectrum @ x)

    def _filter(self, z: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply to rows ``(batch, dim)`` a function of their spectra ``(height, width // 2 + 1, channels, batch)``."""
        _whole(z)
        spectra = torch.fft.rfft2(z.unflatten(1, (-1, self.height, self.width))).permute(2, 3, 1, 0)
        images = torch.fft.irfft2(function(spectra).permute(3, 2, 0, 1), s=(self.height, self.width))
        return images.flatten(1)

    def adjoint(self) -> ConvolutionalOperator:
        return ConvolutionalOperator(self.spectrum.mH, self.width, self.terms)

    def scale(self, factor: float) -> ConvolutionalOperator:
        terms = None if self.terms is None else abs(factor) * self.terms
        return ConvolutionalOperator(factor * self.spectrum, self.width, terms)

    def shift(self, alpha: float) -> ConvolutionalOperator:
        self._square("shifted by the identity")
        shifted = self.spectrum + alpha * self._eye(self.spectrum.shape[3])
        return ConvolutionalOperator(shifted, self.width, self._size() + abs(alpha))

    def _terms(self) -> Tensor | None:
        return self.terms

    def _size(self) -> Tensor:
        return size(self.spectrum) if self.terms is None else torch.maximum(size(self.spectrum), self.terms)

    def _after(self, first: LinearOperator) -> ConvolutionalOperator | None:
        return ConvolutionalOperator(self.spectrum @ first.spectrum, self.width) if self._same_images(first) else None

    def _plus(self, other: LinearOperator) -> ConvolutionalOperator | None:
        if not self._same_images(other):
            return None
        return ConvolutionalOperator(self.spectrum + other.spectrum, self.width, self._size() + other._size())

    def _same_images(self, other: LinearOperator) -> TypeGuard[ConvolutionalOperator]:
        return isinstance(other, ConvolutionalOperator) and (other.height, other.width) == (self.height, self.width)

    @cached_property
    def _half(self) -> _Half:
        rows = torch.arange(self.height, device=self.spectrum.device)[:, None]
        columns = torch.arange(self.spectrum.shape[1], device=self.spectrum.device)
        conjugates = -rows % self.height
        both = (columns == 0) | (2 * columns == self.width)  # the columns that are their own conjugates
        own, twins = both & (conjugates == rows), both & (conjugates < rows)
        flat = conjugates * len(columns) + columns
        own_at, pairs_at, twins_at = (mask.flatten().nonzero()[:, 0] for mask in (own, ~(own | twins), twins))
        return _Half(own_at, pairs_at, twins_at, flat[twins])

    @property
    def _own(self) -> Tensor:
        """The real matrices at frequencies that are their own conjugates."""
        return finite(self.spectrum).flatten(0, 1)[self._half.own].real

    @property
    def _pairs(self) -> Tensor:
        """The complex matrices at one frequency of each conjugate pair."""
        return finite(self.spectrum).flatten(0, 1)[self._half.pairs]

    def _each(self, function: Callable[[Tensor], Tensor]) -> ConvolutionalOperator:
        """Apply a function to the matrix at each frequency, once per conjugate pair: the result is exactly real."""
        own, pairs = function(self._own), function(self._pairs)
        flat = pairs.new_empty(self.height * self.spectrum.shape[1], *pairs.shape[1:])
        flat[self._half.own] = own.to(flat.dtype)
        flat[self._half.pairs] = pairs
        flat[self._half.twins] = flat[self._half.originals].conj()
        return ConvolutionalOperator(flat.unflatten(0, self.spectrum.shape[:2]), self.width)

    def _sum(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """The sum of a real function of the matrices over all frequencies."""
        return function(self._own).sum() + 2 * function(self._pairs).sum()

    def exp(self, t: float = 1.0) -> ConvolutionalOperator:
        self._square("exponentiated")
        return self._each(lambda matrices: torch.linalg.matrix_exp(t * matrices))

    def _phi(self, t: float, b: Tensor) -> Tensor:
        return self._filter(b[None], lambda spectra: phi(t * self.spectrum, spectra[..., 0])[..., None])[0]

    def pinv(self, rcond: float | None = None) -> ConvolutionalOperator:
        threshold = self._cutoff(rcond)
        return self._each(lambda matrices: pseudo_inverse(matrices, threshold))

    def row_projection(self, rcond: float | None = None) -> ConvolutionalOperator:
        threshold = self._cutoff(rcond)

        def project(matrices: Tensor) -> Tensor:
            _, s, vh = torch.linalg.svd(matrices, full_matrices=False)
            kept = vh * (s > threshold)[..., None]
            return kept.mH @ kept

        return self._each(project)

    def null_projection(self, rcond: float | None = None) -> ConvolutionalOperator:
        threshold = self._cutoff(rcond)

        def project(matrices: Tensor) -> Tensor:
            _, s, vh = torch.linalg.svd(matrices)
            rows = vh.shape[-1]
            null = torch.arange(rows, device=s.device) >= (s > threshold).sum(-1, keepdim=True)
            kept = vh * null[..., None]
            return kept.mH @ kept

        return self._each(project)

    def _solve(self, y: Tensor) -> Tensor:
        return self._filter(y, lambda spectra: torch.linalg.solve(self.spectrum, spectra))

    def trace(self) -> Tensor:
        self._square("traced")
        return self._sum(lambda matrices: matrices.diagonal(dim1=1, dim2=2).real)

    def logdet(self) -> Tensor:
        self._square("given a determinant")
        if self._vanishes():
            return self.like.new_full((), -math.inf)
        return self._sum(lambda matrices: torch.linalg.slogdet(matrices).logabsdet)

    def singular_values(self) -> Tensor:
        own, pairs = torch.linalg.svdvals(self._own), torch.linalg.svdvals(self._pairs)
        return torch.cat([own.flatten(), pairs.flatten().repeat_interleave(2)]).sort(descending=True).values

    def svd(self, k: int | None = None) -> SVD:
        """The k leading singular triples: A maps v e^{iθ}, a singular vector times its wave, to s u e^{iθ}.

        If the wave is not its own conjugate, its real and imaginary parts are two real vectors with that value.
        """
        k = self._count(k, min(self.shape))
        own, pairs = (torch.linalg.svd(part, full_matrices=False) for part in (self._own, self._pairs))
        s, chosen = self._largest(own.S, pairs.S, k)
        u, v = self._waves(own.U, pairs.U, chosen), self._waves(own.Vh.mH, pairs.Vh.mH, chosen)
        return SVD(_real(u, chosen), s, _real(v, chosen))

    def eig(self, k: int | None = None) -> Eigen:
        """The k eigenpairs of largest magnitude, all ``dim`` if k is None: x e^{iθ} with x an eigenvector at θ.

        They are real and orthonormal if A is symmetric up to rounding. Otherwise λ and its conjugate belong to a wave
        and its conjugate; if λ is real up to rounding, its vectors are the real and imaginary parts of the wave.

        Raises ``ValueError`` if A does not have that many independent eigenvectors to working precision.
        """
        k = self._count(k, self._square("decomposed into eigenvectors"))
        # After transforms back and forth no matrix is exactly Hermitian and no eigenvalue exactly real.
        rounding = 10 * self.spectrum.shape[2] * torch.finfo(self.like.dtype).eps * self.spectrum.abs().max()
        symmetric = bool((self.spectrum - self.spectrum.mH).abs().max() <= rounding)
        own, pairs = (torch.linalg.eigh(m) if symmetric else torch.linalg.eig(m) for m in (self._own, self._pairs))
        own_values, pair_values = (values.to(self.spectrum.dtype) for values in (own[0], pairs[0]))
        pair_values = torch.where(pair_values.imag.abs() <= rounding, pair_values.real, pair_values)
        values, chosen = self._largest(own_values, pair_values, k)
        waves = self._waves(own[1], pairs[1], chosen)
        waves = torch.where(values.imag == 0, _real(waves, chosen), torch.where(chosen.second, waves.conj(), waves))
        return leading(torch.where(chosen.second, values.conj(), values), waves, k)

    def _largest(self, own: Tensor, pairs: Tensor, k: int) -> tuple[Tensor, _Chosen]:
        """The k largest of the values ``(frequencies, count)``, with those of pairs counted twice, and their places."""
        places = torch.arange(pairs.numel(), device=pairs.device) + own.numel()
        place = torch.cat([torch.arange(own.numel(), device=own.device), places.repeat_interleave(2)])
        values = torch.cat([own.flatten(), pairs.flatten()])[place]
        order = values.abs().argsort(descending=True, stable=True)[:k]
        paired = place[order] >= own.numel()
        return values[order], _Chosen(place[order], paired, paired & ((order - own.numel()) % 2 == 1))

    def _waves(self, own: Tensor, pairs: Tensor, chosen: _Chosen) -> Tensor:
        """The chosen vectors among ``(frequencies, channels, count)`` times their unit waves: complex ``(dim, k)``."""
        vectors = torch.cat([own.to(pairs.dtype), pairs])
        index = chosen.place // vectors.shape[2]
        frequency = torch.cat([self._half.own, self._half.pairs])[index]
        columns = self.spectrum.shape[1]
        down = _waves(frequency // columns, self.height, self.like.dtype)
        across = _waves(frequency % columns, self.width, self.like.dtype)
        amplitudes = vectors[index, :, chosen.place % vectors.shape[2]]
        return torch.einsum("kc,hk,wk->chwk", amplitudes, down, across).flatten(0, 2)


def _whole(real: Tensor) -> None:
    """Raise ``InputValueError`` for half precision, which has no complex counterpart in the Fourier transform."""
    if real.dtype in (torch.bfloat16, torch.float16):
        name = str(real.dtype).removeprefix("torch.")
        raise InputValueError(
            f"a convolution is computed in the Fourier domain and needs float32 or float64, got {name}"
        )


def _waves(frequency: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """The discrete Fourier transform's unit-length waves, ``(length, k)``, at integer frequencies ``(k,)``."""
    turns = torch.outer(torch.arange(length, device=frequency.device), frequency) % length
    angles = turns.to(dtype) * (2 * math.pi / length)
    return torch.polar(torch.full_like(angles, length**-0.5), angles)


def _real(waves: Tensor, chosen: _Chosen) -> Tensor:
    """Real vectors of unit length that span the chosen waves and their conjugates."""
    parts = math.sqrt(2) * torch.where(chosen.second, waves.imag, waves.real)
    return torch.where(chosen.paired, parts, waves.real)
