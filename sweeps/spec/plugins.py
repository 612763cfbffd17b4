"""A spec's plugins: they are loaded when it is read, and its models get the names and settings that they add."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field, create_model
from pydantic.fields import FieldInfo

from linearizer_core.experiment.plugged import taken, with_name
from linearizer_core.plugins.errors import PluginError
from linearizer_core.plugins.loading import loaded, of_text
from linearizer_core.plugins.marks import Registration
from sweeps.spec.model import Search, SweepKeys, SweepModel, configuration_model, function_model
from sweeps.spec.validation import Problem, model_of


def with_plugins(values: Mapping[str, Any], folders: Sequence[Path]) -> tuple[dict[str, Any], list[Problem]]:
    """A spec's values with its plugins and function loaded and named by digest, and the problems found.

    Files are looked for in ``folders`` in turn.
    """
    values, found = _with_function(values, folders)
    given = values.get("plugins")
    if given is None or found:
        return values, found
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        message = f"must be a list of Python files or installed plugins, such as [./mine.py], got {given!r}"
        return {**values, "plugins": []}, [Problem("plugins", message)]
    refs = []
    for i, text in enumerate(given):
        try:
            refs.append(of_text(text, folders).ref)
        except PluginError as error:
            found.append(Problem(f"plugins[{i}]", str(error)))
    if not found:
        try:
            sweep_model(tuple(refs))
        except PluginError as error:
            found.append(Problem("plugins", str(error)))
    return {**values, "plugins": refs}, found


def _with_function(values: Mapping[str, Any], folders: Sequence[Path]) -> tuple[dict[str, Any], list[Problem]]:
    text = values.get("function")
    if text is None:
        return dict(values), []
    place, colon, name = str(text).rpartition(":")
    if not isinstance(text, str) or not colon or not name.isidentifier():
        message = f"must name a file and a function in it, such as ./objective.py:train, got {text!r}"
        return dict(values), [Problem("function", message)]
    try:
        function = f"{of_text(place, folders).ref}:{name}"
        function_sweep_model(function)
    except PluginError as error:
        return dict(values), [Problem("function", str(error))]
    return {**values, "function": function}, []


def model_for(values: Mapping[str, Any]) -> type[SweepKeys]:
    """The model of a spec whose plugins are loaded, for a trained model or a user-defined function."""
    plugins = tuple(values.get("plugins", ()))
    if values.get("function") is None:
        return sweep_model(plugins)
    return function_sweep_model(str(values["function"]), plugins)


@lru_cache(maxsize=32)
def function_sweep_model(function: str, plugins: tuple[str, ...] = ()) -> type[SweepKeys]:
    """The model of specs that sweep a function: the function's settings replace those of models."""
    objective: Any = Field(min_length=1, description="metric key, as the function reports it → min or max")
    hint: Any = Search.model_fields["objective"].annotation
    searched = dict(_samplers(plugins))
    search = create_model(
        "Search", __base__=_search(searched) if searched else Search,
        objective=(hint, objective),
    )  # fmt: skip
    fields: dict[str, Any] = {
        name: (each.annotation, each) for name, each in function_model(function).model_fields.items()
    }
    info = SweepModel.model_fields["search"]
    made: type[SweepKeys] = create_model("SweepModel", __base__=SweepKeys, search=(search, info), **fields)
    return made


def _samplers(refs: tuple[str, ...]) -> Iterator[tuple[str, Registration]]:
    for each in registrations(refs):
        if each.kind == "sampler":
            yield each.name, each


@lru_cache(maxsize=32)
def sweep_model(refs: tuple[str, ...]) -> type[SweepModel]:
    """The model of specs with some loaded plugins; raises ``PluginError`` if a name is taken."""
    if not refs:
        return SweepModel
    configuration = configuration_model(refs)
    fields: dict[str, Any] = {name: (each.annotation, each) for name, each in configuration.model_fields.items()}
    for name in configuration.model_fields:
        if name in SweepModel.model_fields and name not in configuration_model().model_fields:
            owner = next(each for each in registrations(refs) if each.name == name)
            raise taken(owner, "its settings would replace an existing key of specs")
    samplers = dict(_samplers(refs))
    if samplers:
        fields["search"] = (_search(samplers), SweepModel.model_fields["search"])
    made: type[SweepModel] = create_model("SweepModel", __base__=SweepModel, **fields)
    return made


def _search(samplers: Mapping[str, Registration]) -> type[Search]:
    before = Search.model_fields["sampler"]
    hint: Any = before.annotation
    fields: dict[str, Any] = {}
    for name, registered in samplers.items():
        known: FieldInfo | None = Search.model_fields.get(name)
        if known is not None or name in hint.__args__:
            raise taken(registered, "a sampler or a key of search already has this name")
        hint = with_name(hint, name)
        if registered.settings is not None:
            settings = dataclasses.field(default_factory=registered.settings)
            section = dataclasses.make_dataclass(name, [(name, registered.settings, settings)], frozen=True)
            info = model_of(section).model_fields[name]
            info.description = f"settings of the sampler {name}"
            fields[name] = (info.annotation, info)
    return create_model("Search", __base__=Search, sampler=(hint, before), **fields)


def registrations(refs: Sequence[str]) -> list[Registration]:
    """Everything that some loaded plugins register."""
    return [registration for plugin in loaded(refs) for registration in plugin.registrations]
