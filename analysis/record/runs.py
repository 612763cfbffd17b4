"""Recorded sweeps as tidy frames, read from their folders, from MLflow or from an exported file."""

from __future__ import annotations

import difflib
import html
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import pandas as pd

from analysis.record.copies import copied, sweep_names
from analysis.record.frames import FIXED, Frames, Part, attempted, joined, natural
from analysis.record.journals import read_frames, read_info
from analysis.record.mlflow_store import is_uri, read_mlflow
from analysis.record.parquet import read_record, write_record
from analysis.record.sweep_info import KINDS, STATES, Direction, RecordError, SweepInfo
from analysis.record.uri import without_password
from linearizer_core.bucket import address, is_address
from linearizer_core.words import counted

__all__ = ["KINDS", "STATES", "Counts", "Direction", "Record", "RecordError", "SweepInfo", "load", "natural"]

Source = str | os.PathLike[str]


@dataclass(frozen=True)
class Counts:
    """How many trials there are, how many in each state, and how many need care when read.

    ``resumed`` trials took more than one attempt; ``reused`` ones have the result of an identical finished trial;
    ``duplicated`` ones ran although another trial of the sweep has their kind, configuration and seed; ``warned`` ones
    have warnings.

    >>> import analysis
    >>> print(analysis.example().counts)
    29 trials: 29 finished
    >>> analysis.example().counts.finished
    29
    """

    trials: int
    finished: int
    stopped: int
    failed: int
    interrupted: int
    running: int
    resumed: int
    reused: int
    duplicated: int
    warned: int

    def __str__(self) -> str:
        """Such as ``24 trials: 9 finished, 13 stopped early, 2 failed; 1 resumed``; zeros are left out."""
        words = {"stopped": "stopped early", "warned": "with warnings"}
        numbers = {each.name: getattr(self, each.name) for each in fields(self)}
        states, notes = (
            ", ".join(f"{numbers[name]} {words.get(name, name)}" for name in names if numbers[name])
            for names in (STATES, ("resumed", "reused", "duplicated", "warned"))
        )
        total = counted(self.trials, "trial")
        return (f"{total}: {states}" if states else total) + (f"; {notes}" if notes else "")


