"""Builds the library's networks from a configuration."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from linearizer_core import flows
from linearizer_core.errors import InputValueError
from linearizer_core.experiment.configuration import FlowConfig
from linearizer_core.flows.base import Invertible
from linearizer_core.flows.conditioners import Conditioner
from linearizer_core.models.base import Event
from linearizer_core.plugins.errors import PluginError
from linearizer_core.plugins.marks import Names, Registration, flow, table


def build_flow(config: FlowConfig, event: Event, labelled: bool = False) -> Invertible:
    """The invertible network of a configuration, from images ``(batch, *event)`` to latents ``(batch, dim)``.

    A ``labelled`` network needs a label in every call. Raises ``ValueError`` for images that cannot be squeezed
    ``levels`` times, and ``PluginError`` for a plugin that does not build an invertible network.
    """
    known = {**BUILT_IN, **config.plugged.get("flow", {})}
    if config.kind not in known:
        raise InputValueError(f"there is no flow {config.kind!r}; use one of {', '.join(known)}")
    registered = known[config.kind]
    made = registered.call(config, event=event, config=config, labelled=labelled)
    if not isinstance(made, Invertible):
        raise PluginError(
            f"{registered.where}: flow {registered.name} must return a linearizer_core.flows.Invertible, "
            f"got {type(made).__name__}"
        )
    return made


@flow()
def identity(event: Event) -> flows.Chain:
    """g(x) = x."""
    return flows.identity(event)


@flow()
def linear(event: Event, config: FlowConfig) -> flows.Chain:
    """An affine map."""
    return flows.linear(event, frame=config.frame)


@flow()
def coupling(event: Event, config: FlowConfig, labelled: bool) -> flows.Chain:
    """Blocks of actnorm, coupling and mixing."""
    if config.frame == "principal" and on_vectors(config):
        return flows.principal(
            event,
            coordinates=config.coordinates,
            depth=config.depth,
            width=config.width,
            transform=config.coupling,
            mixing=config.mixing,
            network=_network(config),
            activation=config.activation,
            bins=config.bins,
            components=config.components,
            memory=config.memory,
            labelled=labelled,
        )
    return flows.coupling(
        event,
        depth=config.depth,
        width=config.width,
        transform=config.coupling,
        mixing=config.mixing,
        network=_network(config),
        on="vectors" if on_vectors(config) else "images",  # used for plugins; the library's conditioners know it
        activation=config.activation,
        bins=config.bins,
        components=config.components,
        kernel=config.kernel,
        attention=config.attention,
        levels=config.levels,
        memory=config.memory,
        labelled=labelled,
    )


BUILT_IN: Names = table(identity, linear, coupling)
"""The built-in flows."""


def on_vectors(config: FlowConfig) -> bool:
    """Whether the conditioner acts on flat vectors rather than images."""
    plugged = _conditioner(config)
    return config.conditioner == "mlp" if plugged is None else bool(plugged.options["on"] == "vectors")


def _conditioner(config: FlowConfig) -> Registration | None:
    return config.plugged.get("conditioner", {}).get(config.conditioner)


def _network(config: FlowConfig) -> Any:
    """The library's name of a conditioner, or the function that builds a plugin's."""
    registered = _conditioner(config)
    return config.conditioner if registered is None else partial(_built, registered, config)


def _built(registered: Registration, config: FlowConfig, inputs: int, outputs: int, **given: Any) -> nn.Module:
    made = registered.call(config, inputs=inputs, outputs=outputs, **given)
    if not isinstance(made, Conditioner):
        raise PluginError(
            f"{registered.where}: conditioner {registered.name} must return a "
            f"linearizer_core.flows.conditioners.Conditioner, got {type(made).__name__}"
        )
    return made
