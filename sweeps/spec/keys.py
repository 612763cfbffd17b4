"""The keys of a spec with type, default, bounds and meaning, as ``linsweep schema KEY`` shows them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from linearizer_core.experiment.nested import flatten
from linearizer_core.experiment.recipes import RECIPES, recipe
from sweeps.notebook import html
from sweeps.spec.model import SweepKeys, SweepModel, json_schema
from sweeps.spec.space import Dimension
from sweeps.spec.validation import InputError, Problem, nearest

TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
LENGTHS = {"minLength": "length ≥ {}", "maxLength": "length ≤ {}", "minItems": "at least {}"}
PLURALS = {"whole number": "whole numbers", "number": "numbers", "text": "strings"}
"""The types that a list is said to be of; others follow a colon."""
EMPTY: dict[str, Any] = {"object": {}, "array": []}
"""Defaults that are missing from the schema because a factory creates them."""
LEAF = "<key>"
"""Stands for the dotted name of a leaf in ``search.space``."""


@dataclass(frozen=True)
class Key:
    """A key of a spec by its dotted name; ``recipes`` holds recipe defaults that differ from ``default``.

    A section only holds other keys and has neither type nor default. A ``required`` key has no default.
    """

    name: str
    meaning: str
    section: bool = False
    type: str = ""
    bounds: str = ""
    required: bool = False
    default: Any = None
    recipes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Keys:
    """The requested key and, if it is a section, the keys below it."""

    name: str
    keys: Sequence[Key]

    def __repr__(self) -> str:
        return f"Keys({self.name}: {', '.join(key.name for key in self.keys)})"

    def _repr_html_(self) -> str:
        return html(render(self))

    def document(self) -> dict[str, Any]:
        """The keys as JSON values."""
        return {"keys": [asdict(key) for key in self.keys]}


def keys_of(name: str, model: type[SweepKeys] = SweepModel) -> Keys:
    """The key with a dotted name and the keys below it; raises ``InputError`` if specs have no such key.

    ``model`` is the model of specs with plugins, whose settings are keys too.

    >>> key, = keys_of("model.flow.depth").keys
    >>> key.type, key.bounds, key.default
    ('whole number', '≥ 1, ≤ 128', 4)
    """
    wanted = _general(name.strip("."))
    known = all_keys(model)
    found = [key for key in known if key.name == wanted or key.name.startswith((f"{wanted}.", f"{wanted}[]."))]
    if not found:
        raise InputError(name, [Problem("", f"is not a key of a spec; {_hint(wanted, known)}")])
    return Keys(wanted, found)


def _hint(wanted: str, keys: Sequence[Key]) -> str:
    """The key that an unknown name may have meant: one with the same last part, or the nearest one."""
    parent = next((key.name for key in keys if not key.section and wanted.startswith(f"{key.name}.")), None)
    if parent:
        return f"{parent} has no keys of its own"
    last = wanted.rpartition(".")[2]
    same = [key.name for key in keys if key.name.rpartition(".")[2] == last]
    found = nearest(wanted, same) or next(iter(same), None) or nearest(wanted, [key.name for key in keys])
    return f"did you mean {found}?" if found else f"known: {', '.join(k.name for k in keys if '.' not in k.name)}"


def _general(name: str) -> str:
    """A name in the form that ``all_keys`` uses for a leaf of the space or a position in a list."""
    name = re.sub(r"\[\d*\]", "[]", name)
    prefix = "search.space."
    if name.startswith(prefix) and LEAF not in name:
        rest, _, last = name.removeprefix(prefix).rpartition(".")
        dimension = {each.alias or key for key, each in Dimension.model_fields.items()}
        return f"{prefix}{LEAF}.{last}" if rest and last in dimension else f"{prefix}{LEAF}"
    return name


@cache
def all_keys(model: type[SweepKeys] = SweepModel) -> tuple[Key, ...]:
    """Every key of a spec in the order of the schema, each section before its keys."""
    schema = json_schema(model)
    return tuple(_walk(schema, schema["$defs"], "", _of_recipes()))


def _walk(
    node: Mapping[str, Any], defs: Mapping[str, Any], prefix: str, recipes: Mapping[str, Mapping[str, Any]]
) -> Iterator[Key]:
    for short, given in node["properties"].items():
        name, inner = f"{prefix}{short}", _resolved(given, defs)
        meaning = given.get("description", inner.get("description", ""))
        required = short in node.get("required", ())
        below, suffix = _below(inner, defs)
        plain = [each for each in inner.get("oneOf", ()) if _below(_resolved(each, defs), defs)[0] is None]
        if below is None or suffix or plain:
            default = given.get("default", None if required else EMPTY.get(inner.get("type", "")))
            own = {label: value for label, value in recipes.get(name, {}).items() if value != default}
            yield Key(name, meaning, False, _type(inner, defs), _bounds(inner, defs), required, default, own)
        else:
            yield Key(name, meaning, section=True, required=required)
        if below is not None:
            yield from _walk(below, defs, f"{name}{suffix}.", recipes)


def _resolved(node: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    return defs[node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def _below(node: Mapping[str, Any], defs: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, str]:
    """The model below a key, if any, and what its name takes between: ``[]`` for a list, ``.<key>`` for a mapping."""
    if "properties" in node:
        return node, ""
    for option in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        found = _below(_resolved(option, defs), defs)
        if found[0] is not None:
            return found
    for inner, suffix in ((node.get("items"), "[]"), (node.get("additionalProperties"), f".{LEAF}")):
        if isinstance(inner, Mapping) and "properties" in _resolved(inner, defs):
            return _resolved(inner, defs), suffix
    return None, ""


def _type(node: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    """The type of a value in words."""
    node = _resolved(node, defs)
    if "const" in node:
        return json.dumps(node["const"]).strip('"')
    if "enum" in node:
        return f"one of {', '.join(map(str, node['enum']))}"
    options = node.get("anyOf") or node.get("oneOf")
    if options:
        return " or ".join(dict.fromkeys(_type(option, defs) for option in options))
    if node.get("type") == "array":
        if "prefixItems" in node:
            return f"[{', '.join(_type(item, defs) for item in node['prefixItems'])}]"
        of = _type(node["items"], defs) if node.get("items") else ""
        return (f"list of {PLURALS[of]}" if of in PLURALS else f"list of: {of}") if of else "list"
    if node.get("type") == "object":
        inner = node.get("additionalProperties")
        of = _type(inner, defs) if isinstance(inner, Mapping) else ""
        return f"mapping of names to: {of}" if of and of != "mapping" else "mapping"
    return TYPES.get(node.get("type", ""), "any value")


def _bounds(node: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    node = _resolved(node, defs)
    found = [f"{sign} {node[name]:g}" if abs(node[name]) < 1e6 else f"{sign} {node[name]}"
             for name, sign in BOUNDS.items() if name in node]  # fmt: skip
    if "prefixItems" not in node:  # the type already says the length
        found += [words.format(node[name]) for name, words in LENGTHS.items() if name in node]
        found = ["at least one" if each == "at least 1" else each for each in found]
    for option in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        found.append(_bounds(option, defs))
    return ", ".join(filter(None, found))


def _of_recipes() -> dict[str, dict[str, Any]]:
    """The recipes' values by key: one value, or one for digits and one for larger images."""
    found: dict[str, dict[str, Any]] = {}
    for family, name in sorted(RECIPES):
        label = family if name == "default" else f"{family}, recipe {name}"
        small, large = (flatten(recipe(family, name, data)) for data in ("digits", "mnist"))
        for key in {**small, **large}:
            if small.get(key) == large.get(key):
                found.setdefault(key, {})[label] = small[key]
            else:
                for values, on in ((small, "digits"), (large, "larger images")):
                    if key in values:
                        found.setdefault(key, {})[f"{label} on {on}"] = values[key]
    return found


