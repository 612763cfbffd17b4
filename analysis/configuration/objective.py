"""What configurations are ranked by, and which way a metric is better."""

from __future__ import annotations

from analysis.record.runs import Direction, Record, RecordError
from linearizer_core.experiment.directions import direction_of


def first_objective(record: Record) -> tuple[str, Direction]:
    """The key and direction that configurations are ranked by; raises ``RecordError`` where nobody has it."""
    if not record.objective:
        raise RecordError(f"{record.names or 'the record'}: there is no objective")
    key, direction = next(iter(record.objective.items()))
    return record.checked(key, record.metrics, "value yet of the objective"), direction


def better(record: Record, metric: str) -> Direction | None:
    """Which way a metric is better, an objective as its spec says; None where neither is."""
    return record.objective.get(metric) or own_direction(record, metric)


def way_of(record: Record, metric: str, otherwise: str) -> Direction:
    """Which way a metric is better that must be better one way; raises ``RecordError``, saying what is not there
    ``otherwise``."""
    direction = better(record, metric)
    if direction is None:
        raise RecordError(f"{record.names}: {metric} is better neither way: {otherwise}")
    return direction


def own_direction(record: Record, metric: str) -> Direction | None:
    """Which way a metric is better whatever is asked of it: a plugin's as that says, all others by their keys."""
    split, _, rest = metric.partition("/")
    for name, way in record.directions.items():
        if split in ("quality", "test") and rest.startswith(f"{name}_"):
            return way
    return direction_of(metric)


def against_its_direction(record: Record) -> list[str]:
    """A sentence for each objective that was searched for its worst value, as specs before could say."""
    words = {"min": "minimised", "max": "maximised"}
    return [
        f"{key} was {words[direction]}, but is better the {'larger' if direction == 'min' else 'smaller'} it is: the "
        "order is that of the search, the worst first."
        for key, direction in record.objective.items()
        if own_direction(record, key) not in (None, direction)
    ]
