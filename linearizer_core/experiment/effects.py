"""Which leaves of a configuration have an effect, given the values of others; the single source of these rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, get_args, get_type_hints

from linearizer_core.experiment.checks import RANKED
from linearizer_core.experiment.configuration import Family, OperatorConfig
from linearizer_core.experiment.families import (
    AffineDiffusionFamily,
    Diffusion,
    DynamicsFamily,
    FlowMatchingBaseline,
    Idempotent,
    Inverse,
    KoopmanBaseline,
    MeanFlowBaseline,
    NestedIdempotentFamily,
    RegressionBaseline,
    Style,
)


class Condition(NamedTuple):
    """A leaf has an effect only if another leaf has one of the given values."""

    leaf: str
    other: str
    values: tuple[Any, ...]


TERMS: Mapping[str, tuple[str, ...]] = {
    "diffusion": Diffusion.terms,
    "dynamics": DynamicsFamily.terms,
    "flow_matching": FlowMatchingBaseline.terms,
    "idempotent": tuple(dict.fromkeys(Idempotent.terms + NestedIdempotentFamily.terms)),
    "inverse": Inverse.terms,
    "koopman": KoopmanBaseline.terms,
    "mean_flow": MeanFlowBaseline.terms,
    "regression": RegressionBaseline.terms,
    "style": Style.terms,
}
"""The loss terms of each built-in family; nothing is assumed about what affects a plugin's family."""

FETCHED = ("mnist", "fashion-mnist", "cifar10", "celeba")
COUPLING = ("depth", "coupling", "bins", "components", "mixing", "conditioner", "width", "activation", "kernel",
            "attention", "levels", "memory", "coordinates")  # fmt: skip
BASELINES = ("flow_matching", "mean_flow")
SAMPLED = ("diffusion", *BASELINES)
RESTORING = ("inverse", "regression")
MOVING = ("dynamics", "koopman")
AFFINE = ("affine",)
NESTED = ("nested_projection",)
GROUPED = (*AFFINE, *NESTED)
KINDS = get_type_hints(OperatorConfig)["kind"]
LEARNT = tuple(kind for kind in get_args(KINDS) if kind not in AFFINE)
"""All kinds of operators except affine, whose diffusion has a closed form."""

