"""Linearizers: networks f(x) = g_y⁻¹(A g_x(x)) with a linear core between two invertible networks."""

from linearizer_core.diffusion import LinearDiffusion
from linearizer_core.injective_linearizer import InjectiveLinearizer
from linearizer_core.linearizer import Linearizer
from linearizer_core.space import InducedSpace

__all__ = ["InducedSpace", "InjectiveLinearizer", "LinearDiffusion", "Linearizer"]
