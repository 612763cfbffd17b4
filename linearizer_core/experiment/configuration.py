"""The configuration of one trial: plain frozen dataclasses, each field with its bounds and its meaning.

``metadata`` of a field holds ``doc`` and numeric bounds (``ge``, ``gt``, ``le``, ``lt``); whoever reads
configurations from a file validates against them.
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

Family = Literal["diffusion", "flow_matching", "idempotent", "mean_flow", "style"]
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
    """A part of a configuration that names things: ``plugged`` has those by kind that its plugins register."""

    plugged: ClassVar[Mapping[Kind, Names]] = {}


@dataclass(frozen=True, kw_only=True)
class DataConfig(Section):
    name: Literal["digits", "mnist", "fashion-mnist", "cifar10", "celeba", "folder", "npz"] = _field(
        "digits",
        "the data set. folder: a folder of image files; npz: a NumPy archive with `images` and, if any, `labels`",
    )
    root: str = _field(
        "",
        "where the files are: a folder that holds data sets; for folder the folder of images, for npz the file. "
        "Empty: $LINEARIZER_DATA, else ./data",
    )
    size: int = _field(
        0,
        "side of the square images in pixels; images of another size are resized. 0: the data set's own (digits 8; "
        "mnist, "
        "fashion-mnist 32, padded from 28, and 28 is without the border; cifar10 32; celeba, from its central "
        "148 pixels, and folder 64; npz as it is)",
        ge=0,
        le=1024,
    )
    images: int = _field(0, "training images used, the first of the fixed shuffle; 0: all", ge=0)
    split: int = _field(
        0,
        "which random split: another shuffle for each number. Published test images and the splits of a folder stay "
        "as they are",
        ge=0,
        lt=2**31,
    )
    download: bool = _field(False, "download the files of mnist, fashion-mnist, cifar10 or celeba if they are missing")


@dataclass(frozen=True, kw_only=True)
class FlowConfig(Section):
    kind: Literal["coupling", "linear", "identity"] = _field(
        "coupling", "coupling: a learned invertible network; linear, identity: the controls, affine or g(x) = x"
    )
    frame: Literal["pixels", "principal"] = _field(
        "pixels", "what an mlp flow's couplings, or a baseline, act on. principal: coordinates along the principal axes"
    )
    coordinates: int = _field(
        128,
        "couplings act on at most so many leading coordinates of the principal frame, and no more than the rank of "
        "time_diagonal; the others are scaled",
        ge=2,
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
        "store", "of activations in training. recompute: recovered through the inverse; constant in depth, slower"
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
        "diagonal",
        "lowrank",
        "dense",
        "conv",
        "affine",
    ] = _field(
        "time_lowrank",
        "diffusion: affine, z ↦ b_k + A_k z of latents that are N(b_k, Σ_k), with Σ_k of low rank plus a spread; "
        "time_lowrank, A(t) = U S(t) Vᵀ; time_diagonal, of the leading latents; time_factors, L(t) R(t)ᵀ; "
        "time_dense, no bound on the rank. "
        "idempotent: projection, of fixed rank; learned_projection, diagonal. "
        "style: diagonal; lowrank, I + U C Vᵀ; dense; conv, a kernel for each channel",
    )
    rank: int = _field(
        32,
        "rank of the operator, up to the data's dimension, for kinds that have one; 0 (affine only): the spread and "
        "the means alone",
        ge=0,
    )
    spread: Literal["scale", "diagonal"] = _field(
        "scale", "affine: what is added to the low rank of a covariance, a multiple of the identity or a diagonal"
    )
    shared: Literal["none", "spread", "all"] = _field(
        "none", "affine: what all operators have in common. all: everything but their means"
    )


@dataclass(frozen=True, kw_only=True)
class OperatorsConfig:
    by: Literal["one", "label", "cluster"] = _field(
        "one", "affine: one operator for all images, one for each label, or one for each cluster of training images"
    )
    count: int = _field(30, "clusters, of k-means along the images' leading principal axes", ge=2, le=1000)
    refine: int = _field(0, "every so many epochs each training image joins its most likely cluster; 0: never", ge=0)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    flow: FlowConfig = _field(FlowConfig, "the invertible networks g_x and g_y")
    noise_flow: Literal["same", "shared", "identity"] = _field(
        "identity",
        "g_y, at the noise end. same: a network built like g_x; shared: the network of g_x itself, with a label for "
        "which of the two it is; identity: noise is its own latent",
    )
    operator: OperatorConfig = _field(OperatorConfig, "the linear core A")
    operators: OperatorsConfig = _field(OperatorsConfig, "how many operators share one g, and what each is for")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the terms; a family uses those that are said to be its own (arXiv 2510.08570)."""

    flow: float = _field(
        0.5, "diffusion: ‖A(t) z_t - z1‖² in the induced space; flow_matching, mean_flow: their only term", ge=0
    )
    noise: float = _field(0.0, "diffusion: ‖x0 - g_y⁻¹(z0 + σε)‖²", ge=0)
    data: float = _field(0.0, "diffusion: d(x1, g_x⁻¹(z1 + σε))", ge=0)
    endpoint: float = _field(0.0, "diffusion: d(x1, g_x⁻¹(A(t) z_t))", ge=0)
    likelihood: float = _field(
        1.0, "diffusion, idempotent: negative log-likelihood per dimension under N(0, I) latents", ge=0
    )
    whitening: float = _field(
        0.0, "diffusion: squared mean and deviation from unit covariance of the latents of a batch", ge=0
    )
    reconstruction: float = _field(10.0, "idempotent: d(x, f(x))", ge=0)
    sparsity: float = _field(1.0, "idempotent, of learned_projection: the rank of A over the dimension", ge=0)
    isometry: float = _field(0.1, "idempotent: squared log of ‖g(x) - g(0)‖² / ‖x‖²", ge=0)
    transfer: float = _field(1.0, "style: d(s(x), g⁻¹(A_s g(x))), the mean over styles s", ge=0)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    epochs: int = _field(30, "passes over the training split, or the first train.steps steps of each", ge=1)
    steps: int = _field(0, "steps in an epoch, for large training splits; 0: a whole pass", ge=0)
    batch_size: int = _field(128, "images in a step, over all workers of a trial", ge=1)
    lr: float = _field(1.0e-3, "peak learning rate of Adam", gt=0, le=1)
    schedule: Literal["cosine", "constant"] = _field(
        "cosine",
        "of the rate after the warm-up. cosine: falls to 0 at the last step; constant: stays, so that a finished trial "
        "can be trained on when a sweep asks for more epochs (its state is kept)",
    )
    warmup: float = _field(
        0.05,
        "fraction of the steps over which the rate rises; with schedule: constant, of the first epoch's",
        ge=0,
        lt=1,
    )
    clip: float = _field(1.0, "largest gradient norm", gt=0)
    ema: float = _field(0.99, "decay per step of the averaged weights that are evaluated and kept; 0: none", ge=0, lt=1)
    distance: Literal["mse", "gradient_ssim", "lpips"] = _field(
        "mse", "d between images. gradient_ssim: gradients, SSIM and MSE at several scales; lpips: needs its weights"
    )
    time: Literal["uniform", "logit_normal"] = _field(
        "uniform", "distribution of training times. logit_normal: more of them in the middle (Esser et al., 2024)"
    )
    merge_every: int = _field(50, "steps between merges of the perturbations of p4 mixing", ge=1)
    detach: bool = _field(
        True,
        "diffusion with a learned A(t) and a likelihood: the flow term trains A(t) alone. false: its gradient reaches "
        "g, which then shrinks the latents",
    )
    sigma: float = _field(0.3, "latent noise in the two reconstruction terms", ge=0)
    dequantise: float = _field(0.1, "standard deviation of noise added to training images, in [-1, 1] units", ge=0)
    precision: Literal["float32", "bfloat16"] = _field(
        "float32",
        "of the networks inside couplings, and of the baselines', in training. bfloat16: faster on GPUs that have it; "
        "all else, and evaluation, is in float32",
    )
    compile: bool = _field(False, "compile the losses with torch.compile: slower to start, then faster on a GPU")
    graph: Literal["auto", "off"] = _field(
        "auto",
        "auto: on a GPU a step is recorded as a CUDA graph and replayed by one launch; off: Python launches each "
        "kernel. The numbers are the same",
    )
    loss: LossConfig = _field(LossConfig, "weights of the loss terms")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Section):
    steps: tuple[int, ...] = _field((1, 2, 4, 8, 16, 32, 64, 100), "step counts of the curve, ascending")
    solver: Literal["euler", "heun", "rk4", "dopri5"] = _field("euler", "the solver that is stepped and collapsed")
    grid: Literal["uniform", "quadratic", "geometric"] = _field(
        "uniform", "times of the steps. quadratic, geometric: shorter towards the data"
    )
    quality: tuple[Metric, ...] = _field(("swd", "classifier_fd"), "sample quality metrics, on held-out images")
    samples: int = _field(1024, "images generated for each quality value", ge=16)
    held_out: int = _field(2048, "at most so many held-out images for each linearity and reconstruction metric", ge=16)
    temperature: float = _field(1.1, "scale of the latents of the noise that sampling starts from", gt=0, le=2)
    tempered: bool = _field(
        False,
        "diffusion with a learned A(t): measure B times the temperature instead of B, as early versions did",
    )
    temperatures: tuple[float, ...] = _field(
        (),
        "affine operators, flow_matching and mean_flow: temperatures to try; the best on the validation split is "
        "used, and 1 is always recorded beside it. Empty: 1 alone",
    )
    ranks: tuple[int, ...] = _field(
        (),
        "affine operators: ranks of the curve rank/*; the best on the validation split is used for sampling. Empty: "
        "powers of two and the full rank",
    )
    order: Literal["pullback", "covariance"] = _field(
        "pullback",
        "affine operators: which directions lead. pullback: those that move images most; covariance: those of most "
        "variance of latents",
    )
    denoise: bool = _field(
        False, "affine operators: one step x + σ²∇log p(x) after sampling, with σ that of train.dequantise"
    )
    every: int = _field(1, "epochs between evaluations of the collapsed sampler during training", ge=1)
    end: float = _field(
        0.99, "diffusion time at which sampling ends; where A is 0, 1 - end of the noise remains", gt=0, lt=1
    )


