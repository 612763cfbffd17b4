"""The configuration of one trial: plain frozen dataclasses whose fields carry their bounds and documentation.

A field's ``metadata`` holds ``doc`` and numeric bounds (``ge``, ``gt``, ``le``, ``lt``). Code that reads configurations
from files validates against them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from linearizer_core.experiment.nested import flatten
from linearizer_core.plugins.marks import Kind, Names
from linearizer_core.plugins.settings import setting as _field

Family = Literal[
    "diffusion", "dynamics", "flow_matching", "idempotent", "inverse", "koopman", "mean_flow", "regression", "style"
]  # fmt: skip
Metric = Literal[
    "swd",
    "classifier_fd",
    "classifier_kid",
    "precision",
    "recall",
    "density",
    "coverage",
    "imagenet_fd",
    "imagenet_kid",
    "inception_fid",
    "inception_kid",
]
Activation = Literal["gelu", "relu", "silu", "glu", "swiglu", "bilinear", "polynorm", "star", "aptx"]


class Section:
    """A part of a configuration that names things. ``plugged`` maps each kind to the names its plugins register."""

    plugged: ClassVar[Mapping[Kind, Names]] = {}


@dataclass(frozen=True, kw_only=True)
class DataConfig(Section):
    name: Literal["digits", "mnist", "fashion-mnist", "cifar10", "celeba", "folder", "npz"] = _field(
        "digits",
        "the data set. folder: a folder of image files; npz: a NumPy archive with `images` and, optionally, `labels`",
    )
    root: str = _field(
        "",
        "where the files are: for folder, the folder of images; for npz, the file; otherwise the folder that holds "
        "the data sets. Empty: $LINEARIZER_DATA, else ./data. Each machine fetches those in a bucket (s3://…) once",
    )
    size: int = _field(
        0,
        "side of the square images in pixels; images of another size are resized. 0: the data set's own size (digits: "
        "8; mnist and fashion-mnist: 32, padded from 28, while 28 leaves the padding out; cifar10: 32; celeba: 64, "
        "from its central 148 pixels; folder: 64; npz: the size in the file)",
        ge=0,
        le=1024,
    )
    images: int = _field(0, "number of training images used, the first ones of the fixed shuffle; 0: all", ge=0)
    split: int = _field(
        0,
        "number of the random split; each number shuffles differently. Published test images and the splits of a "
        "folder do not change",
        ge=0,
        lt=2**31,
    )
    degraded: Literal["blur", "inpaint", "downsample", "noise"] = _field(
        "blur",
        "inverse, regression: the degraded images from which images are restored. blur: filtered; inpaint: without the "
        "middle half of their rows; downsample: means of squares; noise: the images themselves. All get data.noise",
    )
    noise: float = _field(
        0.05, "inverse, regression: standard deviation of the noise in degraded images, in [-1, 1] units", ge=0
    )
    motion: Literal["rotation", "drift"] = _field(
        "rotation",
        "dynamics, koopman: how images move. rotation: about their centre; drift: to the right, around the edge",
    )
    period: int = _field(
        24, "dynamics, koopman: steps of time in a whole turn, or until an image has drifted across its width", ge=4
    )
    padding: int = _field(
        2, "dynamics, koopman: pixels of black around an image, which moves in the larger frame", ge=0
    )
    contrast: float = _field(
        0.0,
        "dynamics, koopman: c > 0 shows tanh(c x) / tanh(c) of each pixel, so that frames are not linear in what moves",
        ge=0,
        le=10,
    )
    shuffled: bool = _field(
        False, "dynamics, koopman: a control, trained on frames in a random order, so that there is nothing to predict"
    )
    download: bool = _field(False, "download missing files of mnist, fashion-mnist, cifar10 or celeba")


@dataclass(frozen=True, kw_only=True)
class FlowConfig(Section):
    kind: Literal["coupling", "linear", "identity"] = _field(
        "coupling", "coupling: a learned invertible network; linear and identity: controls, affine and g(x) = x"
    )
    frame: Literal["pixels", "principal"] = _field(
        "pixels",
        "the coordinates on which an mlp flow's couplings, or a baseline, act. principal: along the principal axes",
    )
    coordinates: int = _field(
        128,
        "couplings act on at most this many leading coordinates of the principal frame, and on no more than the rank "
        "of time_diagonal; the others are only scaled",
        ge=2,
    )
    depth: int = _field(
        4, "blocks of actnorm, coupling and mixing in each of g_x and g_y (at each of their levels)", ge=1, le=128
    )
    coupling: Literal["affine", "additive", "spline", "mixture"] = _field(
        "affine", "affine: as in Real NVP; additive: as in NICE; spline: rational-quadratic; mixture: of logistics"
    )
    bins: int = _field(8, "bins of a spline coupling", ge=2, le=64)
    components: int = _field(4, "logistics of a mixture coupling", ge=1, le=64)
    mixing: Literal["lu", "householder", "p4", "p4_orthogonal", "permutation"] = _field(
        "lu",
        "the map between couplings. lu: a PLU matrix; householder: a rotation; p4, p4_orthogonal: a matrix or rotation "
        "trained by merging perturbations; permutation: fixed",
    )
    conditioner: Literal["mlp", "conv", "unet"] = _field("mlp", "the network inside each coupling")
    width: int = _field(128, "hidden units or channels of the conditioner", ge=1, le=8192)
    activation: Activation = _field("gelu", "nonlinearity of the conditioner; gated ones use two linear branches")
    kernel: Literal[1, 3, 5, 7] = _field(3, "kernel size of a conv conditioner in pixels")
    attention: bool = _field(False, "self-attention at the coarse level of a unet conditioner")
    levels: int = _field(
        1, "scales of a conv or unet flow; after each scale but the last, half the channels are split off", ge=1, le=8
    )
    memory: Literal["store", "recompute"] = _field(
        "store",
        "activations in training. store: kept for the backward pass; recompute: recovered through the inverse, which "
        "takes memory constant in depth and more time",
    )


@dataclass(frozen=True, kw_only=True)
class OperatorConfig(Section):
    kind: Literal[
        "time_lowrank",
        "time_diagonal",
        "time_factors",
        "time_dense",
        "projection",
        "learned_projection",
        "nested_projection",
        "diagonal",
        "lowrank",
        "dense",
        "conv",
        "affine",
        "correlation",
        "rotation",
        "transition",
    ] = _field(
        "time_lowrank",
        "the linear core. diffusion: affine, z ↦ b_k + A_k z for latents distributed as N(b_k, Σ_k), with Σ_k of low "
        "rank plus a spread; time_lowrank, A(t) = U S(t) Vᵀ; time_diagonal, a diagonal on the leading latents; "
        "time_factors, L(t) R(t)ᵀ; time_dense, without a bound on the rank. "
        "idempotent: projection, of fixed rank; learned_projection, a learned diagonal of 0 and 1; "
        "nested_projection, one for every rank. "
        "style: diagonal; lowrank, I + U C Vᵀ; dense; conv, one kernel per channel. "
        "inverse: correlation, U diag(ρ) Vᵀ with orthonormal U and V and 0 < ρ < 1. "
        "dynamics, koopman: rotation, by learned angles in orthogonal planes; transition, Q C Qᵀ with any C",
    )
    rank: int = _field(
        32,
        "rank of the operator, for kinds that have one, at most the data's dimension; 0: for affine the "
        "spread and the means alone, for correlation all dimensions of the degraded images, for rotation and "
        "transition all of the frames",
        ge=0,
    )
    spread: Literal["scale", "diagonal"] = _field(
        "scale", "affine: what is added to a covariance's low-rank part: a multiple of the identity, or a diagonal"
    )
    shared: Literal["none", "spread", "all"] = _field(
        "none",
        "affine: what all operators share. none: nothing; spread: the spread; all: everything except the means",
    )


@dataclass(frozen=True, kw_only=True)
class OperatorsConfig:
    by: Literal["one", "label", "cluster"] = _field(
        "one",
        "affine, nested_projection: one operator for all images, one per label, or one per cluster of training images",
    )
    count: int = _field(30, "number of k-means clusters along the images' leading principal axes", ge=2, le=1000)
    refine: int = _field(
        0, "interval in epochs at which each training image moves to its most likely cluster; 0: never", ge=0
    )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    flow: FlowConfig = _field(FlowConfig, "the invertible networks g_x and g_y")
    noise_flow: Literal["same", "shared", "identity"] = _field(
        "identity",
        "g_y, at the noise end. same: a second network built like g_x; shared: the network g_x itself, told by a label "
        "which of the two it is; identity: noise is its own latent",
    )
    operator: OperatorConfig = _field(OperatorConfig, "the linear core A")
    operators: OperatorsConfig = _field(OperatorsConfig, "how many operators share one g, and what each is for")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the loss terms. Each family uses only the terms whose documentation names it (arXiv 2510.08570)."""

    flow: float = _field(
        0.5, "diffusion: ‖A(t) z_t - z1‖² in the induced space; flow_matching, mean_flow: their only term", ge=0
    )
    noise: float = _field(0.0, "diffusion: ‖x0 - g_y⁻¹(z0 + σε)‖²", ge=0)
    data: float = _field(0.0, "diffusion: d(x1, g_x⁻¹(z1 + σε))", ge=0)
    endpoint: float = _field(0.0, "diffusion: d(x1, g_x⁻¹(A(t) z_t))", ge=0)
    likelihood: float = _field(
        1.0,
        "diffusion, idempotent: negative log-likelihood per dimension under N(0, I) latents; inverse: of pairs",
        ge=0,
    )
    whitening: float = _field(
        0.0,
        "diffusion: squared mean of a batch's latents, and squared deviation of their covariance from the identity",
        ge=0,
    )
    reconstruction: float = _field(
        10.0, "idempotent: d(x, f(x)); koopman: the distance from x to what the decoder makes of its latents", ge=0
    )
    sparsity: float = _field(1.0, "idempotent with learned_projection: the rank of A divided by the dimension", ge=0)
    isometry: float = _field(0.1, "idempotent: squared log of ‖g(x) - g(0)‖² / ‖x‖²", ge=0)
    shell: float = _field(
        0.0, "idempotent, of nested_projection: squared log of ‖P g(x0)‖² / rank at pixel noise x0", ge=0
    )
    latent: float = _field(
        0.0,
        "inverse: ‖g_y(y) - A g_x(x)‖² per dimension; style: ‖g(s(x)) - A_s g(x)‖² over ‖g(x) - g(0)‖²; "
        "dynamics, koopman: ‖g(x_{t+n}) - Aⁿ g(x_t)‖² over ‖g(x_{t+n})‖²",
        ge=0,
    )
    restoration: float = _field(
        1.0, "inverse, regression: d(x, f⁺(y)), or the distance from x to the network's image", ge=0
    )
    prediction: float = _field(1.0, "dynamics, koopman: d(x_{t+n}, fⁿ(x_t)) for random n up to train.horizon", ge=0)
    backward: float = _field(1.0, "dynamics, koopman: d(x_t, f⁻ⁿ(x_{t+n})), with the inverse of the same A", ge=0)
    transfer: float = _field(1.0, "style: d(s(x), g⁻¹(A_s g(x))), averaged over the styles s", ge=0)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    epochs: int = _field(30, "passes over the training split; with train.steps, that many steps of each", ge=1)
    steps: int = _field(0, "steps per epoch, for large training splits; 0: a full pass", ge=0)
    batch_size: int = _field(128, "images per step, over all workers of a trial", ge=1)
    lr: float = _field(1.0e-3, "peak learning rate of Adam", gt=0, le=1)
    schedule: Literal["cosine", "constant"] = _field(
        "cosine",
        "the learning rate after warm-up. cosine: falls to 0 at the last step; constant: stays the same and the "
        "trial's state is kept, so that it can be trained further when a sweep asks for more epochs",
    )
    warmup: float = _field(
        0.05,
        "fraction of the steps over which the learning rate rises; with schedule: constant, of the first epoch's steps",
        ge=0,
        lt=1,
    )
    clip: float = _field(1.0, "maximum gradient norm; larger gradients are scaled down to it", gt=0)
    ema: float = _field(
        0.99, "decay per step of the averaged weights, which are evaluated and saved; 0: no averaging", ge=0, lt=1
    )
    distance: Literal["mse", "gradient_ssim", "imagenet", "lpips"] = _field(
        "mse",
        "d, the distance between images. gradient_ssim: gradients, SSIM and MSE at several scales; imagenet: early "
        "layers of the network that the extra imagenet installs; lpips: needs its weights",
    )
    time: Literal["uniform", "logit_normal"] = _field(
        "uniform", "distribution of training times. logit_normal: more of them in the middle (Esser et al., 2024)"
    )
    horizon: int = _field(
        8, "dynamics, koopman: largest number of steps ahead that are predicted in training", ge=1, le=1000
    )
    merge_every: int = _field(50, "steps between merges of the perturbations of p4 mixing", ge=1)
    detach: bool = _field(
        True,
        "diffusion with a learned A(t) and a likelihood term: whether the flow term trains A(t) alone. false: its "
        "gradient also reaches g, which then shrinks the latents",
    )
    sigma: float = _field(0.3, "standard deviation of the latent noise in the loss terms noise and data", ge=0)
    dequantise: float = _field(0.1, "standard deviation of noise added to training images, in [-1, 1] units", ge=0)
    precision: Literal["float32", "bfloat16"] = _field(
        "float32",
        "precision of the networks inside couplings, and of the baselines' networks, in training. bfloat16: faster on "
        "GPUs that support it; everything else, evaluation included, is in float32",
    )
    compile: bool = _field(False, "compile the losses with torch.compile: slower to start, then faster on a GPU")
    graph: Literal["auto", "off"] = _field(
        "auto",
        "auto: on a GPU, a training step is recorded as a CUDA graph and replayed with one launch; off: Python "
        "launches each kernel. The results are the same",
    )
    loss: LossConfig = _field(LossConfig, "weights of the loss terms")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Section):
    steps: tuple[int, ...] = _field(
        (1, 2, 4, 8, 16, 32, 64, 100),
        "step counts of the curve, in ascending order; for dynamics and koopman, steps of time ahead",
    )
    solver: Literal["euler", "heun", "rk4", "dopri5"] = _field("euler", "the ODE solver that is stepped and collapsed")
    grid: Literal["uniform", "quadratic", "geometric"] = _field(
        "uniform", "spacing of the step times. quadratic, geometric: shorter steps towards the data"
    )
    quality: tuple[Metric, ...] = _field(("swd", "classifier_fd"), "sample quality metrics, on held-out images")
    samples: int = _field(1024, "images generated for each quality value", ge=16)
    repeats: int = _field(
        1,
        "number of sample sets, each drawn from different noise, that a quality value is averaged over; "
        "<split>/<metric>_draws is their standard deviation",
        ge=1,
        le=100,
    )
    held_out: int = _field(
        2048, "maximum number of held-out images for each linearity and reconstruction metric", ge=16
    )
    temperature: float = _field(1.1, "scale of the noise latents from which sampling starts", gt=0, le=2)
    tempered: bool = _field(
        False,
        "diffusion with a learned A(t): measure B times the temperature instead of B, as early versions did",
    )
    temperatures: tuple[float, ...] = _field(
        (),
        "affine operators, flow_matching and mean_flow: temperatures to try. The best one on the validation split is "
        "used; results at 1 are always recorded too. Empty: 1 alone",
    )
    ranks: tuple[int, ...] = _field(
        (),
        "affine operators, nested_projection: ranks of the curve rank/*. The best one on the validation split is used "
        "for sampling. Empty: powers of two and the full rank",
    )
    order: Literal["pullback", "covariance"] = _field(
        "pullback",
        "affine operators: which directions come first. pullback: those that change images most; covariance: those "
        "with the largest variance of latents",
    )
    denoise: bool = _field(
        False, "affine operators: one denoising step x + σ²∇log p(x) after sampling, with σ = train.dequantise"
    )
    every: int = _field(1, "epochs between evaluations of the collapsed sampler during training", ge=1)
    end: float = _field(
        0.99, "diffusion time at which sampling ends; where A is 0, 1 - end of the noise remains", gt=0, lt=1
    )


