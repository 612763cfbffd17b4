"""Validation of input: pydantic models made from plain dataclasses, and their errors in the user's terms."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, create_model, field_validator
from pydantic_core import ErrorDetails

from linearizer_core.errors import LinsweepError

TRIED = ("bool", "int", "float", "str")
"""The parts that pydantic appends to a location while it tries the types of a union."""

TAGS = ("<list>", "<mapping>")
"""The parts that pydantic adds to the location of a list or a mapping; no key has these names."""

BOUNDS = ("ge", "gt", "le", "lt")


@dataclass(frozen=True)
class Problem:
    """One mistake: the dotted key, what is wrong and what would be right."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" if self.key else self.message


class InputError(LinsweepError, ValueError):
    """Invalid input; ``problems`` lists every mistake in it, ``source`` says where it came from."""

    def __init__(self, source: str, problems: Iterable[Problem]) -> None:
        self.source = source
        self.problems = list(problems)
        super().__init__("\n".join(f"{source}: {problem}" for problem in self.problems))


class Strict(BaseModel):
    """A model that refuses unknown keys and is immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false where a number belongs: YAML also reads yes, no, on and off as these.

        Where ``off`` is a word that the field knows, false is that.
        """
        annotation = cls.model_fields[str(info.field_name)].annotation
        if value is False and _knows_off(annotation):
            return "off"
        items = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(item, bool) for item in items) and _numbers_only(annotation):
            shown = next(str(item).lower() for item in items if isinstance(item, bool))
            raise ValueError(f"must be a number, got {shown} (YAML also reads yes, no, on and off as true or false)")
        return value


def _knows_off(annotation: Any) -> bool:
    """Whether ``off`` is one of the words that a field takes."""
    if get_origin(annotation) is Literal:
        return "off" in get_args(annotation)
    return any(map(_knows_off, get_args(annotation)))


def _numbers_only(annotation: Any) -> bool:
    """Whether a field takes numbers or lists of numbers, and no booleans."""
    if annotation in (int, float):
        return True
    inner = [part for part in get_args(annotation) if part not in (type(None), Ellipsis) and not _is_tagged(part)]
    if get_origin(annotation) in (tuple, list, Union, UnionType, Annotated):
        inner = inner[:1] if get_origin(annotation) is Annotated else inner
        return bool(inner) and all(map(_numbers_only, inner))
    return False


def _is_tagged(part: Any) -> bool:
    """Whether a value may also be a mapping with keys of its own."""
    return _is_model(part) or (get_origin(part) is Annotated and _is_model(get_args(part)[0]))


def model_of(kind: type[Any], omit: Sequence[str] = ()) -> type[Strict]:
    """The pydantic model of a dataclass: its fields, types, defaults and docs, with bounds from the metadata.

    Fields in ``omit`` are left out.
    """
    hints = get_type_hints(kind)
    definitions: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.name in omit:
            continue
        annotation = hints[field.name]
        if dataclasses.is_dataclass(annotation):
            annotation = model_of(annotation)  # type: ignore[arg-type]
        bounds = {name: field.metadata[name] for name in BOUNDS if name in field.metadata}
        if field.default is not dataclasses.MISSING:
            default: Any = Field(field.default, description=field.metadata.get("doc", ""), **bounds)
        else:
            default = Field(default_factory=annotation, description=field.metadata.get("doc", ""), **bounds)
        definitions[field.name] = (annotation, default)
    return create_model(kind.__name__, __base__=Strict, __doc__=kind.__doc__, **definitions)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to a mistyped one, or None if none is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None


def suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    """A hint for an unknown name: the nearest known one, or else all known ones, each prefixed with ``prefix``."""
    names = list(known)
    match = nearest(name, names)
    return f"did you mean {prefix}{match}?" if match else f"known: {', '.join(prefix + name for name in names)}"


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Pydantic's errors in the user's terms, one per location."""
    found: dict[tuple[int | str, ...], Problem] = {}
    for detail in error.errors(include_url=False):
        location = _place(detail)
        within = any(other[: len(location)] == location for other in found)
        # A list whose items are wrong is also reported as too short. A value that fits no type of a union is
        # reported once per type.
        if location not in found and not (within and detail["type"] == "too_short"):
            found[location] = _problem(detail, location, model)
    return list(found.values())


def _place(detail: ErrorDetails) -> tuple[int | str, ...]:
    """The location of a value, without the type of a union that pydantic tried there."""
    location = untagged(detail["loc"])
    # A dimension has keys with these names itself.
    of_dimension = location[:2] == ("search", "space") and len(location) == 4
    return location[:-1] if location and location[-1] in TRIED and not of_dimension else location


def untagged(location: Sequence[int | str]) -> tuple[int | str, ...]:
    """The location of a value in the spec, without the tags of a discriminated union."""
    return tuple(part for part in location if part not in TAGS)


def _problem(detail: ErrorDetails, location: tuple[int | str, ...], model: type[BaseModel]) -> Problem:
    key = dotted(location)
    if location != untagged(detail["loc"]):
        return Problem(key, f"must be a number, text, true or false; got {detail['input']!r}")
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "invalid_key" or location[-1:] == ("[key]",):
        above = location[:-2] if location[-1:] == ("[key]",) else location[:-1]
        return Problem(dotted(above), f"the key {detail['input']!r} must be text; put it in quotes")
    given = repr(detail["input"])
    if kind == "extra_forbidden":
        prefix = f"{dotted(location[:-1])}." if location[:-1] else ""
        return Problem(key, f"unknown key; {suggestion(str(location[-1]), _fields_at(model, location[:-1]), prefix)}")
    if kind == "missing":
        return Problem(key, "is required")
    if kind == "literal_error":
        return Problem(key, f"must be {context['expected']}, got {given}")
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return Problem(key, f"must be a mapping of keys to values, got {given}")
    if kind == "value_error":
        return Problem(key, str(context["error"]))
    message = re.sub(r"^\w+ should", "must", detail["msg"]).replace("a valid tuple", "a list")
    example = _example(model, location) if kind == "tuple_type" else ""
    return Problem(key, f"{message[0].lower()}{message[1:]}{example}, got {given}")


def _example(model: type[BaseModel], location: Sequence[int | str]) -> str:
    """An example of the list that a key takes, as its description gives it, or an empty string."""
    current: Any = model
    for part in location[:-1]:
        if not (isinstance(part, str) and _is_model(current) and part in current.model_fields):
            return ""
        current = _model_in(current.model_fields[part].annotation)
    field = current.model_fields.get(location[-1]) if _is_model(current) else None
    return f" such as {field.examples[0]}" if field is not None and field.examples else ""


def dotted(location: Iterable[int | str]) -> str:
    """``("a", "b", 0)`` as ``a.b[0]``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _fields_at(model: type[BaseModel], location: Iterable[int | str]) -> list[str]:
    """The field names of the model at a location."""
    current: Any = model
    for part in location:
        if isinstance(part, str) and _is_model(current) and part in current.model_fields:
            current = _model_in(current.model_fields[part].annotation)
    return [field.alias or name for name, field in current.model_fields.items()] if _is_model(current) else []


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)


def _model_in(annotation: Any) -> Any:
    """The pydantic model inside an annotation such as ``X | None``, ``list[X]`` or ``dict[str, X]``."""
    if _is_model(annotation):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None


def without(values: Mapping[str, Any], location: Sequence[int | str]) -> dict[str, Any]:
    """A copy of nested mappings and lists without the value at a location, if there is one."""

    def prune(node: Any, rest: Sequence[int | str]) -> Any:
        if not rest:
            return node
        head = rest[0]
        if isinstance(node, Mapping) and head in node:
            if len(rest) == 1 or not isinstance(node[head], Mapping | list):
                return {name: value for name, value in node.items() if name != head}
            return {**node, head: prune(node[head], rest[1:])}
        if isinstance(node, list) and isinstance(head, int) and head < len(node):
            if len(rest) == 1 or not isinstance(node[head], Mapping | list):
                return [value for i, value in enumerate(node) if i != head]
            return [prune(value, rest[1:]) if i == head else value for i, value in enumerate(node)]
        return node

    pruned: dict[str, Any] = prune(values, location)
    return pruned