@dataclass(frozen=True, eq=False, repr=False)
class Record:
    """One or more recorded sweeps.

    ``runs``: one row per trial, ordered by kind (search, confirm, control, reference), then number, then seed.
    Columns ``sweep``, ``trial``, ``kind``, ``label``, ``number``, ``config_hash``, ``seed``, ``attempt``, ``state``,
    ``reason``, ``epoch`` (the last one trained), ``started`` and ``ended`` (UNIX seconds), ``seconds`` (how long
    its attempts took), all to the millisecond, ``overrides`` (JSON), ``reused_from`` (the trial whose result was
    reused), ``duplicate_of`` (the trial of the same sweep, kind, configuration and seed that this one repeats),
    ``warnings`` (what did not go as configured); then one column per leaf of the configuration, the searched axes
    first; then one float column per metric key: the final metrics, or the last evaluation of a trial without them.

    ``curves``: ``sweep, trial, metric, step, value``, one row per point. The step is the epoch for ``train/…`` and
    ``quality/…``, the number of solver steps for ``nfe/…``, and the rank used for sampling for ``rank/…``.

    ``attempts``: ``sweep, trial, started, seconds``, one row per attempt at a trial: its start and duration. It is
    known from journals only; records from MLflow and exported files have no rows.

    All are ordinary frames. ``sweep``, ``kind``, ``state`` and the columns that identify a row of ``curves`` are
    categorical; integers and booleans are nullable.

    >>> import analysis
    >>> record = analysis.example()
    >>> record.runs.shape, record.curves.columns.tolist()
    ((32, 168), ['sweep', 'trial', 'metric', 'step', 'value'])
    >>> record.axes
    ['model.flow.depth', 'model.operator.rank']
    """

    sweeps: list[SweepInfo]
    runs: pd.DataFrame
    curves: pd.DataFrame
    attempts: pd.DataFrame = field(default_factory=lambda: attempted("", ()))

    def __repr__(self) -> str:
        return f"<Record of {self.names}; {self.counts}>"

    def _repr_html_(self) -> str:
        """For a notebook: one row per sweep."""
        trials = self.runs["sweep"].value_counts()
        rows = [
            (
                sweep.name,
                sweep.family,
                sweep.state,
                ", ".join(sweep.axes),
                ", ".join(sweep.objective),
                trials[sweep.name],
            )
            for sweep in self.sweeps
        ]
        head = "".join(f"<th>{name}</th>" for name in ("sweep", "family", "state", "axes", "objective", "trials"))
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(str(value))}</td>' for value in row)}</tr>" for row in rows)
        return f"<table><caption>{html.escape(str(self.counts))}</caption><tr>{head}</tr>{body}</table>"

    @property
    def axes(self) -> list[str]:
        """The searched dotted names of all sweeps, in the order of their specs."""
        return list(dict.fromkeys(axis for sweep in self.sweeps for axis in sweep.axes))

    @property
    def objective(self) -> dict[str, Direction]:
        """Metric key → direction, over all sweeps; raises ``RecordError`` if two sweeps disagree."""
        merged: dict[str, Direction] = {}
        for sweep in self.sweeps:
            for key, direction in sweep.objective.items():
                if merged.setdefault(key, direction) != direction:
                    raise RecordError(f"{key}: minimised by one sweep, maximised by another: {self.names}")
        return merged

    @property
    def directions(self) -> dict[str, Direction]:
        """The directions of plugins' metrics, by metric name."""
        return {name: way for sweep in self.sweeps for name, way in sweep.directions.items()}

    @property
    def leaves(self) -> list[str]:
        """The dotted names of the configuration's columns in ``runs``, without the seed, which is in ``seed``."""
        return [column for column in self.runs.columns if column not in FIXED and "/" not in column]

    @property
    def metrics(self) -> list[str]:
        """The metric keys that have a column in ``runs``."""
        return [column for column in self.runs.columns if "/" in column]

    @property
    def names(self) -> str:
        """The sweeps' names, separated by commas."""
        return ", ".join(sweep.name for sweep in self.sweeps)

    @property
    def counts(self) -> Counts:
        """The number of trials in each state; references, which nothing is trained for, are not counted."""
        runs = self.runs[self.runs["kind"] != "reference"]
        states = runs["state"].value_counts()
        reused = runs["reused_from"].notna()
        return Counts(
            trials=len(runs),
            **{state: int(states.get(state, 0)) for state in STATES},
            resumed=int((runs["attempt"] > 1).sum()),
            reused=int(reused.sum()),
            duplicated=int((runs["duplicate_of"].notna() & ~reused).sum()),
            warned=int(runs["warnings"].notna().sum()),
        )

    def sweep(self, name: str) -> SweepInfo:
        """The sweep with this name."""
        return next(sweep for sweep in self.sweeps if sweep.name == name)

    def checked(self, name: str, known: Sequence[str], what: str) -> str:
        """``name`` if it is in ``known``; otherwise raises ``RecordError`` with the closest known names."""
        if name in known:
            return name
        # Someone may have mistyped only the last part of a name.
        ends = {re.split(r"[./]", each)[-1]: each for each in reversed(known)}
        near = [ends[end] for end in difflib.get_close_matches(name, ends, n=3, cutoff=0.7)]
        near = near or difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known) or 'none'}"
        raise RecordError(f"{self.names}: no {what} {name!r}; {hint}")

    def export(self, path: Source) -> Path:
        """Write everything to one Parquet file, from which ``load`` reads an equal record; returns its path.

        The file has a row per trial with the columns of ``runs``, the trial's curves nested in a column ``curves``,
        and every ``sweep.json`` in the metadata. An existing file is replaced atomically.
        """
        path = Path(path)
        write_record(Frames(self.runs, self.curves), self.sweeps, path)
        return path


