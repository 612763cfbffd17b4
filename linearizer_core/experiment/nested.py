"""Nested mappings, addressed by the dotted names of their leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LEAVES = {str, int, float, bool, list, type(None)}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted names to leaves."""
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        # The isinstance check takes longer than everything else, and the type of most leaves makes it unnecessary.
        if type(value) is dict or (type(value) not in LEAVES and isinstance(value, Mapping)):
            leaves |= flatten(value, f"{prefix}{name}.")
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def with_leaves(values: Mapping[str, Any], leaves: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of nested mappings with the given dotted leaves set; missing mappings are created."""
    result = {name: with_leaves(v, {}) if isinstance(v, Mapping) else v for name, v in values.items()}
    for key, value in leaves.items():
        *path, last = key.split(".")
        target = result
        for part in path:
            inner = target.get(part)
            if not isinstance(inner, dict):
                inner = target[part] = {}
            target = inner
        target[last] = value
    return result
