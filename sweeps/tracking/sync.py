"""Sending journals to MLflow: never inside Tune's loop, never twice, and never a reason for a sweep to fail."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from analysis.record.copies import fetch_artifacts
from analysis.record.journal_files import journal_files
from analysis.record.mlflow_errors import explain
from analysis.record.mlflow_settings import WRITING, held
from analysis.record.uri import TRACKING_SCHEMES, absolute, sqlite_uri, without_password
from linearizer_core.errors import LinsweepError
from linearizer_core.experiment.journal import TrialState, committed, fold, lines, warn
from linearizer_core.words import counted
from sweeps.record.paths import SweepPaths
from sweeps.record.sweep_json import read_record
from sweeps.spec.validation import InputError, Problem
from sweeps.tracking.connection import Connection, connect, identity_tags
from sweeps.tracking.cursors import Cursor, offsets, save_cursors

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from linearizer_core.experiment.journal_lines import TrialEvent
    from sweeps.tracking.run import Update

NOTED_EVERY = 1.0
"""The most seconds of sending that are repeated after a crash; MLflow stores what is sent twice once."""

DRAWN = {"curves.csv", "ranks.csv", "spectra.csv"}
"""Artifacts of a trial from which figures are drawn."""

REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")
"""MLflow's error codes that concern one run rather than the server."""


class Refused(LinsweepError, RuntimeError):
    """Some journals cannot be sent, while others can."""


def tracking_uri(uri: str | None, paths: SweepPaths) -> str:
    """The spec's tracking URI, or SQLite in the storage folder."""
    return uri or sqlite_uri(paths.mlflow_database.resolve())


