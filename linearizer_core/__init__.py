"""Linearizers: networks f(x) = g_y⁻¹(A g_x(x)) with a linear core between two invertible networks.

What reads a record alone imports no torch: the classes are loaded when they are asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linearizer_core.diffusion import LinearDiffusion
    from linearizer_core.injective_linearizer import InjectiveLinearizer
    from linearizer_core.linearizer import Linearizer
    from linearizer_core.space import InducedSpace

__all__ = ["InducedSpace", "InjectiveLinearizer", "LinearDiffusion", "Linearizer"]

_MODULES = {
    "InducedSpace": "space",
    "InjectiveLinearizer": "injective_linearizer",
    "LinearDiffusion": "diffusion",
    "Linearizer": "linearizer",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
