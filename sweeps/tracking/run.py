"""A trial's journal as an MLflow run: its tags, parameters, metrics, data set and state."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

from linearizer_core.experiment.journal import TrialState, fold, lines
from linearizer_core.experiment.journal_lines import EndEvent, TrialEvent
from linearizer_core.experiment.nested import flatten
from sweeps.tracking.views import CONFIGURATION_TAG
from sweeps.words import describe_point

STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED", "interrupted": "KILLED"}
LONGEST_TAG = 5000
DIGEST = 36
"""The most characters that MLflow stores of a data set's digest."""


@dataclass
class Update:
    """What a piece of a journal adds to its run.

    ``first`` is the trial's first line, ``again`` whether another attempt begins, ``end`` the trial's end unless it has
    continued since; ``epoch`` is the last epoch whose metrics are sent after this update.
    """

    epoch: int
    metrics: list[Metric]
    params: list[Param] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    artifacts: list[str] = field(default_factory=list)
    first: TrialEvent | None = None
    again: bool = False
    end: EndEvent | None = None


def update_of(state: TrialState, epoch: int, begins: bool) -> Update:
    """What a piece of a journal, folded into a state, adds to a run with metrics up to ``epoch``.

    ``begins`` is whether the piece is the journal's first one.
    """
    metrics: list[Metric] = []
    for event in state.trained.values():
        # A retried trial may train an epoch again: it is the same epoch, and was sent already.
        if event["epoch"] > epoch:
            epoch = event["epoch"]
            metrics += _points(event["metrics"], event["time"], epoch)
    for curve in state.curves.values():
        points = zip(curve["steps"], curve["values"], strict=True)
        metrics += [Metric(curve["metric"], float(value), _stamp(curve["time"]), step) for step, value in points]
    if state.summary:
        metrics += _points(state.summary["metrics"], state.summary["time"], epoch)
    update = Update(epoch, metrics, warnings=list(state.warnings), artifacts=list(state.artifacts), end=state.end)
    first = state.first if begins else None
    if first:
        # Parameters stay those of the first attempt: MLflow refuses changes, and only folders can differ.
        update.first = first
        update.params = [Param(name, _text(value)) for name, value in flatten(first["config"]).items()]
    if state.head and state.head is not first:
        update.again = True
        update.tags |= attempt_tags(state.head)
    if state.last_end:
        update.tags |= {"sweep.state": state.last_end["state"], "sweep.epoch": str(state.last_end["epoch"])}
    if state.diverged:
        update.tags["sweep.diverged"] = "true"
    if state.end and state.reason:
        update.tags["stop_reason"] = state.reason[:LONGEST_TAG]
    return update


def _points(metrics: Mapping[str, float], time: float, step: int) -> Iterator[Metric]:
    stamp = _stamp(time)
    return (Metric(key, float(value), stamp, step) for key, value in metrics.items())


def _stamp(time: float) -> int:
    """UNIX seconds as MLflow's milliseconds."""
    return int(time * 1000)


def tags_of(event: TrialEvent) -> dict[str, str]:
    """The tags that a run starts with, from its trial's first line."""
    tags = {
        "mlflow.runName": run_name(event),
        "sweep.config_hash": event["config_hash"],
        "sweep.number": str(event["number"]),
        "sweep.overrides": json.dumps(event["overrides"]),
        **attempt_tags(event),
    }
    if event["kind"] != "reference":
        tags[CONFIGURATION_TAG] = run_name(event).replace(f"-s{event['seed']}", "", 1)
    for name, value in (("reused_from", event.get("reused_from")), ("label", event["label"])):
        if value:
            tags[f"sweep.{name}"] = value
    if event["seed"] is not None:
        tags["sweep.seed"] = str(event["seed"])
    origin = event["provenance"]
    for name in ("packages", "hardware"):
        if name in origin:
            tags[f"sweep.{name}"] = json.dumps(origin[name], sort_keys=True)
    if "data_checksum" in origin:
        tags["sweep.data_checksum"] = origin["data_checksum"]
    commit = origin.get("git", {}).get("commit")
    if commit:
        tags["mlflow.source.git.commit"] = commit
        tags["sweep.git_dirty"] = str(origin["git"]["dirty"]).lower()
    return tags


def attempt_tags(event: TrialEvent) -> dict[str, str]:
    """The number and start of the attempt that a journal's line begins: earlier results may not count."""
    return {"sweep.attempt": str(event["attempt"]), "sweep.attempt_started": str(_stamp(event["time"]))}


def worked_tag(journal: Path) -> dict[str, str]:
    """The milliseconds that a trial's attempts took, if its first line and its end do not give them."""
    state = fold(lines(journal, journal.read_bytes()))
    return {"sweep.worked": str(round(1000 * state.worked))} if state.odd_times else {}


def warnings_tag(warnings: Iterable[str]) -> str:
    """Warnings in the form of a run's tag, without duplicates."""
    return "\n".join(dict.fromkeys(warnings))[:LONGEST_TAG]


def data_set(event: TrialEvent) -> DatasetInput | None:
    """The data set of a trial, by name and checksum, as an input of its MLflow run; None if unknown."""
    data, checksum = event["config"].get("data"), event["provenance"].get("data_checksum")
    if not data or not checksum:
        return None
    # The folder of the images is not part of their identity.
    source = {name: value for name, value in data.items() if name not in ("root", "download")}
    dataset = Dataset(data["name"], checksum[:DIGEST], "linsweep", json.dumps(source, sort_keys=True))
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def run_name(event: TrialEvent) -> str:
    """The name of a trial in MLflow's UI: its id with its point of the space or its label."""
    if event["label"]:
        return f"{event['trial']} {event['label']}"
    return f"{event['trial']} {describe_point(event['overrides'])}".strip()


def _text(value: Any) -> str:
    """A leaf of a configuration as MLflow stores it, in quotes if it would be read back as another type."""
    if isinstance(value, str):
        with suppress(ValueError, SyntaxError):
            ast.literal_eval(value)
            return repr(value)
    return str(value)
