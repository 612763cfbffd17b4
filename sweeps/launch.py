"""Launching a sweep: run its missing trials, close its record, send the rest to MLflow and notify."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from rich.console import Console

from linearizer_core.plugins.loading import keep
from sweeps.execution.bridge import Bridge
from sweeps.execution.close import close
from sweeps.execution.executor import Executor, run_trials
from sweeps.execution.plan import Plan, make_plan
from sweeps.execution.references import reference_trials
from sweeps.execution.replay import replayed
from sweeps.execution.stop import interrupted_by_sigterm
from sweeps.notify import notify
from sweeps.record.leftovers import remove_leftovers
from sweeps.record.opening import keep_uncommitted, opened
from sweeps.record.paths import SweepPaths
from sweeps.record.requests import request_stop
from sweeps.record.sweep_json import check_to_go_on, read_record, write_record
from sweeps.record.upload import kept_in_bucket
from sweeps.record.writers import await_writers, only_launch
from sweeps.result import LaunchResult
from sweeps.search.growth import bring_back, growth_of, set_right
from sweeps.search.retries import let_go_on, with_retries
from sweeps.search.study_copy import StudyCopy
from sweeps.spec.model import Sweep
from sweeps.spec.validation import InputError
from sweeps.tracking.process import BackgroundSync
from sweeps.tracking.sync import Sync, tracking_uri


def launch(sweep: Sweep, console: Console, executor: Executor, fresh: bool = False) -> LaunchResult:
    """Run the missing trials of a sweep; identical trials that other sweeps finished are reused unless ``fresh``.

    ``executor`` runs the trials; ``executor_for`` chooses one.

    Raises ``InputError``, before anything is written, if no machine can run the trials, the folder holds another
    sweep, or the sweep is running already.
    """
    clock = _Clock()
    with ExitStack() as stack:
        stack.enter_context(interrupted_by_sigterm())
        if sweep.bucket is not None:
            executor.check(sweep)
            paths = SweepPaths(sweep.folder)
            lost = partial(request_stop, paths)
            stack.enter_context(kept_in_bucket(sweep.source, sweep.bucket, paths, console, lost))
        prepared = _prepare(stack, sweep, console, executor, fresh)
        try:
            reason = _carry_out(prepared, console, executor, clock)
            while reason is None and (renewed := _renewed(stack, prepared)) is not None:
                prepared = renewed
                reason = _carry_out(prepared, console, executor, clock)
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            result = prepared.close("interrupted" if interrupted else type(error).__name__)
            _send_the_rest(prepared.background)
            if not interrupted:
                _tell(replace(result, state="failed"), console)
            raise
        # If nothing ran, the sweep ended when it did before, not now.
        before = None if prepared.missing else prepared.before
        result = prepared.close(reason, before["ended"] if before else None)
        with console.status("sending the rest to MLflow"):
            not_sent = _send_the_rest(prepared.background)
        clock.lap("sync")
    result = replace(result, seconds=clock.seconds, not_sent=not_sent, not_copied=prepared.copy.error)
    _tell(result, console)
    return result


def _tell(result: LaunchResult, console: Console) -> None:
    """Notify whomever the spec names; a notification that fails is a line on the console."""
    with console.status("telling how it ended"):
        warnings = notify(result)
    for line in warnings:
        console.print(line, style="yellow", markup=False, soft_wrap=True)


@dataclass(frozen=True)
class _Prepared:
    """A sweep with an open record, ready to continue; ``before`` is its record as the last launch left it."""

    plan: Plan
    paths: SweepPaths
    before: Mapping[str, Any] | None
    record: Mapping[str, Any]
    bridge: Bridge
    missing: bool
    copy: StudyCopy
    background: BackgroundSync

    def close(self, reason: str | None, ended: float | None = None) -> LaunchResult:
        return close(self.bridge.schedule, self.paths, self.record, reason, ended)


def _prepare(stack: ExitStack, sweep: Sweep, console: Console, executor: Executor, fresh: bool) -> _Prepared:
    """Check that the sweep can run, open its record, and start to send and copy it."""
    with console.status("reading the images and the record"):
        growth_of(sweep)
        executor.check(sweep)
        plan = make_plan(sweep, stack.enter_context(executor.reached()))
    paths = SweepPaths(sweep.folder)
    stack.enter_context(only_launch(sweep.source, paths))
    # From here on the lock is held, so a new request to stop means this launch.
    paths.stop.unlink(missing_ok=True)
    before = read_record(paths)
    if before is not None:
        check_to_go_on(paths, before)
    growth = growth_of(sweep)  # again: from here on nobody else writes
    record = opened(sweep, plan.lookahead, before, fresh, console) | growth.fields()
    record, again = with_retries(sweep, paths, record)
    keep_uncommitted(paths, record)
    keep(sweep.plugins, paths.plugins)
    await_writers(sweep.source, paths, console)
    remove_leftovers(paths)
    bring_back(growth, paths)
    if again:
        before = {**(before or {}), "drawn": record["drawn"]}
        _try_again(paths, record, again)
    with console.status("reading the recorded trials"):
        bridge = replayed(sweep, paths, record, plan.grouping)
        missing = bridge.schedule.has_next()
    copy = _recorded_and_copied(bridge, paths, record, before)
    stack.callback(copy.close)
    set_right(growth, sweep)
    tracking = sweep.model.tracking
    sync = Sync(paths, tracking_uri(tracking.uri, paths), tracking.experiment or sweep.name, record)
    background = BackgroundSync(sync)
    # Whatever is raised from here on: nothing is sent after the lock is released.
    stack.callback(background.kill)
    return _Prepared(plan, paths, before, record, bridge, missing, copy, background)


def _try_again(paths: SweepPaths, record: Mapping[str, Any], trials: list[str]) -> None:
    """Let ended trials continue; sweep.json is written first, since the search would draw other points otherwise."""
    write_record(paths, record)
    let_go_on(paths, trials)


def _renewed(stack: ExitStack, prepared: _Prepared) -> _Prepared | None:
    """The sweep with the trials that users asked to retry while it ran; None if there are none."""
    sweep, paths = prepared.plan.sweep, prepared.paths
    record, again = with_retries(sweep, paths, prepared.record)
    if not again:
        return None
    _try_again(paths, record, again)
    bridge = replayed(sweep, paths, record, prepared.plan.grouping)
    prepared.copy.close()
    copy = StudyCopy(bridge.schedule.study, sweep.search.storage, paths, record["id"])
    stack.callback(copy.close)
    return replace(prepared, record=record, bridge=bridge, missing=True, copy=copy)


def _carry_out(prepared: _Prepared, console: Console, executor: Executor, clock: _Clock) -> str | None:
    """Measure the references and run the missing trials; returns why they were cut short, or None."""
    plan, paths = prepared.plan, prepared.paths
    reference_trials(plan.sweep, paths, prepared.record["provenance"], console)
    clock.lap("references")
    reason = None
    with ExitStack() as up:
        if prepared.missing:
            with console.status(f"starting {executor.name}"):
                up.enter_context(executor.started())
            clock.lap("start")
            reason = run_trials(executor, prepared.bridge, plan, paths, console)
    clock.lap("trials")
    return reason


def _recorded_and_copied(
    bridge: Bridge, paths: SweepPaths, record: Mapping[str, Any], before: Mapping[str, Any] | None
) -> StudyCopy:
    """Write sweep.json and then start to copy the study, so that no copy belongs to an unrecorded sweep.

    Raises ``InputError`` if the study's storage cannot be used; the record of a new sweep is then removed again.
    """
    write_record(paths, record)
    schedule = bridge.schedule
    try:
        return StudyCopy(schedule.study, schedule.sweep.search.storage, paths, record["id"])
    except InputError:
        if before is None:
            paths.sweep_json.unlink()
        else:
            write_record(paths, before)
        raise


def _send_the_rest(background: BackgroundSync) -> str | None:
    """Send the rest and close the sweep's run; returns what went wrong, or None."""
    if background.close():
        return background.error
    return f"{background.sync.lack()} ({background.error})"


class _Clock:
    """Wall-clock seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now
