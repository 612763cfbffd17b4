"""Earlier sweeps as prior knowledge: their finished configurations as points of another sweep's space."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from pathlib import Path

from analysis.record.journal_files import journal_files
from linearizer_core.experiment.journal import TrialState, state_of
from linearizer_core.experiment.nested import flatten
from sweeps.record.lookup import find_sweep
from sweeps.record.paths import SweepPaths
from sweeps.search.drawn import Learnt
from sweeps.spec.model import Sweep
from sweeps.spec.space import point_of
from sweeps.spec.validation import InputError, Problem

KEY = "search.learn_from"


def learnt_from(sweep: Sweep) -> tuple[Learnt, ...]:
    """The results of the sweeps in ``search.learn_from``, as far as they lie in this sweep's space.

    These are all searched configurations whose trials have all finished, with finite values of all of this sweep's
    objectives. Leaves outside this space may differ there: the results guide the sampler and are not results of this
    sweep.

    Raises ``InputError`` for a sweep that does not exist or is this one.
    """
    found: list[Learnt] = []
    problems: list[Problem] = []
    for name in sweep.search.learn_from:
        try:
            folder = find_sweep(name, Path(sweep.model.storage))
        except InputError as error:
            problems += [Problem(KEY, f"{name}: {problem.message}") for problem in error.problems]
            continue
        if folder.resolve() == sweep.folder.resolve():
            problems.append(Problem(KEY, f"{name} is this sweep itself; remove it from the list"))
            continue
        found += _of_sweep(sweep, SweepPaths(folder))
    if problems:
        raise InputError(sweep.source, problems)
    return tuple(found)


def _of_sweep(sweep: Sweep, paths: SweepPaths) -> Iterator[Learnt]:
    """The configurations of one sweep, in the order of its search."""
    members: dict[int, list[TrialState]] = {}
    for path in journal_files(paths.journals):
        state = state_of(path)
        if state.head is not None and state.head["kind"] == "search" and state.head["number"] is not None:
            members.setdefault(state.head["number"], []).append(state)
    wanted = [*sweep.search.objective, *sweep.search.constraints]
    for number, states in sorted(members.items()):
        point = _point(sweep, states[0])
        metrics = {
            key: statistics.fmean(state.metrics[key] for state in states)
            for key in wanted
            if all(key in state.metrics for state in states)
        }
        finite = all(math.isfinite(metrics.get(key, math.nan)) for key in sweep.search.objective)
        if point is not None and finite and all(state.state == "finished" for state in states):
            yield Learnt(f"{paths.root.name}/t{number:03d}", point, metrics)


def _point(sweep: Sweep, state: TrialState) -> dict[str, bool | int | float | str] | None:
    """The point of a trial in this sweep's space; None if it lies outside."""
    assert state.head is not None
    return point_of(sweep.search.space, {**sweep.base_leaves, **flatten(state.head["config"])})
