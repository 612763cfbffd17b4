"""What ``sweep.json`` says of a sweep, wherever it is kept: in the sweep's folder, in MLflow, in an exported file."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    digits: no axis 'depht'; known: model.flow.depth, model.operator.rank
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
            return cls.of_document(json.loads(text), source)
        except ValueError as error:
            if isinstance(error, RecordError):
                raise
            raise RecordError(f"{source}: is not a sweep's record ({error})") from None

    @classmethod
    def of_document(cls, values: Mapping[str, Any], source: str) -> SweepInfo:
        """The sweep of a parsed ``sweep.json``; raises ``RecordError`` naming ``source`` where it is none."""
        try:
            best = values.get("best")
            return cls(
                name=str(values["name"]),
                family=str(values.get("family", "")),
                source=source,
                axes=tuple(values["axes"]),
                objective=cast(Mapping[str, Direction], dict(values["objective"])),
                state=str(values["state"]),
                started=float(values["started"]),
                ended=None if values.get("ended") is None else float(values["ended"]),
                spec=values.get("spec") or {},
                provenance=values.get("provenance") or {},
                best=None if best is None else tuple(best),
                document=values,
            )
        except KeyError as error:
            raise RecordError(f"{source}: lacks {error}") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise RecordError(f"{source}: is not a sweep's record ({error})") from None

    @property
    def seeds(self) -> int:
        """How many seeds every configuration of the search has."""
        return len(self.spec.get("search", {}).get("seeds", ())) or 1

    @property
    def confirm_seeds(self) -> int:
        """How many fresh seeds a configuration that is confirmed has."""
        return len((self.spec.get("search", {}).get("confirm") or {}).get("seeds", ()))

    def dimension(self, axis: str) -> Mapping[str, Any]:
        """The searched range of an axis as the spec gives it, empty where the spec does not say."""
        space: Mapping[str, Mapping[str, Any]] = self.spec.get("search", {}).get("space", {})
        return space.get(axis, {})

    @property
    def caveats(self) -> tuple[str, ...]:
        """What its numbers cannot tell on so few held-out images, a sentence each; none where it was not recorded."""
        return tuple(map(str, self.document.get("caveats") or ()))

    @property
    def constraints(self) -> dict[str, str]:
        """Metric key to ``"<= number"`` or ``">= number"``: what the best configuration keeps to."""
        return dict(self.spec.get("search", {}).get("constraints", {}))
