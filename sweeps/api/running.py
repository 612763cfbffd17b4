"""Functions that plan, launch, watch and stop sweeps."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

from rich.console import Console

from analysis.record.copies import copied, holds_sweep, origin_of
from linearizer_core.bucket import Bucket
from linearizer_core.experiment.journal import BY_HAND, ENDED, Journal, state_of
from sweeps.execution.choice import executor_for
from sweeps.execution.plan import Plan, make_plan
from sweeps.record.elsewhere import changed, now, requests_to
from sweeps.record.lookup import find_sweep, names_trial, own_sweep, own_trial
from sweeps.record.paths import SweepPaths
from sweeps.record.requests import RETRY, STOP, ask_to_retry, ask_to_stop, request_stop
from sweeps.record.sweep_json import read_record
from sweeps.record.writers import running
from sweeps.result import LaunchResult
from sweeps.search.growth import growth_of
from sweeps.spec.keys import Keys, keys_of
from sweeps.spec.load import Overrides, load, recorded
from sweeps.spec.model import Sweep, SweepModel, json_schema
from sweeps.spec.validation import InputError, Problem
from sweeps.status import Status, status_of

LOOK = 0.5
LOOK_AWAY = 3.0
"""Seconds between two looks at whether a request has been met: in a folder, and in a bucket."""

Spec = str | os.PathLike[str] | Sweep


def plan(
    spec: Spec,
    *,
    set: Overrides = (),
    profile: str | None = None,
    address: str | None = None,
    cluster: str | os.PathLike[str] | None = None,
) -> Plan:
    """Validate a spec and return what it would do, without starting anything.

    ``spec`` is a file, the name of a shipped spec such as ``"quickstart"``, or a ``Sweep``. ``set`` overrides leaves
    and ``profile`` selects a profile. ``address`` is a Ray cluster with this machine as a node, and ``cluster`` the
    file that says what its autoscaler may add.

    Raises ``LinsweepError`` with everything that is wrong with the spec, if no machine could run its trials, or if its
    folder holds another sweep.

    >>> import linsweep as ls
    >>> plan = ls.plan("quickstart", set={"search.trials": 4, "search.confirm": None})
    >>> plan.sweep.configurations, plan.trials
    (4, 7)
    """
    sweep = sweep_of(spec, set, profile)
    growth = growth_of(as_recorded(sweep))
    with executor_for(address, cluster).reached() as capacity:
        return make_plan(sweep, capacity, growth)


def launch(
    spec: Spec,
    *,
    set: Overrides = (),
    profile: str | None = None,
    address: str | None = None,
    cluster: str | os.PathLike[str] | None = None,
    fresh: bool = False,
    debug: bool = False,
    function: Callable[..., Any] | None = None,
    progress: bool | Console = False,
) -> LaunchResult:
    """Run a sweep, or continue one that was interrupted, and return when it has ended.

    The arguments are those of ``plan``. Identical trials that other sweeps finished are reused unless ``fresh``. With
    ``debug`` trials run one after the other in this process without Ray, so that breakpoints work. ``function`` is a
    function of your own, in a file, to sweep instead of a model (docs/plugins.md). ``progress`` prints the progress,
    on your own console if you give one.

    Raises ``LinsweepError`` as ``plan`` does, and if the sweep is running already. A trial that fails raises
    nothing: its journal says why. Ctrl-C while trials run saves their states and returns a result with ``state``
    ``interrupted``; a second Ctrl-C, or one at any other time, raises ``KeyboardInterrupt``. Outside the main thread
    signal handlers are not changed; call ``stop`` there to end the sweep.

    >>> import linsweep as ls
    >>> result = ls.launch("tiny.yaml", set={"train.lr": 1e-3}, debug=True)
    >>> result.state
    'finished'
    >>> len(result.record.runs.query("kind == 'search'"))
    1
    """
    from sweeps.launch import launch as run

    sweep = sweep_of(spec, set if function is None else with_function(set, function), profile)
    console = progress if isinstance(progress, Console) else Console(quiet=not progress)
    return run(sweep, console, executor_for(address, cluster, debug), fresh)


def resume(
    sweep: str | os.PathLike[str],
    *,
    storage: str | os.PathLike[str] = "runs",
    set: Overrides = (),
    address: str | None = None,
    cluster: str | os.PathLike[str] | None = None,
    debug: bool = False,
    progress: bool | Console = False,
) -> LaunchResult:
    """Continue a recorded sweep, by name or folder; ``set`` can raise its budget.

    Raises ``LinsweepError`` if ``storage`` has no such sweep, and as ``launch`` does.

    >>> import linsweep as ls
    >>> try:
    ...     ls.resume("befor")
    ... except ls.LinsweepError as error:
    ...     print(error)
    befor: no sweep of this name in runs; did you mean before?
    """
    return launch(recorded_sweep(sweep, storage, set), address=address, cluster=cluster, debug=debug, progress=progress)


def status(sweep: str | os.PathLike[str], *, storage: str | os.PathLike[str] = "runs") -> Status:
    """The status of a sweep: trials by state, time spent and projected, and what MLflow has not received yet.

    Raises ``LinsweepError`` if ``storage`` has no such sweep or its record cannot be read.

    >>> import linsweep as ls
    >>> ls.status("cut").state
    'interrupted'
    """
    return status_of(find_sweep(sweep, Path(storage)))


def stop(sweep: str | os.PathLike[str], *, storage: str | os.PathLike[str] = "runs") -> Status:
    """Ask a running sweep, on whatever machine, to save its trials' states and stop; returns once it has.

    With ``"SWEEP/TRIAL"`` only that trial stops and the sweep goes on; ``retry`` continues it.

    Raises ``LinsweepError`` if ``storage`` has no such sweep or trial, or if it is not running.

    >>> import linsweep as ls
    >>> try:
    ...     ls.stop("before")
    ... except ls.LinsweepError as error:
    ...     print(error)
    before: is not running
    """
    if names_trial(sweep, Path(storage)):
        return _stop_trial(*own_trial(sweep, Path(storage)), os.fspath(sweep))
    folder = own_sweep(sweep, Path(storage))
    paths = SweepPaths(folder)
    if not running(paths):
        raise InputError(os.fspath(sweep), [Problem("", "is not running")])
    requests = requests_to(os.fspath(sweep), paths)
    if requests is None:
        request_stop(paths, "linsweep stop")
    else:
        requests.ask(STOP, "linsweep stop")
    while running(now(paths)):
        time.sleep(LOOK if requests is None else LOOK_AWAY)
    return status_of(folder)


def _stop_trial(paths: SweepPaths, trial: str, source: str) -> Status:
    state = state_of(paths.journal(trial))
    if state.state in ENDED:
        raise InputError(source, [Problem("", f"has ended already: {state.reason or state.state}")])
    if running(paths):
        requests = requests_to(source, paths)
        if requests is None:
            ask_to_stop(paths, trial)
        else:
            requests.ask(f"{trial}.{STOP}")
        while running(now(paths)) and state_of(paths.journal(trial)).state not in ENDED:
            time.sleep(LOOK if requests is None else LOOK_AWAY)
    else:
        with changed(source, paths) as own:
            state = state_of(own.journal(trial))
            if state.state not in ENDED:
                Journal(own.journal(trial)).end("stopped", state.epoch, BY_HAND)
    return status_of(now(paths).root)


def retry(trial: str | os.PathLike[str], *, storage: str | os.PathLike[str] = "runs") -> Status:
    """Retry a trial that failed or was stopped by hand, in the running launch or else in the next one.

    It continues from its saved state, if it has one. A running launch retries it once its other trials have ended.

    Raises ``LinsweepError`` if ``storage`` has no such trial, or if it is running or has ended in another way.

    >>> import linsweep as ls
    >>> try:
    ...     ls.retry("before/t000-s0")
    ... except ls.LinsweepError as error:
    ...     print(error)
    before/t000-s0: has finished; linsweep reproduce runs it again beside its record
    """
    from sweeps.search.retries import why_not

    paths, name = own_trial(trial, Path(storage))
    reason = why_not(state_of(paths.journal(name)))
    if reason is not None:
        raise InputError(os.fspath(trial), [Problem("", reason)])
    requests = requests_to(os.fspath(trial), paths)
    if requests is None:
        ask_to_retry(paths, name)
    else:
        requests.ask(f"{name}.{RETRY}")
    return status_of(paths.root)


@overload
def schema(key: None = None, *, spec: Spec | None = None) -> dict[str, Any]: ...
@overload
def schema(key: str, *, spec: Spec | None = None) -> Keys: ...
def schema(key: str | None = None, *, spec: Spec | None = None) -> dict[str, Any] | Keys:
    """The JSON schema of a spec, or one key (or all keys of a section) with type, default, bounds and meaning.

    With a ``spec`` the settings of its plugins are keys too. Raises ``LinsweepError`` for an unknown key.

    >>> import linsweep as ls
    >>> ls.schema()["properties"]["name"]["type"]
    'string'
    >>> [(key.name, key.default) for key in ls.schema("search.stop_early").keys if not key.section]
    [('search.stop_early.scheduler', 'asha'), ('search.stop_early.grace_epochs', 1), ('search.stop_early.reduction', 3)]
    """
    model = SweepModel if spec is None else type(sweep_of(spec).model)
    return json_schema(model) if key is None else keys_of(key, model)


def sweep_of(spec: Spec, set: Overrides = (), profile: str | None = None) -> Sweep:
    """The sweep to launch; raises ``InputError`` with everything that is wrong with the spec."""
    if not isinstance(spec, Sweep):
        return load(os.fspath(spec), set, profile)
    if set or profile:
        raise InputError(spec.source, [Problem("", "set and profile need a spec file, not a Sweep")])
    return spec


def as_recorded(sweep: Sweep) -> Sweep:
    """A sweep by the record that it has in a bucket, if it has one there: by the copy of that on this machine."""
    if sweep.bucket is None or not holds_sweep(Bucket(sweep.bucket)):
        return sweep
    return replace(sweep, place=copied(sweep.bucket))


def with_function(overrides: Overrides, function: Callable[..., Any]) -> Overrides:
    """The overrides with a function's file and name; raises ``InputError`` for a function that is not in a file."""
    name = getattr(function, "__qualname__", repr(function))
    try:
        file = Path(inspect.getsourcefile(function) or "").resolve()
    except TypeError:
        file = Path()
    if not file.is_file() or not name.isidentifier():
        message = f"{name} must be a function at the top level of a Python file, which can be sent to workers"
        raise InputError("function", [Problem("", message)])
    if isinstance(overrides, Mapping):
        return {**overrides, "function": f"{file}:{name}"}
    return [*([overrides] if isinstance(overrides, str) else overrides), f'function="{file}:{name}"']


def recorded_sweep(sweep: str | os.PathLike[str], storage: str | os.PathLike[str], set: Overrides = ()) -> Sweep:
    """The sweep of a record; raises ``InputError`` if there is none or ``set`` does not fit it."""
    folder = find_sweep(sweep, Path(storage))
    record = read_record(SweepPaths(folder))
    assert record is not None, f"{folder} holds no sweep"
    return recorded(record, folder, set, storage=origin_of(folder.parent))
