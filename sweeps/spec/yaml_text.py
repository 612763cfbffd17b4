"""A spec's YAML as values: duplicate keys are reported, and YAML 1.1's surprising types are read as in YAML 1.2."""

from __future__ import annotations

import re
from typing import Any

import yaml

from sweeps.spec.validation import InputError, Problem

MERGE = "tag:yaml.org,2002:merge"
"""YAML's tag for ``<<``."""
MOST_VALUES = 100_000
"""The most values a text may expand to through its aliases: a short text can expand to billions."""


class Loader(yaml.SafeLoader):
    """YAML without version 1.1's surprises: 010 is ten, 1:30 is not a number, and a date is text."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag.rpartition(":")[2] not in ("timestamp", "int", "float")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?(?:[1-9][0-9_]*|0|0x[0-9a-fA-F]+|0b[01]+)$"), list("-+0123456789")
)
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?)$"
        r"|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def parsed(text: str) -> Any:
    """The value of a YAML text; raises ``ValueError`` with a one-line description of what is wrong."""
    return _parsed(text)[0]


def document(text: str, source: str) -> tuple[dict[str, Any], list[Problem]]:
    """A file's values and the keys that it gives twice (YAML would silently keep the last).

    Raises ``InputError`` if the text is not YAML or not a mapping.
    """
    try:
        values, repeated = _parsed(text)
    except ValueError as error:
        raise InputError(source, [Problem("", f"is not valid YAML: {error}")]) from None
    if not isinstance(values, dict):
        raise InputError(source, [Problem("", "must be a mapping of keys to values, with at least name and search")])
    return values, repeated


def _parsed(text: str) -> tuple[Any, list[Problem]]:
    try:
        loader = Loader(text)
        root = loader.get_single_node()
        if root is None:
            return None, []
        count = _count(root, {}, ())
        if count > MOST_VALUES:
            raise ValueError(f"its aliases expand to {count} values; write the values out instead")
        repeated = _repeated(root, "")  # before merge keys are expanded
        return loader.construct_document(root), repeated
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _count(node: yaml.Node, known: dict[int, int], around: tuple[int, ...]) -> int:
    """The number of values that a node expands to; raises ``ValueError`` if it contains itself."""
    if id(node) in around:
        raise ValueError(f"the value in line {node.start_mark.line + 1} contains itself through an alias")
    if id(node) not in known:
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = node.value
        known[id(node)] = 1 + sum(_count(part, known, (*around, id(node))) for part in inner)
    return known[id(node)]


def _repeated(node: yaml.Node | None, prefix: str) -> list[Problem]:
    found: list[Problem] = []
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            found += _repeated(item, f"{prefix.removesuffix('.')}[{i}].")
    if not isinstance(node, yaml.MappingNode):
        return found
    lines: dict[str, int] = {}
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        line = key.start_mark.line + 1
        if name in lines:
            found.append(Problem(name, f"is given twice, in lines {lines[name]} and {line}; keep one"))
        lines[name] = line
        # A merged mapping was checked where it is defined.
        if key.tag != MERGE:
            found += _repeated(value, f"{name}.")
    return found
