"""MLflow, fed from the journals: never inside Tune's loop, never twice, and never a reason for a sweep to fail."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from linearizer_core.journal import parse
from linearizer_core.nested import flatten
from sweeps.paths import SweepPaths, write_whole
from sweeps.record import read_record
from sweeps.uri import without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

BATCH = 500
"""Metrics a request: MLflow takes up to 1,000."""

STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED", "interrupted": "KILLED"}
SWEEP_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
LONGEST_WAIT = 30.0


def tracking_uri(uri: str | None, paths: SweepPaths) -> str:
    """The spec's tracking URI, or SQLite in the storage folder."""
    return uri or f"sqlite:///{paths.mlflow_database.resolve()}"


@dataclass
class _Position:
    """How far a journal has been sent, to which run; ``epoch`` is the last epoch whose metrics are there."""

    run: str
    offset: int = 0
    epoch: int = 0


@dataclass
class Shipper:
    """Sends a sweep's journals to MLflow; ``ship`` can be called at any time and goes on where it stopped.

    A batch that was sent but not noted (a crash in between) is sent again with the same time stamps, which
    MLflow keeps once.
    """

    paths: SweepPaths
    uri: str
    experiment: str
    sweep: Mapping[str, Any]
    _client: MlflowClient | None = None
    _parent: str = ""
    _experiment_id: str = ""
    _positions: dict[str, _Position] = field(default_factory=dict)

    @property
    def _note(self) -> Path:
        """Where the positions of this server are kept: each server has its own."""
        own = without_password(tracking_uri(self.sweep["spec"]["tracking"]["uri"], self.paths))
        shown = without_password(self.uri)
        return self.paths.shipped if shown == own else self.paths.shipped_to(shown)

    def ship(self) -> int:
        """Send everything new; the number of events sent. Any error of the server comes out as it is."""
        client = self._connect()
        sent = 0
        for path in sorted(self.paths.journals.glob("*.jsonl")):
            sent += self._ship_journal(client, path)
        return sent

    def pending(self) -> int:
        """How many bytes of the journals have not been sent."""
        total = 0
        for path in self.paths.journals.glob("*.jsonl"):
            position = self._positions.get(path.stem)
            total += path.stat().st_size - (position.offset if position else 0)
        return total

    def finish(self) -> None:
        """Close the sweep's parent run as its sweep.json says, with the best value; nothing while the sweep runs."""
        record = read_record(self.paths)
        if record is None or record["ended"] is None:
            return
        client = self._connect()
        ended = int(record["ended"] * 1000)
        client.log_artifact(self._parent, str(self.paths.sweep_json))
        if record["state"] == "finished":
            key = f"best/{next(iter(record['objective']))}"
            client.log_metric(self._parent, key, record["best_value"], timestamp=ended, step=0)
        client.set_tag(self._parent, "sweep.state", record["state"])
        client.set_terminated(self._parent, SWEEP_STATUS[record["state"]], end_time=ended)

    def _connect(self) -> MlflowClient:
        if self._client is not None:
            return self._client
        # The shipper itself waits and tries again: a request must not block it for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        # The link to each run, printed as it ends, would break up the sweep's own progress.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        from mlflow import MlflowClient

        # MLflow sets its loggers up as it is imported.
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)

        client = MlflowClient(self.uri)
        found = client.get_experiment_by_name(self.experiment)
        if found is not None:
            self._experiment_id = found.experiment_id
        else:
            local = not self.uri.startswith(("http://", "https://"))
            location = self.paths.mlflow_artifacts.resolve().as_uri() if local else None
            self._experiment_id = client.create_experiment(self.experiment, artifact_location=location)
        found_parent = self._find(client, "parent")
        self._parent = found_parent or self._create_parent(client)
        if found_parent and self.sweep["state"] == "running":
            client.update_run(self._parent, status="RUNNING")
        self._positions = self._load_positions()
        self._client = client
        return client

    def _load_positions(self) -> dict[str, _Position]:
        """The noted positions, unless they are of another server or of a store that has been emptied since."""
        if not self._note.exists():
            return {}
        noted = json.loads(self._note.read_text())
        if noted["parent"] != self._parent:
            return {}
        return {trial: _Position(**position) for trial, position in noted["runs"].items()}

    def _save_positions(self) -> None:
        runs = {trial: vars(position) for trial, position in self._positions.items()}
        where = {"uri": without_password(self.uri), "experiment": self._experiment_id, "parent": self._parent}
        note = where | {"runs": runs}
        write_whole(self._note, json.dumps(note, indent=1) + "\n")

    def _find(self, client: MlflowClient, trial: str) -> str | None:
        condition = f"tags.`sweep.id` = '{self.sweep['id']}' and tags.`sweep.trial_id` = '{trial}'"
        runs = client.search_runs([self._experiment_id], condition, max_results=1)
        return runs[0].info.run_id if runs else None

    def _create_parent(self, client: MlflowClient) -> str:
        tags = self._tags("parent", "sweep") | {"mlflow.runName": str(self.sweep["name"])}
        run = client.create_run(self._experiment_id, tags=tags, start_time=int(self.sweep["started"] * 1000))
        self._parent = run.info.run_id
        client.log_artifact(self._parent, str(self.paths.sweep_json))
        return self._parent

    def _tags(self, trial: str, kind: str) -> dict[str, str]:
        return {
            "sweep.id": str(self.sweep["id"]),
            "sweep.name": str(self.sweep["name"]),
            "sweep.trial_id": trial,
            "sweep.kind": kind,
        }

    def _ship_journal(self, client: MlflowClient, path: Path) -> int:
        trial = path.stem
        position = self._positions.get(trial)
        offset = position.offset if position else 0
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read()
        end = content.rfind(b"\n") + 1
        if not end:
            return 0
        events = list(parse(content, path))
        if position is None:
            run = self._find(client, trial) or self._create_run(client, trial, events[0])
            position = self._positions[trial] = _Position(run)
        metrics: list[Metric] = []
        epoch = position.epoch
        for event in events:
            metrics += _metrics(event, epoch)
            epoch = max(epoch, event["epoch"]) if event["event"] == "epoch" else epoch
        for start in range(0, len(metrics), BATCH):
            client.log_batch(position.run, metrics=metrics[start : start + BATCH])
        for event in events:
            self._carry_out(client, trial, position.run, event)
        position.offset, position.epoch = offset + end, epoch
        self._save_positions()
        return len(events)

    def _create_run(self, client: MlflowClient, trial: str, event: Mapping[str, Any]) -> str:
        tags = self._tags(trial, event["kind"]) | {
            "mlflow.parentRunId": self._parent,
            "mlflow.runName": run_name(event),
            "sweep.config_hash": event["config_hash"],
        }
        if event["label"]:
            tags["sweep.label"] = event["label"]
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
        run = client.create_run(self._experiment_id, tags=tags, start_time=int(event["time"] * 1000))
        return run.info.run_id

    def _carry_out(self, client: MlflowClient, trial: str, run: str, event: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        match event["event"]:
            case "trial":
                params = [Param(name, str(value)) for name, value in flatten(event["config"]).items()]
                for start in range(0, len(params), 100):
                    client.log_batch(run, params=params[start : start + 100])
                if event["attempt"] > 1:
                    client.update_run(run, status="RUNNING")
                    if "stop_reason" in client.get_run(run).data.tags:
                        client.delete_tag(run, "stop_reason")
            case "artifact":
                path = self.paths.artifacts(trial) / event["path"]
                if path.is_dir():
                    client.log_artifacts(run, str(path), artifact_path=event["path"])
                elif path.exists():
                    client.log_artifact(run, str(path))
            case "end":
                if event["reason"]:
                    client.set_tag(run, "stop_reason", event["reason"][:5000])
                client.set_tag(run, "sweep.state", event["state"])
                client.set_terminated(run, STATUS[event["state"]], end_time=int(event["time"] * 1000))


def _metrics(event: Mapping[str, Any], epoch: int) -> Iterator[Metric]:
    """An event's metric points; ``epoch`` is the last one that has been sent."""
    from mlflow.entities import Metric

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


def run_name(event: Mapping[str, Any]) -> str:
    """How MLflow's UI calls a trial: its id and its point of the space, or its label."""
    if event["label"]:
        return f"{event['trial']} {event['label']}"
    point = " ".join(f"{name.rpartition('.')[2]}={_short(value)}" for name, value in event["overrides"].items())
    return f"{event['trial']} {point}".strip()


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


class BackgroundShipper:
    """Ships in a thread of its own until closed; an unreachable server is tried again, less and less often."""

    def __init__(self, shipper: Shipper, period: float = 1.0) -> None:
        self.shipper = shipper
        self.error: str | None = None
        self._period = period
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="mlflow-shipper", daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        wait = self._period
        while not self._closing.wait(wait):
            wait = self._period if self._try() else min(2 * wait, LONGEST_WAIT)

    def _try(self) -> bool:
        try:
            self.shipper.ship()
        # Whatever the server or the network does, the sweep goes on: the journals have everything.
        except Exception as error:  # noqa: BLE001
            self.error = describe(error, self.shipper.uri)
            return False
        self.error = None
        return True

    def close(self) -> bool:
        """End the thread and send what is left; False, with ``error`` set, when that failed."""
        self._closing.set()
        self._thread.join()
        return self._try()


def comparison_link(base: str, paths: SweepPaths) -> str | None:
    """The page of a storage folder's MLflow that lists a sweep's trials, best first; None if they are not there."""
    if not paths.shipped.exists():
        return None
    record = read_record(paths)
    note = json.loads(paths.shipped.read_text())
    if record is None or note["uri"] != without_password(tracking_uri(None, paths)):
        return None
    objective, mode = next(iter(record["objective"].items()))
    query = {
        # The parent folds its children away.
        "searchFilter": f"tags.`sweep.id` = '{record['id']}' and tags.`sweep.kind` != 'parent'",
        "orderByKey": f"metrics.`{objective}`",
        "orderByAsc": str(mode == "min").lower(),
    }
    return f"{base}/#/experiments/{note['experiment']}/runs?{urlencode(query, quote_via=quote)}"


def describe(error: Exception, uri: str) -> str:
    """An error of MLflow's in one line, without the credentials that a URI may hold."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.replace(uri, without_password(uri))[:300]
