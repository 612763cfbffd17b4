"""What an executor runs: jobs, each of one trial or of several that train together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sweeps.execution.bridge import Bridge
from sweeps.execution.progress import Progress
from sweeps.execution.task import MEMBER, Task


class Jobs:
    """Passes on what happens to an executor's jobs, to the bridge and the view, trial by trial.

    A job is a name that the executor gives. Of one that several trials share each trial ends by itself: what is left of
    the job are those that have not.
    """

    def __init__(self, bridge: Bridge, progress: Progress) -> None:
        self.bridge = bridge
        self.progress = progress
        self._open: dict[str, dict[str, str]] = {}
        self._several: set[str] = set()

    def start(self, job: str) -> list[Task]:
        """The trials that a job is to carry out, none while there are none, or none may start any more."""
        first = self.bridge.start(job)
        if first is None:
            return []
        tasks, members = [first], {first.identity.trial: job}
        while len(tasks) < self.bridge.most_beside(job):
            name = f"{job}+{len(tasks)}"
            task = self.bridge.start_beside(name, job)
            if task is None:
                break
            tasks.append(task)
            members[task.identity.trial] = name
        self._open[job] = members
        if len(tasks) > 1:
            self._several.add(job)
        return tasks

    def wait(self, job: str, placed: Callable[[], bool]) -> None:
        """A job waits for its place, for the first time or again; ``placed`` says whether it has it now."""
        for member in self._open[job].values():
            self.progress.add(self.bridge.wait(member), member, placed, place=job)

    def result(self, job: str, result: Mapping[str, Any]) -> bool:
        """A trial has got further; whether the job is to be ended here.

        Of several trials one that is over is ended at once, and what carries them out finds that in its journal.
        """
        if job not in self._several:
            self.progress.result(job, result)
            return self.bridge.must_stop(job, result)
        members = self._open[job]
        member = members.get(str(result.get(MEMBER)))
        if member is not None:
            self.progress.result(member, result)
            if self.bridge.must_stop(member, result) or "state" in result:
                del members[result[MEMBER]]
                self._end(member)
        return not members

    def error(self, job: str, message: str) -> None:
        """Keep why a job failed, of each trial that has not ended."""
        for member in self._open.get(job, {}).values():
            self.bridge.error(member, message)

    def give_back(self, job: str) -> None:
        """The process of a job had died before it took it up."""
        for member in reversed(self._open.get(job, {}).values()):
            self.bridge.give_back(member)

    def end(self, job: str, failed: bool = False) -> None:
        """A job is over. Trials that ``failed`` while they trained together are tried again one by one."""
        members = self._open.pop(job, {})
        apart = failed and job in self._several
        for member in reversed(members.values()) if apart else members.values():
            if apart and self.bridge.part(member):
                self.progress.drop(member)
            else:
                self._end(member)
        self._several.discard(job)

    def _end(self, member: str) -> None:
        self.bridge.end(member)
        self.progress.end(member)
