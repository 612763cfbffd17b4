"""Local Lipschitz constants: how much a map stretches small changes of its input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from linearizer_core.errors import InputValueError
from linearizer_core.flows.base import Chain


def local_lipschitz(function: Callable[[Tensor], Tensor], x: Tensor, iterations: int = 30, seed: int = 0) -> Tensor:
    """The largest singular value of the function's Jacobian J at each row of x, ``(batch,)``, by power iteration.

    ``function`` maps ``(batch, *event)`` to ``(batch, …)`` row by row and is differentiated twice; flows that recompute
    their activations must run under ``storing``. The iteration is v ← JᵀJ v / ‖J v‖ from a random start fixed by
    ``seed``. The result is a lower bound that grows with each of the ``iterations``; its error shrinks by (σ₂ / σ₁)⁴
    per iteration.

    Raises ``ValueError`` for less than one iteration.

    >>> import torch, linearizer_core as lc
    >>> lc.metrics.local_lipschitz(lambda x: x * torch.tensor([3.0, 1.0]), torch.ones(2, 2))
    tensor([3., 3.])
    """
    if iterations < 1:
        raise InputValueError(f"power iteration needs at least one iteration, got {iterations}")
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = function(x)
        # Jᵀw is linear in w, and its derivative in w along v is J v.
        w = torch.zeros_like(y, requires_grad=True)
        (pullback,) = torch.autograd.grad(y, x, w, create_graph=True)
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
    for _ in range(iterations):
        (u,) = torch.autograd.grad(pullback, w, _unit(v), retain_graph=True)
        (v,) = torch.autograd.grad(y, x, _unit(u), retain_graph=True)
    return v.flatten(1).norm(dim=1)


def _unit(rows: Tensor) -> Tensor:
    """The rows scaled to length 1; zero rows stay zero."""
    length = rows.flatten(1).norm(dim=1).clamp_min(torch.finfo(rows.dtype).tiny)
    return rows / length.view(-1, *[1] * (rows.ndim - 1))


@contextmanager
def storing(*networks: nn.Module) -> Iterator[None]:
    """Within the context, the networks' chains store their activations whatever their ``memory``.

    Recomputation supports first derivatives only.
    """
    chains = [module for network in networks for module in network.modules() if isinstance(module, Chain)]
    before = [chain.memory for chain in chains]
    for chain in chains:
        chain.memory = "store"
    try:
        yield
    finally:
        for chain, memory in zip(chains, before, strict=True):
            chain.memory = memory
