"""Decorators that register your own code under a name for use in specs, one for each kind of part (docs/plugins.md)."""

from linearizer_core.plugins.errors import PluginError
from linearizer_core.plugins.marks import (
    callback,
    conditioner,
    data_set,
    family,
    flow,
    metric,
    operator,
    sampler,
)
from linearizer_core.plugins.settings import setting

__all__ = [
    "PluginError",
    "callback",
    "conditioner",
    "data_set",
    "family",
    "flow",
    "metric",
    "operator",
    "sampler",
    "setting",
]
