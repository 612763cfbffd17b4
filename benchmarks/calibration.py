"""How often the tables find what is not there, and how often their intervals hold the truth, in simulated records.

``python benchmarks/calibration.py`` makes 1,000 records in which no axis does anything: 250 each at 2, 3, 5 and 10
seeds, of three axes, where every configuration has an effect of its own and seeds repeat it; in turn whole, with points
drawn again, with failed trials, with configurations stopped early, and with cells of unequal numbers of configurations;
and as many whose values follow a power law. It calls the tables as a user does, and prints rates and coverages with
their sampling errors as docs/analysis.md has them. Records are built from trials in memory: no file is written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

# The scripts beside this one are no packages: one has the name of the package that is measured.
sys.path[:] = [path for path in sys.path if Path(path).resolve() != Path(__file__).resolve().parent]

from analysis import Configurations, Record, RecordError, Table, configurations, marginal, pivot
from analysis.record.frames import Points, Trial, build
from analysis.record.sweep_info import SweepInfo
from analysis.tables.interaction import interaction
from analysis.tables.one_factor import one_factor
from analysis.tables.pairs import comparisons
from analysis.tables.scaling import scaling

KEY = "quality/swd_collapsed"
A, B, C = "model.flow.depth", "model.operator.rank", "model.flow.width"
VARIANTS = ("whole", "drawn again", "failed", "stopped", "unbalanced")
SEEDS = (2, 3, 5, 10)
LAW = (100.0, 0.8, 5.0)
"""a, b and c of the law a x^-b + c that the records of ``law_record`` follow."""


@dataclass
class Tally:
    """What was tried, and how often it came out."""

    counts: dict[tuple[str, str], list[bool]] = field(default_factory=lambda: defaultdict(list))
    refused: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, kind: str, what: str, outcome: bool) -> None:
        """Count an outcome: a false finding (``kind`` rate), or an interval that holds the truth (``coverage``)."""
        self.counts[kind, what].append(outcome)

    def share(self, kind: str, what: str) -> tuple[float, int]:
        """How often it came out so, of how many."""
        found = self.counts[kind, what]
        return float(np.mean(found)), len(found)


def null_record(
    seeds: int, variant: str, random: np.random.Generator, between: float = 1.0, within: float = 1.0
) -> tuple[Record, dict[tuple[int, int, int], float]]:
    """A record of a 3 × 3 × 2 grid without any effect, and what each configuration has of its own."""
    points = [(a, b, c) for a in (1, 2, 3) for b in (4, 8, 16) for c in (32, 64)]
    if variant == "unbalanced":
        points = [point for point in points if random.uniform() > 0.25]
    own = {point: between * float(random.standard_normal()) for point in points}
    trials = []
    for number, point in enumerate(points):
        stopped = variant == "stopped" and random.uniform() < 0.15
        for seed in range(seeds):
            state = (
                "stopped" if stopped else "failed" if variant == "failed" and random.uniform() < 0.05 else "finished"
            )
            value = own[point] + within * float(random.standard_normal())
            trials.append(_trial(number, seed, dict(zip((A, B, C), point, strict=True)), value, state))
    if variant == "drawn again":
        first = [trial for trial in trials if trial.number == 0]
        for again in range(12):
            trials += [_repeat(trial, len(points) + again) for trial in first]
    return _record(trials, {A: [1, 2, 3], B: [4, 8, 16], C: [32, 64]}, seeds), own


def law_record(seeds: int, random: np.random.Generator, between: float = 1.0, within: float = 1.0) -> Record:
    """A record of five ranks by two batch sizes whose values follow a power law of the rank, and nothing else."""
    a, b, c = LAW
    trials = []
    points = [(rank, size) for rank in (4, 8, 16, 32, 64) for size in (32, 64)]
    for number, (rank, size) in enumerate(points):
        own = a * rank**-b + c + between * random.standard_normal()
        for seed in range(seeds):
            value = float(own + within * random.standard_normal())
            trials.append(_trial(number, seed, {B: rank, "model.kind": str(size)}, value, "finished"))
    return _record(trials, {B: [4, 8, 16, 32, 64], "model.kind": ["32", "64"]}, seeds)


def _trial(number: int, seed: int, point: Mapping[str, Any], value: float, state: str) -> Trial:
    finished = state == "finished"
    return Trial(
        trial=f"t{number:03d}-s{seed}", kind="search", label=None, number=number, config_hash=f"{number:012d}",
        seed=seed, attempt=1, reused_from=None, overrides=point, leaves=point, started=0, ended=60_000, state=state,
        reason=None if finished else state, epoch=10 if finished else 2,
        scalars={} if state == "failed" else {KEY: value}, warnings=(), points=Points.of({}, {}),
    )  # fmt: skip


def _repeat(trial: Trial, number: int) -> Trial:
    fields = {name: getattr(trial, name) for name in Trial.__dataclass_fields__}
    return Trial(**fields | {"trial": f"t{number:03d}-s{trial.seed}", "number": number, "reused_from": trial.trial})


def _record(trials: list[Trial], space: Mapping[str, list[Any]], seeds: int) -> Record:
    search = {"space": {axis: {"grid": values} for axis, values in space.items()}, "seeds": list(range(seeds))}
    document = {"name": "null", "axes": list(space), "objective": {KEY: "min"}, "state": "finished", "started": 0.0}
    # Its own values are those of the first point: a base that was not chosen by what came out.
    document |= {"ended": 1.0, "spec": {"search": search | {"sampler": "grid"}, **_nested(space)}}
    info = SweepInfo.parse(json.dumps(document), "simulated")
    frames = build(info, trials, [])
    return Record([info], frames.runs, frames.curves)


def _nested(space: Mapping[str, list[Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, listed in space.items():
        *path, last = name.split(".")
        inner = values
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = listed[0]
    return values


def tried(tally: Tally, made: Record, own: Mapping[tuple[int, int, int], float]) -> None:
    """Every table of a record of ``null_record``: what each says, against what is so."""
    record = Configurations(made)
    for what, table in _made(tally, lambda: interaction(record, A, B), "interaction"):
        for row, name in zip(table.rows, ("main effect", "main effect", "interaction"), strict=False):
            if isinstance(row.cells[5].value, float):
                tally.add("rate", f"{what}: {name}", row.cells[5].value < 0.05)
    for what, table in _made(tally, lambda: scaling(record), "scaling"):
        for row in table.rows:
            if row.cells[2].value == "logarithm" and row.cells[4].interval is not None:
                tally.add("coverage", f"{what}: slope", _holds(row.cells[4], 0.0))
    grids: list[tuple[str, Callable[[], Table], int]] = [
        ("marginal", lambda: marginal(record, A), 3),
        ("pivot", lambda: pivot(record, A, B), 1),
    ]
    for name, make, column in grids:
        for what, table in _made(tally, make, name):
            cells = [cell for row in table.rows for cell in row.cells[column : column + (1 if column == 3 else 3)]]
            tested = [cell for cell in cells if not cell.bold and not cell.missing and "?" not in cell.marker]
            if any("≈" in note for note in table.notes):
                tally.add("rate", f"{what}: any difference", any("≈" not in cell.marker for cell in tested))
            for cell in cells:
                if cell.half_width is not None:
                    tally.add("coverage", f"{what}: mean", _holds(cell, 0.0))
    for what, table in _made(tally, lambda: comparisons(record, A), "comparisons"):
        for row in table.rows[1:]:
            if row.cells[2].half_width is not None:
                tally.add("coverage", f"{what}: difference from the best", _holds(row.cells[2], 0.0))
    truth = {f"t{number:03d}": value for number, value in enumerate(own.values())}
    for what, table in _made(tally, lambda: configurations(record, [KEY]), "configurations"):
        for row in table.rows:
            if row.cells[-1].half_width is not None and not row.marker:
                tally.add("coverage", f"{what}: mean", _holds(row.cells[-1], truth[str(row.cells[0].value)]))
    for what, table in _made(tally, lambda: one_factor(record), "one change at a time"):
        base = truth[str(table.rows[0].cells[0].value).removeprefix("base: ")]
        chosen = any("chosen by its value" in note for note in table.notes)
        for row in table.rows[1:]:
            if not chosen and row.cells[2].half_width is not None:
                there = own[_changed(str(row.cells[0].value), next(iter(own)))]
                tally.add("coverage", f"{what}: difference from the base", _holds(row.cells[2], there - base))


def tried_law(tally: Tally, record: Record) -> None:
    """The fitted law of a record of ``law_record``, against the law."""
    for what, table in _made(tally, lambda: scaling(record), "scaling"):
        for row in table.rows:
            if row.cells[2].value == "power":
                for name, cell, truth in (("b", row.cells[4], LAW[1]), ("c", row.cells[5], LAW[2])):
                    if cell.interval is not None:
                        tally.add("coverage", f"{what}: power law's {name}", _holds(cell, truth))


def _changed(words: str, base: tuple[int, int, int]) -> tuple[int, int, int]:
    """The point of a line of ``one_factor``: the base's but for one axis."""
    name, _, value = words.partition(" = ")
    place = [axis.rpartition(".")[2] for axis in (A, B, C)].index(name)
    point = list(base)
    point[place] = int(value)
    return (point[0], point[1], point[2])


