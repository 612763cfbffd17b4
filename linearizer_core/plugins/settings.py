"""Typed settings: dataclasses whose fields have defaults, bounds and documentation."""

from __future__ import annotations

import dataclasses
import types
from typing import Any, Literal, get_args, get_origin, get_type_hints

from linearizer_core.plugins.errors import PluginError

PLAIN = (bool, int, float, str)
"""Plain types that a spec can express."""


def setting(default: Any, doc: str = "", **bounds: float) -> Any:
    """A dataclass field with its documentation and bounds: ``ge``, ``gt``, ``le`` or ``lt``.

    If the default is a class, each instance gets a new object of it.

    >>> import dataclasses
    >>> @dataclasses.dataclass(frozen=True)
    ... class Blur:
    ...     radius: int = setting(1, "pixels on each side that are averaged", ge=0)
    >>> Blur().radius, dataclasses.fields(Blur)[0].metadata["ge"]
    (1, 0)
    """
    metadata = {"doc": doc, **bounds}
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def check_settings(kind: Any) -> None:
    """Raise ``PluginError`` if ``kind`` cannot be the type of a plugin's settings, saying what can."""
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        name = getattr(kind, "__name__", repr(kind))
        raise PluginError(f"settings must be a frozen dataclass, such as @dataclass(frozen=True) class …, got {name}")
    if not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise PluginError(f"settings {kind.__name__}: write @dataclass(frozen=True), since settings do not change")
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        where = f"settings {kind.__name__}.{field.name}"
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise PluginError(f"{where}: has no default; give one, such as {field.name} = setting(1, 'what it does')")
        if not _can_be_said(hints[field.name]):
            raise PluginError(
                f"{where}: type {_name(hints[field.name])} is not supported; use bool, int, float, str, Literal[…] of "
                "these, or a tuple[…, ...] of one of them"
            )


def _can_be_said(hint: Any) -> bool:
    """Whether a spec can express values of a type."""
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        return len(inner) == 2 and inner[1] is Ellipsis and get_origin(inner[0]) is not tuple and _can_be_said(inner[0])
    if get_origin(hint) is Literal:
        return all(type(each) in PLAIN for each in get_args(hint))
    return hint in PLAIN


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not isinstance(hint, types.GenericAlias) else str(hint)
