"""Optuna's samplers by name: they choose the configurations of a search."""

from __future__ import annotations

import warnings
from typing import Any

import optuna

from linearizer_core.experiment.configuration import from_mapping
from linearizer_core.plugins.errors import PluginError
from linearizer_core.plugins.loading import loaded
from linearizer_core.plugins.marks import Names, sampler, table
from sweeps.spec.model import Sweep

STARTUP_TRIALS = 5
"""Random points before TPE builds a model; independent of the number of trials, so that a sweep can be extended."""


@sampler()
def tpe(seed: int, conditional: bool) -> optuna.samplers.BaseSampler:
    """Tree-structured Parzen estimators."""
    # ``group`` is TPE's only way to model a conditional space.
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, group=conditional)


@sampler("random")
@sampler("grid")  # the points of a grid are enumerated, not drawn
def drawn(seed: int) -> optuna.samplers.BaseSampler:
    """Random search."""
    return optuna.samplers.RandomSampler(seed=seed)


@sampler()
def nsga2(seed: int) -> optuna.samplers.BaseSampler:
    """A genetic algorithm for several objectives."""
    return optuna.samplers.NSGAIISampler(seed=seed)


@sampler()
def gp(seed: int) -> optuna.samplers.BaseSampler:
    """Gaussian processes."""
    return optuna.samplers.GPSampler(seed=seed)


BUILT_IN: Names = table(tpe, drawn, nsga2, gp)
"""The built-in samplers."""


def sampler_of(sweep: Sweep, seed: int) -> optuna.samplers.BaseSampler:
    """The seeded sampler of a sweep; raises ``PluginError`` if a plugin returns something else."""
    search = sweep.search
    plugged = (each for plugin in loaded(sweep.plugins) for each in plugin.registrations)
    known = {**BUILT_IN, **{each.name: each for each in plugged if each.kind == "sampler"}}
    registered = known[search.sampler]
    settings: Any = None
    if registered.settings is not None:
        settings = from_mapping(registered.settings, getattr(search, registered.name).model_dump())
    with warnings.catch_warnings():
        # Optuna calls TPE's ``group`` experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        conditional = any(dimension.when for dimension in search.space.values())
        made = registered.call(seed=seed, settings=settings, conditional=conditional)
    if not isinstance(made, optuna.samplers.BaseSampler):
        raise PluginError(
            f"{registered.where}: sampler {registered.name} must return an Optuna sampler, got {type(made).__name__}"
        )
    return made