@dataclass(frozen=True, kw_only=True)
class SeedsConfig:
    """Seeds of separate sources of randomness (Bouthillier et al., arXiv 2103.03098); ``data.split`` is another."""

    init: int = _field(-1, "fixes the initial weights; -1: the trial's seed", ge=-1, lt=2**31)
    order: int = _field(
        -1,
        "fixes the order of the training images and the training noise; -1: the trial's seed",
        ge=-1,
        lt=2**31,
    )
    sampling: int = _field(
        0,
        "fixes the noise from which samples are made, the same for every trial; another number gives other noise",
        ge=0,
        lt=2**31,
    )


@dataclass(frozen=True, kw_only=True)
class TrialConfig(Section):
    """Everything that determines one trial, apart from the machine."""

    family: Family = _field(
        "diffusion",
        "what is trained. diffusion: noise to images; idempotent: a projector on images; style: image to image; "
        "flow_matching: the baseline, an ordinary network of the same size, frame and labels as the diffusion "
        "Linearizer; mean_flow: the same network trained to sample in one step (MeanFlow, arXiv 2505.13447); "
        "inverse: images restored from degraded ones; regression: its baseline, an ordinary network of the same size; "
        "dynamics: images that move, z_{t+1} = A z_t; koopman: its baseline, an autoencoder of the same size",
    )
    recipe: Literal["default", "learned", "paper"] = _field(
        "default",
        "defaults for whatever the spec does not set. default: for diffusion, affine operators by label, or by cluster "
        "if the data set may have no labels; learned: for diffusion, one A(t) learned beside the likelihood; paper: "
        "as published",
    )
    data: DataConfig = _field(DataConfig, "the images")
    model: ModelConfig = _field(ModelConfig, "networks and operator")
    train: TrainConfig = _field(TrainConfig, "optimisation")
    evaluate: EvaluateConfig = _field(EvaluateConfig, "what is measured")
    seeds: SeedsConfig = _field(SeedsConfig, "separate seeds for sources of randomness, to tell their effects apart")
    plugins: tuple[str, ...] = _field(
        (), "your own code: Python files, or names of installed plugins; identified by the digest of the code"
    )
    callbacks: tuple[str, ...] = _field((), "callbacks to run during training, registered by plugins")
    seed: int = _field(0, "fixes the initial weights, the order of the data and the noise", ge=0, lt=2**63)

    @property
    def init_seed(self) -> int:
        """The seed of the initial weights."""
        return self.seed if self.seeds.init < 0 else self.seeds.init

    @property
    def order_seed(self) -> int:
        """The seed of the order of the training images and of the training noise."""
        return self.seed if self.seeds.order < 0 else self.seeds.order


