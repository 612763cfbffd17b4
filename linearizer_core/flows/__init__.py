"""Invertible networks g."""

from linearizer_core.flows.actnorm import ActNorm
from linearizer_core.flows.base import Chain, Identity, Invertible, Labelled, VolumePreserving
from linearizer_core.flows.build import coupling, identity, linear, principal
from linearizer_core.flows.couplings import AdditiveCoupling, AffineCoupling, Coupling
from linearizer_core.flows.injective import Injective, InjectiveConv, InjectiveDense, InjectiveNetwork
from linearizer_core.flows.mixing import HouseholderMixing, LUMixing, Permutation
from linearizer_core.flows.mixture import MixtureCoupling
from linearizer_core.flows.multiscale import MultiScale
from linearizer_core.flows.p4_mixing import P4Mixing
from linearizer_core.flows.principal_axes import LeadingAxes
from linearizer_core.flows.spline import SplineCoupling
from linearizer_core.flows.squeeze import Flatten, Squeeze

__all__ = [
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "Chain",
    "Coupling",
    "Flatten",
    "HouseholderMixing",
    "Identity",
    "Injective",
    "InjectiveConv",
    "InjectiveDense",
    "InjectiveNetwork",
    "Invertible",
    "LUMixing",
    "Labelled",
    "LeadingAxes",
    "MixtureCoupling",
    "MultiScale",
    "P4Mixing",
    "Permutation",
    "SplineCoupling",
    "Squeeze",
    "VolumePreserving",
    "coupling",
    "identity",
    "linear",
    "principal",
]