@dataclass(frozen=True, kw_only=True)
class SeedsConfig:
    """Sources of chance apart from each other (Bouthillier et al., arXiv 2103.03098); ``data.split`` is another."""

    init: int = _field(-1, "fixes the initial weights; -1: as the trial's seed does", ge=-1, lt=2**31)
    order: int = _field(
        -1,
        "fixes the order of the training images and the noise of training; -1: as the trial's seed does",
        ge=-1,
        lt=2**31,
    )
    sampling: int = _field(
        0,
        "fixes the noise that samples are made from, the same for every trial; another number is other noise",
        ge=0,
        lt=2**31,
    )


@dataclass(frozen=True, kw_only=True)
class TrialConfig(Section):
    """Everything that, with the machine, fixes one trial."""

    family: Family = _field(
        "diffusion",
        "what is trained. diffusion: noise to images; idempotent: a projector on images; style: image to image; "
        "flow_matching: the baseline, an ordinary network of the same size, frame and labels as the diffusion "
        "Linearizer; mean_flow: the same network trained to sample in one step (MeanFlow, arXiv 2505.13447)",
    )
    recipe: Literal["default", "learned", "paper"] = _field(
        "default",
        "defaults for what the spec does not set. default: for diffusion, affine operators by label, or by cluster "
        "if the data set may lack labels; learned: for diffusion, one A(t) learned beside the likelihood; paper: as "
        "published",
    )
    data: DataConfig = _field(DataConfig, "the images")
    model: ModelConfig = _field(ModelConfig, "networks and operator")
    train: TrainConfig = _field(TrainConfig, "optimisation")
    evaluate: EvaluateConfig = _field(EvaluateConfig, "what is measured")
    seeds: SeedsConfig = _field(SeedsConfig, "seeds of single sources of chance, to separate their effects")
    plugins: tuple[str, ...] = _field(
        (), "code of one's own: Python files, or names of installed plugins; kept by the digest of the code"
    )
    callbacks: tuple[str, ...] = _field((), "what is done beside the training, of those that plugins register")
    seed: int = _field(0, "fixes initial weights, order of data and noise", ge=0, lt=2**63)

    @property
    def init_seed(self) -> int:
        """Of the initial weights."""
        return self.seed if self.seeds.init < 0 else self.seeds.init

    @property
    def order_seed(self) -> int:
        """Of the order of the training images, and of the noise of training."""
        return self.seed if self.seeds.order < 0 else self.seeds.order


