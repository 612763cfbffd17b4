"""Notes on a valid spec that does not do what one may expect: the plan shows them, and they do not stop a launch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analysis.configuration.constraints import parse_constraint
from linearizer_core.experiment.configuration import TrialConfig, to_mapping
from linearizer_core.experiment.effects import without_effect
from linearizer_core.experiment.families import family_of
from linearizer_core.experiment.nested import flatten
from linearizer_core.experiment.plugged import configuration_of
from linearizer_core.experiment.recipes import expand
from linearizer_core.experiment.sample_metrics import direction_in
from linearizer_core.words import counted
from sweeps.spec.model import Sweep
from sweeps.spec.points import corners

MOST = 8
"""The most notes that are shown: a plan should fit on one screen."""

MEASURES = ("data.name", "data.size", "data.degraded", "data.noise", "data.motion", "data.period", "data.padding",
            "data.contrast", "evaluate.samples", "evaluate.held_out")  # fmt: skip
"""Leaves that change how a trial is measured, not what it is."""

FIRST_AT_RANDOM = {"tpe": 5, "gp": 10, "nsga2": 50}
"""Configurations that a sampler draws at random before it learns; for nsga2 its first population."""


def notes(sweep: Sweep) -> list[str]:
    """One sentence per setting that has no effect, or not the effect that its name promises."""
    of_models = (_constraints, _families, _effects) if sweep.function is None else ()
    kinds = (_sampler, _values, _budget, *of_models)
    found = list(dict.fromkeys(note for kind in kinds for note in kind(sweep)))
    more = len(found) - MOST
    return found if more <= 0 else [*found[:MOST], f"… and {more} more"]


def recorded_in_words(config: TrialConfig) -> str:
    """The metrics that a family records during training, with the direction that is better."""
    keys = family_of(config).interim_keys(config)
    return f"{config.family} records {', '.join(f'{key} ({direction_in(config.evaluate, key)})' for key in keys)}"


def _sampler(sweep: Sweep) -> Iterator[str]:
    search, count = sweep.search, sweep.configurations
    if search.sampler == "grid":
        whole = len(sweep.grid())
        if count < whole:
            yield f"search.trials: the grid has {counted(whole, 'point')}; its last {whole - count} are left out"
        return
    first = FIRST_AT_RANDOM.get(search.sampler, 0)
    if count <= first:
        why = "the size of its population" if search.sampler == "nsga2" else "before it has a model"
        yield (
            f"search.sampler: {search.sampler} draws the first {first} configurations at random ({why}), and the "
            f"search has {count}; use {'tpe, ' if search.sampler != 'tpe' else ''}random, or more trials"
        )


def _values(sweep: Sweep) -> Iterator[str]:
    """Dimensions whose values are not the ones that one may expect."""
    search = sweep.search
    for name, dimension in search.space.items():
        key, listed = f"search.space.{name}", dimension.choice or dimension.grid or ()
        twice = list(dict.fromkeys(value for value in listed if listed.count(value) > 1))
        if twice:
            what = "a random draw picks it as often as it is listed" if dimension.choice else "the grid takes it once"
            yield f"{key}: {', '.join(map(str, twice))} is listed more than once; {what}"
        edges = dimension.edges()
        if len(set(edges)) == 1:
            yield f"{key}: {edges[0]} is its only value, so nothing varies"
        elif dimension.step and edges[-1] != (dimension.int_ or dimension.float_ or edges)[1]:
            top = (dimension.int_ or dimension.float_ or edges)[1]
            yield f"{key}: {top:g} is not reached in steps of {dimension.step:g}: the last value is {edges[-1]:g}"
        if name in MEASURES:
            yield f"{key}: its values use different images or samples for measuring; their metrics are not comparable"
    partly = [name for name, dimension in search.space.items() if dimension.when]
    if partly and search.sampler in ("gp", "nsga2"):
        yield (
            f"search.sampler: {search.sampler} draws {', '.join(partly)} at random, since not every configuration has "
            "it; tpe learns about it too"
        )


def _budget(sweep: Sweep) -> Iterator[str]:
    """A cap on something that no trial uses."""
    if sweep.model.budget.gpu_hours is not None and not sweep.model.resources.gpus_per_worker:
        yield "budget.gpu_hours: no effect with resources.gpus_per_worker: 0; budget.hours caps time without GPUs"


def _constraints(sweep: Sweep) -> Iterator[str]:
    evaluate = sweep.trial_config({}, 0).evaluate
    for key, text in sweep.search.constraints.items():
        better, (operator, _) = direction_in(evaluate, key), parse_constraint(text)
        if better is not None and (better == "min") != (operator == "<="):
            way = "smaller" if better == "min" else "larger"
            yield f"search.constraints.{key}: {text} asks for worse values: {way} is better"


def _families(sweep: Sweep) -> Iterator[str]:
    """Controls whose family does not record the objective."""
    for i, control in enumerate(sweep.model.controls):
        config = sweep.trial_config(control.set, 0)
        lost = [key for key in sweep.search.objective if key not in family_of(config).summary_keys(config)]
        if lost:
            yield f"controls[{i}]: {control.name} does not record {', '.join(lost)}; {recorded_in_words(config)}"


def _effects(sweep: Sweep) -> Iterator[str]:
    space, base = sweep.search.space, sweep.base_leaves
    points = [(point, without_effect(flatten(sweep.resolve(point)))) for point in corners(space, base)]
    for name in space:
        idle = [idle.get(name) for point, idle in points if name in point]
        if idle and all(idle):
            yield f"search.space.{name}: {idle[0]}"
        elif any(idle):
            yield f"search.space.{name}: {next(filter(None, idle))}; restrict it with when: {{…}}"
        elif not idle:
            yield f"search.space.{name}: its `when` never holds in this space"
    everywhere = [idle for _, idle in points] + [without_effect(base)]
    usual = flatten(_recipe(base))
    for name, value in base.items():
        if name not in space and value != usual[name] and all(name in idle for idle in everywhere):
            yield f"{name}: {without_effect(base)[name]}"
    for i, control in enumerate(sweep.model.controls):
        idle_there = without_effect(flatten(sweep.resolve(control.set)))
        yield from (f"controls[{i}].set.{name}: {idle_there[name]}" for name in control.set if name in idle_there)


def _recipe(base: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of a configuration that sets only its family, recipe and data set."""
    named = {"family": base["family"], "recipe": base["recipe"], "data": {"name": base["data.name"]}}
    values: dict[str, Any] = flatten(to_mapping(configuration_of(base["plugins"])()))
    return values | flatten(expand(named))
