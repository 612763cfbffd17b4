"""Injective ReLU networks with a left inverse (Puthawala et al., Globally Injective ReLU Networks, 2022)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn
from torch.fft import rfft2
from torch.nn.functional import pad, relu

from linearizer_core.errors import InputValueError
from linearizer_core.flows.base import Identity, Invertible
from linearizer_core.flows.mixing import LUMixing
from linearizer_core.flows.squeeze import Flatten, Squeeze
from linearizer_core.operators.convolutional import ConvolutionalOperator
from linearizer_core.short import Short, by


class Injective(Short, ABC):
    """An injective map of tensors ``(batch, *event)``, with a left inverse.

    Implementations MUST satisfy ``left_inverse(forward(x)) = x`` for every x and hold no randomness. ``left_inverse``
    MUST be defined on all tensors of the output's shape, including those outside the range.

    >>> import torch, linearizer_core as lc
    >>> g = lc.flows.InjectiveDense(3, 8)
    >>> x = torch.ones(2, 3)
    >>> isinstance(g, lc.flows.Injective), torch.allclose(g.left_inverse(g(x)), x, atol=1e-4)
    (True, True)
    """

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """g(x)."""

    @abstractmethod
    def left_inverse(self, y: Tensor) -> Tensor:
        """g†(y): the x with g(x) = y, if there is one."""

    @abstractmethod
    def inverse_lipschitz(self) -> Tensor:
        """An upper bound, a scalar, of ‖g†(y) - g†(y')‖ / ‖y - y'‖ over all y and y', in the range or not."""

    def initialise(self, x: Tensor) -> Tensor:
        """Fit data-dependent parameters to a batch of inputs and return its image."""
        return self(x)


class PairedReLU(Injective):
    """y = ReLU([p; -D p; E x]) over channels, p = B x + b, with B invertible, D > 0 diagonal and E affine and free.

    One row of each pair is active at every x, so p = y₊ - D⁻¹y₋ and x = B⁻¹(p - b), whatever E is. The bias only
    moves the origin of x.

    Raises ``ValueError`` for fewer than two outputs per input: no ReLU layer is injective with fewer.
    """

    def __init__(self, inputs: int, outputs: int, extra: Callable[[int, int], nn.Module], spatial: int) -> None:
        super().__init__()
        if outputs < 2 * inputs:
            raise InputValueError(
                f"an injective ReLU layer of {inputs} inputs needs at least twice as many outputs, got {outputs}"
            )
        self.inputs = inputs
        self.outputs = outputs
        self.bias = nn.Parameter(torch.zeros(inputs, *[1] * spatial))
        self.log_d = nn.Parameter(torch.zeros(inputs, *[1] * spatial))
        rest = outputs - 2 * inputs
        self.extra = extra(inputs, rest) if rest else None

    def extra_repr(self) -> str:
        return f"{self.inputs} → {self.outputs}"

    @abstractmethod
    def linear(self, x: Tensor) -> Tensor:
        """B x."""

    @abstractmethod
    def solve(self, p: Tensor) -> Tensor:
        """B⁻¹ p."""

    @abstractmethod
    def blocks(self) -> Tensor:
        """B in an orthonormal basis in which it is block-diagonal: blocks ``(…, inputs, inputs)``."""

    def forward(self, x: Tensor) -> Tensor:
        p = self.linear(x) + self.bias
        rows = [relu(p), self.log_d.exp() * relu(-p)]
        if self.extra is not None:
            rows.append(relu(self.extra(x)))
        return torch.cat(rows, 1)

    def left_inverse(self, y: Tensor) -> Tensor:
        """g†(y) = B⁻¹(y₊ - D⁻¹y₋ - b), affine in y.

        Raises ``ValueError`` if y does not have this layer's number of outputs.
        """
        if y.shape[1] != self.outputs:
            raise InputValueError(f"the layer has {self.outputs} outputs, got {tuple(y.shape)} to invert")
        positive, negative = y[:, : self.inputs], y[:, self.inputs : 2 * self.inputs]
        return self.solve(positive - negative * (-self.log_d).exp() - self.bias)

    def inverse_lipschitz(self) -> Tensor:
        # g† is affine with the matrix B⁻¹[I, -D⁻¹], and [I, -D⁻¹][I, -D⁻¹]ᵀ = I + D⁻²: its norm, which differences
        # of outputs attain if there are no extra rows, is 1 / σ_min((I + D⁻²)^-½ B); for D = I, √2 / σ_min(B).
        scale = (1 + (-2 * self.log_d.flatten()).exp()).rsqrt()
        return 1 / torch.linalg.svdvals(scale[:, None] * self.blocks()).min()


class InjectiveDense(PairedReLU):
    """An injective layer ``(batch, inputs)`` to ``(batch, outputs)`` with B in LU form, initially a rotation.

    The extra rows have their own bias, so the range is not a cone even if the pairs' bias is 0.

    Raises ``ValueError`` for fewer than two outputs per input.

    >>> import torch, linearizer_core as lc
    >>> g, x = lc.flows.InjectiveDense(3, 8), torch.ones(2, 3)
    >>> g(x).shape, torch.allclose(g.left_inverse(g(x)), x, atol=1e-4)
    (torch.Size([2, 8]), True)
    >>> g
    InjectiveDense(3 → 8)
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, nn.Linear, spatial=0)
        self.mixing = LUMixing(inputs)

    def linear(self, x: Tensor) -> Tensor:
        return self.mixing(x)[0]

    def solve(self, p: Tensor) -> Tensor:
        return self.mixing.inverse(p)[0]

    def blocks(self) -> Tensor:
        return self.linear(torch.eye(self.inputs, dtype=self.bias.dtype, device=self.bias.device)).T

    def weight(self) -> Tensor:
        """The matrix [B; -D B; E] of the layer ``ReLU(W x + b)``, ``(outputs, inputs)``."""
        b = self.blocks()
        rows = [b, -self.log_d.exp()[:, None] * b]
        if isinstance(self.extra, nn.Linear):
            rows.append(self.extra.weight)
        return torch.cat(rows)


class InjectiveConv(PairedReLU):
    """An injective layer on images ``(batch, channels, *size)`` with B a circular convolution, initially near I.

    B is inverted through its Fourier transform, which makes it one ``(channels, channels)`` matrix per frequency.
    Training can make these singular; ``left_inverse`` checks that they are not.

    Raises ``ValueError`` for fewer than two output channels per input channel, for a kernel wider than the image and
    for images of another size.

    >>> import torch, linearizer_core as lc
    >>> g, x = lc.flows.InjectiveConv(1, 3, 3, (4, 4)), torch.ones(2, 1, 4, 4)
    >>> g(x).shape, torch.allclose(g.left_inverse(g(x)), x, atol=1e-4)
    (torch.Size([2, 3, 4, 4]), True)
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, size: tuple[int, int]) -> None:
        extra = partial(nn.Conv2d, kernel_size=kernel, padding="same", padding_mode="circular")
        super().__init__(channels_in, channels_out, extra, spatial=2)
        if not 1 <= kernel <= min(size):
            raise InputValueError(f"the kernel must be between 1 and the sides of the image {size}, got {kernel}")
        self.size = size
        weights = 0.1 / (kernel * channels_in**0.5) * torch.randn(channels_in, channels_in, kernel, kernel)
        weights[:, :, kernel // 2, kernel // 2] += torch.eye(channels_in)
        self.kernel = nn.Parameter(weights)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()} channels of {by(self.size)}"

    def blocks(self) -> Tensor:
        """The frequency response, ``(h, w // 2 + 1, channels, channels)``; the other half is its conjugate."""
        side = self.kernel.shape[-1]
        centred = pad(self.kernel, (0, self.size[1] - side, 0, self.size[0] - side)).roll((-(side // 2),) * 2, (2, 3))
        return rfft2(centred).permute(2, 3, 0, 1)

    def _multiply(self, matrices: Tensor, x: Tensor) -> Tensor:
        """The image whose spectrum is that of x multiplied by one matrix per frequency."""
        if x.shape[2:] != self.size:
            raise InputValueError(f"the layer takes images of size {self.size}, got {tuple(x.shape)}")
        return ConvolutionalOperator(matrices, self.size[1]).apply(x.flatten(1)).view(x.shape)

    def linear(self, x: Tensor) -> Tensor:
        return self._multiply(self.blocks(), x)

    def solve(self, p: Tensor) -> Tensor:
        """B⁻¹ p.

        Raises ``ValueError`` if B is singular to working precision.
        """
        blocks = self.blocks()
        inverse, failed = torch.linalg.inv_ex(blocks)
        condition = blocks.detach().norm(dim=(2, 3)).max() * inverse.detach().norm(dim=(2, 3)).max()
        # The comparison is false for NaN as well.
        if failed.any() or not condition < 1 / torch.finfo(p.dtype).eps:
            raise InputValueError("the convolution is singular at some frequency, so the layer has no left inverse")
        return self._multiply(inverse, p)


class InjectiveNetwork(Injective):
    """The composition of injective layers, first to last; invertible maps can be anywhere among them.

    The left inverse of ReLU layers alone is affine; invertible maps (couplings) make it nonlinear. ``Flatten`` turns
    images into vectors.

    >>> import torch, linearizer_core as lc
    >>> g = lc.flows.InjectiveNetwork([lc.flows.Flatten((1, 2, 2)), lc.flows.InjectiveDense(4, 10)])
    >>> x = torch.ones(2, 1, 2, 2)
    >>> g(x).shape, torch.allclose(g.left_inverse(g(x)), x, atol=1e-4)
    (torch.Size([2, 10]), True)
    """

    def __init__(self, layers: Iterable[Injective | Invertible]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def extra_repr(self) -> str:
        return f"{len(self.layers)} layers"

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)[0] if isinstance(layer, Invertible) else layer(x)
        return x

    def left_inverse(self, y: Tensor) -> Tensor:
        for layer in reversed(self.layers):
            assert isinstance(layer, Injective | Invertible)
            y = layer.inverse(y)[0] if isinstance(layer, Invertible) else layer.left_inverse(y)
        return y

    def inverse_lipschitz(self) -> Tensor:
        """The product of the layers' bounds.

        Raises ``ValueError`` if an invertible map among them is not an isometry, since no bound is known for it.
        """
        bound = torch.ones(())
        for layer in self.layers:
            if isinstance(layer, Injective):
                bound = bound * layer.inverse_lipschitz()
            elif not isinstance(layer, Flatten | Squeeze | Identity):
                raise InputValueError(
                    "the inverse Lipschitz bound is only known for injective layers and isometries (Flatten, Squeeze, "
                    f"Identity), got {type(layer).__name__}"
                )
        return bound

    @torch.no_grad()
    def initialise(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            assert isinstance(layer, Injective | Invertible)
            x = layer.initialise(x)
        return x
