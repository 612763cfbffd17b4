"""The configuration of one trial: plain frozen dataclasses, each field with its bounds and its meaning.

``metadata`` of a field holds ``doc`` and numeric bounds (``ge``, ``gt``, ``le``, ``lt``); whoever reads
configurations from a file validates against them.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints


def _field(default: Any, doc: str, **bounds: float) -> Any:
    metadata = {"doc": doc, **bounds}
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


Activation = Literal["gelu", "relu", "silu", "glu", "swiglu", "bilinear", "polynorm", "star", "aptx"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    name: Literal["digits"] = _field("digits", "the data set")


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    kind: Literal["coupling", "identity"] = _field(
        "coupling", "coupling: a learned invertible network; identity: g(x) = x, the control"
    )
    depth: int = _field(
        4, "blocks of actnorm, coupling and mixing in each of g_x and g_y (at each of their levels)", ge=1, le=128
    )
    coupling: Literal["affine", "additive", "spline", "mixture"] = _field(
        "affine", "affine: Real NVP's; additive: NICE's; spline: rational-quadratic; mixture: of logistics"
    )
    bins: int = _field(8, "bins of a spline coupling", ge=2, le=64)
    components: int = _field(4, "logistics of a mixture coupling", ge=1, le=64)
    mixing: Literal["lu", "householder", "p4", "p4_orthogonal", "permutation"] = _field(
        "lu",
        "between couplings. lu: PLU matrix; householder: rotation; p4, p4_orthogonal: matrix or rotation trained by "
        "merged perturbations; permutation: fixed",
    )
    conditioner: Literal["mlp", "conv", "unet"] = _field("mlp", "the network inside each coupling")
    width: int = _field(128, "hidden units or channels of the conditioner", ge=1, le=8192)
    activation: Activation = _field("gelu", "non-linearity of the conditioner; gated ones take two linear branches")
    kernel: Literal[1, 3, 5, 7] = _field(3, "kernel size of a conv conditioner, pixels")
    attention: bool = _field(False, "self-attention at the coarse level of a unet conditioner")
    levels: int = _field(
        1, "scales of a conv or unet flow: after each but the last, half the channels are done", ge=1, le=8
    )
    memory: Literal["store", "recompute"] = _field(
        "store", "of activations in training. recompute: recovered through the inverse, constant in depth, slower"
    )


@dataclass(frozen=True, kw_only=True)
class OperatorConfig:
    kind: Literal["time_lowrank", "time_factors", "time_dense"] = _field(
        "time_lowrank",
        "time_lowrank: A(t) = U S(t) Vᵀ of the given rank; time_factors: L(t) R(t)ᵀ of the given rank; "
        "time_dense: no bound on the rank",
    )
    rank: int = _field(16, "rank of A(t), up to the data's dimension; time_dense ignores it", ge=1)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    flow: FlowConfig = _field(FlowConfig, "the invertible networks g_x and g_y")
    noise_flow: Literal["same", "shared", "identity"] = _field(
        "same",
        "g_y, at the noise end. same: built as g_x is; shared: the very network of g_x, told by a label which of the "
        "two it is; identity: noise is its own latent",
    )
    operator: OperatorConfig = _field(OperatorConfig, "the linear core A")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the terms; the first four are the paper's, unweighted there (arXiv 2510.08570)."""

    flow: float = _field(1.0, "‖A(t) z_t - z1‖² in the induced space", ge=0)
    noise: float = _field(1.0, "‖x0 - g_y⁻¹(z0 + σε)‖²", ge=0)
    data: float = _field(1.0, "‖x1 - g_x⁻¹(z1 + σε)‖²", ge=0)
    endpoint: float = _field(1.0, "‖x1 - g_x⁻¹(A(t) z_t)‖²", ge=0)
    likelihood: float = _field(0.0, "negative log-likelihood per dimension of both ends under N(0, I) latents", ge=0)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    epochs: int = _field(30, "passes over the training split", ge=1)
    batch_size: int = _field(256, "images a step", ge=1)
    lr: float = _field(1.0e-3, "peak learning rate of Adam", gt=0, le=1)
    warmup: float = _field(
        0.05, "fraction of the steps over which the rate rises; it then falls as a cosine", ge=0, lt=1
    )
    clip: float = _field(1.0, "largest gradient norm", gt=0)
    ema: float = _field(0.99, "decay per step of the averaged weights that are evaluated and kept; 0: none", ge=0, lt=1)
    merge_every: int = _field(50, "steps between merges of the perturbations of p4 mixing", ge=1)
    sigma: float = _field(0.3, "latent noise in the two reconstruction terms", ge=0)
    dequantise: float = _field(0.0, "standard deviation of noise added to training images, in [-1, 1] units", ge=0)
    loss: LossConfig = _field(LossConfig, "weights of the loss terms")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    steps: tuple[int, ...] = _field((1, 2, 4, 8, 16, 32, 64, 100), "step counts of the curve, ascending")
    solver: Literal["euler", "heun", "rk4", "dopri5"] = _field("euler", "the solver that is stepped and collapsed")
    grid: Literal["uniform", "quadratic", "geometric"] = _field(
        "uniform", "times of the steps. quadratic, geometric: shorter towards the data"
    )
    quality: tuple[Literal["swd", "classifier_fd"], ...] = _field(
        ("swd", "classifier_fd"), "sample quality metrics, on held-out images"
    )
    samples: int = _field(1024, "images generated for each quality value", ge=16)
    every: int = _field(1, "epochs between evaluations of the collapsed sampler during training", ge=1)
    end: float = _field(
        0.99, "diffusion time at which sampling ends; 1 - end of the noise is kept where A is silent", gt=0, lt=1
    )


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """Everything that, with the machine, fixes one trial."""

    family: Literal["diffusion"] = _field("diffusion", "what the Linearizer is trained to be")
    data: DataConfig = _field(DataConfig, "the images")
    model: ModelConfig = _field(ModelConfig, "networks and operator")
    train: TrainConfig = _field(TrainConfig, "optimisation")
    evaluate: EvaluateConfig = _field(EvaluateConfig, "what is measured")
    seed: int = _field(0, "fixes initial weights, order of data and noise", ge=0, lt=2**63)


