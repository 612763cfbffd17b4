"""Sweeps that race: which seeds run, what the study knows of it, and who is the best in tables and status."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import analysis
from analysis.statistics.racing import race
from linearizer_core.experiment.journal import Journal, Outcome
from sweeps.execution.cluster import Capacity, Node
from sweeps.execution.in_process import InProcess
from sweeps.execution.task import Task
from sweeps.launch import launch
from sweeps.search.schedule import PlannedTrial
from sweeps.spec.load import load
from sweeps.spec.model import Sweep
from sweeps.status import race_told, status_of
from tests.sweeps.offline import offline

FD = "quality/classifier_fd_collapsed"
RANK = "model.operator.rank"
RANKS = [4, 6, 8, 10, 12, 14]
RACE: dict[str, Any] = {
    "controls": [],
    "search/sampler": "grid",
    "search/trials": ...,
    "search/stop_early": None,
    "search/space": {RANK: {"grid": RANKS}},
    "search/seeds": {"at_least": 3, "at_most": 8},
}
MEANS = dict(zip(RANKS, [30.0, 10.0, 0.2, 0.0, 0.4, 60.0], strict=True))


def value(overrides: Any, seed: int) -> float:
    """Values around the mean of a rank, that differ between seeds."""
    return MEANS[overrides[RANK]] + float(np.random.default_rng([overrides[RANK], seed]).normal())


@pytest.fixture
def evaluate(ended: Callable[..., Outcome]) -> Callable[[PlannedTrial], Outcome]:
    return lambda planned: ended(value(planned.identity.overrides, planned.identity.seed or 0))


def test_more_seeds_go_where_the_best_may_be_whoever_ends_first(
    sweep: Callable[..., Sweep], drive: Callable[..., Any], evaluate: Any
) -> None:
    made = sweep(RACE)
    runs = [drive(made, evaluate, workers=workers, lookahead=3, order=order) for workers, order in ((1, 0), (4, 1))]
    assert sorted(runs[0].names) == sorted(runs[1].names)
    assert runs[0].told == runs[1].told
    done = runs[0]
    rows = {number: [value({RANK: rank}, seed) for seed in range(8)] for number, rank in enumerate(RANKS)}
    seeds = dict.fromkeys(rows, 3)
    while not (standing := race({number: row[: seeds[number]] for number, row in rows.items()}, 3, 8)).decided:
        for number in standing.left:
            seeds[number] += 1
    assert sorted(done.names) == sorted(f"t{number:03d}-s{seed}" for number in rows for seed in range(seeds[number]))
    assert 18 < len(done.names) < 40
    assert done.schedule.total == len(done.names)
    # The study knows the seeds that all have, and no others.
    assert [t.values[0] for t in done.study.trials] == pytest.approx([np.mean(row[:3]) for row in rows.values()])
    assert done.schedule.best()[0].number == standing.left[0]
    assert len(done.schedule.best()) == max(seeds.values())


@pytest.mark.parametrize("known", [0, 5, 17, 18, 20, 23])
def test_a_race_goes_on_from_what_is_recorded(
    sweep: Callable[..., Sweep], drive: Callable[..., Any], evaluate: Any, known: int
) -> None:
    whole = drive(sweep(RACE), evaluate)
    recorded = {name: whole.outcomes[name] for name in whole.names[:known]}
    rest = drive(sweep(RACE), evaluate, recorded=recorded)
    assert rest.names == whole.names[known:]
    assert rest.schedule.best_value() == whole.schedule.best_value()


def test_what_is_stopped_by_chance_or_dies_is_in_no_race(
    sweep: Callable[..., Sweep], drive: Callable[..., Any], ended: Callable[..., Outcome]
) -> None:
    def evaluate(planned: PlannedTrial) -> Outcome:
        rank, seed = planned.identity.overrides[RANK], planned.identity.seed
        if (rank, seed) in ((10, 1), (8, 4)):
            return ended({}, "failed", 2)
        return ended(value(planned.identity.overrides, seed or 0))

    done = drive(sweep(RACE), evaluate)
    assert not any(name.startswith("t003-s3") for name in done.names)
    assert "t002-s5" not in done.names
    assert done.schedule.best()[0].number == 4
    assert done.schedule.complete


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({"search/seeds": {"at_least": 5, "at_most": 5}}, "search.seeds: at_most must be above at_least, got 5 and 5"),
        ({"search/seeds": {"at_least": 1}}, "search.seeds.at_least: must be greater than or equal to 2"),
        ({"search/seeds": {"at_lest": 3}}, "search.seeds.at_lest: unknown key; did you mean search.seeds.at_least?"),
        ({"search/confirm": {"top": 1, "seeds": [7]}}, "search.confirm.seeds: must be fresh: [7] are in"),
        ({"search/seeds": [0, -1]}, "search.seeds[1]: must be greater than or equal to 0"),
        ({"search/seeds": []}, "search.seeds: must have at least 1 item"),
    ],
)
def test_wrong_seeds_are_refused(refusal: Callable[..., list[str]], edits: dict[str, Any], said: str) -> None:
    (problem,) = refusal({**RACE, **edits})
    assert problem.startswith(said)


class Trials:
    """Stands for training, with values that are given."""

    def __init__(self, values: dict[int, list[float]]) -> None:
        self._values = values

    def __call__(self, task: Task) -> Iterator[dict[str, Any]]:
        journal = Journal(task.files.journal)
        journal.trial(task.identity, task.config, task.provenance)
        found = {FD: self._values[task.identity.number][task.identity.seed or 0]}
        journal.summary(found)
        journal.end("finished", 9)
        yield {"epoch": 9, "state": "finished", **found}


def test_tables_and_status_take_the_best_from_those_with_most_seeds(
    sweep: Callable[..., Sweep], tmp_path: Path
) -> None:
    """The first leader falls behind later, and whom it beat has the lower mean by then: it has lost all the same."""
    draw = np.random.default_rng(0)
    common = draw.normal(size=8)
    leads = [0.0, 0.0, 0.0, 9.0, 9.0, 9.0, 9.0, 9.0] + 0.01 * draw.normal(size=8)
    values = {
        0: list(leads + common),
        1: list(np.full(8, 2.0) + common + 0.001 * draw.normal(size=8)),
        2: list(np.array([0.0, 9.0, 0.0, 9.0, 0.0, 9.0, 0.0, 9.0]) + common),
    }
    made = sweep({**RACE, "search/space": {RANK: {"grid": RANKS[:3]}}, "storage": str(tmp_path / "runs")})
    with offline():
        result = launch(load(made.source), Console(file=io.StringIO()), InProcess(
            Capacity((Node(2, 0),), "here"), Trials(values)
        ), fresh=True)  # fmt: skip
    status = status_of(made.folder)
    assert status.race is not None
    assert status.race.out == {1: 3}
    assert (status.total, status.ended) == (19, 19)
    record = analysis.load(made.folder)
    frame = analysis.by_configuration(record, ["search"])
    assert frame["seeds"].tolist() == [8, 3, 8]
    means = dict(zip(frame["name"], frame[FD], strict=True))
    assert means["t001"] < min(means["t000"], means["t002"])
    best = analysis.best(record)
    assert best is not None
    assert best.name == status.best_name == result.best[0].trial[:4] == f"t{status.race.left[0]:03d}" != "t001"
    rows = [row.cells[0].value for row in analysis.configurations(record).rows]
    assert rows[0] == best.name
    assert race_told(status.race).startswith("2 of 3 configurations were left at 8 seeds: t00")
