"""The objective that configurations are ranked by, and the better direction of each metric."""

from __future__ import annotations

from analysis.record.runs import Direction, Record, RecordError
from linearizer_core.experiment.directions import direction_of


def first_objective(record: Record) -> tuple[str, Direction]:
    """The key and direction that configurations are ranked by; raises ``RecordError`` if no trial has a value of it."""
    if not record.objective:
        raise RecordError(f"{record.names or 'the record'}: no objective")
    key, direction = next(iter(record.objective.items()))
    return record.checked(key, record.metrics, "value yet of the objective"), direction


def better(record: Record, metric: str) -> Direction | None:
    """A metric's better direction, for an objective as its spec says; None if neither is better."""
    return record.objective.get(metric) or own_direction(record, metric)


def way_of(record: Record, metric: str, otherwise: str) -> Direction:
    """A metric's better direction; raises ``RecordError`` if it has none, with the consequence in ``otherwise``."""
    direction = better(record, metric)
    if direction is None:
        raise RecordError(f"{record.names}: neither higher nor lower {metric} is better, so {otherwise}")
    return direction


def own_direction(record: Record, metric: str) -> Direction | None:
    """A metric's own better direction, whatever a spec asks for: from its plugin, or from its key."""
    split, _, rest = metric.partition("/")
    for name, way in record.directions.items():
        if split in ("quality", "test") and rest.startswith(f"{name}_"):
            return way
    return direction_of(metric)


def against_its_direction(record: Record) -> list[str]:
    """A sentence for each objective that was searched for its worst value, which older specs allowed."""
    words = {"min": "minimised", "max": "maximised"}
    return [
        f"{key} was {words[direction]}, although {'higher' if direction == 'min' else 'lower'} is better: the order "
        "is that of the search, worst first."
        for key, direction in record.objective.items()
        if own_direction(record, key) not in (None, direction)
    ]
