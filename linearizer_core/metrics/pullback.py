"""How far images move with their latents: the pull-back of the metric of images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from linearizer_core.errors import InputValueError


def pullback_metric(
    decode: Callable[[Tensor], Tensor],
    latents: Tensor,
    generator: torch.Generator,
    *,
    passes: int = 8,
    batch: int = 256,
) -> Tensor:
    """E[JᵀJ] over latents ``(count, dim)``, with J the Jacobian of ``decode``: ``(dim, dim)``, symmetric, in float64.

    A small step δ of a latent moves its image by √(δᵀ JᵀJ δ): the leading eigenvectors are the directions that change
    images most (Arvanitidis et al., Latent Space Oddity, 2018, use the same metric point by point). The estimate is
    unbiased and uses ``passes`` vector-Jacobian products per latent with standard normal vectors v, since
    E[(Jᵀv)(Jᵀv)ᵀ] = JᵀJ.

    Raises ``InputValueError`` if there are no latents or no passes.

    >>> import torch, linearizer_core as lc
    >>> w = torch.diag(torch.tensor([3.0, 1.0]))
    >>> metric = lc.metrics.pullback_metric(lambda z: z @ w, torch.zeros(500, 2), torch.Generator().manual_seed(0))
    >>> bool((metric - w @ w).abs().max() < 0.8)
    True
    """
    if not len(latents) or passes < 1:
        raise InputValueError(f"a pull-back needs at least one latent and one pass, got {len(latents)} and {passes}")
    total = torch.zeros(latents.shape[1], latents.shape[1], dtype=torch.float64, device=latents.device)
    for part in latents.detach().split(batch):
        point = part.clone().requires_grad_(True)
        with torch.enable_grad():
            image = decode(point)
        for i in range(passes):
            vector = torch.randn(image.shape, generator=generator, device=generator.device, dtype=image.dtype)
            (pulled,) = torch.autograd.grad(image, point, vector.to(image.device), retain_graph=i + 1 < passes)
            total += (pulled.T @ pulled).double()
    return total / (passes * len(latents))
