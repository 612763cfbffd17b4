"""Families of models: what a trial trains and measures, by name."""

from __future__ import annotations

from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.families.base import Family
from linearizer_core.experiment.families.diffusion import Diffusion
from linearizer_core.experiment.families.flow_matching import FlowMatchingBaseline
from linearizer_core.experiment.families.idempotent import Idempotent
from linearizer_core.experiment.families.style import Style


def family_of(config: TrialConfig) -> Family:
    """The family that a configuration names."""
    families: dict[str, type[Family]] = {
        "diffusion": Diffusion,
        "flow_matching": FlowMatchingBaseline,
        "idempotent": Idempotent,
        "style": Style,
    }
    return families[config.family]()


__all__ = ["Diffusion", "Family", "FlowMatchingBaseline", "Idempotent", "Style", "family_of"]
