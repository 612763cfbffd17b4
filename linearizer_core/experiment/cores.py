"""The linear cores of the families, by name."""

from __future__ import annotations

import math
from typing import Any

from linearizer_core import operators
from linearizer_core.errors import InputValueError
from linearizer_core.experiment.configuration import FlowConfig, ModelConfig, OperatorConfig
from linearizer_core.experiment.networks import on_vectors
from linearizer_core.models.base import Event
from linearizer_core.operators import OperatorModule, TimeDense, TimeDiagonal, TimeFactors, TimeLowRank, TimeOperator
from linearizer_core.operators.correlation import LearnedCorrelation
from linearizer_core.operators.projections import FrameProjection, NestedProjection, SpectrumProjection
from linearizer_core.operators.transitions import LearnedRotation, LearnedTransition
from linearizer_core.plugins.errors import PluginError
from linearizer_core.plugins.marks import Names, operator, table

GIVES: dict[str, tuple[type[Any], ...]] = {
    "diffusion": (TimeOperator,),
    "dynamics": (LearnedRotation, LearnedTransition),
    "idempotent": (FrameProjection, SpectrumProjection, NestedProjection),
    "inverse": (LearnedCorrelation,),
    "style": (OperatorModule,),
}
"""Types of operators that the built-in families accept."""


@operator(family="diffusion", ranked=True)
def time_lowrank(dim: int, rank: int) -> TimeLowRank:
    """A(t) = U S(t) Vᵀ."""
    return TimeLowRank(dim, rank)


@operator(family="diffusion", ranked=True)
def time_diagonal(dim: int, rank: int) -> TimeDiagonal:
    """A(t) on the leading latents only."""
    return TimeDiagonal(dim, rank)


@operator(family="diffusion", ranked=True)
def time_factors(dim: int, rank: int) -> TimeFactors:
    """A(t) = L(t) R(t)ᵀ."""
    return TimeFactors(dim, rank)


@operator(family="diffusion")
def time_dense(dim: int) -> TimeDense:
    """A(t) without a bound on its rank."""
    return TimeDense(dim)


@operator(family="idempotent", ranked=True)
def projection(dim: int, rank: int) -> FrameProjection:
    """An orthogonal projection of fixed rank."""
    return operators.projection(dim, rank)


@operator(family="idempotent")
def learned_projection(dim: int) -> SpectrumProjection:
    """A diagonal projection that learns its rank."""
    return operators.selection(dim)


@operator(family="idempotent", ranked=True)
def nested_projection(dim: int, rank: int) -> NestedProjection:
    """The leading coordinates, at every rank."""
    return NestedProjection(dim, rank)


@operator(family="style")
def diagonal(dim: int) -> OperatorModule:
    """A diagonal."""
    return operators.diagonal(dim)


@operator(family="style", ranked=True)
def lowrank(dim: int, rank: int) -> OperatorModule:
    """I + U C Vᵀ."""
    return operators.identity_plus_low_rank(dim, rank)


@operator(family="style")
def dense(dim: int) -> OperatorModule:
    """A matrix."""
    return operators.dense(dim)


@operator(family="style")
def conv(flow: FlowConfig, event: Event) -> OperatorModule:
    """One kernel per channel, for latents that are images; raises ``ValueError`` if they are not."""
    return operators.convolution(latent_shape(flow, event))


@operator(family="inverse", ranked=True)
def correlation(dim: int, rank: int, out_dim: int) -> LearnedCorrelation:
    """Canonical correlations; rank 0 means as many as possible."""
    return LearnedCorrelation(dim, rank or min(dim, out_dim), out_dim)


@operator(family="dynamics", ranked=True)
def rotation(dim: int, rank: int) -> LearnedRotation:
    """Rotations in orthogonal planes; rank 0 means all dimensions."""
    return LearnedRotation(dim, rank)


@operator(family="dynamics", ranked=True)
def transition(dim: int, rank: int) -> LearnedTransition:
    """Any matrix in a subspace; rank 0 means all dimensions."""
    return LearnedTransition(dim, rank)


BUILT_IN: Names = table(
    time_lowrank,
    time_diagonal,
    time_factors,
    time_dense,
    projection,
    learned_projection,
    nested_projection,
    diagonal,
    lowrank,
    dense,
    conv,
    correlation,
    rotation,
    transition,
)
"""The built-in operators, except ``affine``, which its family builds itself."""


def known(family: str, config: OperatorConfig) -> Names:
    """The operators that a configuration can choose for a family."""
    every = {**BUILT_IN, **config.plugged.get("operator", {})}
    return {name: each for name, each in every.items() if each.options["family"] == family}


def core(family: str, config: ModelConfig, event: Event, out_dim: int | None = None) -> Any:
    """The operator that a configuration names for a family, with ``out_dim`` outputs if it is not square.

    Raises ``ValueError`` if the family does not have it, and ``PluginError`` if a plugin returns something that the
    family does not accept.
    """
    chosen, names, dim = config.operator, known(family, config.operator), math.prod(event)
    if chosen.kind not in names:
        raise InputValueError(f"{family} has no operator {chosen.kind}; use one of {', '.join(names)}")
    registered = names[chosen.kind]
    made = registered.call(chosen, dim=dim, rank=chosen.rank, flow=config.flow, event=event, out_dim=out_dim or dim)
    if family in GIVES and not isinstance(made, GIVES[family]):
        wanted = " or ".join(each.__name__ for each in GIVES[family])
        raise PluginError(
            f"{registered.where}: operator {registered.name} of {family} must return a {wanted}, "
            f"got {type(made).__name__}"
        )
    return made


def latent_shape(flow: FlowConfig, event: Event) -> Event:
    """The channels, height and width of latents that are images; raises ``ValueError`` if they are not."""
    if flow.kind == "identity":
        return event
    if on_vectors(flow) or flow.levels > 1:
        raise InputValueError(
            "conv needs latents that are images: use a conv or unet conditioner with levels: 1, or the identity, "
            f"got {flow.conditioner} with levels: {flow.levels}"
        )
    channels, height, width = event
    return 4 * channels, height // 2, width // 2
