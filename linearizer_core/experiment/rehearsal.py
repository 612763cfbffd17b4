"""Trying out a configuration's plugins on a few real images before anything starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from linearizer_core.experiment.callbacks import Callback
from linearizer_core.experiment.configuration import DataConfig, FlowConfig, TrialConfig
from linearizer_core.experiment.data import load
from linearizer_core.experiment.draws import Draws
from linearizer_core.experiment.families import BUILT_IN, family_of
from linearizer_core.experiment.networks import build_flow
from linearizer_core.experiment.sample_metrics import Measure, measures
from linearizer_core.metrics import inception
from linearizer_core.metrics.features import FEATURES
from linearizer_core.models.base import Model
from linearizer_core.plugins.errors import PluginError, reason
from linearizer_core.plugins.loading import files_of
from linearizer_core.plugins.marks import Registration

IMAGES = 64
"""Number of held-out images on which parts are tried."""
ROWS = 4
LARGEST_JACOBIAN = 256
"""Largest dimension for which a log-determinant is compared with that of the Jacobian."""
APART = 1e-2
"""Tolerance for g⁻¹(g(x)) against x and for log-determinants: above float32's errors, far below those of a mistake."""


def rehearsed(config: TrialConfig) -> dict[str, str]:
    """The dotted name of each field whose plugin fails, with what is wrong, by file and line; none without plugins.

    Networks must be invertible with the right log-determinant, models must return loss terms, metrics a finite number.
    """
    found: dict[str, str] = {}
    files, flow, core = files_of(config.plugins), config.model.flow, config.model.operator
    if not config.plugins:
        return found
    registered = flow.plugged.get("flow", {}).get(flow.kind)
    if registered is not None:
        found |= _tried("model.flow.kind", files, _network, _Flow((flow, config.data), flow, config.data, registered))
    registered = flow.plugged.get("conditioner", {}).get(flow.conditioner)
    if registered is not None and flow.kind == "coupling" and not found:
        small = replace(flow, depth=1, levels=1)
        found |= _tried(
            "model.flow.conditioner", files, _network, _Flow((small, config.data), small, config.data, registered)
        )
    operator = core.plugged.get("operator", {}).get(core.kind)
    if not found and (operator is not None or config.family not in BUILT_IN):
        key = "model.operator.kind" if operator is not None else "family"
        own = getattr(config, config.family, None)
        found |= _tried(key, files, _losses, _Case((config.family, own, core, config.plugins, config.data), config))
    for measure in measures(family_of(config).metrics(config), config.evaluate):
        if measure.name in config.evaluate.plugged.get("metric", {}):
            found |= _tried("evaluate.quality", files, _metric, measure, config.data)
    for name in config.callbacks:
        found |= _tried(
            "callbacks", files, _callback, _Case((name, getattr(config, name, None), config.plugins), config), name
        )
    return found


