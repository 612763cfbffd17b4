"""Sweeps read from their folders: ``sweep.json`` and the journals of docs/record.md."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson

from analysis.record.cache import Cache, Stamp
from analysis.record.frames import MACHINE, Frames, Points, Series, Trial, build, latest
from analysis.record.journal_files import journal_files
from analysis.record.launches import DIED, running
from analysis.record.sweep_info import RecordError, SweepInfo
from linearizer_core.experiment.journal import TrialState, fold, lines, warn
from linearizer_core.experiment.journal_lines import BadLine, LineReader
from linearizer_core.experiment.nested import flatten


def read_info(folder: Path) -> SweepInfo:
    """The sweep in a folder; raises ``RecordError`` naming its ``sweep.json`` if that cannot be read.

    A sweep whose launch died is interrupted, although its ``sweep.json`` still says that it runs.
    """
    info = _written(folder)
    if info.state != "running" or _runs(folder):
        return info
    info = _written(folder)  # the sweep may have ended in between
    if info.state != "running":
        return info
    return SweepInfo.of_document({**info.document, "state": "interrupted", "reason": DIED}, info.source)


def _written(folder: Path) -> SweepInfo:
    """The sweep as described in its ``sweep.json``."""
    file = folder / "sweep.json"
    try:
        return SweepInfo.parse(file.read_bytes(), str(file))
    except OSError as error:
        hint = "a sweep's folder is <storage>/<sweep>"
        raise RecordError(f"{file}: cannot be read ({error.strerror}); {hint}") from None


def _runs(folder: Path) -> bool:
    """Whether a launch is alive; without file locks this cannot be told, and ``sweep.json`` is believed."""
    try:
        return running(folder)
    except OSError:
        return True


def read_frames(folder: Path, sweep: SweepInfo) -> Frames:
    """The frames of a sweep's journals; journals that have not changed since the last read come from the cache.

    Warns of every unreadable line with a ``JournalWarning``. Raises ``RecordError`` naming a file that cannot be read.
    """
    journals = folder / "journal"
    if not journals.is_dir():
        raise RecordError(f"{journals}: no such folder; has the sweep started?")
    cache = Cache.of(folder)
    numbers = {key: number for number, key in enumerate(cache.metrics)}
    trials: dict[str, Trial | None] = {}
    damage: dict[str, list[tuple[int, str]]] = {}
    stamps: dict[str, Stamp] = {}
    for path in journal_files(journals):
        name = path.name
        # Taken before the file is read, so that anything written meanwhile makes the stamp out of date.
        stamp = Stamp.of(path)
        known = cache.stamps.get(name) == stamp
        trials[name], damage[name] = (
            (cache.trials[name], cache.damage.get(name, [])) if known else read_journal(path, numbers)
        )
        stamps[name] = stamp
    names: dict[str, str] = {}
    for file, trial in trials.items():
        if trial is not None and names.setdefault(trial.trial, file) != file:
            raise RecordError(
                f"{journals / file}: belongs to trial {trial.trial}, as {names[trial.trial]} does; remove one"
            )
    if stamps != cache.stamps:
        Cache(stamps, trials, list(numbers), {name: found for name, found in damage.items() if found}).write(folder)
    warn(BadLine(journals / name, *line) for name, found in damage.items() for line in found)
    return build(sweep, [trial for trial in trials.values() if trial is not None], list(numbers))


def read_journal(path: Path, numbers: dict[str, int]) -> tuple[Trial | None, list[tuple[int, str]]]:
    """The trial of a journal, None if no attempt can be read; and each unreadable line's number and problem.

    ``numbers`` maps metric keys to their numbers in the trial's points; new keys are added. Raises ``RecordError``
    if the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror})") from None
    state = fold(lines(path, content, LineReader(path, decode=orjson.loads)))
    damage = [(line.number, line.problem) for line in state.damage]
    odd = _odd_names(state)
    if odd:
        named = ", ".join(map(repr, odd))
        damage.append((1, f"has metrics whose names are not group/name, which are ignored: {named}"))
    return trial_of(state, numbers), damage


def _odd_names(state: TrialState) -> list[str]:
    """Metric names that are not ``group/name``, and so could clash with another column of the frames."""
    events: list[Any] = [*state.epochs.values(), *([state.summary] if state.summary else [])]
    layouts = {tuple(event["metrics"]) for event in events}
    names = {name for layout in layouts for name in layout} | set(state.curves)
    odd = sorted(name for name in names if not all(name.partition("/")))
    for event in events:
        for name in odd:
            event["metrics"].pop(name, None)
    for name in odd:
        state.given.curves.pop(name, None)
    return odd


def trial_of(state: TrialState, numbers: dict[str, int]) -> Trial | None:
    """The frames' ``Trial`` for a state read from a journal; ``numbers`` as for ``read_journal``."""
    first, head, end = state.first, state.head, state.end
    if first is None or head is None:
        return None
    series = _series(state)
    epoch = max(state.epochs, default=None) if end is None else end["epoch"]
    return Trial(
        trial=head["trial"],
        kind=head["kind"],
        label=head["label"],
        number=head["number"],
        config_hash=head["config_hash"],
        seed=head["seed"],
        attempt=head["attempt"],
        reused_from=state.reused_from,
        overrides=head["overrides"],
        leaves=flatten(head["config"]),
        started=milliseconds(first["time"]),
        ended=milliseconds(end["time"]) if end else None,
        state=state.state,
        reason=state.reason,
        epoch=epoch,
        scalars=state.summary["metrics"] if state.summary else latest(series),
        warnings=list(state.warnings),
        points=Points.of(series | _curves(state), numbers),
        worked=round(1000 * state.worked) if state.odd_times or end is None else None,
        attempts=[(milliseconds(each.event["time"]), round(1000 * each.worked)) for each in state.attempts],
    )


def _series(state: TrialState) -> Series:
    """The metrics of the epochs that count, without those about the machine."""
    series: dict[str, tuple[list[int], list[float]]] = {}
    for epoch, event in sorted(state.epochs.items()):
        for key, value in event["metrics"].items():
            found = series.get(key)
            if found is None:
                found = series[key] = [], []
            found[0].append(epoch)
            found[1].append(value)
    return {key: points for key, points in series.items() if not key.startswith(MACHINE)}


def _curves(state: TrialState) -> Series:
    """The curves; if a step was written more than once, its last value."""
    curves: Series = {}
    for metric, event in state.curves.items():
        steps, values = event["steps"], event["values"]
        if steps != sorted(set(steps)):
            points = dict(sorted(zip(steps, values, strict=True), key=itemgetter(0)))
            steps, values = list(points), list(points.values())
        curves[metric] = steps, values
    return curves


def milliseconds(time: Any) -> int:
    """UNIX seconds in whole milliseconds, as MLflow stores times."""
    return int(float(time) * 1000)
