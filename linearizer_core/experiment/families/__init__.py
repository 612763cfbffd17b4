"""Families of models: what a trial trains and measures, by name."""

from __future__ import annotations

from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.families.affine import AffineDiffusionFamily
from linearizer_core.experiment.families.base import Family
from linearizer_core.experiment.families.diffusion import Diffusion
from linearizer_core.experiment.families.flow_matching import FlowMatchingBaseline
from linearizer_core.experiment.families.idempotent import Idempotent
from linearizer_core.experiment.families.mean_flow import MeanFlowBaseline
from linearizer_core.experiment.families.style import Style


def family_of(config: TrialConfig) -> Family:
    """The family that a configuration names; of diffusion, the one of its operators."""
    if config.family == "diffusion" and config.model.operator.kind == "affine":
        return AffineDiffusionFamily()
    families: dict[str, type[Family]] = {
        "diffusion": Diffusion,
        "flow_matching": FlowMatchingBaseline,
        "idempotent": Idempotent,
        "mean_flow": MeanFlowBaseline,
        "style": Style,
    }
    return families[config.family]()


__all__ = [
    "AffineDiffusionFamily",
    "Diffusion",
    "Family",
    "FlowMatchingBaseline",
    "Idempotent",
    "MeanFlowBaseline",
    "Style",
    "family_of",
]
