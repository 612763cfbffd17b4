"""Between a schedule and whatever carries its trials out: who runs, who is stopped early, and how each one ended."""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from linearizer_core.experiment.journal import BY_HAND, ENDED, Journal, TrialIdentity, state_of
from linearizer_core.experiment.state import remove_state
from sweeps.execution.stop import INTERRUPTED, stop_reason
from sweeps.execution.task import Task
from sweeps.record.paths import SweepPaths
from sweeps.search.halving import Halving, why_stopped
from sweeps.search.schedule import PlannedTrial, Schedule


class Bridge:
    """What an executor asks and tells: the schedule, the early stopping, and which of its jobs is which trial."""

    def __init__(
        self, schedule: Schedule, halving: Halving | None, paths: SweepPaths, task: Callable[[PlannedTrial], Task]
    ) -> None:
        self.schedule = schedule
        self.halving = halving
        self.paths = paths
        self.task = task
        self.running: dict[str, PlannedTrial] = {}
        self._stops: dict[str, str] = {}
        self._errors: dict[str, str] = {}
        self.trouble: str | None = None
        """What is wrong with the disk, if anything is: nothing new starts then."""
        self._given_back: Counter[str] = Counter()

    @property
    def over(self) -> bool:
        """Whether nothing may start any more."""
        return self.trouble is not None or self.paths.stop.exists()

    def start(self, job: str) -> Task | None:
        """The next trial, or None while there is none to run, or none may start any more."""
        while (planned := None if self.over else self.schedule.next()) is not None:
            if not self.paths.stop_of(planned.identity.trial).exists():
                self.running[job] = planned
                return self.task(planned)
            self._stop_before_it_runs(planned)
        return None

    def _stop_before_it_runs(self, planned: PlannedTrial) -> None:
        """End a trial that was asked to stop while it waited, or that a launch which died had not ended yet."""
        trial = planned.identity.trial
        path = self.paths.journal(trial)
        before, journal = state_of(path), Journal(path)
        if not before.begun:
            task = self.task(planned)
            journal.trial(task.identity, task.config, task.provenance)
        journal.end("stopped", before.epoch, BY_HAND)
        self.paths.stop_of(trial).unlink(missing_ok=True)
        self.schedule.take_outcome(trial, state_of(path).outcome)

    def must_stop(self, job: str, result: Mapping[str, Any]) -> bool:
        """Whether successive halving ends the trial at this result, or another seed has decided its configuration."""
        planned = self.running.get(job)
        if planned is None or self.halving is None or planned.identity.kind != "search" or "state" in result:
            return False
        if self.schedule.decided(planned.identity.trial):
            return True
        key = next(iter(self.schedule.sweep.search.objective))
        if key not in result:
            return False  # a function need not report all at each of its steps
        rivals = self.schedule.competitors(planned.identity.trial)
        rung = self.halving.decide(planned.identity.trial, result["epoch"], float(result[key]), rivals)
        if rung is not None:
            self._stops[job] = why_stopped(rung)
        return rung is not None

    def error(self, job: str, message: str) -> None:
        """Keep why a trial failed: for good, unless it is tried again."""
        self._errors[job] = message

    def wait(self, job: str) -> TrialIdentity:
        """The trial waits for a place, for the first time or again: whatever ended its last attempt is forgotten."""
        self._errors.pop(job, None)
        return self.running[job].identity

    def give_back(self, job: str) -> None:
        """The process that a trial was given had died before it took the trial up: the schedule has it once more.

        As often as a trial may be tried again, for it may be the trial that the process died of.
        """
        planned = self.running.get(job)
        if planned is None:
            return
        self._given_back[planned.identity.trial] += 1
        if self._given_back[planned.identity.trial] <= self.schedule.sweep.model.resources.retries:
            self.schedule.take_back(planned)
            del self.running[job]

    def end(self, job: str) -> None:
        """The trial has ended: write its end into the journal, if it could not itself, and tell the schedule.

        One that was asked to stop before its end goes on with the next launch, and one that was given back is not over.
        A disk that is full or broken is no fault of the trial: it goes on with the next launch as well.
        """
        planned = self.running.get(job)
        if planned is None:
            return
        try:
            self._end(job, planned)
        except OSError as error:
            trouble = of_the_disk(str(error))
            if trouble is None:
                raise
            self.trouble = trouble
        del self.running[job]  # last: where something raises, the executor tries the trial again

    def _end(self, job: str, planned: PlannedTrial) -> None:
        path = self.paths.journal(planned.identity.trial)
        if self.schedule.decided(planned.identity.trial):
            remove_state(self.paths.training_state(planned.identity.trial))
            self.schedule.skip(planned)
            return
        result = state_of(path)
        asked = self.paths.stop_of(planned.identity.trial)
        if result.state not in ENDED and result.begun and asked.exists():
            Journal(path).end("stopped", result.epoch, BY_HAND)
            result = state_of(path)
        if result.state not in ENDED and job in self._errors:
            trouble = of_the_disk(result.reason or "") or of_the_disk(self._errors[job])
            if trouble is not None:
                self.trouble = trouble
                return
            journal = Journal(path)
            if not result.begun:  # it did not come as far as its first line
                task = self.task(planned)
                journal.trial(task.identity, task.config, task.provenance)
            # What the trial said itself is nearer to the cause than what the executor says of it.
            journal.end("failed", result.epoch, result.reason or self._errors[job])
        elif result.state is None and job in self._stops:
            Journal(path).end("stopped", result.epoch, self._stops[job])
        elif result.state is None and result.begun:  # one that was still waiting for its place has written nothing
            Journal(path).end("interrupted", result.epoch, stop_reason(self.paths) or INTERRUPTED)
        result = state_of(path)
        if result.state in ENDED:
            asked.unlink(missing_ok=True)
            if not result.extensible and not result.by_hand:
                with suppress(OSError):  # the next launch has another try
                    remove_state(self.paths.training_state(planned.identity.trial))
            self.schedule.take_outcome(planned.identity.trial, result.outcome)


DISK = "|".join(str(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO))
TROUBLE = re.compile(rf"\[Errno (?:{DISK})\] (.+)")


def of_the_disk(message: str) -> str | None:
    """What an error says of a disk that is full, broken or read-only; None where it is something else.

    >>> of_the_disk("OSError: [Errno 28] No space left on device: 'runs/demo/ledger.json'")
    "No space left on device: 'runs/demo/ledger.json'"
    >>> of_the_disk("FileNotFoundError: [Errno 2] No such file or directory: 'images'")
    """
    found = TROUBLE.search(message)
    return found[1] if found else None