def from_mapping(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """The dataclass ``kind`` from nested mappings.

    Raises ``ValueError`` naming a field that does not exist, or a value that is not of its type or out of its bounds.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{kind.__name__} must be a mapping of names to values, got {values!r}")
    known = _fields_of(kind)  # type: ignore[arg-type]  # a class is hashable
    unknown = sorted(str(name) for name in values if name not in known)
    if unknown:
        raise ValueError(f"{kind.__name__} has no field {', '.join(unknown)}: it has {', '.join(known)}")
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
    """The type of a dataclass's field, whether it is a dataclass itself, and its bounds."""

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
    """The fields of a dataclass by name: to look them up takes longer than a configuration takes to make."""
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
    """The number that a text says, or the text."""
    try:
        return float(text)
    except ValueError:
        return text


def _is_of(hint: Any, value: Any) -> bool:
    """Whether a value is of a field's type: a literal, a tuple of one type, or a plain type."""
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
"""Values of ``train.schedule`` with which a longer training begins exactly as a shorter one goes."""

NOT_HASHED = ("seed", "data.root", "data.download")
"""Leaves that do not change what a configuration is: a replicate's seed, and where the data come from."""


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
    "train.graph": "auto",
    "data.split": 0,
    "seeds.init": -1,
    "seeds.order": -1,
    "seeds.sampling": 0,
    "plugins": [],
    "callbacks": [],
}
"""Leaves that were added since records are kept, at what was done before: they are not hashed then, so that what is in
old records keeps its name."""


def config_hash(values: Mapping[str, Any]) -> str:
    """Twelve hex digits that name a nested configuration, whatever its seed."""
    leaves = {
        name: value
        for name, value in flatten(values).items()
        if name not in NOT_HASHED and not (name in ADDED and ADDED[name] == value)
    }
    if leaves.get("recipe") == "learned":
        leaves["recipe"] = "default"  # as it was called when it was the only other one than the paper's
    return hashlib.sha256(json.dumps(leaves, sort_keys=True).encode()).hexdigest()[:12]
