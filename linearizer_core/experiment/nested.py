"""Nested mappings by the dotted names of their leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted names to leaves."""
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            leaves |= flatten(value, f"{key}.")
        else:
            leaves[key] = value
    return leaves


def with_leaves(values: Mapping[str, Any], leaves: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of nested mappings with the given dotted leaves set, made where they are missing."""
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
