"""Invertible networks g."""

from linearizer_core.flows.actnorm import ActNorm
from linearizer_core.flows.base import Chain, Identity, Invertible
from linearizer_core.flows.build import build_flow
from linearizer_core.flows.coupling import AffineCoupling
from linearizer_core.flows.mixing import LUMixing
from linearizer_core.flows.squeeze import Flatten, Squeeze

__all__ = [
    "ActNorm",
    "AffineCoupling",
    "Chain",
    "Flatten",
    "Identity",
    "Invertible",
    "LUMixing",
    "Squeeze",
    "build_flow",
]
