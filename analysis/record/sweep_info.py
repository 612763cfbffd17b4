"""What ``sweep.json`` says of a sweep, wherever it is kept: in the sweep's folder, in MLflow, in an exported file."""

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
    """A record that cannot be read or cannot answer; the message names the file or the key.

    >>> import analysis
    >>> try:
    ...     analysis.marginal(analysis.example(), "depht")
    ... except analysis.RecordError as error:
    ...     print(error)
    digits: no axis 'depht'; did you mean model.flow.depth?
    """


@dataclass(frozen=True, repr=False)
class SweepInfo:
    """A sweep: times in UNIX seconds, ``best`` the trial ids of the best configuration.

    ``source`` names the file or the server that it was read from, ``document`` is all of ``sweep.json``.

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
        return f"<SweepInfo {self.name}: {self.family or 'of no family'}, {self.state}, over {', '.join(self.axes)}>"

    @classmethod
    def parse(cls, text: str | bytes, source: str) -> SweepInfo:
        """The sweep of a ``sweep.json``; raises ``RecordError`` naming ``source`` where it is none."""
        try:
            return cls.of_document(document_of(text), source)
        except ValueError as error:
            if isinstance(error, RecordError):
                raise
            raise RecordError(f"{source}: is not a sweep's record ({error})") from None

    @classmethod
    def of_document(cls, values: Mapping[str, Any], source: str) -> SweepInfo:
        """The sweep of a parsed ``sweep.json``; raises ``RecordError`` naming ``source`` where it is none."""
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
        """How many seeds every configuration of the search has; in a race, at least."""
        return len(self.first_seeds) or 1

    @property
    def first_seeds(self) -> tuple[int, ...]:
        """The seeds that every configuration of the search has, in their order; in a race 0, 1, …."""
        seeds = self.spec.get("search", {}).get("seeds") or ()
        return tuple(range(seeds["at_least"])) if isinstance(seeds, Mapping) else tuple(seeds)

    @property
    def races(self) -> bool:
        """Whether configurations have more seeds the longer they may be the best."""
        return isinstance(self.spec.get("search", {}).get("seeds"), Mapping)

    @property
    def confirm_seeds(self) -> int:
        """How many fresh seeds a configuration that is confirmed has."""
        return len((self.spec.get("search", {}).get("confirm") or {}).get("seeds") or ())

    def dimension(self, axis: str) -> Mapping[str, Any]:
        """The searched range of an axis as the spec gives it, empty where the spec does not say."""
        space: Mapping[str, Mapping[str, Any]] = self.spec.get("search", {}).get("space") or {}
        return space.get(axis, {})

    @property
    def points(self) -> dict[int, dict[str, Any]]:
        """The points of configurations from before the sweep has grown, by number, in the space that it has now."""
        drawn = self.document.get("drawn") or {}
        return dict(drawn.get("points") or ())

    @property
    def directions(self) -> Mapping[str, Direction]:
        """Which way the metrics of plugins are better, by their names: those that are built in are known."""
        return dict(self.document.get("directions") or {})

    @property
    def caveats(self) -> tuple[str, ...]:
        """What its numbers cannot tell on so few held-out images, a sentence each; none where it was not recorded."""
        return tuple(map(str, self.document.get("caveats") or ()))

    @property
    def labels(self) -> dict[str, str]:
        """Leaf, metric key or metric to the name that tables, figures and reports are to show."""
        return dict(self.spec.get("labels") or {})

    @property
    def constraints(self) -> dict[str, str]:
        """Metric key to ``"<= number"`` or ``">= number"``: what the best configuration keeps to."""
        return dict(self.spec.get("search", {}).get("constraints") or {})


REMEDY = "put the file back, or remove the sweep's folder"


def document_of(text: str | bytes) -> Any:
    """The JSON of a ``sweep.json``, with or without a mark of its byte order; raises ``ValueError``."""
    return json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff"))


def check_document(values: Any, source: str) -> None:
    """Raise ``RecordError`` naming ``source`` and the field where a parsed ``sweep.json`` is not that of a sweep."""
    if not isinstance(values, Mapping):
        raise RecordError(f"{source}: is not a sweep's record (it is no mapping of fields); {REMEDY}")
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
    """The part of the spec that is read of a record; the rest is whatever the version was that wrote it."""
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


_TEXTS: Rule = (lambda value: _is_list(value) and all(isinstance(text, str) for text in value), "a list of texts")
_MAPPING: Rule = (lambda value: isinstance(value, Mapping), "a mapping")
_NUMBER: Rule = (_is_number, "a number of seconds")
_FIELDS: dict[str, Rule] = {
    "name": (_is_name, "a name that a folder can have"),
    "state": (lambda value: isinstance(value, str), "a text"),
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
    "reason": (lambda value: isinstance(value, str), "a text"),
    "best_value": (lambda value: isinstance(value, int | float) and not isinstance(value, bool), "a number"),
}
_LABELS: Rule = (
    lambda value: isinstance(value, Mapping) and all(isinstance(each, str) for each in value.values()),
    "a mapping of keys to texts",
)
_SEARCH: dict[str, Rule] = {
    "seeds": (_is_seeds, "a list, or a mapping with at_least and at_most"),
    "space": (
        lambda value: isinstance(value, Mapping) and all(isinstance(each, Mapping) for each in value.values()),
        "a mapping of names to dimensions",
    ),
    "constraints": (
        lambda value: isinstance(value, Mapping) and all(isinstance(each, str) for each in value.values()),
        "a mapping of metrics to texts",
    ),
    "confirm": _MAPPING,
}
