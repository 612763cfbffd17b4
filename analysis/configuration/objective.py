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
    return record.objective.get(metric) or direction_of(metric)


def against_its_direction(record: Record) -> list[str]:
    """A sentence for each objective that was searched for its worst value, as specs before could say."""
    words = {"min": "minimised", "max": "maximised"}
    return [
        f"{key} was {words[direction]}, but is better the {'larger' if direction == 'min' else 'smaller'} it is: the "
        "order is that of the search, the worst first."
        for key, direction in record.objective.items()
        if direction_of(key) not in (None, direction)
    ]
