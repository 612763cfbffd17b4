"""Linearizers: networks f(x) = g_y⁻¹(A g_x(x)) with a linear core between two invertible networks.

Classes and packages are imported on first use, so that code that only reads a record does not import torch.

>>> import linearizer_core as lc
>>> lc.Linearizer(lc.flows.coupling((1, 8, 8), depth=4, width=128), lc.operators.low_rank(64, 16))
Linearizer(g_x=Chain(13 layers, 1×8×8 → 64), A=LearnedLowRank(64 → 64, rank 16))
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from linearizer_core import checkpoint, flows, metrics, models, operators
    from linearizer_core.injective import InjectiveLinearizer
    from linearizer_core.linearizer import Linearizer
    from linearizer_core.models.diffusion import LinearDiffusion
    from linearizer_core.space import InducedSpace

__all__ = [
    "InducedSpace",
    "InjectiveLinearizer",
    "LinearDiffusion",
    "Linearizer",
    "checkpoint",
    "flows",
    "metrics",
    "models",
    "operators",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submodules={"checkpoint", "flows", "metrics", "models", "operators"},
    submod_attrs={
        "injective": ["InjectiveLinearizer"],
        "linearizer": ["Linearizer"],
        "models.diffusion": ["LinearDiffusion"],
        "space": ["InducedSpace"],
    },
)
