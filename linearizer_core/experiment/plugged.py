"""Configurations with plugins, whose names are added to the known ones, with their settings beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from linearizer_core.experiment.configuration import (
    DataConfig,
    EvaluateConfig,
    FlowConfig,
    ModelConfig,
    OperatorConfig,
    TrialConfig,
    from_mapping,
)
from linearizer_core.plugins.errors import PluginError
from linearizer_core.plugins.loading import loaded
from linearizer_core.plugins.marks import Kind, Registration

PLACES: Mapping[Kind, tuple[type[Any], str]] = {
    "data set": (DataConfig, "name"),
    "flow": (FlowConfig, "kind"),
    "conditioner": (FlowConfig, "conditioner"),
    "operator": (OperatorConfig, "kind"),
    "metric": (EvaluateConfig, "quality"),
    "family": (TrialConfig, "family"),
    "callback": (TrialConfig, "callbacks"),
}
"""For each kind, the section and field that name it; its settings are in the same section, under its name."""


def trial_config(values: Mapping[str, Any]) -> TrialConfig:
    """The configuration of nested values, including names that its plugins register.

    Raises ``ValueError`` like ``from_mapping``, and ``PluginError`` for a plugin that is not loaded.
    """
    refs = values.get("plugins", ()) if isinstance(values, Mapping) else ()
    config: TrialConfig = from_mapping(configuration_of(refs), values)
    return config


def configuration_of(refs: Iterable[str]) -> type[TrialConfig]:
    """The type of configurations with the given loaded plugins; raises ``PluginError`` for a name that is taken."""
    return _configuration(tuple(refs))


@lru_cache
def _configuration(refs: tuple[str, ...]) -> type[TrialConfig]:
    found: dict[Kind, list[Registration]] = {}
    for plugin in loaded(refs):
        for registration in plugin.registrations:
            found.setdefault(registration.kind, []).append(registration)
    if not any(kind in PLACES for kind in found):
        return TrialConfig

    def extended(section: type[Any], inner: Mapping[str, type[Any]] | None = None) -> type[Any]:
        own = {kind: names for kind, names in found.items() if kind in PLACES and PLACES[kind][0] is section}
        return extend(section, {kind: PLACES[kind][1] for kind in own}, own, inner or {})

    model = extended(ModelConfig, {"flow": extended(FlowConfig), "operator": extended(OperatorConfig)})
    inner = {"data": extended(DataConfig), "model": model, "evaluate": extended(EvaluateConfig)}
    made: type[TrialConfig] = extended(TrialConfig, inner)
    return made


def extend(
    section: type[Any],
    fields: Mapping[Kind, str],
    names: Mapping[Kind, Sequence[Registration]],
    inner: Mapping[str, type[Any]],
) -> type[Any]:
    """A section whose ``fields`` accept more names, with settings for them, and whose subsections are ``inner``.

    Raises ``PluginError`` for a name that the section already has.
    """
    hints, before = get_type_hints(section), {field.name: field for field in dataclasses.fields(section)}
    made: dict[str, tuple[str, Any, Any]] = {}
    for kind, field in fields.items():
        hint = hints[field]
        for registration in names[kind]:
            if registration.name in _literals(hint):
                raise taken(registration, f"there already is a {kind} of this name")
            hint = with_name(hint, registration.name)
        made[field] = (field, hint, dataclasses.field(default=before[field].default, metadata=before[field].metadata))
    for name, kind_of in inner.items():
        made[name] = (name, kind_of, dataclasses.field(default_factory=kind_of, metadata=before[name].metadata))
    for kind in fields:
        for each in names[kind]:
            if each.settings is None:
                continue
            if each.name in before or each.name in made:
                raise taken(each, "its settings would use a key that already exists")
            metadata = {"doc": f"settings of the {kind} {each.name}"}
            made[each.name] = (
                each.name, each.settings, dataclasses.field(default_factory=each.settings, metadata=metadata)
            )  # fmt: skip
    if not made:
        return section
    plugged = {kind: {each.name: each for each in names[kind]} for kind in fields}
    return dataclasses.make_dataclass(
        section.__name__,
        list(made.values()),
        bases=(section,),
        namespace={"plugged": plugged},
        frozen=True,
        kw_only=True,
    )


def taken(registration: Registration, why: str) -> PluginError:
    """The error for a name that cannot be used, with a suggestion."""
    word = registration.kind.replace(" ", "_")
    return PluginError(
        f"{registration.where}: {registration.kind} {registration.name}: {why}; choose another name, "
        f"such as @{word}(name={'my_' + registration.name!r})"
    )


def _literals(hint: Any) -> tuple[Any, ...]:
    inner = get_args(hint)[0] if get_origin(hint) is tuple else hint
    return get_args(inner) if get_origin(inner) is Literal else ()


def with_name(hint: Any, name: str) -> Any:
    """The type of a field that holds a name, or a list of names, extended by one more name."""
    literal: Any = Literal.__getitem__((*_literals(hint), name))
    return tuple.__class_getitem__((literal, ...)) if get_origin(hint) is tuple else literal
