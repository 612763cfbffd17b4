"""The results of a search at its points, as input for models of the objective: configurations and their means."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from analysis.configuration.budget import check_equal
from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.cube import Edge, edges_of
from analysis.configuration.names import metric_of
from analysis.configuration.objective import way_of
from analysis.configuration.replicates import population, seed_values
from analysis.record.runs import Direction, Record, RecordError
from analysis.statistics.intervals import Array

FEWEST = 10
"""The fewest configurations for a model."""

Point = Mapping[str, Any]
Draw = tuple[list[Point], list[float]]
"""Points and their values."""


@dataclass(frozen=True)
class Responses:
    """The points of the search's configurations that count, and the mean of ``key`` over each one's seeds.

    Points have the ``axes`` that all configurations have; ``partly`` are axes that only some have.
    """

    record: Record
    key: str
    direction: Direction
    axes: tuple[str, ...]
    partly: tuple[str, ...]
    points: Sequence[Point]
    means: Array
    by_seed: pd.DataFrame

    @cached_property
    def edges(self) -> list[Edge]:
        """The axes as edges of a unit cube."""
        return edges_of(self.record, self.axes, self.points)


def responses(
    record: Recorded, metric: str | None = None, otherwise: str = "there is no best", *, unequal: bool = False
) -> Responses:
    """The results of the search; ``metric`` is the first objective by default.

    Raises ``RecordError`` for an unknown metric, a metric without a better direction (with the consequence in
    ``otherwise``), fewer than ten configurations with a value, equal values in all, no axis that all configurations
    have, and for unequal training (unless ``unequal``).
    """
    configurations = Configurations.of(record)
    record = configurations.record
    key = metric_of(record, metric)
    direction = way_of(record, key, otherwise)
    if not unequal:
        check_equal(record, record.runs[record.runs["kind"] == "search"], f"a model of {key}")
    frame = population(configurations, key, unequal)
    frame = frame[frame["counts"]]
    if len(frame) < FEWEST:
        raise RecordError(
            f"{record.names}: a model of {key} needs {FEWEST} configurations with a finite value, got {len(frame)}"
        )
    points = [json.loads(text) for text in frame["overrides"]]
    means = frame[key].to_numpy(dtype=np.float64)
    if np.ptp(means) == 0:
        raise RecordError(f"{record.names}: {key} is {means[0]:g} for every configuration, so no axis matters to it")
    axes = [axis for axis in record.axes if all(axis in point for point in points)]
    partly = [axis for axis in record.axes if axis not in axes and any(axis in point for point in points)]
    if not axes:
        raise RecordError(f"{record.names}: no axis is active in every configuration: {', '.join(partly)}")
    values = seed_values(record, frame, key, unequal)
    by_seed = pd.DataFrame.from_dict({index: values[index] for index in frame.index}, orient="index").sort_index(axis=1)
    points = [{axis: point[axis] for axis in axes} for point in points]
    return Responses(record, key, direction, tuple(axes), tuple(partly), points, means, by_seed)


def redrawn(found: Responses, resamples: int) -> tuple[list[Draw], str]:
    """Alternative outcomes of the search, and their unit: each seed alone, or bootstraps of the configurations.

    Raises ``RecordError`` if all values are equal in every draw.
    """
    common = found.by_seed.columns[found.by_seed.notna().all()]
    draws: list[Draw]
    if len(common) >= 3:
        draws, unit = [(list(found.points), found.by_seed[seed].to_list()) for seed in common], "seeds"
    else:
        rng, count, unit = np.random.default_rng(0), len(found.points), "bootstraps of the configurations"
        places = [rng.integers(count, size=count) for _ in range(resamples)]
        draws = [
            ([found.points[place] for place in drawn], [float(found.means[place]) for place in drawn])
            for drawn in places
        ]
    kept = [(points, values) for points, values in draws if np.ptp(values) > 0]
    if not kept:
        raise RecordError(
            f"{found.record.names}: nearly every configuration has the same {found.key}, so no axis matters to it"
        )
    return kept, unit
