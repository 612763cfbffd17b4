"""From a configuration to the builders of the library."""

from __future__ import annotations

from linearizer_core import flows
from linearizer_core.experiment.configuration import FlowConfig
from linearizer_core.models.base import Event


def build_flow(config: FlowConfig, event: Event, labelled: bool = False) -> flows.Chain:
    """The invertible network of a configuration, from images ``(batch, *event)`` to latents ``(batch, dim)``.

    A ``labelled`` network wants a label with every call. Raises ``ValueError`` for images that cannot be squeezed
    ``levels`` times.
    """
    if config.kind == "identity":
        return flows.identity(event)
    if config.kind == "linear":
        return flows.linear(event, frame=config.frame)
    if config.conditioner == "mlp" and config.frame == "principal":
        return flows.principal(
            event,
            coordinates=config.coordinates,
            depth=config.depth,
            width=config.width,
            transform=config.coupling,
            mixing=config.mixing,
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
        network=config.conditioner,
        activation=config.activation,
        bins=config.bins,
        components=config.components,
        kernel=config.kernel,
        attention=config.attention,
        levels=config.levels,
        memory=config.memory,
        labelled=labelled,
    )