def from_mapping(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """Build the dataclass ``kind`` from nested mappings.

    Raises ``ValueError``, naming the field, if it does not exist or its value has the wrong type or is out of bounds.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{kind.__name__} must be a mapping of names to values, got {values!r}")
    known = _fields_of(kind)  # type: ignore[arg-type]  # a class is hashable
    unknown = sorted(str(name) for name in values if name not in known)
    if unknown:
        raise ValueError(f"{kind.__name__} has no field {', '.join(unknown)}; its fields are {', '.join(known)}")
    arguments = {}
    for name, value in values.items():
        hint = known[name].hint
        if known[name].nested:
            value = from_mapping(hint, value)
        elif isinstance(value, list):
            value = tuple(value)
        elif hint is float and isinstance(value, str):
            value = _number(value)  # YAML reads 1e-3 as text
        arguments[name] = value
    made = kind(**arguments)
    for name, field in known.items():
        value = getattr(made, name)
        if not field.nested and not (_is_of(field.hint, value) and all(holds(value, b) for holds, b in field.bounds)):
            raise ValueError(f"{kind.__name__}.{name} cannot be {value!r}")
    return made


@dataclass(frozen=True)
class _Field:
    """The type of a dataclass field, whether that type is itself a dataclass, and the field's bounds."""

    hint: Any
    nested: bool
    bounds: tuple[tuple[Callable[[Any, Any], bool], float], ...]


BOUNDS: Mapping[str, Callable[[Any, Any], bool]] = {
    "ge": operator.ge,
    "gt": operator.gt,
    "le": operator.le,
    "lt": operator.lt,
}


@lru_cache
def _fields_of(kind: type[Any]) -> Mapping[str, _Field]:
    """The fields of a dataclass by name, cached: looking them up takes longer than making a configuration."""
    hints = get_type_hints(kind)
    return {
        field.name: _Field(
            hints[field.name],
            dataclasses.is_dataclass(hints[field.name]),
            tuple((BOUNDS[name], bound) for name, bound in field.metadata.items() if name in BOUNDS),
        )
        for field in dataclasses.fields(kind)
    }


def _number(text: str) -> float | str:
    """``text`` as a number if it is one, otherwise unchanged."""
    try:
        return float(text)
    except ValueError:
        return text


def _is_of(hint: Any, value: Any) -> bool:
    """Whether a value has a field's type: a literal, a tuple of one type, or a plain type."""
    if get_origin(hint) is Literal:
        return value in get_args(hint) and not isinstance(value, bool)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is_of(get_args(hint)[0], item) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return type(value) is hint


def to_mapping(config: Any) -> dict[str, Any]:
    """Nested dictionaries of JSON values; ``from_mapping`` reads them back."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            value = to_mapping(value)
        values[field.name] = list(value) if isinstance(value, tuple) else value
    return values


EXTENSIBLE = ("constant",)
"""Values of ``train.schedule`` with which a longer training begins exactly like a shorter one."""

NOT_HASHED = ("seed", "data.root", "data.download")
"""Leaves that do not change a configuration's identity: the replicate's seed, and where the data come from."""


ADDED = {
    "model.operator.spread": "scale",
    "model.operator.shared": "none",
    "model.operators.by": "one",
    "model.operators.count": 30,
    "model.operators.refine": 0,
    "train.detach": False,
    "train.schedule": "cosine",
    "evaluate.tempered": True,
    "evaluate.temperatures": [],
    "evaluate.ranks": [],
    "evaluate.order": "pullback",
    "evaluate.denoise": False,
    "evaluate.repeats": 1,
    "train.graph": "auto",
    "data.split": 0,
    "data.degraded": "blur",
    "data.noise": 0.05,
    "data.motion": "rotation",
    "data.period": 24,
    "data.padding": 2,
    "data.contrast": 0.0,
    "data.shuffled": False,
    "train.horizon": 8,
    "train.loss.prediction": 1.0,
    "train.loss.backward": 1.0,
    "train.loss.latent": 0.0,
    "train.loss.shell": 0.0,
    "train.loss.restoration": 1.0,
    "seeds.init": -1,
    "seeds.order": -1,
    "seeds.sampling": 0,
    "plugins": [],
    "callbacks": [],
}
"""Leaves added since records were first kept, with the value that reproduces the earlier behaviour. A leaf at this
value is not hashed, so that configurations in old records keep their hashes."""


def config_hash(values: Mapping[str, Any]) -> str:
    """Twelve hex digits that identify a nested configuration, regardless of its seed."""
    leaves = {
        name: value
        for name, value in flatten(values).items()
        if name not in NOT_HASHED and not (name in ADDED and ADDED[name] == value)
    }
    if leaves.get("recipe") == "learned":
        leaves["recipe"] = "default"  # its name when the paper's recipe was the only other one
    return hashlib.sha256(json.dumps(leaves, sort_keys=True).encode()).hexdigest()[:12]
