"""Trials in this process, one job after the other: breakpoints work in them, and Ray is not started."""

from __future__ import annotations

import bdb
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from typing import Any

from rich.text import Text

from sweeps.execution.cluster import Capacity, local_capacity
from sweeps.execution.collector import Collector
from sweeps.execution.courier import execute_away
from sweeps.execution.executor import Work
from sweeps.execution.stop import Ending
from sweeps.execution.task import Task
from sweeps.execution.trial import execute, execute_together
from sweeps.spec.model import Sweep
from sweeps.spec.validation import InputError, Problem

TICK = 0.2
"""Seconds between checks of the budget and of requests to stop."""


class InProcess:
    """An ``Executor`` that needs nothing but this process.

    Trials are planned for ``capacity``, by default this machine's, just as with Ray: the order of a search, and so its
    table, depends on how many trials could run at once.
    """

    name = "the trials"
    live = False  # a view that is redrawn twice a second would leave no room for a debugger's prompt

    def __init__(
        self,
        capacity: Capacity | None = None,
        execute: Callable[[Task], Generator[dict[str, Any], None, None]] = execute,
        together: Callable[[Sequence[Task]], Generator[dict[str, Any], None, None]] = execute_together,
    ) -> None:
        self._capacity = capacity
        self._execute = execute
        self._together = together

    def check(self, sweep: Sweep) -> None:
        workers = sweep.model.resources.workers
        if workers > 1:
            message = f"is {workers}, but --debug runs a trial in a single process; add --set resources.workers=1"
            raise InputError(sweep.source, [Problem("resources.workers", message)])

    @contextmanager
    def reached(self) -> Iterator[Capacity]:
        yield self._capacity or local_capacity()

    @contextmanager
    def started(self) -> Iterator[None]:
        yield

    def carry_out(self, work: Work) -> None:
        work.ending.over()  # nothing starts if the budget is spent already
        with _watched(work.ending) as check_watch:
            for number in count():
                check_watch()
                job = str(number)
                tasks = work.jobs.start(job)
                if not tasks:
                    break
                self._run(work, job, tasks)
        work.ending.over()

    def _run(self, work: Work, job: str, tasks: Sequence[Task]) -> None:
        """Run a job; if it raises, retry it as often as its resources allow."""
        failed = False
        for _ in range(1 + work.plan.sweep.model.resources.retries):
            failed = False
            work.jobs.wait(job, lambda: True)
            if work.paths.stop.exists():
                break  # before the first or a further attempt
            try:
                self._attempt(work, job, tasks)
                break
            except bdb.BdbQuit:  # the user left the debugger to end the launch: the trial did not fail
                raise KeyboardInterrupt from None
            except Exception as error:  # noqa: BLE001 - whatever a trial raises is its own failure
                failed = True
                work.console.print(Text(traceback.format_exc()), soft_wrap=True)
                work.jobs.error(job, f"{type(error).__name__}: {' '.join(str(error).split())[:1000]}")
        work.jobs.end(job, failed)

    def _results(self, tasks: Sequence[Task]) -> Generator[dict[str, Any], None, None]:
        task = tasks[0]
        if task.bucket is not None:  # none of these trains together with others
            return execute_away(task, Collector(task.root, task.paths.holder_now()))
        return self._execute(task) if len(tasks) == 1 else self._together(tasks)

    def _attempt(self, work: Work, job: str, tasks: Sequence[Task]) -> None:
        with closing(self._results(tasks)) as results:
            for result in results:
                if work.jobs.result(job, result):
                    return


@contextmanager
def _watched(ending: Ending) -> Iterator[Callable[[], None]]:
    """Keep count of what is spent, and watch the budget and requests to stop, while this thread trains.

    The function it yields raises an error that ended the watch, and so does the end of the block.
    """
    done = threading.Event()
    failures: list[Exception] = []

    def watch() -> None:
        try:
            while not done.wait(TICK):
                ending.over()
        except Exception as error:  # noqa: BLE001 - raised in the thread that trains
            failures.append(error)

    def check() -> None:
        if failures:
            raise failures[0]

    thread = threading.Thread(target=watch, name="ending", daemon=True)
    thread.start()
    try:
        yield check
    finally:
        done.set()
        thread.join()
    check()
