"""Linearizers: networks f(x) = g_y⁻¹(A g_x(x)) with a linear core between two invertible networks.

What reads a record alone imports no torch: the classes are loaded when they are asked for.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from linearizer_core.injective import InjectiveLinearizer
    from linearizer_core.linearizer import Linearizer
    from linearizer_core.models.diffusion import LinearDiffusion
    from linearizer_core.space import InducedSpace

__all__ = ["InducedSpace", "InjectiveLinearizer", "LinearDiffusion", "Linearizer"]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "injective": ["InjectiveLinearizer"],
        "linearizer": ["Linearizer"],
        "models.diffusion": ["LinearDiffusion"],
        "space": ["InducedSpace"],
    },
)
