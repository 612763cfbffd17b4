"""The contents of ``sweep.json``, whether it comes from the sweep's folder, MLflow or an exported file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from linearizer_core.errors import LinsweepError

Direction = Literal["min", "max"]
KINDS = ("search", "confirm", "control", "reference")
STATES = ("finished", "stopped", "failed", "interrupted", "running")


class RecordError(LinsweepError, ValueError):
    """A record cannot be read, or lacks what was asked for; the message names the file or the key.

    >>> import analysis
    >>> try:
    ...     analysis.marginal(analysis.example(), "depht")
    ... except analysis.RecordError as error:
    ...     print(error)
    digits: no axis 'depht'; did you mean model.flow.depth?
    """


@dataclass(frozen=True, repr=False)
class SweepInfo:
    """A sweep. Times are in UNIX seconds; ``best`` holds the trial ids of the best configuration.

    ``source`` names the file or server that it was read from; ``document`` is all of ``sweep.json``.

    >>> import analysis
    >>> sweep = analysis.example().sweep("digits")
    >>> sweep.seeds, sweep.dimension("model.flow.depth")
    (2, {'grid': [1, 2, 4]})
    """

    name: str
    family: str
    source: str
    axes: tuple[str, ...]
    objective: Mapping[str, Direction]
    state: str
    started: float
    ended: float | None
    spec: Mapping[str, Any]
    provenance: Mapping[str, Any]
    best: tuple[str, ...] | None
    document: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"<SweepInfo {self.name}: {self.family or 'no family'}, {self.state}, over {', '.join(self.axes)}>"

    @classmethod
    def parse(cls, text: str | bytes, source: str) -> SweepInfo:
        """The sweep described by a ``sweep.json``; raises ``RecordError`` naming ``source`` if it is not valid."""
        try:
            return cls.of_document(document_of(text), source)
        except ValueError as error:
            if isinstance(error, RecordError):
                raise
            raise RecordError(f"{source}: is not a sweep's record ({error})") from None

    @classmethod
    def of_document(cls, values: Mapping[str, Any], source: str) -> SweepInfo:
        """The sweep described by parsed JSON; raises ``RecordError`` naming ``source`` if it is not valid."""
        check_document(values, source)
        best = values.get("best")
        return cls(
            name=values["name"],
            family=str(values.get("family", "")),
            source=source,
            axes=tuple(values["axes"]),
            objective=cast(Mapping[str, Direction], dict(values["objective"])),
            state=values["state"],
            started=float(values["started"]),
            ended=None if values.get("ended") is None else float(values["ended"]),
            spec=values.get("spec") or {},
            provenance=values.get("provenance") or {},
            best=None if best is None else tuple(best),
            document=values,
        )

    @property
    def seeds(self) -> int:
        """The number of seeds of every configuration of the search; in a race, the smallest number."""
        return len(self.first_seeds) or 1

    @property
    def first_seeds(self) -> tuple[int, ...]:
        """The seeds that every configuration of the search has, in order; in a race 0, 1, …."""
        seeds = self.spec.get("search", {}).get("seeds") or ()
        return tuple(range(seeds["at_least"])) if isinstance(seeds, Mapping) else tuple(seeds)

    @property
    def races(self) -> bool:
        """Whether the search is a race, in which configurations that may still be the best get more seeds."""
        return isinstance(self.spec.get("search", {}).get("seeds"), Mapping)

    @property
    def confirm_seeds(self) -> int:
        """The number of fresh seeds of a confirmed configuration."""
        return len((self.spec.get("search", {}).get("confirm") or {}).get("seeds") or ())

    def dimension(self, axis: str) -> Mapping[str, Any]:
        """The searched range of an axis as written in the spec; empty if the spec has none."""
        space: Mapping[str, Mapping[str, Any]] = self.spec.get("search", {}).get("space") or {}
        return space.get(axis, {})

    @property
    def points(self) -> dict[int, dict[str, Any]]:
        """The points of configurations drawn before the sweep grew, by number, in its present space."""
        drawn = self.document.get("drawn") or {}
        return dict(drawn.get("points") or ())

    @property
    def directions(self) -> Mapping[str, Direction]:
        """The directions of plugins' metrics, by metric name; those of built-in metrics are not recorded."""
        return dict(self.document.get("directions") or {})

    @property
    def caveats(self) -> tuple[str, ...]:
        """Sentences on what the numbers cannot tell with so few held-out images; empty if none were recorded."""
        return tuple(map(str, self.document.get("caveats") or ()))

    @property
    def labels(self) -> dict[str, str]:
        """Leaf, metric key or metric → the display name in tables, figures and reports."""
        return dict(self.spec.get("labels") or {})

    @property
    def constraints(self) -> dict[str, str]:
        """Metric key → ``"<= number"`` or ``">= number"``: the constraints on the best configuration."""
        return dict(self.spec.get("search", {}).get("constraints") or {})


