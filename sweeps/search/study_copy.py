"""A sweep's study where optuna-dashboard can show it: a copy, kept up to date in a thread of its own.

The study that samples is in memory and is rebuilt from the journals by every launch, so that neither a database that is
away nor what a crash left in it can touch the search.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, TrialState

from analysis.record.uri import describe, without_password
from sweeps.record.paths import SweepPaths
from sweeps.spec.validation import InputError, Problem

OWNER = "sweep.id"
"""User attribute of a study: which sweep it belongs to."""

PERIOD = 1.0
LONGEST_WAIT = 30.0
PATIENCE = 60.0
"""Seconds without an answer after which a storage is taken to hang: drivers themselves wait for ever."""


def study_storage(uri: str | None, paths: SweepPaths) -> BaseStorage:
    """The database, or the journal file in the record; raises whatever the database's driver raises."""
    if uri is None:
        return JournalStorage(JournalFileBackend(str(paths.study)))
    # A database that restarts closes its connections: each is tried before it is used.
    return RDBStorage(uri, engine_kwargs={"pool_pre_ping": True})


class Mirror:
    """Copies a study's trials until closed; a storage that is away is tried again, less and less often.

    Only its own thread speaks to the storage: one that hangs, hangs there.
    """

    def __init__(self, study: optuna.Study, uri: str | None, paths: SweepPaths, sweep_id: str) -> None:
        """Raises ``InputError`` where the storage cannot be reached, or has another sweep's study of this name."""
        self.error: str | None = None
        self._study = study
        self._uri = uri
        self._paths = paths
        self._sweep_id = sweep_id
        self._copied: list[tuple[int, TrialState]] = []
        self._opened: Future[tuple[BaseStorage, int]] = Future()
        self._closing = threading.Event()
        self._answered = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="study-mirror", daemon=True)
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

    def _open(self) -> tuple[BaseStorage, int]:
        """The storage with this sweep's study, empty: what an earlier launch copied is copied anew."""
        if self._uri is None:
            self._paths.study.unlink(missing_ok=True)
        storage = study_storage(self._uri, self._paths)
        for known in storage.get_all_studies():
            if known.study_name != self._study.study_name:
                continue
            if known.user_attrs.get(OWNER) != self._sweep_id:
                message = (
                    f"holds another sweep's study {known.study_name}; give this sweep another name, or delete it there"
                )
                raise InputError(self._paths.root.name, [Problem("search.storage", message)])
            storage.delete_study(known._study_id)
        study = storage.create_new_study(self._study.directions, self._study.study_name)
        storage.set_study_user_attr(study, OWNER, self._sweep_id)
        return storage, study

    def _work(self) -> None:
        try:
            self._opened.set_result(self._open())
        except Exception as error:  # noqa: BLE001 - told to the thread that waits for it
            self._opened.set_exception(error)
            return
        wait = PERIOD
        while not self._closing.wait(wait):
            wait = PERIOD if self._try() else min(2 * wait, LONGEST_WAIT)
        self._try()

    def _try(self) -> bool:
        try:
            self._copy()
        except Exception as error:  # noqa: BLE001 - the search does not depend on it
            self.error = describe(error, self._uri or "")
            return False
        self.error = None
        return True

    def _copy(self) -> None:
        storage, _ = self._opened.result()
        for trial in self._study.get_trials(deepcopy=False):
            self._answered = time.monotonic()
            if trial.number >= len(self._copied):
                self._copied.append(self._create(trial))
            elif self._copied[trial.number][1] != trial.state:
                copied = self._copied[trial.number][0]
                _bring_up_to_date(storage, copied, trial)
                self._copied[trial.number] = copied, trial.state

    def _create(self, trial: FrozenTrial) -> tuple[int, TrialState]:
        """A copy of the trial; one that a lost answer left behind is taken for it."""
        storage, study = self._opened.result()
        present = storage.get_all_trials(study, deepcopy=False)
        if trial.number < len(present):
            return present[trial.number]._trial_id, present[trial.number].state
        return storage.create_new_trial(study, template_trial=trial), trial.state

    def close(self) -> None:
        """End the thread once everything is copied, or the storage refuses it or does not answer any more."""
        self._closing.set()
        self._answered = time.monotonic()
        while self._thread.is_alive():
            if time.monotonic() - self._answered > PATIENCE:
                self.error = f"no answer within {PATIENCE:g} s"
                return
            self._thread.join(PERIOD)


def _bring_up_to_date(storage: BaseStorage, copied: int, trial: FrozenTrial) -> None:
    before = storage.get_trial(copied)
    if before.state.is_finished():
        return  # the answer of an earlier try was lost
    for name in trial.params.keys() - before.params.keys():
        distribution = trial.distributions[name]
        storage.set_trial_param(copied, name, distribution.to_internal_repr(trial.params[name]), distribution)
    for key, value in trial.user_attrs.items():
        storage.set_trial_user_attr(copied, key, value)
    for key, system in trial.system_attrs.items():
        storage.set_trial_system_attr(copied, key, system)
    for step, intermediate in trial.intermediate_values.items():
        storage.set_trial_intermediate_value(copied, step, intermediate)
    values: Any = trial.values
    storage.set_trial_state_values(copied, trial.state, values)
