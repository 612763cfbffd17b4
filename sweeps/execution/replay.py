"""The schedule of a sweep rebuilt from its journals: trials that have ended are replayed instead of run again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

from linearizer_core.experiment import data as datasets
from linearizer_core.experiment.nested import with_leaves
from sweeps.execution.bridge import Bridge
from sweeps.execution.grouping import Grouping
from sweeps.execution.task import Task
from sweeps.record.paths import SweepPaths
from sweeps.record.provenance import processes
from sweeps.search.drawn import Drawn
from sweeps.search.halving import Halving
from sweeps.search.outcomes import RecordedOutcomes
from sweeps.search.reuse import FinishedTrials
from sweeps.search.schedule import PlannedTrial, ReplayError, Schedule, make_study
from sweeps.spec.model import Sweep
from sweeps.spec.validation import InputError, Problem


def replayed(sweep: Sweep, paths: SweepPaths, record: Mapping[str, Any], grouping: Grouping | None = None) -> Bridge:
    """The missing trials, with the study rebuilt from the recorded ones.

    ``grouping`` says which of them train together, by default none.

    Raises ``InputError`` if the journals belong to another search.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    objective, mode = next(iter(sweep.search.objective.items()))
    epochs = sweep.base_leaves["train.epochs"]
    halving = Halving(sweep.search.stop_early, mode, epochs) if sweep.search.stop_early else None
    together = grouping is not None and grouping.why_not is None
    origin = {**record["provenance"], "processes": processes(sweep.model.resources, together)}
    finished = None if record["fresh"] else FinishedTrials(paths, origin)
    data_root = None if sweep.function else datasets.place_of(sweep.trial_config({}, 0).data)

    def task(planned: PlannedTrial) -> Task:
        return _task(planned, sweep, paths, origin, data_root)

    def described(planned: PlannedTrial) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        return task(planned).config, origin

    outcomes = RecordedOutcomes(paths, halving, objective, finished, described)
    drawn = Drawn.of_json(record.get("drawn"))
    schedule = Schedule(sweep, make_study(sweep, drawn), record["lookahead"], outcomes, record.get("rules", 1), drawn)
    try:
        schedule.has_next()
    except ReplayError as error:
        raise InputError(sweep.source, [Problem("name", str(error))]) from None
    return Bridge(schedule, halving, paths, task, grouping)


def _task(
    planned: PlannedTrial, sweep: Sweep, paths: SweepPaths, origin: Mapping[str, Any], data_root: str | None
) -> Task:
    resources = sweep.model.resources
    # A worker has another working folder than this process, and may have another environment.
    config = planned.config if data_root is None else with_leaves(planned.config, {"data.root": data_root})
    return Task(
        identity=planned.identity,
        config=config,
        root=str(paths.root.resolve()),
        provenance=origin,
        workers=resources.workers,
        threads=resources.cpus_per_worker,
        gpus=resources.gpus_per_worker,
        checkpoint_seconds=resources.checkpoint_seconds,
        collective_timeout=resources.collective_timeout,
        device=resources.device,
        bucket=sweep.bucket,
    )
