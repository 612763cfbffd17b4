"""Whether a sweep's journals, its study, MLflow and its tables all tell of the same trials, once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import optuna
from mlflow import MlflowClient
from optuna.storages.journal import JournalFileBackend, JournalStorage

from tests.end_to_end.lab import Linsweep

ENDED = ("finished", "stopped", "failed")


@dataclass
class Audit:
    """Trials that are missing or twice, what was trained again, and everything that does not agree."""

    lost: int = 0
    duplicated: int = 0
    redone_epochs: int = 0
    redone_seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


def audit(linsweep: Linsweep, sweep: str, expected: Iterable[str], uri: str, study: str | None = None) -> Audit:
    """Compare what is recorded with the trials that there must be; ``study`` is its database, if it has one."""
    found = Audit()
    wanted, there = set(expected), set(linsweep.trials(sweep))
    ended = {trial for trial in there if state_of(linsweep.events(sweep, trial)) in ENDED}
    found.lost = len(wanted - ended)
    found.duplicated = len(there - wanted)
    for trial in sorted(there):
        count_redone(linsweep.events(sweep, trial), found)
    _study(linsweep, sweep, study, found)
    _mlflow(linsweep, sweep, wanted, uri, found)
    return found


def state_of(events: list[dict[str, Any]]) -> str | None:
    """The state that a trial is in, None while it runs."""
    state = None
    for event in events:
        if event["event"] == "trial":
            state = None
        elif event["event"] == "end":
            state = event["state"]
    return state


def count_redone(events: list[dict[str, Any]], found: Audit) -> None:
    """Count the epochs that were trained more than once, and the time that their first training took."""
    seen: dict[int, float] = {}
    before = 0.0
    for event in events:
        if event["event"] == "epoch":
            if event["epoch"] in seen:
                found.redone_epochs += 1
                found.redone_seconds += seen[event["epoch"]]
            seen[event["epoch"]] = event["time"] - before
        before = event["time"]


def effective(events: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Every metric's points ``(step, value)`` as they must be in MLflow: what counts of the journal, once."""
    epochs: dict[int, dict[str, float]] = {}
    curves: list[dict[str, Any]] = []
    summary: dict[str, float] = {}
    for event in events:
        match event["event"]:
            case "trial":
                curves, summary = [], {}
            case "epoch":
                epochs.setdefault(event["epoch"], event["metrics"])
            case "curve":
                curves.append(event)
            case "summary":
                summary = event["metrics"]
    points: dict[str, list[tuple[int, float]]] = {}
    for epoch, metrics in sorted(epochs.items()):
        for key, value in metrics.items():
            points.setdefault(key, []).append((epoch, float(value)))
    for curve in curves:
        points[curve["metric"]] = [(k, float(v)) for k, v in zip(curve["steps"], curve["values"], strict=True)]
    for key, value in summary.items():
        points.setdefault(key, []).append((max(epochs, default=0), float(value)))
    return points


def _study(linsweep: Linsweep, sweep: str, uri: str | None, found: Audit) -> None:
    file = linsweep.folder / "runs" / sweep / "study.log"
    storage = uri or JournalStorage(JournalFileBackend(str(file)))
    told = optuna.load_study(study_name=sweep, storage=storage).trials
    searched = {trial.rpartition("-")[0] for trial in linsweep.trials(sweep) if trial.startswith("t")}
    if len(told) != len(searched):
        found.problems.append(f"the study has {len(told)} trials for {len(searched)} configurations")
    open_trials = [trial.number for trial in told if not trial.state.is_finished()]
    if open_trials:
        found.problems.append(f"the study's trials {open_trials} are still running")


def _mlflow(linsweep: Linsweep, sweep: str, wanted: set[str], uri: str, found: Audit) -> None:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(sweep)
    if experiment is None:
        found.problems.append("MLflow has no such experiment")
        return
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    named = sorted(run.data.tags["sweep.trial_id"] for run in runs)
    if named != sorted([*wanted, "parent"]):
        found.problems.append(f"MLflow's runs are of {named}")
    for run in runs:
        trial = run.data.tags["sweep.trial_id"]
        if trial == "parent":
            continue
        for key, points in effective(linsweep.events(sweep, trial)).items():
            history = sorted((p.step, p.value) for p in client.get_metric_history(run.info.run_id, key))
            if history != sorted(points):
                found.problems.append(f"{trial} {key}: MLflow has {history}, the journal {points}")