def _made(tally: Tally, make: Callable[[], Table], what: str) -> Iterator[tuple[str, Table]]:
    try:
        yield what, make()
    except RecordError:
        tally.refused[what] += 1


def _holds(cell: Any, truth: float) -> bool:
    low, high = cell.interval or (cell.value - cell.half_width, cell.value + cell.half_width)
    return bool(low <= truth <= high)


def simulate(records: int, seed: int = 0, *, progress: bool = False) -> dict[int, Tally]:
    """As many records at each number of seeds, the variants in turn; a tally each."""
    found = {}
    for seeds in SEEDS:
        random, tally = np.random.default_rng([seed, seeds]), Tally()
        for place in range(records):
            tried(tally, *null_record(seeds, VARIANTS[place % len(VARIANTS)], random))
            tried_law(tally, law_record(seeds, random))
            if progress and sys.stderr.isatty():
                print(f"\r{seeds} seeds: {place + 1} of {records} records", end="", file=sys.stderr, flush=True)
        if progress:
            print(f"\r{seeds} seeds: {records} records done", file=sys.stderr, flush=True)
        found[seeds] = tally
    return found


def main() -> None:
    """Simulate, and print the rates and coverages as a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--records", type=int, default=250, help="at each number of seeds")
    found = simulate(parser.parse_args().records, progress=True)
    rows = sorted({key for tally in found.values() for key in tally.counts}, reverse=True)
    print("| | " + " | ".join(f"{seeds} seeds" for seeds in SEEDS) + " |")
    print("|---|" + "---:|" * len(SEEDS))
    for kind, what in rows:
        cells = []
        for seeds in SEEDS:
            if not found[seeds].counts[kind, what]:
                cells.append("–")
                continue
            share, count = found[seeds].share(kind, what)
            error = 100 * float(np.sqrt(max(share * (1 - share), 1 / count) / count))
            cells.append(f"{100 * share:.1f} ± {error:.1f} %")
        print(f"| {what} ({kind}) | {' | '.join(cells)} |")
    for what in sorted({what for tally in found.values() for what in tally.refused}):
        print(f"| {what} (refused) | {' | '.join(str(found[seeds].refused[what]) for seeds in SEEDS)} |")


if __name__ == "__main__":
    main()
