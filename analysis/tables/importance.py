"""Which axes of a search matter to its objective, and how far that can be relied on."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.configuration.budget import check_equal
from analysis.configuration.configurations import Configurations, Recorded
from analysis.configuration.labels import axis_labels, label_of
from analysis.configuration.names import metric_of
from analysis.configuration.objective import way_of
from analysis.configuration.replicates import population, seed_values
from analysis.record.runs import Record, RecordError
from analysis.render.cells import Cell, Column, Row
from analysis.render.table import Table
from analysis.statistics.agreement import rank_agreement
from analysis.statistics.intervals import Array

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.importance import BaseImportanceEvaluator

FEWEST = 10
"""Configurations below which an importance is not told."""
TOP = 0.1
"""The share of configurations that PED-ANOVA calls good, and never fewer of them than ``TOP_COUNT``."""
TOP_COUNT = 5
TREES = 16
DEPTH = 8
"""Of fANOVA's trees: the time goes with the square of their leaves, and deeper ones tell single values apart."""

WHY_NONE = "a bootstrap repeats configurations, which raises what is explained, and need not hold the share"

Point = Mapping[str, Any]
Draw = tuple[list[Point], list[float]]
"""Points and their values."""


def study_of(points: Sequence[Point], values: Sequence[float], record: Record, direction: str) -> optuna.Study:
    """An Optuna study in memory of points of the record's space (dotted name → value) and their values.

    Ranges are those of the sweeps' specs; of several sweeps they are joined. A point without an axis (its condition
    did not hold) stays without it.
    """
    import optuna

    with _quiet():
        study = optuna.create_study(direction="minimize" if direction == "min" else "maximize")
        ranges = _distributions(points, record)
        for point, value in zip(points, values, strict=True):
            known = {name: point[name] for name in ranges if name in point}
            used = {name: ranges[name] for name in known}
            study.add_trial(optuna.trial.create_trial(params=known, distributions=used, value=float(value)))
    return study


