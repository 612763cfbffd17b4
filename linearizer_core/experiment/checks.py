"""Problems of a configuration that the bounds of single fields do not catch."""

from __future__ import annotations

import dataclasses
import math

from linearizer_core.experiment.configuration import DataConfig, FlowConfig, OperatorConfig, TrialConfig
from linearizer_core.experiment.cores import BUILT_IN, known
from linearizer_core.experiment.data.degrade import DEGRADATIONS, check_sides
from linearizer_core.experiment.data.stylise import STYLES
from linearizer_core.experiment.evaluation import LARGEST_FRAME
from linearizer_core.experiment.families import family_of
from linearizer_core.experiment.families.motion import motion_of
from linearizer_core.experiment.networks import on_vectors
from linearizer_core.experiment.recipes import recipe
from linearizer_core.experiment.sample_metrics import of_features
from linearizer_core.metrics import imagenet, inception, perceptual
from linearizer_core.metrics.neighbours import NEIGHBOURS
from linearizer_core.models.base import Event
from linearizer_core.models.motion import check_motion

RANKED = ("affine", *(name for name, each in BUILT_IN.items() if each.options["ranked"]))

SQUARE = ("time_dense", "learned_projection", "nested_projection", "dense", "affine", "rotation", "transition")


def problems(
    config: TrialConfig, event: Event, train_images: int, classes: int, held_out: int = 10_000
) -> dict[str, str]:
    """The dotted name of each wrong field, with what is wrong and what would be right.

    ``event`` is the images' ``(channels, height, width)``. ``train_images`` is the size of the training split,
    ``held_out`` that of the smaller held-out split, and ``classes`` the number of labels (0 if there are none).
    """
    found = model_problems(config, event) | _loss(config) | recomputation_problems(config)
    found |= _operators(config, train_images, classes)
    found |= _ranks(config, event)
    found |= _callbacks(config)
    return found | _optimisation(config, train_images) | _evaluation(config, classes, held_out)


def worker_problems(config: TrialConfig, workers: int) -> dict[str, str]:
    """The dotted name of each field that keeps several workers from training one trial, with what would be right."""
    size = config.train.batch_size
    if size % workers:
        below, above = size - size % workers, size + workers - size % workers
        nearest = f"{below} or {above}" if below else str(above)
        return {"train.batch_size": f"{size} images cannot be divided equally among {workers} workers; use {nearest}"}
    return {}


def recomputation_problems(config: TrialConfig) -> dict[str, str]:
    """The subset of ``problems`` about training options that do not work with recomputed activations."""
    if config.model.flow.memory != "recompute":
        return {}
    found: dict[str, str] = {}
    if config.train.precision != "float32":
        found["train.precision"] = (
            f"{config.train.precision} is too coarse for memory: recompute, which inverts its own computations; "
            "use memory: store or precision: float32"
        )
    if config.train.compile:
        found["train.compile"] = "memory: recompute cannot be compiled; use memory: store or compile: false"
    return found


def model_problems(config: TrialConfig, event: Event) -> dict[str, str]:
    """The subset of ``problems`` that prevent a model from being built."""
    found = _family(config) | _degraded(config, event) | _moving(config, event)
    if config.family in MOVING:
        event = motion_of(config).shape(event)
    found |= _operator(config, event)
    return found if config.model.flow.kind == "identity" else found | _flow(config, event)


RESTORING = ("inverse", "regression")
MOVING = ("dynamics", "koopman")
FULL_AT_0 = ("affine", "correlation", "rotation", "transition")
"""Operators for which a rank of 0 has a meaning."""


def _degraded(config: TrialConfig, event: Event) -> dict[str, str]:
    """Problems that prevent images from being degraded, or the network for degraded images from being built."""
    if config.family not in RESTORING:
        return {}
    wrong = check_sides(config.data.degraded, event)
    if wrong:
        return {"data.degraded": f"{wrong}; use another data.degraded or data.size"}
    if config.model.flow.kind == "identity":
        return {}
    found = _flow(config, DEGRADATIONS[config.data.degraded].shape(event))
    return {name: f"for degraded images: {message}" for name, message in found.items()}


def _moving(config: TrialConfig, event: Event) -> dict[str, str]:
    """Problems that prevent images from being moved."""
    if config.family not in MOVING:
        return {}
    wrong = check_motion(config.data.motion, event)
    return {"data.motion": f"{wrong}; use drift, or data.size"} if wrong else {}


def _family(config: TrialConfig) -> dict[str, str]:
    if config.family in config.plugged.get("family", {}):
        message = f"{config.family} has no recipe {config.recipe!r}; leave it out"
        return {} if config.recipe == "default" else {"recipe": message}
    try:
        recipe(config.family, config.recipe, config.data.name)
    except ValueError as error:
        return {"recipe": str(error)}
    return {}