def load(
    source: Source | Sequence[Source], sweeps: Sequence[str] | None = None, *, experiment: str | None = None
) -> Record:
    """Read sweeps from wherever they are recorded; the frames are the same for every source.

    A ``source`` is the folder of a sweep (``<storage>/<sweep>``), a storage folder, a Parquet file that
    ``Record.export`` wrote or a folder of such files, the address of a sweep or a storage in a bucket (``s3://…``), or
    a tracking URI of MLflow (``http://…``, ``sqlite:///…``).
    ``sweeps`` names the sweeps to read, all by default; ``experiment`` restricts a tracking server to one experiment.
    docs/analysis.md says what cannot be read from MLflow.

    Raises ``RecordError`` naming the path, server or line that cannot be read, and what would be right.

    >>> import analysis
    >>> record = analysis.load("runs")
    >>> record.names, len(record.runs)
    ('demo', 2)
    """
    sources = [source] if isinstance(source, str | os.PathLike) else list(source)
    parts: list[Part] = []
    known: list[str] = []
    for item in sources:
        names, found = _read(item, sweeps, experiment)
        known += names
        parts += found
    infos = [info for part in parts for info in part.sweeps]
    for index, info in enumerate(infos):
        for other in infos[:index]:
            if other.name == info.name:
                if info.source == other.source:
                    raise RecordError(f"{info.source}: sweep {info.name} is given twice; give it once")
                raise RecordError(
                    f"{info.source}: sweep {info.name} was already read from {other.source}: read only one of them, or "
                    "rename one in its sweep.json"
                )
    where = ", ".join(without_password(str(item)) for item in sources) or "no source"
    for name in sweeps or ():
        if name not in known:
            raise RecordError(f"{where}: no sweep {name!r}; sweeps: {', '.join(sorted(known)) or 'none'}")
    if not parts:
        raise RecordError(f"{where}: no sweep to read")
    frames = joined([part.frames for part in parts], infos)
    return Record(infos, frames.runs, frames.curves, frames.attempts)


def _read(source: Source, wanted: Sequence[str] | None, experiment: str | None) -> tuple[list[str], list[Part]]:
    """The names of all sweeps in a source, and the wanted sweeps themselves."""
    if is_address(source):
        return _read_folders(_copies(source), wanted)
    if is_uri(source):
        return read_mlflow(str(source), wanted, experiment)
    path = Path(source)
    if path.is_file():
        files = [path]
    elif (path / "sweep.json").exists():
        return _read_folders([path], wanted)
    elif folders := [file.parent for file in path.glob("*/sweep.json")]:
        return _read_folders(folders, wanted)
    else:
        files = sorted(path.glob("*.parquet"))
    if not files:
        hint = "give a sweep's folder (<storage>/<sweep>), an exported file or a tracking URI"
        raise RecordError(f"{path / 'sweep.json'}: cannot be read (No such file or directory); {hint}")
    read = [read_record(file) for file in files]
    names = [info.name for part in read for info in part.sweeps]
    return names, read if wanted is None else [found for part in read if (found := part.only(wanted)).sweeps]


def _copies(source: Source) -> list[Path]:
    """Local copies of the sweep, or of all sweeps, at an address in a bucket."""
    try:
        uri = address(source)
    except ValueError as error:
        raise RecordError(str(error)) from None
    names = sweep_names(uri)
    return [copied(f"{uri}/{name}") for name in names] if names else [copied(uri)]


def _read_folders(folders: Sequence[Path], wanted: Sequence[str] | None) -> tuple[list[str], list[Part]]:
    infos = sorted(((read_info(folder), folder) for folder in folders), key=lambda found: found[0].started)
    chosen = [(info, folder) for info, folder in infos if wanted is None or info.name in wanted]
    return [info.name for info, _ in infos], [Part([info], read_frames(folder, info)) for info, folder in chosen]