REMEDY = "put the file back, or remove the sweep's folder"


def document_of(text: str | bytes) -> Any:
    """The JSON of a ``sweep.json``, with or without a byte order mark; raises ``ValueError`` if it is not JSON."""
    return json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff"))


def check_document(values: Any, source: str) -> None:
    """Raise ``RecordError`` naming ``source`` and the field if a parsed ``sweep.json`` is not valid."""
    if not isinstance(values, Mapping):
        raise RecordError(f"{source}: is not a sweep's record (it must be a mapping of fields); {REMEDY}")
    for name, (right, what) in _FIELDS.items():
        if name not in values:
            raise RecordError(f"{source}: lacks {name!r}; {REMEDY}")
        if not right(values[name]):
            raise RecordError(f"{source}: {name} must be {what}, got {values[name]!r:.80}; {REMEDY}")
    for name, (right, what) in _OPTIONAL.items():
        if values.get(name) is not None and not right(values[name]):
            raise RecordError(f"{source}: {name} must be {what}, got {values[name]!r:.80}; {REMEDY}")
    spec = values.get("spec") or {}
    _check_search(spec.get("search", {}), source)
    right, what = _LABELS
    if spec.get("labels") is not None and not right(spec["labels"]):
        raise RecordError(f"{source}: spec.labels must be {what}, got {spec['labels']!r:.80}; {REMEDY}")


def _check_search(search: Any, source: str) -> None:
    """Check the part of the spec that the analysis reads; the rest depends on the version that wrote it."""
    if not isinstance(search, Mapping):
        raise RecordError(f"{source}: spec.search must be a mapping, got {search!r:.80}; {REMEDY}")
    for name, (right, what) in _SEARCH.items():
        if search.get(name) is not None and not right(search[name]):
            raise RecordError(f"{source}: spec.search.{name} must be {what}, got {search[name]!r:.80}; {REMEDY}")


Rule = tuple[Callable[[Any], bool], str]


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value not in ("", ".", "..") and not set("/\0") & set(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_seeds(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(type(value.get(name)) is int for name in ("at_least", "at_most"))
    return _is_list(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_TEXTS: Rule = (lambda value: _is_list(value) and all(isinstance(text, str) for text in value), "a list of strings")
_MAPPING: Rule = (lambda value: isinstance(value, Mapping), "a mapping")
_NUMBER: Rule = (_is_number, "a number of seconds")
_FIELDS: dict[str, Rule] = {
    "name": (_is_name, "a valid folder name"),
    "state": (lambda value: isinstance(value, str), "a string"),
    "axes": _TEXTS,
    "objective": (
        lambda value: isinstance(value, Mapping) and all(way in ("min", "max") for way in value.values()),
        "a mapping of metrics to min or max",
    ),
    "started": _NUMBER,
}
_OPTIONAL: dict[str, Rule] = {
    "ended": _NUMBER,
    "best": _TEXTS,
    "spec": _MAPPING,
    "provenance": _MAPPING,
    "caveats": _TEXTS,
    "drawn": _MAPPING,
    "reason": (lambda value: isinstance(value, str), "a string"),
    "best_value": (lambda value: isinstance(value, int | float) and not isinstance(value, bool), "a number"),
}
_LABELS: Rule = (
    lambda value: isinstance(value, Mapping) and all(isinstance(each, str) for each in value.values()),
    "a mapping of keys to strings",
)
_SEARCH: dict[str, Rule] = {
    "seeds": (_is_seeds, "a list, or a mapping with at_least and at_most"),
    "space": (
        lambda value: isinstance(value, Mapping) and all(isinstance(each, Mapping) for each in value.values()),
        "a mapping of names to dimensions",
    ),
    "constraints": (
        lambda value: isinstance(value, Mapping) and all(isinstance(each, str) for each in value.values()),
        "a mapping of metrics to strings",
    ),
    "confirm": _MAPPING,
}