CONDITIONS: tuple[Condition, ...] = (
    Condition("data.root", "data.name", (*FETCHED, "folder", "npz")),
    Condition("data.download", "data.name", FETCHED),
    Condition("data.degraded", "family", RESTORING),
    Condition("data.noise", "family", RESTORING),
    *(Condition(f"data.{leaf}", "family", MOVING) for leaf in ("motion", "period", "padding", "contrast", "shuffled")),
    *(Condition(f"model.flow.{name}", "model.flow.kind", ("coupling",)) for name in COUPLING),
    Condition("model.flow.frame", "model.flow.kind", ("coupling", "linear")),
    Condition("model.flow.frame", "model.flow.conditioner", ("mlp",)),
    Condition("model.flow.coordinates", "model.flow.frame", ("principal",)),
    Condition("model.flow.bins", "model.flow.coupling", ("spline",)),
    Condition("model.flow.components", "model.flow.coupling", ("mixture",)),
    Condition("model.flow.kernel", "model.flow.conditioner", ("conv",)),
    Condition("model.flow.attention", "model.flow.conditioner", ("unet",)),
    Condition("model.flow.levels", "model.flow.conditioner", ("conv", "unet")),
    Condition("model.noise_flow", "family", SAMPLED),
    Condition("model.operator.rank", "model.operator.kind", RANKED),
    *(Condition(f"model.operator.{name}", "model.operator.kind", AFFINE) for name in ("spread", "shared")),
    Condition("model.operators.by", "model.operator.kind", GROUPED),
    Condition("model.operators.refine", "model.operator.kind", AFFINE),
    Condition("model.operators.count", "model.operators.by", ("cluster",)),
    Condition("model.operators.refine", "model.operators.by", ("cluster",)),
    Condition("model.noise_flow", "model.operator.kind", LEARNT),
    *(
        Condition(f"train.loss.{term}", "model.operator.kind", LEARNT)
        for term in TERMS["diffusion"]
        if term not in AffineDiffusionFamily.terms
    ),
    *(Condition(f"evaluate.{name}", "model.operator.kind", AFFINE) for name in ("order", "denoise")),
    *(Condition(f"evaluate.{name}", "family", ("diffusion",)) for name in ("order", "denoise", "tempered")),
    Condition("evaluate.ranks", "model.operator.kind", GROUPED),
    Condition("evaluate.ranks", "family", ("diffusion", "idempotent")),
    *(Condition(f"evaluate.{name}", "model.operator.kind", LEARNT) for name in ("end", "temperature", "tempered")),
    Condition("train.detach", "model.operator.kind", LEARNT),
    Condition("train.detach", "family", ("diffusion",)),
    Condition("train.merge_every", "model.flow.mixing", ("p4", "p4_orthogonal")),
    Condition("train.merge_every", "model.flow.kind", ("coupling",)),
    Condition("train.time", "family", SAMPLED),
    Condition("train.horizon", "family", MOVING),
    Condition("train.sigma", "family", ("diffusion",)),
    Condition("train.distance", "family", ("diffusion", "idempotent", "style", *RESTORING, *MOVING)),
    *(
        Condition(f"train.loss.{term}", "family", tuple(family for family in get_args(Family) if term in TERMS[family]))
        for term in sorted({term for terms in TERMS.values() for term in terms})
    ),
    Condition("train.loss.shell", "model.operator.kind", NESTED),
    *(
        Condition(leaf, "model.operator.kind", tuple(kind for kind in get_args(KINDS) if kind not in NESTED))
        for leaf in ("train.distance", "train.loss.isometry")
    ),
    Condition("train.loss.sparsity", "model.operator.kind", ("learned_projection",)),
    Condition("evaluate.steps", "family", (*SAMPLED, *MOVING)),
    Condition("evaluate.solver", "family", ("diffusion", "flow_matching")),
    Condition("evaluate.grid", "family", SAMPLED),
    Condition("evaluate.end", "family", ("diffusion",)),
    Condition("evaluate.quality", "family", (*SAMPLED, "idempotent")),
    *(Condition(f"evaluate.{name}", "family", (*SAMPLED, "idempotent")) for name in ("samples", "repeats")),
    Condition("evaluate.temperature", "family", ("diffusion", "idempotent")),
    Condition("evaluate.temperatures", "family", SAMPLED),
)


def without_effect(leaves: Mapping[str, Any]) -> dict[str, str]:
    """The leaves of a whole configuration that have no effect, by dotted name, and the reason.

    >>> from linearizer_core.experiment.configuration import TrialConfig, to_mapping
    >>> from linearizer_core.experiment.nested import flatten
    >>> without_effect(flatten(to_mapping(TrialConfig())))["model.flow.kernel"]
    'no effect with model.flow.conditioner: mlp, only with conv'
    """
    found: dict[str, str] = {}
    for leaf, other, values in CONDITIONS:
        if not _holds(leaf, leaves, other, values):
            needed = " or ".join(map(str, values))
            found.setdefault(leaf, f"no effect with {other}: {leaves[other]}, only with {needed}")
    return found


def _holds(leaf: str, leaves: Mapping[str, Any], other: str, values: tuple[Any, ...]) -> bool:
    """Whether a condition holds.

    Exceptions: a linear flow has a frame but no conditioner, so its conditioner does not matter; a baseline has one
    loss term, whatever the operators of the Linearizer whose size it takes. Plugins are assumed to use everything they
    are given.
    """
    if leaf == "train.loss.flow" and other == "model.operator.kind" and leaves["family"] in BASELINES:
        return True
    if leaf == "model.flow.frame" and other == "model.flow.conditioner" and leaves["model.flow.kind"] == "linear":
        return True
    if leaves["family"] not in TERMS and (other in ("family", "model.operator.kind") or leaf.startswith("train.loss.")):
        return True
    if other == "model.operator.kind" and leaves[other] not in get_args(KINDS):  # a plugin's operator
        return values not in (AFFINE, GROUPED, NESTED)
    return leaves[other] in values