def _operator(config: TrialConfig, event: Event) -> dict[str, str]:
    core = config.model.operator
    allowed = (*family_of(config).operators, *(name for name in known(config.family, core) if name not in BUILT_IN))
    if allowed and core.kind not in allowed:
        return {"model.operator.kind": f"{config.family} has no operator {core.kind}; use {', '.join(allowed)}"}
    channels, height, width = event
    dim = channels * height * width
    if core.kind in SQUARE and dim > LARGEST_FRAME:
        message = f"{core.kind} has dim×dim entries and supports at most {LARGEST_FRAME} values per image, got {dim}"
        return {"model.operator.kind": message}
    if ranked(core) and core.kind not in FULL_AT_0 and not core.rank:
        allowing = f"{', '.join(FULL_AT_0[:-1])} and {FULL_AT_0[-1]}"
        return {"model.operator.rank": f"{core.kind} needs a rank of at least 1; only {allowing} allow 0"}
    if core.kind == "correlation":
        most = min(dim, math.prod(DEGRADATIONS[config.data.degraded].shape(event)))
        if core.rank > most:
            named = f"degraded images ({config.data.degraded}) have {most} values"
            return {"model.operator.rank": f"rank {core.rank} is too large: {named}; use 1 … {most}, or 0 for all"}
    if ranked(core) and core.rank > dim:
        return {
            "model.operator.rank": f"rank {core.rank} exceeds the data's dimension {dim} "
            f"({config.data.name}: {channels}×{height}×{width}); use 1 … {dim}"
        }
    flow = config.model.flow
    if core.kind == "nested_projection" and flow.kind == "identity":
        return {"model.flow.kind": "nested_projection orders the coordinates of a network; use coupling or linear"}
    if core.kind == "conv" and (flow.kind == "identity" or on_vectors(flow) or flow.levels > 1):
        return {
            "model.operator.kind": "conv needs latents that are images; "
            "use a coupling flow with a conv or unet conditioner and levels: 1"
        }
    return {}


def ranked(core: OperatorConfig) -> bool:
    """Whether the rank of an operator is configurable."""
    plugged = core.plugged.get("operator", {}).get(core.kind)
    return core.kind in RANKED if plugged is None else bool(plugged.options["ranked"])


def _ranks(config: TrialConfig, event: Event) -> dict[str, str]:
    ranks, dim = config.evaluate.ranks, event[0] * event[1] * event[2]
    if list(ranks) != sorted(set(ranks)) or any(not 1 <= rank <= dim for rank in ranks):
        return {"evaluate.ranks": f"must be ascending ranks in 1 … {dim}, such as [1, 2, 4, 8], got {list(ranks)}"}
    return {}


def _operators(config: TrialConfig, train_images: int, classes: int) -> dict[str, str]:
    several = config.model.operators
    if config.model.operator.kind not in ("affine", "nested_projection"):
        return {}
    if several.by == "label" and not classes:
        return {"model.operators.by": f"{_named(config.data)} has no labels; use cluster or one"}
    if several.by == "cluster" and several.count > train_images:
        return {"model.operators.count": f"{several.count} clusters exceed the {train_images} training images"}
    return {}


def _flow(config: TrialConfig, event: Event) -> dict[str, str]:
    flow, name = config.model.flow, config.data.name
    channels, height, width = event
    dim = channels * height * width
    if flow.kind in flow.plugged.get("flow", {}):
        return {}
    frame = _frame(config, dim) if on_vectors(flow) or flow.kind == "linear" else {}
    if flow.kind == "linear" or frame:
        return frame
    if on_vectors(flow):
        if dim < 2:
            return {"model.flow.kind": f"a coupling needs at least 2 values per image, {name} has 1; use identity"}
        if flow.levels > 1:
            return {
                "model.flow.levels": f"an mlp conditioner has 1 level, got {flow.levels}; use a conv or "
                "unet conditioner"
            }
        return {}
    return _convolutional(flow, name, height, width)


def _frame(config: TrialConfig, dim: int) -> dict[str, str]:
    if config.model.flow.frame == "pixels":
        return {}
    if dim > LARGEST_FRAME:
        message = (
            f"principal supports at most {LARGEST_FRAME} values per image, {config.data.name} has {dim}; use pixels"
        )
        return {"model.flow.frame": message}
    if config.model.noise_flow == "shared" and config.family in ("diffusion", "flow_matching", "mean_flow"):
        return {"model.noise_flow": "shared needs frame: pixels, since noise does not have the images' principal axes"}
    return {}


def _convolutional(flow: FlowConfig, name: str, height: int, width: int) -> dict[str, str]:
    if height % 2 or width % 2:
        return {
            "model.flow.conditioner": f"{flow.conditioner} needs even image sides, {name} is {height}×{width}; use mlp"
        }
    most = max(level for level in range(1, 9) if height % 2**level == 0 and width % 2**level == 0)
    if flow.levels > most:
        allowed = f"{name}'s {height}×{width} allows 1 … {most}"
        return {"model.flow.levels": f"each level halves the image; {allowed}, got {flow.levels}"}
    if flow.conditioner == "unet" and flow.width < 2:
        return {"model.flow.width": f"a unet normalises over channels and needs at least 2, got {flow.width}"}
    return {}