def _distributions(points: Sequence[Point], record: Record) -> dict[str, BaseDistribution]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for axis in record.axes:
        values = [point[axis] for point in points if axis in point]
        if not values:
            continue
        dimensions = [sweep.dimension(axis) for sweep in record.sweeps if sweep.dimension(axis)]
        bounds = [dimension.get("int") or dimension.get("float") for dimension in dimensions]
        if not bounds or not all(bounds) or any(isinstance(value, bool | str) for value in values):
            listed = [
                each for dimension in dimensions for each in dimension.get("choice") or dimension.get("grid") or ()
            ]
            found[axis] = CategoricalDistribution(list(dict.fromkeys([*listed, *values])))
            continue
        low = min(min(pair[0] for pair in bounds if pair), min(values))
        high = max(max(pair[1] for pair in bounds if pair), max(values))
        log = all(dimension.get("log") for dimension in dimensions)
        whole = all(dimension.get("int") for dimension in dimensions)
        found[axis] = IntDistribution(low, high, log=log) if whole else FloatDistribution(low, high, log=log)
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's log of a study's making, and its warnings of what is experimental or of no use."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # Where the best tenth is as good as all, the shares are equal: the table shows it.
            warnings.filterwarnings("ignore", "Target and region quantiles select the same set", UserWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


def shares(study: optuna.Study, evaluator: BaseImportanceEvaluator) -> dict[str, float]:
    """Each parameter's share of the importance, which add up to 1."""
    import optuna

    with _quiet():
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _evaluators(count: int) -> dict[str, Callable[[], BaseImportanceEvaluator]]:
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

    quantile = min(max(TOP, TOP_COUNT / count), 0.5)
    return {
        "PED-ANOVA": lambda: PedAnovaImportanceEvaluator(target_quantile=quantile),
        "fANOVA": lambda: FanovaImportanceEvaluator(n_trees=TREES, max_depth=DEPTH, seed=0),
    }


def importance(record: Recorded, metric: str | None = None, *, resamples: int = 20, unequal: bool = False) -> Table:
    """Each axis's share of the importance for a metric, by PED-ANOVA and by fANOVA, the most important first.

    PED-ANOVA (Watanabe et al., 2023) asks what sets the best tenth apart, fANOVA (Hutter et al., 2014) what explains
    the variance, both of the configurations' means over seeds. An axis that only some configurations have is not told.
    How far the rankings agree is in the notes: over seeds where the configurations have three or more, otherwise over
    ``resamples`` bootstraps of the configurations. There is no interval: configurations that are drawn again stand
    twice in a bootstrap, which by itself raises what trees explain, so that it need not hold the share of the whole.
    ``metric`` is the first objective by default. Raises ``RecordError`` for an unknown metric, one of which neither
    more nor less is better, fewer than ten configurations with a value, one value of them all, no axis that all
    configurations have, and for unequal training, unless ``unequal``.

    >>> import analysis
    >>> table = analysis.importance(analysis.example(), resamples=3)
    >>> [row.cells[0].value for row in table.rows]
    ['rank', 'depth']
    """
    configurations = Configurations.of(record)
    record = configurations.record
    key = metric_of(record, metric)
    if resamples < 1:
        raise RecordError(f"{record.names}: resamples must be 1 or more, got {resamples}")
    direction = way_of(record, key, "there is no best tenth to set apart")
    if not unequal:
        check_equal(record, record.runs[record.runs["kind"] == "search"], f"the importance of axes for {key}")
    frame = population(configurations, key, unequal)
    frame = frame[frame["counts"]]
    if len(frame) < FEWEST:
        message = f"importances need {FEWEST} configurations with a finite {key}, got {len(frame)}"
        raise RecordError(f"{record.names}: {message}")
    points = [json.loads(text) for text in frame["overrides"]]
    means = frame[key].to_numpy(dtype=np.float64)
    if np.ptp(means) == 0:
        raise RecordError(f"{record.names}: {key} is {means[0]:g} for every configuration: no axis matters to it")
    axes = [axis for axis in record.axes if all(axis in point for point in points)]
    partly = [axis for axis in record.axes if axis not in axes and any(axis in point for point in points)]
    if not axes:
        raise RecordError(f"{record.names}: no axis is there for every configuration: {', '.join(partly)}")
    points = [{axis: point[axis] for axis in axes} for point in points]
    draws, unit = _draws(record, frame, key, points, means, resamples, unequal)
    told: dict[str, tuple[Array, Array]] = {}
    for name, make in _evaluators(len(frame)).items():
        whole = shares(study_of(points, list(means), record, direction), make())
        again = [shares(study_of(some, values, record, direction), make()) for some, values in draws]
        told[name] = _row(whole, axes), np.array([_row(found, axes) for found in again])
    order = np.argsort(-np.sum([share for share, _ in told.values()], axis=0), kind="stable")
    short = axis_labels(record)
    rows = [
        Row((Cell(short[axes[place]]), *(Cell(float(share[place])) for share, _ in told.values()))) for place in order
    ]
    rows += [Row((Cell(short[axis]), *(Cell(reason="not told") for _ in told))) for axis in partly]
    notes = [f"Shares of 1, of {len(frame)} configurations, each the mean of its seeds; without intervals: {WHY_NONE}."]
    if partly:
        notes.append(f"Not told: {', '.join(partly)}, which only some of the configurations have.")
    notes += [_agreement(name, redrawn, unit) for name, (_, redrawn) in told.items()]
    return Table(
        name="importance",
        title=f"{record.names}: importance of the axes for {label_of(record, key)}",
        columns=(Column("axis", "axis", "left"), *(Column(name, name, spec=".2f") for name in told)),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _row(found: Mapping[str, float], axes: Sequence[str]) -> Array:
    return np.array([found.get(axis, 0.0) for axis in axes])


def _draws(
    record: Record,
    frame: pd.DataFrame,
    key: str,
    points: Sequence[Point],
    means: Array,
    resamples: int,
    unequal: bool,
) -> tuple[list[Draw], str]:
    """The same search as it could have been: at each seed alone, or with configurations drawn again."""
    values = seed_values(record, frame, key, unequal)
    by_seed = pd.DataFrame.from_dict({index: values[index] for index in frame.index}, orient="index").sort_index(axis=1)
    common = by_seed.columns[by_seed.notna().all()]
    if len(common) >= 3:
        return _told([(list(points), by_seed[seed].to_list()) for seed in common], record, key), "seeds"
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(resamples):
        places = rng.integers(len(points), size=len(points))
        draws.append(([points[place] for place in places], [float(means[place]) for place in places]))
    return _told(draws, record, key), "bootstraps of the configurations"


def _told(draws: list[Draw], record: Record, key: str) -> list[Draw]:
    """The draws that have something to explain; raises ``RecordError`` where none has."""
    kept = [(points, values) for points, values in draws if np.ptp(values) > 0]
    if not kept:
        raise RecordError(f"{record.names}: nearly every configuration has the same {key}: no axis matters to it")
    return kept


def _agreement(name: str, again: Array, unit: str) -> str:
    correlation = rank_agreement(again)
    if len(again) < 2:
        return f"{name}: how far its ranking can be relied on is not told: nothing was drawn again."
    if np.isnan(correlation):
        return f"{name}: the rankings of {unit} cannot be compared (one axis, or all shares equal)."
    word = "stable" if correlation >= 0.8 else "unstable: do not rely on the order" if correlation < 0.5 else "fair"
    return f"{name}: rankings of {unit} agree with a mean rank correlation of {correlation:.2f} ({word})."
