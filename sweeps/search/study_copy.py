"""A copy of a sweep's study for optuna-dashboard, kept up to date in its own thread.

The study that samples lives in memory, and every launch rebuilds it from the journals. So neither a database that is
unreachable nor what a crash left in it affects the search.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalStorage
from sqlalchemy.engine import make_url

from analysis.record.uri import describe, without_password
from sweeps.record.paths import SweepPaths
from sweeps.spec.validation import InputError, Problem

OWNER = "sweep.id"
"""User attribute of a study: the id of the sweep it belongs to."""

PERIOD = 1.0
LONGEST_WAIT = 30.0
PATIENCE = 60.0
"""Seconds without an answer after which a storage counts as hung; drivers themselves wait for ever."""


def study_storage(uri: str | None, paths: SweepPaths) -> BaseStorage:
    """The database, or the journal file in the record; raises whatever the database's driver raises.

    A file's path becomes absolute, so that it does not depend on the process's later folder.
    """
    if uri is None:
        return JournalStorage(JournalFileBackend(str(paths.study.absolute())))
    url = make_url(uri)
    if url.get_backend_name() == "sqlite" and url.database:
        url = url.set(database=str(Path(url.database).absolute()))
    # A database that restarts closes its connections, so each is tested before use.
    return RDBStorage(url.render_as_string(hide_password=False), engine_kwargs={"pool_pre_ping": True})


class StudyCopy:
    """Copies a study's trials as they end, until closed; an unreachable storage is retried less and less often.

    Only its own thread talks to the storage, so a storage that hangs blocks nothing else.
    """

    def __init__(self, study: optuna.Study, uri: str | None, paths: SweepPaths, sweep_id: str) -> None:
        """Raises ``InputError`` if the storage cannot be reached, or holds another sweep's study of this name."""
        self.error: str | None = None
        self._study = study
        self._uri = uri
        self._paths = paths
        self._sweep_id = sweep_id
        self._copied = 0
        self._opened: Future[optuna.Study] = Future()
        self._closing = threading.Event()
        self._answered = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="study-copy", daemon=True)
        self._thread.start()
        try:
            self._opened.result(PATIENCE)
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 - drivers have errors of their own
            where = without_password(uri or str(paths.study))
            late = isinstance(error, FutureTimeout) and not self._opened.done()
            why = f"no answer within {PATIENCE:g} s" if late else describe(error, uri or "")
            message = f"{where} cannot be used: {why}"
            raise InputError(paths.root.name, [Problem("search.storage", message)]) from None

    def _open(self) -> optuna.Study:
        """This sweep's study in the storage, empty: what an earlier launch copied is copied again."""
        if self._uri is None:
            # Remove locks of a killed launch too: Optuna would wait for them.
            locks = list(self._paths.root.glob(f"{self._paths.study.name}.lock*"))
            for file in (self._paths.study, *locks):
                file.unlink(missing_ok=True)
        storage, name = study_storage(self._uri, self._paths), self._study.study_name
        if name in optuna.get_all_study_names(storage):
            known = optuna.load_study(study_name=name, storage=storage)
            if known.user_attrs.get(OWNER) != self._sweep_id:
                message = f"holds another sweep's study {name}; give this sweep another name, or delete that study"
                raise InputError(self._paths.root.name, [Problem("search.storage", message)])
            optuna.delete_study(study_name=name, storage=storage)
        copy = optuna.create_study(study_name=name, storage=storage, directions=self._study.directions)
        copy.set_user_attr(OWNER, self._sweep_id)
        return copy

    def _work(self) -> None:
        try:
            self._opened.set_result(self._open())
        except Exception as error:  # noqa: BLE001 - passed to the thread that waits for it
            self._opened.set_exception(error)
            return
        wait = PERIOD
        while not self._closing.wait(wait):
            wait = PERIOD if self._try() else min(2 * wait, LONGEST_WAIT)
        self._try()

    def _try(self) -> bool:
        try:
            self._copy()
        except Exception as error:  # noqa: BLE001 - the search does not depend on the copy
            self.error = describe(error, self._uri or "")
            return False
        self.error = None
        return True

    def _copy(self) -> None:
        """Add the trials that have ended, in order, up to the first that has not."""
        copy = self._opened.result()
        if self.error is not None:
            # The trial may have been added although the answer was lost.
            self._copied = len(copy.get_trials(deepcopy=False))
        for trial in self._study.get_trials(deepcopy=False)[self._copied :]:
            if not trial.state.is_finished():
                break
            self._answered = time.monotonic()
            copy.add_trial(trial)
            self._copied += 1

    def close(self) -> None:
        """Stop the thread once everything is copied, or once the storage refuses it or no longer answers."""
        self._closing.set()
        self._answered = time.monotonic()
        while self._thread.is_alive():
            if time.monotonic() - self._answered > PATIENCE:
                self.error = f"no answer within {PATIENCE:g} s"
                return
            self._thread.join(PERIOD)
