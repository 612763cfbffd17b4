"""Families of models: what a trial trains and measures, by name."""

from __future__ import annotations

from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.families.affine import AffineDiffusionFamily
from linearizer_core.experiment.families.base import Family
from linearizer_core.experiment.families.diffusion import Diffusion
from linearizer_core.experiment.families.dynamics import DynamicsFamily
from linearizer_core.experiment.families.flow_matching import FlowMatchingBaseline
from linearizer_core.experiment.families.idempotent import Idempotent
from linearizer_core.experiment.families.inverse import Inverse
from linearizer_core.experiment.families.koopman import KoopmanBaseline
from linearizer_core.experiment.families.mean_flow import MeanFlowBaseline
from linearizer_core.experiment.families.nested import NestedIdempotentFamily
from linearizer_core.experiment.families.regression import RegressionBaseline
from linearizer_core.experiment.families.style import Style
from linearizer_core.plugins.errors import PluginError
from linearizer_core.plugins.marks import Names, family, table


@family()
def diffusion(config: TrialConfig) -> Family:
    """The diffusion family of a configuration's operators."""
    return AffineDiffusionFamily() if config.model.operator.kind == "affine" else Diffusion()


@family()
def idempotent(config: TrialConfig) -> Family:
    """The idempotent family of a configuration's operator."""
    return NestedIdempotentFamily() if config.model.operator.kind == "nested_projection" else Idempotent()


BUILT_IN: Names = table(
    diffusion,
    family("dynamics")(DynamicsFamily),
    family("flow_matching")(FlowMatchingBaseline),
    idempotent,
    family("inverse")(Inverse),
    family("koopman")(KoopmanBaseline),
    family("mean_flow")(MeanFlowBaseline),
    family("regression")(RegressionBaseline),
    family("style")(Style),
)
"""The families that need no plugin."""


def family_of(config: TrialConfig) -> Family:
    """The family that a configuration names; raises ``PluginError`` where a plugin's is none."""
    registered = {**BUILT_IN, **config.plugged.get("family", {})}[config.family]
    made = registered.call(config, config=config)
    if not isinstance(made, Family):
        kind = type(made).__name__
        raise PluginError(f"{registered.where}: family {registered.name} must return a Family, got {kind}")
    return made


__all__ = [
    "AffineDiffusionFamily",
    "Diffusion",
    "DynamicsFamily",
    "Family",
    "FlowMatchingBaseline",
    "Idempotent",
    "Inverse",
    "KoopmanBaseline",
    "MeanFlowBaseline",
    "NestedIdempotentFamily",
    "RegressionBaseline",
    "Style",
    "family_of",
]
