"""The link between a schedule and an executor: which trials run, which are stopped early, and how each one ended."""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from linearizer_core.experiment.journal import BY_HAND, ENDED, Journal, TrialIdentity, state_of
from linearizer_core.experiment.state import remove_state
from sweeps.execution.grouping import Grouping
from sweeps.execution.stop import INTERRUPTED, stop_reason
from sweeps.execution.task import Task
from sweeps.record.paths import SweepPaths
from sweeps.search.halving import Halving, why_stopped
from sweeps.search.schedule import PlannedTrial, Schedule


class Bridge:
    """What an executor asks and reports to: the schedule, early stopping, and the trial of each of its jobs."""

    def __init__(
        self,
        schedule: Schedule,
        halving: Halving | None,
        paths: SweepPaths,
        task: Callable[[PlannedTrial], Task],
        grouping: Grouping | None = None,
    ) -> None:
        self.schedule = schedule
        self.halving = halving
        self.paths = paths
        self.task = task
        self.running: dict[str, PlannedTrial] = {}
        self._stops: dict[str, str] = {}
        self._errors: dict[str, str] = {}
        self.trouble: str | None = None
        """What is wrong with the disk or the bucket, if anything; no further trial starts then."""
        self._given_back: Counter[str] = Counter()
        self._grouping = grouping
        self._apart: set[str] = set()

    @property
    def over(self) -> bool:
        """Whether no further trial may start."""
        return self.trouble is not None or self.paths.stop.exists()

    def start(self, job: str) -> Task | None:
        """The next trial, or None if there is none to run or none may start."""
        while (planned := None if self.over else self.schedule.next()) is not None:
            if not self.paths.stop_of(planned.identity.trial).exists():
                self.running[job] = planned
                return self.task(planned)
            self._stop_before_it_runs(planned)
        return None

    def most_beside(self, job: str) -> int:
        """How many trials may train together with that of a job, itself included."""
        planned = self.running[job]
        if self._grouping is None or planned.identity.trial in self._apart:
            return 1
        return self._grouping.most(planned)

    def start_beside(self, job: str, other: str) -> Task | None:
        """The next trial, for a job of its own, if it may train together with that of another job."""
        mine, grouping = self.running[other], self._grouping

        def takes(planned: PlannedTrial) -> bool:
            name = planned.identity.trial
            if grouping is None or name in self._apart or self.paths.stop_of(name).exists():
                return False
            return grouping.alike(mine, planned)

        planned = None if self.over else self.schedule.next_if(takes)
        if planned is None:
            return None
        self.running[job] = planned
        return self.task(planned)

    def part(self, job: str) -> bool:
        """Have a trial that failed while it trained together with others tried by itself; False if it is over.

        It may be any of them that the others failed of, or that there was no memory for so many.
        """
        planned = self.running.get(job)
        if planned is None:
            return False
        name = planned.identity.trial
        result = state_of(self.paths.journal(name))
        said = [result.reason or "", self._errors.get(job, "")]
        if result.state in ENDED or any(of_the_disk(each) for each in said) or self.paths.stop_of(name).exists():
            return False
        self._apart.add(name)
        self._errors.pop(job, None)
        self.schedule.take_back(planned)
        del self.running[job]
        return True

    def _stop_before_it_runs(self, planned: PlannedTrial) -> None:
        """End a trial that was asked to stop while it waited, or that a dead launch had been asked to stop."""
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
        """Whether successive halving stops the trial here, or another seed has decided its configuration."""
        planned = self.running.get(job)
        if planned is None or self.halving is None or planned.identity.kind != "search" or "state" in result:
            return False
        if self.schedule.decided(planned.identity.trial):
            return True
        key = next(iter(self.schedule.sweep.search.objective))
        if key not in result:
            return False  # a function need not report every metric at each step
        rivals = self.schedule.competitors(planned.identity.trial)
        rung = self.halving.decide(planned.identity.trial, result["epoch"], float(result[key]), rivals)
        if rung is not None:
            self._stops[job] = why_stopped(rung)
        return rung is not None

    def error(self, job: str, message: str) -> None:
        """Remember why a trial failed; it is forgotten if the trial is tried again."""
        self._errors[job] = message

    def wait(self, job: str) -> TrialIdentity:
        """The trial waits for a place, for the first time or again; the error of its last attempt is forgotten."""
        self._errors.pop(job, None)
        return self.running[job].identity

    def give_back(self, job: str) -> None:
        """Return a trial to the schedule whose process died before it took the trial up.

        This happens at most as often as a trial may be retried, since the trial may be the reason.
        """
        planned = self.running.get(job)
        if planned is None:
            return
        self._given_back[planned.identity.trial] += 1
        if self._given_back[planned.identity.trial] <= self.schedule.sweep.model.resources.retries:
            self.schedule.take_back(planned)
            del self.running[job]

    def end(self, job: str) -> None:
        """The trial has ended: write its end to the journal, if it could not itself, and tell the schedule.

        A trial that was asked to stop before its end continues with the next launch, and one that was given back has
        not ended. A disk that is full or broken is not the trial's fault: it continues with the next launch too.
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
        del self.running[job]  # last: if anything above raises, the executor tries the trial again

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
            if not result.begun:  # it failed before it wrote its first line
                task = self.task(planned)
                journal.trial(task.identity, task.config, task.provenance)
            # The reason that the trial gave itself is closer to the cause than the executor's.
            journal.end("failed", result.epoch, result.reason or self._errors[job])
        elif result.state is None and job in self._stops:
            Journal(path).end("stopped", result.epoch, self._stops[job])
        elif result.state is None and result.begun:  # a trial that still waits for a place has written nothing
            Journal(path).end("interrupted", result.epoch, stop_reason(self.paths) or INTERRUPTED)
        result = state_of(path)
        if result.state in ENDED:
            asked.unlink(missing_ok=True)
            if not result.extensible and not result.by_hand:
                with suppress(OSError):  # the next launch tries again
                    remove_state(self.paths.training_state(planned.identity.trial))
            self.schedule.take_outcome(planned.identity.trial, result.outcome)


DISK = "|".join(str(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO))
TROUBLE = re.compile(rf"\[Errno (?:{DISK})\] (.+)|BucketError: (.+)")


def of_the_disk(message: str) -> str | None:
    """The part of an error that says that the disk is full, broken or read-only; None for any other error.

    A bucket that refuses, or has been away for too long, is such a disk.

    >>> of_the_disk("OSError: [Errno 28] No space left on device: 'runs/demo/ledger.json'")
    "No space left on device: 'runs/demo/ledger.json'"
    >>> of_the_disk("FileNotFoundError: [Errno 2] No such file or directory: 'images'")
    >>> of_the_disk("BucketError: s3://team/runs: there is no such bucket")
    's3://team/runs: there is no such bucket'
    """
    found = TROUBLE.search(message)
    return found[1] or found[2] if found else None