def from_mapping(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """The dataclass ``kind`` from nested mappings.

    Raises ``ValueError`` naming a field that does not exist, or a value that is not of its type or out of its bounds.
    """
    hints = get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ValueError(f"{kind.__name__} has no field {', '.join(unknown)}: it has {', '.join(hints)}")
    arguments = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            value = from_mapping(hints[name], value)
        elif isinstance(value, list):
            value = tuple(value)
        arguments[name] = value
    made = kind(**arguments)
    for field in dataclasses.fields(made):
        value = getattr(made, field.name)
        if not (
            dataclasses.is_dataclass(value) or (_is_of(hints[field.name], value) and _within(field.metadata, value))
        ):
            raise ValueError(f"{kind.__name__}.{field.name} cannot be {value!r}")
    return made


def _is_of(hint: Any, value: Any) -> bool:
    """Whether a value is of a field's type: a literal, a tuple of one type, or a plain type."""
    if get_origin(hint) is Literal:
        return value in get_args(hint) and not isinstance(value, bool)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is_of(get_args(hint)[0], item) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return type(value) is hint


def _within(bounds: Mapping[str, Any], value: Any) -> bool:
    holds = {"ge": operator.ge, "gt": operator.gt, "le": operator.le, "lt": operator.lt}
    return all(holds[name](value, bound) for name, bound in bounds.items() if name in holds)


def to_mapping(config: Any) -> dict[str, Any]:
    """Nested dictionaries of JSON values; ``from_mapping`` reads them back."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            value = to_mapping(value)
        values[field.name] = list(value) if isinstance(value, tuple) else value
    return values


def problems(config: TrialConfig, event: tuple[int, int, int], train_images: int) -> dict[str, str]:
    """What bounds of single fields cannot say: dotted name → what is wrong and what would be right.

    ``event`` is the images' ``(channels, height, width)``, ``train_images`` the size of the training split.
    """
    found: dict[str, str] = {}
    channels, height, width = event
    dim = channels * height * width
    core, flow, evaluate = config.model.operator, config.model.flow, config.evaluate
    if core.kind != "time_dense" and core.rank > dim:
        found["model.operator.rank"] = (
            f"rank {core.rank} exceeds the data's dimension {dim} "
            f"({config.data.name}: {channels}×{height}×{width}); use 1 … {dim}"
        )
    if flow.kind == "coupling":
        found |= _flow_problems(flow, config.data.name, event)
    if config.train.batch_size > train_images:
        found["train.batch_size"] = (
            f"{config.train.batch_size} exceeds the {train_images} training images of {config.data.name}"
        )
    if not evaluate.steps or list(evaluate.steps) != sorted(set(evaluate.steps)) or evaluate.steps[0] < 1:
        found["evaluate.steps"] = (
            f"must be ascending positive step counts such as [1, 10, 100], got {list(evaluate.steps)}"
        )
    if not evaluate.quality:
        found["evaluate.quality"] = "names no metric; give at least one, such as [classifier_fd]"
    if not any(dataclasses.asdict(config.train.loss).values()):
        found["train.loss"] = "every weight is zero: there is nothing to train; give at least one term a weight"
    elif not _trains(config):
        found["train.loss"] = "the weighted terms train nothing where networks are identities; weight flow or endpoint"
    if evaluate.every > config.train.epochs:
        found["evaluate.every"] = f"{evaluate.every} exceeds train.epochs = {config.train.epochs}"
    return found


def _trains(config: TrialConfig) -> bool:
    """Whether any weighted term of the loss has parameters to train."""
    loss, learned = config.train.loss, config.model.flow.kind != "identity"
    reconstructs = loss.data or loss.likelihood or (loss.noise and config.model.noise_flow != "identity")
    return bool(loss.flow or loss.endpoint or (learned and reconstructs))


def _flow_problems(flow: FlowConfig, name: str, event: tuple[int, int, int]) -> dict[str, str]:
    channels, height, width = event
    if flow.conditioner == "mlp":
        if channels * height * width < 2:
            return {"model.flow.kind": f"a coupling needs at least 2 values an image, {name} has 1; use identity"}
        if flow.levels > 1:
            return {"model.flow.levels": f"{flow.levels} levels need a conv or unet conditioner; mlp has 1"}
        return {}
    if height % 2 or width % 2:
        return {
            "model.flow.conditioner": f"{flow.conditioner} needs even image sides, {name} is {height}×{width}; use mlp"
        }
    most = max(level for level in range(1, 9) if height % 2**level == 0 and width % 2**level == 0)
    if flow.levels > most:
        allowed = f"{name}'s {height}×{width} allows 1 … {most}"
        return {"model.flow.levels": f"{flow.levels} levels halve the image as often; {allowed}"}
    if flow.conditioner == "unet" and flow.width < 2:
        return {"model.flow.width": f"a unet normalises over channels and needs at least 2, got {flow.width}"}
    return {}
