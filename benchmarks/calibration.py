"""How often tables find effects that do not exist, and how often intervals contain the truth, in simulated records.

``python benchmarks/calibration.py`` makes 1,000 records at each of 2, 3, 5 and 10 seeds in which no axis has an effect.
They have three axes, and every configuration has its own effect, repeated by its seeds. In turn, they are complete, or
have repeated points, failed trials, configurations stopped early, or cells with unequal numbers of configurations. Half
as many records each have only two axes, alternately with effects of configurations and of seeds; have values that
follow a power law; hold searches by two identical samplers, with as many sweeps by each as there are seeds; have a
second, correlated value for the test split; and have six data sets of four equal methods. The
tables are called as a user calls them. The rates and coverages are printed with their sampling errors, in the form used
in docs/analysis.md. Records are built from trials in memory; no file is written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import special
from scipy.integrate import quad

# The scripts in this folder are not packages, and one has the same name as the package that is measured.
sys.path[:] = [path for path in sys.path if Path(path).resolve() != Path(__file__).resolve().parent]

from analysis import Configurations, Record, RecordError, Table, configurations, marginal, pivot
from analysis.configuration.replicates import OPEN, SAME
from analysis.record.frames import Frames, Points, Trial, build, joined
from analysis.record.sweep_info import SweepInfo
from analysis.tables.ablation_path import ablation_path
from analysis.tables.across import across_sets
from analysis.tables.anytime import anytime
from analysis.tables.best_levels import best_levels
from analysis.tables.interaction import interaction
from analysis.tables.one_factor import one_factor
from analysis.tables.pairs import comparisons
from analysis.tables.scaling import scaling

KEY, TEST = "quality/swd_collapsed", "test/swd_collapsed"
A, B, C = "model.flow.depth", "model.operator.rank", "model.flow.width"
VARIANTS = ("whole", "drawn again", "failed", "stopped", "unbalanced")
SEEDS = (2, 3, 5, 10)
LAW = (100.0, 0.8, 5.0)
"""a, b and c of the law a x^-b + c followed by the records of ``law_record``."""


DRAWS = 8
"""Number of trials in each search of ``search_record``."""


@dataclass
class Tally:
    """Outcomes, and how often each occurred."""

    counts: dict[tuple[str, str], list[tuple[int, bool]]] = field(default_factory=lambda: defaultdict(list))
    refused: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    record: int = 0
    """The record being tested: outcomes from the cells of one record are not independent."""

    def add(self, kind: str, what: str, outcome: bool) -> None:
        """Count an outcome: a false finding (``kind`` rate), or an interval that contains the truth (``coverage``)."""
        self.counts[kind, what].append((self.record, outcome))

    def share(self, kind: str, what: str) -> tuple[float, int]:
        """The number of positive outcomes, and of all outcomes."""
        found = [outcome for _, outcome in self.counts[kind, what]]
        return float(np.mean(found)), len(found)

    def error(self, kind: str, what: str) -> float:
        """The standard error of the share over records, whose outcomes are dependent (Cochran, 1977, section 3.12).

        For a share of 0 or 1 it is the error that a single opposite outcome would give.
        """
        records, found = (np.array(column) for column in zip(*self.counts[kind, what], strict=True))
        share = found.mean()
        _, places = np.unique(records, return_inverse=True)
        apart = np.bincount(places, weights=found - share)
        return float(max(np.sqrt(np.square(apart).sum()), 1.0) / len(found))


def null_record(
    seeds: int, variant: str, random: np.random.Generator, between: float = 1.0, within: float = 1.0
) -> tuple[Record, dict[tuple[int, int, int], float]]:
    """A record of a 3 × 3 × 2 grid without any effect of an axis, and the effect of each configuration."""
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
    """A record of five ranks by two batch sizes whose values follow a power law of the rank and nothing else."""
    a, b, c = LAW
    ranks = np.repeat([4.0, 8.0, 16.0, 32.0, 64.0], 2)
    own = a * ranks**-b + c + between * random.standard_normal(len(ranks))
    values = own[:, None] + within * random.standard_normal((len(ranks), seeds))
    return _with_values(_grid({B: [4, 8, 16, 32, 64], "model.kind": ["32", "64"]}, seeds), values)


def pair_record(seeds: int, random: np.random.Generator, own: float, common: float) -> Record:
    """A record of a 3 × 4 grid without effects of axes; configurations (``own``) or seeds (``common``) have one."""
    values = own * random.standard_normal((12, 1)) + common * random.standard_normal((1, seeds))
    values = values + random.standard_normal((12, seeds))
    return _with_values(_grid({A: [1, 2, 3], B: [4, 8, 16, 32]}, seeds), values)


def search_record(sweeps: int, random: np.random.Generator) -> Record:
    """A record of ``sweeps`` sweeps by each of two identical samplers, with ``DRAWS`` trials of a minute each."""
    return _with_values(_searches(sweeps), random.standard_normal(2 * sweeps * DRAWS))


def split_record(seeds: int, random: np.random.Generator, own: float) -> tuple[Record, list[float]]:
    """A record of a 3 × 4 grid measured on both splits, without effects of axes, and the effect of each configuration.

    Configurations have effects of standard deviation ``own``; half of the variance over seeds is common to the splits.
    """
    effects = own * random.standard_normal((12, 1))
    seen, told, common = random.standard_normal((3, 12, seeds)) / np.sqrt(2)
    record = _with_values(_grid({A: [1, 2, 3], B: [4, 8, 16, 32]}, seeds), effects + common + seen)
    runs = record.runs.assign(**{TEST: np.ravel(effects + common + told)})
    return Record(record.sweeps, runs, record.curves), effects[:, 0].tolist()


def sets_record(seeds: int, random: np.random.Generator) -> Record:
    """A record of four equal methods (``B``) on six data sets (``A``), which differ from each other."""
    values = 3 * random.standard_normal((6, 1, 1)) + random.standard_normal((6, 4, seeds))
    return _with_values(_grid({A: [1, 2, 3, 4, 5, 6], B: [4, 8, 16, 32]}, seeds), values)


def _with_values(record: Record, values: Any) -> Record:
    """A record with the given values of its trials, in order."""
    return Record(record.sweeps, record.runs.assign(**{KEY: np.ravel(values)}), record.curves)


@cache
def _grid_of(axes: tuple[tuple[str, tuple[Any, ...]], ...], seeds: int) -> Record:
    names = [name for name, _ in axes]
    points = [dict(zip(names, values, strict=True)) for values in product(*(values for _, values in axes))]
    trials = [
        _trial(number, seed, point, 0.0, "finished") for number, point in enumerate(points) for seed in range(seeds)
    ]
    return _record(trials, {name: list(values) for name, values in axes}, seeds)


def _grid(space: Mapping[str, list[Any]], seeds: int) -> Record:
    """A record of every point of a space with all values 0; cached."""
    return _grid_of(tuple((name, tuple(values)) for name, values in space.items()), seeds)


@cache
def _searches(sweeps: int) -> Record:
    """The record of ``search_record`` with all values 0; cached."""
    parts = []
    for sampler in ("random", "tpe"):
        for place in range(sweeps):
            trials = [
                _trial(number, 0, {B: number + 1}, 0.0, "finished", began=60_000 * number) for number in range(DRAWS)
            ]
            parts.append(_part(trials, {B: list(range(1, DRAWS + 1))}, 1, sampler, f"{sampler}-{place}"))
    infos = [info for info, _ in parts]
    frames = joined([frames for _, frames in parts], infos)
    return Record(infos, frames.runs, frames.curves)


def least(draws: int) -> float:
    """The expected minimum of ``draws`` standard normal values: -∫ 1 - Φ(x)ⁿ - Φ(-x)ⁿ dx over x > 0."""
    return -float(quad(lambda x: 1 - special.ndtr(x) ** draws - special.ndtr(-x) ** draws, 0, np.inf)[0])


LEAST = {draws: least(draws) for draws in range(1, DRAWS + 1)}
"""The expected best value by number of draws."""


def _trial(number: int, seed: int, point: Mapping[str, Any], value: float, state: str, began: int = 0) -> Trial:
    finished = state == "finished"
    return Trial(
        trial=f"t{number:03d}-s{seed}", kind="search", label=None, number=number, config_hash=f"{number:012d}",
        seed=seed, attempt=1, reused_from=None, overrides=point, leaves=point,
        started=began, ended=began + 60_000, state=state, reason=None if finished else state,
        epoch=10 if finished else 2,
        scalars={} if state == "failed" else {KEY: value}, warnings=(), points=Points.of({}, {}),
    )  # fmt: skip


def _repeat(trial: Trial, number: int) -> Trial:
    fields = {name: getattr(trial, name) for name in Trial.__dataclass_fields__}
    return Trial(**fields | {"trial": f"t{number:03d}-s{trial.seed}", "number": number, "reused_from": trial.trial})


def _record(trials: list[Trial], space: Mapping[str, list[Any]], seeds: int) -> Record:
    info, frames = _part(trials, space, seeds)
    return Record([info], frames.runs, frames.curves)


def _part(
    trials: list[Trial], space: Mapping[str, list[Any]], seeds: int, sampler: str = "grid", name: str = "null"
) -> tuple[SweepInfo, Frames]:
    search = {"space": {axis: {"grid": values} for axis, values in space.items()}, "seeds": list(range(seeds))}
    document = {"name": name, "axes": list(space), "objective": {KEY: "min"}, "state": "finished", "started": 0.0}
    # The base is the first point, which was not chosen by its outcome.
    document |= {"ended": 1.0, "spec": {"search": search | {"sampler": sampler}, **_nested(space)}}
    info = SweepInfo.parse(json.dumps(document), "simulated")
    return info, build(info, trials, [])


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
    """Compare every table of a record of ``null_record`` with the truth."""
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
            if any(OPEN in note for note in table.notes):
                told = [cell for cell in tested if not {SAME, OPEN} & set(cell.marker)]
                tally.add("rate", f"{what}: any difference", bool(told))
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
    """Compare the fitted law of a record of ``law_record`` with the true one."""
    for what, table in _made(tally, lambda: scaling(record), "scaling"):
        for row in table.rows:
            if row.cells[2].value == "power":
                for name, cell, truth in (("b", row.cells[4], LAW[1]), ("c", row.cells[5], LAW[2])):
                    if cell.interval is not None:
                        tally.add("coverage", f"{what}: power law's {name}", _holds(cell, truth))


def tried_pair(tally: Tally, record: Record, own: float) -> None:
    """The analysis of variance of a record of ``pair_record``; effects of configurations appear as interaction."""
    for what, table in _made(tally, lambda: interaction(record, A, B), "interaction of two axes alone"):
        for row, name in zip(table.rows, ("main effect", "main effect", "interaction"), strict=False):
            if isinstance(row.cells[5].value, float) and (name == "main effect" or not own):
                tally.add("rate", f"{what}: {name}", row.cells[5].value < 0.05)


def tried_search(tally: Tally, record: Record) -> None:
    """Compare the table of searches of a record of ``search_record`` with the expectations of the draws."""
    mean = float(np.mean([LEAST[draws] for draws in range(1, DRAWS)]))
    expected = [*(LEAST[DRAWS * quarters // 4] for quarters in (1, 2, 4)), mean]
    for what, table in _made(tally, lambda: anytime(record), "anytime"):
        for row in table.rows:
            for cell, truth in zip(row.cells[3:7], expected, strict=True):
                tally.add(
                    "coverage", f"{what}: {'mean so far' if truth == mean else 'best so far'}", _holds(cell, truth)
                )
        p = table.rows[1].cells[8].value
        if isinstance(p, float):
            tally.add("rate", f"{what}: any difference", p < 0.05)


def tried_split(tally: Tally, made: tuple[Record, list[float]], own: float) -> None:
    """Compare the best of each value, and the path to the best, of a record of ``split_record`` with the truth."""
    record, effects = made
    truth = {f"t{number:03d}": effect for number, effect in enumerate(effects)}
    values = ("4", "8", "16", "32")
    places = {f"depth {a}, rank {b}": effects[4 * (a - 1) + values.index(b)] for a in (1, 2, 3) for b in values}
    for what, table in _made(tally, lambda: best_levels(record, A), "best levels"):
        there = [places[f"depth {row.cells[0].value}, {row.cells[1].value}"] for row in table.rows]
        for row, effect in zip(table.rows[1:], there[1:], strict=True):
            tally.add("coverage", f"{what}: difference from the best", _holds(row.cells[5], effect - there[0]))
        if not own:
            told = [row for row in table.rows[1:] if row.cells[-1].value == "different"]
            tally.add("rate", f"{what}: any difference", bool(told))
    for what, table in _made(tally, lambda: ablation_path(record, base="t000"), "ablation path"):
        for before, row in zip(table.rows, table.rows[1:], strict=False):
            if row.cells[3].half_width is not None:
                change = truth[str(row.cells[1].value)] - truth[str(before.cells[1].value)]
                tally.add("coverage", f"{what}: step, chosen by values", _holds(row.cells[3], change))


def tried_sets(tally: Tally, record: Record) -> None:
    """The tests over data sets of a record of ``sets_record``, in which all methods are equal."""
    for what, table in _made(tally, lambda: across_sets(record, A, B), "across sets"):
        friedman = float(table.notes[0].partition(" p = ")[2].split()[0])
        tally.add("rate", f"{what}: Friedman", friedman < 0.05)
        for place, name in ((2, "Nemenyi"), (3, "Wilcoxon")):
            found = [row.cells[place].value for row in table.rows[1:]]
            tally.add("rate", f"{what}: any difference from the best, {name}", any(float(p) < 0.05 for p in found))


def _changed(words: str, base: tuple[int, int, int]) -> tuple[int, int, int]:
    """The point of a line of ``one_factor``: the base's, except for one axis."""
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
    """Test ``records`` null records at each number of seeds, cycling through the variants, and half as many others.

    Returns a tally per number of seeds. An interrupt ends the loop and keeps the results so far.
    """
    found = {seeds: (Tally(), np.random.default_rng([seed, seeds])) for seeds in SEEDS}
    apart = {seeds: np.random.default_rng([seed, seeds, 1]) for seeds in SEEDS}
    place = 0
    try:
        while place < records:
            for seeds, (tally, random) in found.items():
                tally.record = place
                tried(tally, *null_record(seeds, VARIANTS[place % len(VARIANTS)], random))
                if place % 2:
                    continue
                own = float(place // 2 % 2)
                tried_law(tally, law_record(seeds, random))
                tried_pair(tally, pair_record(seeds, random, own, 1 - own), own)
                tried_search(tally, search_record(seeds, random))
                tried_split(tally, split_record(seeds, apart[seeds], own), own)
                tried_sets(tally, sets_record(seeds, apart[seeds]))
            place += 1
            if progress and (sys.stderr.isatty() or place % 50 == 0):
                print(f"\r{place} of {records} records", end="", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print(f"\rinterrupted after {place} of {records} records", file=sys.stderr)
    return {seeds: tally for seeds, (tally, _) in found.items()}


def main() -> None:
    """Simulate, and print the rates and coverages as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--records", type=int, default=1000, help="number of records at each number of seeds")
    # The frames are small: Arrow, which saves memory in large ones, would only cost time here.
    pd.set_option("mode.string_storage", "python")
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
            share, _ = found[seeds].share(kind, what)
            cells.append(f"{100 * share:.1f} ± {100 * found[seeds].error(kind, what):.1f} %")
        print(f"| {what} ({kind}) | {' | '.join(cells)} |")
    for what in sorted({what for tally in found.values() for what in tally.refused}):
        print(f"| {what} (refused) | {' | '.join(str(found[seeds].refused[what]) for seeds in SEEDS)} |")


if __name__ == "__main__":
    main()