def render(keys: Keys) -> RenderableType:
    """A key in full, or a section as a table of its keys."""
    first = keys.keys[0]
    if len(keys.keys) == 1:
        return _one(first)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("key", no_wrap=True, style="bold")
    for name in ("type", "default", "meaning"):
        table.add_column(name, overflow="fold")
    for key in keys.keys:
        if key.name == keys.name and key.section:
            continue
        kind = "section" if key.section else ", ".join(filter(None, (key.type, key.bounds)))
        table.add_row(Text(key.name), Text(kind), Text("" if key.section else _default(key)), Text(key.meaning))
    title = [Text.assemble((first.name, "bold"), f": {first.meaning}")] if first.name == keys.name else []
    return Group(*title, table)


def _one(key: Key) -> RenderableType:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("key", Text(key.name))
    facts.add_row("meaning", Text(key.meaning))
    facts.add_row("type", Text(key.type))
    if key.bounds:
        facts.add_row("bounds", Text(key.bounds))
    facts.add_row("default", Text(_default(key)))
    labels: dict[str, list[str]] = {}
    for label, value in key.recipes.items():
        labels.setdefault(_yaml(value), []).append(label)
    for value, names in labels.items():
        facts.add_row("", Text(f"{value} for {'; '.join(names)}"))
    return facts


def _default(key: Key) -> str:
    return "required" if key.required else _yaml(key.default)


def _yaml(value: Any) -> str:
    """A value as one would write it in a spec."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