def _loss(config: TrialConfig) -> dict[str, str]:
    weights = dataclasses.asdict(config.train.loss)
    own = {name: weights[name] for name in family_of(config).terms}
    found: dict[str, str] = {}
    if own and not any(own.values()):
        found["train.loss"] = (
            f"every weight of {config.family} is zero; give a weight to at least one of {', '.join(own)}"
        )
    elif not _trains(config):
        trains = {"diffusion": "flow or endpoint", "idempotent": "reconstruction"}[config.family]
        found["train.loss"] = f"with identity networks the weighted terms train nothing; give a weight to {trains}"
    if weights["whitening"] and config.train.batch_size < 2:
        found["train.batch_size"] = "whitening compares the images of a batch and needs at least 2"
    lacking = perceptual.missing(config.train.distance)
    if lacking:
        found["train.distance"] = lacking
    return found


def _trains(config: TrialConfig) -> bool:
    """Whether any weighted loss term has parameters to train."""
    loss, learned = config.train.loss, config.model.flow.kind != "identity"
    if config.family == "diffusion" and config.model.operator.kind == "affine":
        return True  # the likelihood trains its Gaussians
    if config.family == "diffusion":
        reconstructs = loss.data or loss.likelihood or loss.whitening
        reconstructs = reconstructs or (loss.noise and config.model.noise_flow != "identity")
        return bool(loss.flow or loss.endpoint or (learned and reconstructs))
    if config.family == "idempotent":
        sparse = loss.sparsity and config.model.operator.kind == "learned_projection"
        return bool(loss.reconstruction or sparse or (learned and (loss.isometry or loss.likelihood)))
    return True


def _optimisation(config: TrialConfig, train_images: int) -> dict[str, str]:
    found: dict[str, str] = {}
    if config.train.batch_size > train_images:
        found["train.batch_size"] = (
            f"{config.train.batch_size} exceeds the {train_images} training images of {config.data.name}"
        )
    elif config.family == "style" and config.train.batch_size < len(STYLES):
        found["train.batch_size"] = f"needs one image for each of {len(STYLES)} styles, got {config.train.batch_size}"
    elif config.train.steps * config.train.batch_size > train_images:
        most = train_images // config.train.batch_size
        found["train.steps"] = f"{config.train.steps} steps exceed a pass over {config.data.name}, which takes {most}"
    if config.evaluate.every > config.train.epochs:
        found["evaluate.every"] = f"{config.evaluate.every} exceeds train.epochs = {config.train.epochs}"
    return found


def _callbacks(config: TrialConfig) -> dict[str, str]:
    registered = list(config.plugged.get("callback", {}))
    for name in config.callbacks:
        if name not in registered:
            there = (
                f"registered ones are {', '.join(registered)}" if registered else "no plugin of this spec registers one"
            )
            return {"callbacks": f"there is no callback {name}; callbacks come from plugins, and {there}"}
    if len(set(config.callbacks)) < len(config.callbacks):
        return {"callbacks": f"names a callback twice: {list(config.callbacks)}"}
    return {}


def _evaluation(config: TrialConfig, classes: int, held_out: int) -> dict[str, str]:
    found: dict[str, str] = {}
    steps = config.evaluate.steps
    # Stylised images are not scored against real ones: the style family has metrics of its own.
    quality = family_of(config).metrics(config)
    if not steps or list(steps) != sorted(set(steps)) or steps[0] < 1:
        found["evaluate.steps"] = f"must be ascending positive step counts such as [1, 10, 100], got {list(steps)}"
    in_classifier = of_features(config.evaluate, "classifier") if quality else []
    lacking = inception.missing() if quality and of_features(config.evaluate, "inception") else None
    lacking = lacking or (imagenet.missing() if quality and of_features(config.evaluate, "imagenet") else None)
    least = NEIGHBOURS + 1 if set(quality) & {"precision", "recall", "density", "coverage"} else 2
    if held_out < least:
        found["data"] = (
            f"{_named(config.data)} leaves {held_out} held-out images to measure on; at least {least} are needed"
        )
    affine = config.family == "diffusion" and config.model.operator.kind == "affine"
    if (config.family in ("flow_matching", "mean_flow") or affine) and config.evaluate.grid == "geometric":
        which = "affine operators end" if affine else f"{config.family} ends"
        found["evaluate.grid"] = f"geometric has no steps up to time 1, where {which}; use uniform"
    temperatures = config.evaluate.temperatures
    if len(set(temperatures)) < len(temperatures) or not all(0 < each <= 5 for each in temperatures):
        found["evaluate.temperatures"] = f"must be different numbers in (0, 5], got {list(temperatures)}"
    if not config.evaluate.quality:
        found["evaluate.quality"] = "names no metric; give at least one, such as [classifier_fd]"
    elif len(set(quality)) < len(quality):
        found["evaluate.quality"] = f"names a metric twice: {list(quality)}"
    elif in_classifier and not classes:
        found["evaluate.quality"] = (
            f"{', '.join(in_classifier)} need labelled images to train a classifier on, {_named(config.data)} has no "
            "labels; use swd or imagenet_fd, or give labels: a folder per class, or `labels` in the archive"
        )
    elif lacking:
        found["evaluate.quality"] = lacking
    return found


def _named(data: DataConfig) -> str:
    return f"{data.name} {data.root}".strip()