def _tried(key: str, files: frozenset[str], work: Callable[..., None], *arguments: Any) -> dict[str, str]:
    try:
        work(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises is reported with its line
        return {key: reason(error, files) if not isinstance(error, PluginError) else str(error)}
    return {}


@dataclass(frozen=True)
class _Case:
    """A configuration that equals others with the same ``key``, so that each combination of parts is tried once."""

    key: tuple[Any, ...]
    config: TrialConfig = field(compare=False)


@dataclass(frozen=True)
class _Flow:
    key: tuple[Any, ...]
    flow: FlowConfig = field(compare=False)
    data: DataConfig = field(compare=False)
    registered: Registration = field(compare=False)


@lru_cache(maxsize=256)
def _network(case: _Flow) -> None:
    """Raise ``PluginError`` for a network that is not invertible, or whose log-determinant is wrong."""
    images = load(case.data).validation[:IMAGES]
    where = f"{case.registered.where}: {case.registered.kind} {case.registered.name}"
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        g = build_flow(case.flow, (images.shape[1], images.shape[2], images.shape[3]))
        for value in g.parameters():
            value.add_(0.02 * torch.randn_like(value))  # couplings start as the identity, which would test nothing
        g.initialise(images)
    rows = images[:ROWS]
    z, log_det = _pair(g(rows), where, "forward")
    dim = rows[0].numel()
    if z.shape != (len(rows), dim) or log_det.shape != (len(rows),):
        raise PluginError(
            f"{where}: must map images {tuple(rows.shape)} to latents ({len(rows)}, {dim}) and a log-determinant "
            f"({len(rows)},), got {tuple(z.shape)} and {tuple(log_det.shape)}"
        )
    again, back = _pair(g.inverse(z), where, "inverse")
    if again.shape != rows.shape or not _near(again, rows):
        raise PluginError(f"{where}: its inverse does not return the images: {_far(again, rows)}")
    if not _near(back, -log_det):
        raise PluginError(
            f"{where}: the log-determinant of the inverse must be the negative of that of the forward map"
        )
    if dim <= LARGEST_JACOBIAN:
        jacobian = torch.autograd.functional.jacobian(lambda x: g(x.view(rows[:1].shape))[0][0], rows[0].flatten())
        true, given = torch.linalg.slogdet(jacobian)[1], log_det[0].detach()
        if not _near(given[None], true[None]):
            raise PluginError(
                f"{where}: its log-determinant is {float(given):.4g}, but that of its Jacobian is {float(true):.4g}"
            )


def _pair(given: Any, where: str, way: str) -> tuple[Tensor, Tensor]:
    if not (isinstance(given, tuple) and len(given) == 2 and all(isinstance(each, Tensor) for each in given)):
        raise PluginError(f"{where}: {way} must return a tensor and its log-determinant, got {type(given).__name__}")
    return given


def _near(a: Tensor, b: Tensor) -> bool:
    return bool(((a - b).abs() <= APART * (1 + b.abs().max())).all())


def _far(a: Tensor, b: Tensor) -> str:
    if a.shape != b.shape:
        return f"it returns {tuple(a.shape)} for {tuple(b.shape)}"
    return f"they differ by up to {float((a - b).detach().abs().max()):.3g}"


@lru_cache(maxsize=256)
def _losses(case: _Case) -> None:
    """Raise any error of building a model and one loss of it, and ``PluginError`` if the result is not a loss."""
    config, family = case.config, family_of(case.config)
    data = load(config.data)
    model = family.build(config, data.event, data.classes)
    where = f"family {config.family}"
    if not isinstance(model, Model):
        raise PluginError(f"{where}: build must return a linearizer_core.models.Model, got {type(model).__name__}")
    groups = family.groups(config, data)
    generator = torch.Generator().manual_seed(0)
    count = max(IMAGES, config.model.operator.rank)
    family.initialise(model, data.train.head(count), generator, groups)
    draws = Draws(generator)
    draws.groups = None if groups is None else groups[:IMAGES]
    terms: Any = family.losses(model, data.train.head(IMAGES), config, draws)
    if not isinstance(terms, Mapping) or not terms:
        raise PluginError(f"{where}: losses must return a mapping with at least one term, got {type(terms).__name__}")
    for name, term in terms.items():
        if not isinstance(term, Tensor) or term.numel() != 1 or not math.isfinite(float(term.detach())):
            raise PluginError(f"{where}: the loss term {name} must be a tensor with one finite number")


@lru_cache(maxsize=256)
def _metric(measure: Measure, data: DataConfig) -> None:
    """Raise any error of a metric on real images, and ``PluginError`` if it does not return a finite number."""
    images = load(data)
    samples, real = images.validation[:IMAGES], images.test[:IMAGES]
    if measure.of != "images":
        size = FEATURES if measure.of == "classifier" else inception.FEATURES
        drawn = torch.randn(2, IMAGES, size, generator=torch.Generator().manual_seed(0))
        samples, real = drawn[0], drawn[1]
    measure(samples, real)


@lru_cache(maxsize=256)
def _callback(case: _Case, name: str) -> None:
    made = case.config.plugged["callback"][name].call(case.config, config=case.config)
    assert isinstance(made, Callback), "the decorator ensures this"
