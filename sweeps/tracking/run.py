"""What a trial's journal is as a run of MLflow: its tags, parameters, metrics, data set and state."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

from linearizer_core.experiment.nested import flatten
from sweeps.spec.space import describe_point

STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED", "interrupted": "KILLED"}
LONGEST_TAG = 5000
DIGEST = 36
"""Characters that MLflow keeps of a data set's digest."""


@dataclass
class Update:
    """What a piece of a journal adds to its run.

    ``first`` is the trial's first line, ``again`` whether another attempt begins, ``end`` its end if the trial has not
    gone on since; ``epoch`` is the last epoch whose metrics are there then.
    """

    epoch: int
    metrics: list[Metric] = field(default_factory=list)
    params: list[Param] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    artifacts: list[str] = field(default_factory=list)
    first: Mapping[str, Any] | None = None
    again: bool = False
    end: Mapping[str, Any] | None = None


def update_of(events: Iterable[Mapping[str, Any]], epoch: int) -> Update:
    """What events add to a run whose metrics go up to ``epoch``."""
    update = Update(epoch)
    for event in events:
        update.metrics += _metrics(event, update.epoch)
        match event["event"]:
            case "trial" if event["attempt"] == 1:
                update.first = event
                update.params = [Param(name, _text(value)) for name, value in flatten(event["config"]).items()]
            case "trial":
                # Parameters stay those of the first attempt: MLflow refuses others, and only folders can differ.
                update.again, update.end = True, None
                update.tags |= attempt_tags(event)
                update.tags.pop("stop_reason", None)
            case "epoch":
                update.epoch = max(update.epoch, event["epoch"])
            case "artifact":
                update.artifacts.append(event["path"])
            case "warning":
                update.warnings.append(" ".join(event["message"].split()))
            case "end":
                update.end = event
                update.tags |= {"sweep.state": event["state"], "sweep.epoch": str(event["epoch"])}
                if event["reason"]:
                    update.tags["stop_reason"] = event["reason"][:LONGEST_TAG]
    return update


def _metrics(event: Mapping[str, Any], epoch: int) -> Iterator[Metric]:
    """An event's metric points; ``epoch`` is the last one that has been sent."""
    stamp = int(event["time"] * 1000)
    match event["event"]:
        case "epoch" if event["epoch"] > epoch:
            # An epoch that a retried trial trained again is the same epoch: it is there already.
            for key, value in event["metrics"].items():
                yield Metric(key, float(value), stamp, event["epoch"])
        case "curve":
            for step, value in zip(event["steps"], event["values"], strict=True):
                yield Metric(event["metric"], float(value), stamp, step)
        case "summary":
            for key, value in event["metrics"].items():
                yield Metric(key, float(value), stamp, epoch)


def tags_of(event: Mapping[str, Any]) -> dict[str, str]:
    """The tags that a run starts with, from its trial's first line."""
    tags = {
        "mlflow.runName": run_name(event),
        "sweep.config_hash": event["config_hash"],
        "sweep.number": str(event["number"]),
        "sweep.overrides": json.dumps(event["overrides"]),
        **attempt_tags(event),
    }
    for name in ("reused_from", "label"):
        if event.get(name):
            tags[f"sweep.{name}"] = event[name]
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


def attempt_tags(event: Mapping[str, Any]) -> dict[str, str]:
    """Which attempt of a trial a journal's line begins, and when: what came before may not count."""
    return {"sweep.attempt": str(event["attempt"]), "sweep.attempt_started": str(int(event["time"] * 1000))}


def warnings_tag(warnings: Iterable[str]) -> str:
    """Warnings as a run's tag has them, each once."""
    return "\n".join(dict.fromkeys(warnings))[:LONGEST_TAG]


def data_set(event: Mapping[str, Any]) -> DatasetInput | None:
    """The data set of a trial, by name and checksum, as MLflow lists the inputs of a run; None if it is not told."""
    data, checksum = event["config"].get("data"), event["provenance"].get("data_checksum")
    if not data or not checksum:
        return None
    # Where the images lie is no part of which they are.
    source = {name: value for name, value in data.items() if name not in ("root", "download")}
    dataset = Dataset(data["name"], checksum[:DIGEST], "linsweep", json.dumps(source, sort_keys=True))
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def run_name(event: Mapping[str, Any]) -> str:
    """How MLflow's UI calls a trial: its id and its point of the space, or its label."""
    if event["label"]:
        return f"{event['trial']} {event['label']}"
    return f"{event['trial']} {describe_point(event['overrides'])}".strip()


def _text(value: Any) -> str:
    """A leaf of a configuration as MLflow keeps it, in quotes where it would be read back as something else."""
    if isinstance(value, str):
        with suppress(ValueError, SyntaxError):
            ast.literal_eval(value)
            return repr(value)
    return str(value)
