"""Which axes of a search matter to its objective, and how reliable their ranking is."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from analysis.configuration.configurations import Recorded
from analysis.configuration.cube import places_of
from analysis.configuration.labels import axis_labels, label_of
from analysis.configuration.responses import Point, Responses, redrawn, responses
from analysis.record.runs import Record, RecordError
from analysis.render.cells import Cell, Column, Row
from analysis.render.table import Table
from analysis.statistics.agreement import rank_agreement
from analysis.statistics.forest import grow, local_shares
from analysis.statistics.intervals import Array

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.importance import BaseImportanceEvaluator

TOP = 0.1
"""The share of configurations that PED-ANOVA counts as good, and at least ``TOP_COUNT`` of them."""
TOP_COUNT = 5
NEAR = "near the best"
TREES = 16
DEPTH = 8
"""The depth of fANOVA's trees: the time grows with the square of their leaves, and deeper trees fit single values."""

WHY_NONE = (
    "a bootstrap repeats configurations, which raises the share explained, so its interval may miss the true share"
)


def study_of(points: Sequence[Point], values: Sequence[float], record: Record, direction: str) -> optuna.Study:
    """An in-memory Optuna study of points of the record's space (dotted name → value) and their values.

    Ranges are those of the sweeps' specs, merged over sweeps. A point without an axis (its condition did not hold)
    stays without it.
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
    """A context without Optuna's log messages about new studies and its warnings about experimental features."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # If the best tenth is as good as all, the shares are equal, which the table shows.
            warnings.filterwarnings("ignore", "Target and region quantiles select the same set", UserWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


def shares(study: optuna.Study, evaluator: BaseImportanceEvaluator) -> dict[str, float]:
    """Each parameter's share of the importance; the shares sum to 1."""
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
    """Each axis's share of the importance for a metric, the most important first.

    PED-ANOVA (Watanabe et al., 2023) asks what distinguishes the best tenth, and fANOVA (Hutter et al., 2014) what
    explains the variance, both for the configurations' means over seeds; ``near the best`` is the variance along each
    axis through the best configuration (local parameter importance, Biedenkapp et al., 2018), by a forest. Axes that
    only some configurations have are left out. The notes say how well rankings agree: over seeds if the configurations
    have three or more, otherwise over ``resamples`` bootstraps of the configurations. There are no intervals: a
    bootstrap contains some configurations twice, which raises the variance that trees explain, so its interval may miss
    the share in the whole search. ``metric`` is the first objective by default. Raises ``RecordError`` for an unknown
    metric, a metric without a better direction, fewer than ten configurations with a value, equal values in all, no
    axis that all configurations have, and for unequal training (unless ``unequal``).

    >>> import analysis
    >>> table = analysis.importance(analysis.example(), resamples=3)
    >>> [row.cells[0].value for row in table.rows]
    ['rank', 'depth']
    """
    found = responses(record, metric, "there is no best tenth to set apart", unequal=unequal)
    record, key, axes, partly, points, means = (
        found.record, found.key, found.axes, found.partly, found.points, found.means
    )  # fmt: skip
    if resamples < 1:
        raise RecordError(f"{record.names}: resamples must be 1 or more, got {resamples}")
    draws, unit = redrawn(found, resamples)
    told: dict[str, tuple[Array, Array]] = {}
    for name, make in _evaluators(len(points)).items():
        whole = shares(study_of(points, list(means), record, found.direction), make())
        again = [shares(study_of(some, values, record, found.direction), make()) for some, values in draws]
        told[name] = _row(whole, axes), np.array([_row(each, axes) for each in again])
    told[NEAR] = _near(found, points, means), np.array([_near(found, *each) for each in draws])
    order = np.argsort(-np.sum([share for share, _ in told.values()], axis=0), kind="stable")
    short = axis_labels(record)
    rows = [
        Row((Cell(short[axes[place]]), *(Cell(float(share[place])) for share, _ in told.values()))) for place in order
    ]
    rows += [Row((Cell(short[axis]), *(Cell(reason="not told") for _ in told))) for axis in partly]
    notes = [
        f"Shares of 1, over {len(points)} configurations, each the mean of its seeds; without intervals: {WHY_NONE}.",
        f"{NEAR}: each axis varied from the best configuration with the others fixed, by a forest.",
    ]
    if partly:
        notes.append(f"Left out: {', '.join(partly)}, which only some of the configurations have.")
    notes += [agreement_note(name, again, unit) for name, (_, again) in told.items()]
    return Table(
        name="importance",
        title=f"{record.names}: importance of the axes for {label_of(record, key)}",
        columns=(Column("axis", "axis", "left"), *(Column(name, name, spec=".2f") for name in told)),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _row(found: Mapping[str, float], axes: Sequence[str]) -> Array:
    return np.array([found.get(axis, 0.0) for axis in axes])


def _near(found: Responses, points: Sequence[Point], values: Sequence[float] | Array) -> Array:
    """Each axis's share of the changes around the best configuration: its local importance."""
    forest = grow(places_of(found.edges, points), np.asarray(values, dtype=np.float64))
    best = found.points[int(np.argmin(found.means) if found.direction == "min" else np.argmax(found.means))]
    return local_shares(forest, places_of(found.edges, [best])[0])


def agreement_note(name: str, again: Array, unit: str) -> str:
    correlation = rank_agreement(again)
    if len(again) < 2:
        return f"{name}: how far its ranking can be relied on is not told: nothing was drawn again."
    if np.isnan(correlation):
        return f"{name}: the rankings of {unit} cannot be compared (one axis, or all shares equal)."
    word = "stable" if correlation >= 0.8 else "unstable: do not rely on the order" if correlation < 0.5 else "fair"
    return f"{name}: rankings of {unit} agree with a mean rank correlation of {correlation:.2f} ({word})."