@dataclass
class Sync:
    """Sends a sweep's journals to MLflow; ``send`` can be called at any time and continues where it stopped.

    What was sent but not noted (after a crash in between) is sent again with the same time stamps; MLflow stores it
    once.
    """

    paths: SweepPaths
    uri: str
    experiment: str
    sweep: Mapping[str, Any]
    _connection: Connection | None = None
    _sizes: dict[str, int] = field(default_factory=dict)
    """The length of each journal when all of it had been looked at."""
    _over: set[str] = field(default_factory=set)
    """Trials that will not continue while the sweep runs."""
    _noted: float = 0.0
    _unsaved: bool = False
    """Whether cursors have changed since they were last noted."""

    @property
    def _note(self) -> Path:
        """The file of the cursors for this server; each server has its own."""
        own = without_password(tracking_uri(self.sweep["spec"]["tracking"]["uri"], self.paths))
        shown = without_password(self.uri)
        return self.paths.cursors if shown == own else self.paths.cursors_of(shown)

    def send(self, everything: bool = True) -> int:
        """Send what is new and return the number of events; any error of the server is raised as it is.

        Without ``everything``, trials that have finished or were stopped early are not looked at again. Raises
        ``Refused``, after sending all others, if some journals cannot be sent.
        """
        try:
            connection = self.connect()
            with held(WRITING):
                sent, refused = self._send_grown(connection, everything)
        except Exception:
            # It is unknown whether the last request succeeded, so ask the server again what it has.
            self._connection = None
            raise
        if refused:
            # The experiment itself may be gone, so ask the server again.
            self._connection = None
            more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
            raise Refused(refused[0] + more)
        return sent

    def _send_grown(self, connection: Connection, everything: bool) -> tuple[int, list[str]]:
        """The number of events sent, and the refusals by trial."""
        from mlflow.exceptions import MlflowException

        sent = 0
        refused: list[str] = []
        try:
            for trial, size in self._grown(everything):
                try:
                    sent += self._send_journal(connection, trial)
                    self._sizes[trial] = size
                except MlflowException as error:
                    if error.error_code not in REFUSALS:
                        raise
                    refused.append(f"{trial}: {explain(error, self.uri)}")
            if everything:
                self._withdraw(connection)
        finally:
            if self._unsaved:
                self._save(connection)
        return sent, refused

    def pending(self) -> int:
        """How many bytes of the journals have not been sent."""
        return sum(self._lacking().values())

    def lack(self) -> str:
        """What has not been sent, in words."""
        lacking = self._lacking()
        trials = counted(len(lacking), "trial")
        return f"{-(-sum(lacking.values()) // 1024)} KiB of the journals of {trials}"

    def _lacking(self) -> dict[str, int]:
        if self._connection is not None:
            sent = {trial: cursor.offset for trial, cursor in self._connection.cursors.items()}
        else:
            sent = offsets(self._note)
        sizes = {path.stem: path.stat().st_size for path in journal_files(self.paths.journals)}
        return {trial: size - sent.get(trial, 0) for trial, size in sizes.items() if size > sent.get(trial, 0)}

    def connect(self) -> Connection:
        """The connection to the server; the sweep's experiment and run are created if they are missing.

        Raises ``ExperimentError`` if the experiment cannot be used; any error of the server is raised as it is.
        """
        if self._connection is None:
            self._sizes.clear()
            self._over.clear()
            self._connection = connect(self.paths, self.uri, self.experiment, self.sweep, self._note)
        return self._connection

    def _save(self, connection: Connection) -> None:
        shown = without_password(self.uri)
        save_cursors(self._note, shown, connection.experiment, self.experiment, connection.parent, connection.cursors)
        self._noted = time.monotonic()
        self._unsaved = False

    def _grown(self, everything: bool) -> Iterator[tuple[str, int]]:
        """The trials whose journals have grown since they were sent, with the journals' lengths."""
        if not self.paths.journals.exists():
            return
        for path in journal_files(self.paths.journals):
            trial = path.stem
            if everything or trial not in self._over:
                size = path.stat().st_size
                if size != self._sizes.get(trial):
                    yield trial, size

    def _withdraw(self, connection: Connection) -> None:
        """Delete the runs of trials that were set aside; MLflow can restore deleted runs."""
        for trial in list(connection.cursors):
            if not self.paths.journal(trial).exists() and (self.paths.superseded / f"{trial}.jsonl").exists():
                connection.client.delete_run(connection.cursors.pop(trial).run)
                self._unsaved = True
                self._sizes.pop(trial, None)
                self._over.discard(trial)

    def _send_journal(self, connection: Connection, trial: str) -> int:
        from sweeps.tracking.run import update_of, worked_tag

        cursor = connection.cursors.get(trial)
        if cursor is not None and self._is_another(connection, trial, cursor):
            # A run's parameters cannot change, so a trial that trains for more epochs gets a new run.
            connection.client.delete_run(connection.cursors.pop(trial).run)
            connection.places.pop(cursor.run, None)
            self._unsaved, cursor = True, None
        sent = 0
        for piece in committed(self.paths.journal(trial), cursor.offset if cursor else 0):
            begins = cursor is None or not cursor.offset
            state = fold(piece.events, TrialState(begun=not begins))
            warn(state.damage)
            if begins and state.first is not None:
                # A new run gets the present configuration.
                state.attempts[0].event = self._as_it_is(trial, state.first)
            update = update_of(state, cursor.epoch if cursor else 0, begins)
            if update.end is not None:
                update.tags |= worked_tag(self.paths.journal(trial))
            if cursor is None:
                if state.first is None:  # only unreadable lines
                    continue
                run = self._create_run(connection, trial, state.first, update)
                cursor = connection.cursors[trial] = Cursor(run)
            elif update.again or update.warnings:
                self._merge(connection.client, cursor.run, update)
            self._send_update(connection, trial, cursor, piece.end, update)
            sent += piece.whole
            if time.monotonic() - self._noted > NOTED_EVERY:
                self._save(connection)
        return sent

    def _as_it_is(self, trial: str, first: TrialEvent) -> TrialEvent:
        """A trial's first line, with the configuration of its last attempt."""
        head = self._head(trial)
        if head is None or head["config_hash"] == first["config_hash"]:
            return first
        return {**first, "config": head["config"], "config_hash": head["config_hash"]}

    def _is_another(self, connection: Connection, trial: str, cursor: Cursor) -> bool:
        """Whether a trial continues with another configuration than the one that its run has."""
        with self.paths.journal(trial).open("rb") as file:
            file.seek(cursor.offset)
            if b'"event": "trial"' not in file.read():
                return False
        head = self._head(trial)
        if head is None:
            return False
        known = connection.client.get_run(cursor.run).data.tags.get("sweep.config_hash")
        return known is not None and known != head["config_hash"]

    def _head(self, trial: str) -> TrialEvent | None:
        """The first line of a trial's last attempt; damage in the journal is reported when it is sent."""
        path = self.paths.journal(trial)
        return fold(lines(path, path.read_bytes())).head

    def _create_run(self, connection: Connection, trial: str, event: TrialEvent, update: Update) -> str:
        """Create the run of a trial with the tags of its first update, which saves a request.

        The update's tags are empty afterwards.
        """
        from sweeps.tracking.run import tags_of, warnings_tag

        tags = (
            identity_tags(self.sweep, trial, event["kind"]) | {"mlflow.parentRunId": connection.parent} | tags_of(event)
        )
        if update.warnings:
            tags["sweep.warnings"] = warnings_tag(update.warnings)
        tags |= update.tags
        update.tags.clear()
        started = int(event["time"] * 1000)
        made = connection.client.create_run(connection.experiment, tags=tags, start_time=started).info
        # Otherwise the client would ask the server for what it has just answered.
        connection.remember_place(made)
        return str(made.run_id)

    def _send_update(self, connection: Connection, trial: str, cursor: Cursor, end: int, update: Update) -> None:
        """Send an update to its run, which then covers the journal up to ``end``."""
        from mlflow.entities import RunTag

        from sweeps.tracking.run import STATUS, data_set

        client = connection.client
        tags = [RunTag(key, value) for key, value in update.tags.items()]
        client.log_batch(cursor.run, metrics=update.metrics, params=update.params, tags=tags)
        if update.first is not None:
            dataset = data_set(update.first)
            if dataset is not None:
                client.log_inputs(cursor.run, [dataset])
            # The whole resolved configuration and its origin.
            with TemporaryDirectory() as folder:
                path = Path(folder) / "trial.json"
                path.write_text(json.dumps(update.first, indent=2, ensure_ascii=False) + "\n", "utf-8")
                connection.place(cursor.run).log_artifact(str(path))
        if update.artifacts:
            fetch_artifacts(self.paths.root, trial)
        for name in update.artifacts:
            path = self.paths.artifacts(trial) / name
            if path.is_dir():
                connection.place(cursor.run).log_artifacts(str(path), name)
            elif path.exists():
                connection.place(cursor.run).log_artifact(str(path))
        if DRAWN & set(update.artifacts):
            self._send_figures(connection, cursor.run, self.paths.artifacts(trial))
        if update.end is not None:
            ended = int(update.end["time"] * 1000)
            client.set_terminated(cursor.run, STATUS[update.end["state"]], end_time=ended)
        elif update.again:
            client.update_run(cursor.run, status="RUNNING")
        cursor.offset, cursor.epoch = end, update.epoch
        self._unsaved = True
        if update.end is not None and update.end["state"] in ("finished", "stopped"):
            self._over.add(trial)
            connection.places.pop(cursor.run, None)
        else:
            self._over.discard(trial)

    def _send_figures(self, connection: Connection, run: str, folder: Path) -> None:
        """Draw the figures of a trial's artifacts and send them along."""
        # Importing Matplotlib and pandas takes seconds, so wait for the first trial with something to draw.
        from analysis.figures.trial_figures import trial_figures

        try:
            figures = trial_figures(folder)
        except Exception:  # noqa: BLE001 - the numbers are sent; a figure that fails must not hold up other trials
            return
        if figures:
            with TemporaryDirectory() as place:
                for name, content in figures.items():
                    (Path(place) / name).write_bytes(content)
                connection.place(run).log_artifacts(place, "figures")

    def _merge(self, client: MlflowClient, run: str, update: Update) -> None:
        """Merge an update with what the run has: its warnings, and the reason why an attempt ended."""
        from sweeps.tracking.run import warnings_tag

        known = client.get_run(run).data.tags
        if update.warnings:
            before = known.get("sweep.warnings", "").splitlines()
            update.tags["sweep.warnings"] = warnings_tag([*before, *update.warnings])
        if update.again and "stop_reason" in known and "stop_reason" not in update.tags:
            client.delete_tag(run, "stop_reason")


def sync_of(folder: Path, uri: str | None) -> Sync:
    """The sync of a recorded sweep to its own tracking server or another one."""
    if uri is not None and not uri.startswith(TRACKING_SCHEMES):
        raise InputError("--to", [Problem("", f"must begin with one of {', '.join(TRACKING_SCHEMES)}, got {uri!r}")])
    paths = SweepPaths(folder)
    record = read_record(paths)
    assert record is not None, f"{folder} holds no sweep"
    tracking = record["spec"]["tracking"]
    experiment = tracking["experiment"] or record["name"]
    return Sync(paths, tracking_uri(absolute(uri) if uri else tracking["uri"], paths), experiment, record)
