"""Sweeps that grow: what stays, what runs, what is set aside, and what is refused; by real launches in this process."""

from __future__ import annotations

import io
import json
import math
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

import analysis
from linearizer_core.experiment.journal import Journal, state_of
from sweeps.children import environment, module
from sweeps.execution.cluster import Capacity, Node
from sweeps.execution.in_process import InProcess
from sweeps.execution.plan import Plan, make_plan, render
from sweeps.execution.price import Price
from sweeps.execution.replay import replayed
from sweeps.execution.task import Task
from sweeps.execution.trial import execute
from sweeps.launch import launch
from sweeps.record.paths import SweepPaths
from sweeps.record.sweep_json import read_record
from sweeps.result import LaunchResult
from sweeps.search.growth import growth_of
from sweeps.search.schedule import LEARNT
from sweeps.spec.load import load
from sweeps.spec.model import Sweep
from sweeps.spec.validation import InputError
from tests.sweeps.offline import offline

SWD = "quality/swd_collapsed"
DEPTH, RANK, LR = "model.flow.depth", "model.operator.rank", "train.lr"
HERE = Capacity((Node(2, 0),), "here")
SPEC: dict[str, Any] = {
    "name": "grown",
    "data": {"name": "digits", "images": 256},
    "model": {"flow": {"depth": 1, "width": 8}, "operator": {"rank": 4}},
    "train": {"epochs": 4, "batch_size": 64, "lr": 0.002},
    "evaluate": {"steps": [1], "quality": ["swd"], "samples": 64, "held_out": 64},
    "search": {
        "sampler": "grid",
        "space": {DEPTH: {"grid": [1, 2]}, RANK: {"grid": [4, 8]}},
        "objective": {SWD: "min"},
        "seeds": [0],
    },
}
SEARCHED = {
    "search/sampler": "tpe",
    "search/trials": 7,
    "search/space": {DEPTH: {"int": [1, 6]}, RANK: {"int": [2, 16]}},
}


@pytest.fixture(autouse=True)
def _offline() -> Iterator[None]:
    with offline():
        yield


def value(config: Mapping[str, Any], seed: int) -> float:
    """An objective in closed form, that differs between seeds."""
    depth, rank = config["model"]["flow"]["depth"], config["model"]["operator"]["rank"]
    return abs(depth - 4) + abs(math.log2(rank / 8)) + 100 * config["train"]["lr"] + 0.125 * seed


class Trials:
    """Stands for training: an epoch costs nothing, and what is asked to stop after so many trials does."""

    def __init__(self, paths: SweepPaths, most: float = math.inf) -> None:
        self.ran: list[str] = []
        self._paths, self._most = paths, most

    def __call__(self, task: Task) -> Iterator[dict[str, Any]]:
        if len(self.ran) >= self._most:
            self._paths.stop.write_text("enough\n")
        self.ran.append(task.identity.trial)
        journal = Journal(task.files.journal)
        journal.trial(task.identity, task.config, task.provenance)
        found = value(task.config, task.identity.seed or 0)
        for epoch in range(1, task.config["train"]["epochs"] + 1):
            metrics = {SWD: found + 1 / epoch}
            journal.epoch(epoch, metrics)
            yield {"epoch": epoch, **metrics}
            if task.paths.stop.exists():
                journal.end("interrupted", epoch, "stopped on request")
                yield {"epoch": epoch, "state": "interrupted"}
                return
        journal.summary({SWD: found, "cost/train_seconds": 1.0})
        journal.end("finished", epoch)
        yield {"epoch": epoch, "state": "finished", SWD: found}


Launch = Callable[..., tuple[LaunchResult, list[str]]]


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., Sweep]:
    """``spec(edits, storage=…)``: the small spec with some of its keys set."""

    def make(edits: Mapping[str, Any] | None = None, storage: str = "runs") -> Sweep:
        values = json.loads(json.dumps(SPEC)) | {"storage": str(tmp_path / storage)}
        for path, new in (edits or {}).items():
            *parents, last = path.split("/")
            target = values
            for name in parents:
                target = target.setdefault(name, {})
            target[last] = new
        file = tmp_path / "spec.yaml"
        file.write_text(yaml.safe_dump(values))
        return load(str(file))

    return make


def carried_out(sweep: Sweep, most: float = math.inf) -> tuple[LaunchResult, list[str]]:
    """How a launch ended, and the trials that it ran."""
    trials = Trials(SweepPaths(sweep.folder), most)
    result = launch(sweep, Console(file=io.StringIO()), InProcess(HERE, trials))
    return result, trials.ran


def told(sweep: Sweep) -> list[tuple[Any, ...]]:
    """What the study knows of a recorded sweep's configurations, those of other sweeps first, then by number."""
    paths = SweepPaths(sweep.folder)
    record = read_record(paths)
    assert record is not None
    study = replayed(sweep, paths, record).schedule.study
    trials = sorted(study.get_trials(deepcopy=False), key=lambda trial: trial.user_attrs.get("trials", []))
    return [(trial.params, trial.state.name, trial.values, trial.user_attrs) for trial in trials]


def names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.jsonl") if not path.stem.startswith("r"))


def refused(sweep: Sweep) -> str:
    with pytest.raises(InputError) as caught:
        growth_of(sweep)
    return "; ".join(str(problem) for problem in caught.value.problems)


# Seeds


@pytest.mark.parametrize("edits", [{}, SEARCHED], ids=["grid", "tpe"])
def test_more_seeds_run_and_nothing_runs_twice(spec: Callable[..., Sweep], edits: dict[str, Any]) -> None:
    _, first = carried_out(spec(edits))
    before = {name: state_of(SweepPaths(spec(edits).folder).journal(name)).metrics for name in first}
    grown = spec({**edits, "search/seeds": [0, 1]})
    result, more = carried_out(grown)
    assert more == [name.replace("-s0", "-s1") for name in first]
    assert result.state == "finished"
    assert {name: state_of(SweepPaths(grown.folder).journal(name)).metrics for name in first} == before
    for params, state, values, attributes in told(grown):
        # The study is told the mean of both seeds.
        config = grown.resolve(params)
        assert (state, values) == ("COMPLETE", [pytest.approx(value(config, 0) + 0.0625)])
        assert len(attributes["trials"]) == 2
    assert carried_out(grown)[1] == []


def test_a_seed_that_is_removed_is_set_aside_and_comes_back(spec: Callable[..., Sweep]) -> None:
    two, one = spec({"search/seeds": [0, 1]}), spec()
    carried_out(two)
    paths = SweepPaths(one.folder)
    result, ran = carried_out(spec())
    assert ran == []
    assert names(paths.journals) == ["t000-s0", "t001-s0", "t002-s0", "t003-s0"]
    assert names(paths.superseded) == ["t000-s1", "t001-s1", "t002-s1", "t003-s1"]
    assert result.trials == {"finished": 4}
    assert analysis.load(one.folder).runs.query("kind == 'search'")["seed"].tolist() == [0] * 4
    _, ran = carried_out(spec({"search/seeds": [0, 1]}))
    assert ran == []
    assert names(paths.superseded) == []
    assert len(analysis.load(one.folder).runs.query("kind == 'search'")) == 8


# Values and axes


def test_values_are_added_and_removed(spec: Callable[..., Sweep]) -> None:
    carried_out(spec())
    grown = spec({"search/space": {DEPTH: {"grid": [1, 2, 3]}, RANK: {"grid": [8, 4]}}})
    result, ran = carried_out(grown)
    # The record keeps its numbers, in whatever order a grid now lists its values.
    assert ran == ["t004-s0", "t005-s0"]
    assert result.state == "finished"
    runs = analysis.load(grown.folder).runs.query("kind == 'search'")
    assert list(zip(runs[DEPTH], runs[RANK], strict=True)) == [(1, 4), (1, 8), (2, 4), (2, 8), (3, 8), (3, 4)]
    fewer = spec({"search/space": {DEPTH: {"grid": [1, 3]}, RANK: {"grid": [4]}}})
    growth = growth_of(fewer)
    assert (growth.kept, growth.new, growth.ended) == (("t000-s0", "t005-s0"), 0, 2)
    assert growth.set_aside == ("t001-s0", "t002-s0", "t003-s0", "t004-s0")
    assert carried_out(fewer)[1] == []
    assert [params for params, *_ in told(fewer)] == [{DEPTH: 1, RANK: 4}, {DEPTH: 3, RANK: 4}]
    assert carried_out(spec({"search/space": {DEPTH: {"grid": [1, 3, 5]}, RANK: {"grid": [4, 8]}}}))[1] == [
        "t006-s0", "t007-s0",
    ]  # fmt: skip
    record = read_record(SweepPaths(fewer.folder))
    assert record is not None
    assert len(record["grown"]) == 3
    assert record["grown"][0]["changes"] == [
        f"search.space.{DEPTH}.grid: [1, 2] → [1, 2, 3]", f"search.space.{RANK}.grid: [4, 8] → [8, 4]",
    ]  # fmt: skip


def test_trials_that_wait_are_cancelled_with_their_state(spec: Callable[..., Sweep]) -> None:
    result, ran = carried_out(spec(), most=2)
    assert result.state == "interrupted"
    assert ran == ["t000-s0", "t001-s0", "t002-s0"]
    paths = SweepPaths(spec().folder)
    paths.training_state("t002-s0").parent.mkdir()
    paths.training_state("t002-s0").write_bytes(b"a state")
    fewer = spec({"search/space": {DEPTH: {"grid": [1]}, RANK: {"grid": [4, 8]}}})
    growth = growth_of(fewer)
    assert (growth.kept, growth.cancelled) == (("t000-s0", "t001-s0"), ("t002-s0",))
    assert (growth.not_begun, growth.set_aside) == (1, ())
    assert carried_out(fewer)[1] == []
    assert names(paths.journals) == ["t000-s0", "t001-s0"]
    assert not paths.training_state("t002-s0").exists()


def test_a_further_axis_takes_what_is_there_at_its_value(spec: Callable[..., Sweep]) -> None:
    carried_out(spec())
    wrong = {**SPEC["search"]["space"], LR: {"grid": [0.002, 0.004], "default": 0.004}}
    assert refused(spec({"search/space": wrong})) == (
        f"search.space.{LR}.default: must be the value in recorded trials: 0.002 in t000-s0, not 0.004"
    )
    axis = {**SPEC["search"]["space"], LR: {"grid": [0.002, 0.004], "default": 0.002}}
    grown = spec({"search/space": axis})
    _, ran = carried_out(grown)
    assert ran == ["t004-s0", "t005-s0", "t006-s0", "t007-s0"]
    runs = analysis.load(grown.folder).runs.query("kind == 'search'")
    frame = analysis.by_configuration(analysis.load(grown.folder), ["search"])
    assert runs[LR].tolist() == frame[LR].tolist() == [0.002] * 4 + [0.004] * 4
    assert all(set(json.loads(text)) == {DEPTH, RANK, LR} for text in runs["overrides"])
    # Where what is there is none of its values, that is no longer asked for.
    other = spec({"search/space": {**SPEC["search"]["space"], LR: {"grid": [0.004, 0.008]}}})
    assert growth_of(other).set_aside == ("t000-s0", "t001-s0", "t002-s0", "t003-s0")
    # The base's value of a leaf that is searched may be another one.
    assert growth_of(spec({"search/space": axis, "train/lr": 0.004})).set_aside == ()


def test_an_axis_that_is_removed_leaves_the_trials_at_the_bases_value(spec: Callable[..., Sweep]) -> None:
    carried_out(spec())
    growth = growth_of(spec({"search/space": {RANK: {"grid": [4, 8]}}}))
    assert (growth.kept, growth.new) == (("t000-s0", "t001-s0"), 0)
    assert growth.set_aside == ("t002-s0", "t003-s0")


def test_a_search_learns_from_what_it_had_before_its_space_grew(spec: Callable[..., Sweep]) -> None:
    carried_out(spec(SEARCHED))
    earlier = [params for params, *_ in told(spec(SEARCHED))]
    wider = spec({**SEARCHED, "search/trials": 10, "search/space": {DEPTH: {"int": [1, 8]}, RANK: {"int": [2, 16]}}})
    _, ran = carried_out(wider)
    assert ran == ["t007-s0", "t008-s0", "t009-s0"]
    assert [params for params, *_ in told(wider)][:7] == earlier
    assert [state for _, state, *_ in told(wider)] == ["COMPLETE"] * 10


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_what_is_drawn_after_growth_is_not_drawn_again(spec: Callable[..., Sweep], sampler: str) -> None:
    edits = {"search/sampler": sampler, "search/trials": 3, "search/space": {LR: {"float": [1e-4, 1e-2]}}}
    carried_out(spec(edits))
    grown = spec({**edits, "search/trials": 6, "search/seeds": [1]})
    carried_out(grown)
    assert len({params[LR] for params, *_ in told(grown)}) == 6


def test_a_longer_search_is_as_if_it_had_been_as_long(spec: Callable[..., Sweep]) -> None:
    carried_out(spec(SEARCHED))
    grown = spec({**SEARCHED, "search/trials": 10})
    carried_out(grown)
    whole = spec({**SEARCHED, "search/trials": 10}, storage="others")
    carried_out(whole)
    assert told(grown) == told(whole)
    assert "can only grow" in refused(spec({**SEARCHED, "search/trials": 9}))


# Points and sweeps that are given


def test_points_are_tried_first(spec: Callable[..., Sweep]) -> None:
    first = [{DEPTH: 4, RANK: 9}, {RANK: 3}, {DEPTH: 4, RANK: 9}]
    sweep = spec({**SEARCHED, "search/first": first})
    carried_out(sweep)
    points = [params for params, *_ in told(sweep)]
    # What a point does not name is the base's: one flow block.
    assert points[:2] == [{DEPTH: 4, RANK: 9}, {DEPTH: 1, RANK: 3}]
    assert len(points) == 7
    more = spec({**SEARCHED, "search/trials": 9, "search/first": [*first, {DEPTH: 6, RANK: 16}]})
    _, ran = carried_out(more)
    assert ran == ["t007-s0", "t008-s0"]
    grown = [params for params, *_ in told(more)]
    assert grown[:8] == [*points, {DEPTH: 6, RANK: 16}]


def test_points_that_cannot_be_tried_are_refused(spec: Callable[..., Sweep]) -> None:
    with pytest.raises(InputError) as caught:
        spec({**SEARCHED, "search/first": [{DEPTH: 7, RANK: 3}, {"model.flow.dept": 1}]})
    assert [str(problem) for problem in caught.value.problems] == [
        f"search.first[0].{DEPTH}: 7 is not in int 1 … 6",
        "search.first[1].model.flow.dept: is not searched; did you mean model.flow.depth?",
    ]


def test_finished_trials_of_earlier_sweeps_are_known_and_not_counted(spec: Callable[..., Sweep]) -> None:
    earlier = spec({**SEARCHED, "name": "earlier", "search/seeds": [0, 1], "search/trials": 12})
    carried_out(earlier)
    at = told(earlier)
    sweep = spec({**SEARCHED, "search/learn_from": ["earlier"], "search/space": {DEPTH: {"int": [3, 6]}}})
    result, ran = carried_out(sweep)
    inside = [entry for entry in at if entry[0][DEPTH] >= 3]
    learnt = [entry for entry in told(sweep) if LEARNT in entry[3]]
    assert 0 < len(inside) < 12
    assert [(params[DEPTH], values) for params, _, values, _ in learnt] == [
        (params[DEPTH], values) for params, _, values, _ in inside
    ]
    assert all(attributes == {LEARNT: attributes[LEARNT]} for *_, attributes in learnt)
    assert learnt[0][3][LEARNT].startswith("earlier/t0")
    assert result.trials == {"finished": 7}
    assert len(set(ran)) == len(ran)
    # A sweep that has learnt goes on without the other.
    for path in sorted(earlier.folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    earlier.folder.rmdir()
    assert carried_out(spec({**SEARCHED, "search/learn_from": ["earlier"], "search/space": {DEPTH: {"int": [3, 6]}}}))[
        1
    ] == []  # fmt: skip
    with pytest.raises(InputError, match=r"search\.learn_from: nobody: no sweep of this name"):
        carried_out(spec({**SEARCHED, "name": "alone", "search/learn_from": ["nobody"]}))
    assert not (earlier.folder.parent / "alone").exists()


# Controls


def test_controls_keep_their_numbers(spec: Callable[..., Sweep]) -> None:
    a, b = ({"name": name, "set": {"train.sigma": sigma}} for name, sigma in (("a", 0.1), ("b", 0.2)))
    carried_out(spec({"controls": [a]}))
    assert carried_out(spec({"controls": [b, a]}))[1] == ["c001-s0"]
    paths = SweepPaths(spec().folder)
    assert {name: state_of(paths.journal(name)).head["label"] for name in ("c000-s0", "c001-s0")} == {  # type: ignore[index]
        "c000-s0": "a", "c001-s0": "b",
    }  # fmt: skip
    # One that is set otherwise is another one, whatever it is called.
    other = {"name": "a", "set": {"train.sigma": 0.4}}
    assert carried_out(spec({"controls": [b, other]}))[1] == ["c002-s0"]
    assert names(paths.superseded) == ["c000-s0"]


# Epochs


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_more_epochs_are_those_of_a_training_that_was_as_long(spec: Callable[..., Sweep], schedule: str) -> None:
    """Real training: what was trained on is, to the last digit, what a training from the start comes to."""
    edits = {
        "train/schedule": schedule,
        "train/epochs": 2,
        "search/space": {RANK: {"grid": [4]}},
        "data": {"name": "digits", "images": 128},
    }
    for epochs, storage in ((2, "runs"), (4, "runs"), (4, "others")):
        sweep = spec({**edits, "train/epochs": epochs}, storage=storage)
        launch(sweep, Console(file=io.StringIO()), InProcess(HERE, execute), fresh=True)
    grown, whole = (state_of(tmp.journal("t000-s0")) for tmp in map(SweepPaths, (spec(edits).folder, sweep.folder)))
    assert grown.state == whole.state == "finished"
    assert [attempt.event["resumed_epoch"] for attempt in grown.attempts] == [0, 2 if schedule == "constant" else 0]
    assert sorted(grown.epochs) == sorted(whole.epochs) == [1, 2, 3, 4]
    alike = [key for key in whole.metrics if not key.startswith("cost/")]
    assert {key: grown.metrics[key] for key in alike} == {key: whole.metrics[key] for key in alike}
    assert grown.epochs[4]["metrics"]["train/loss"] == whole.epochs[4]["metrics"]["train/loss"]
    runs = analysis.load(spec(edits).folder).runs.query("kind == 'search'")
    assert (runs["epoch"].tolist(), runs["train.epochs"].tolist()) == ([4], [4])


def test_fewer_epochs_are_refused_and_a_plan_says_how_more_are_trained(spec: Callable[..., Sweep]) -> None:
    carried_out(spec())
    assert refused(spec({"train/epochs": 3})) == (
        "train.epochs: grown was trained for 4 epochs, not 3; the number can only grow"
    )
    growth = growth_of(spec({"train/epochs": 6}))
    assert (growth.longer, growth.anew) == ((), ("t000-s0", "t001-s0", "t002-s0", "t003-s0"))
    assert (growth.ended, growth.new, growth.missing) == (0, 0, 4)


# What is refused, and what a plan says


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({"train/lr": 0.004}, "(train.lr: 0.002 → 0.004)"),
        ({"search/sampler": "random", "search/trials": 2}, "search.sampler: grid → random"),
        ({"search/objective": {SWD: "max"}}, None),
        ({"evaluate/samples": 32}, "(evaluate.samples: 64 → 32)"),
        ({"data": {"name": "digits", "images": 128}}, "(data.images: 256 → 128)"),
    ],
)
def test_what_cannot_grow_is_refused_with_what_differs(
    spec: Callable[..., Sweep], edits: dict[str, Any], said: str | None
) -> None:
    carried_out(spec())
    if said is None:  # which no spec may say
        with pytest.raises(InputError):
            spec(edits)
        return
    if "search/sampler" in edits:
        edits = {**edits, "search/space": {DEPTH: {"choice": [1, 2]}, RANK: {"choice": [4, 8]}}}
    message = refused(spec(edits))
    assert said in message
    assert message.startswith(f"name: {spec().folder} holds a sweep of this name with another spec (")
    assert "choose another name (--set name=…)" in message
    if "train/lr" in edits:
        assert "search both values (search.space.train.lr: {choice: [0.002, 0.004]})" in message


def test_a_plan_says_what_stays_what_is_new_and_what_it_costs(spec: Callable[..., Sweep]) -> None:
    carried_out(spec({"search/seeds": [0, 1]}))
    for path in SweepPaths(spec().folder).journals.glob("t*.jsonl"):
        # Each trial is made to have taken four hours: one an epoch.
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            line["time"] = 1e9 + 3600 * (4 if line["event"] == "end" else 0)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    grown = spec(
        {
            "search/seeds": [0, 2],
            "search/space": {DEPTH: {"grid": [1, 2]}, RANK: {"grid": [4, 16]}},
            "resources": {"gpus_per_worker": 0.5, "price_per_gpu_hour": 3},
        }
    )
    plan = make_plan(grown, Capacity((Node(2, 1),), "here"), growth_of(grown))
    assert plan.price is not None
    # Two are kept, six are new, of four hours on half a GPU each, two at a time.
    assert (plan.price.most_trials, plan.price.most_wall_seconds) == (6, plan.price.wall_seconds)
    assert (plan.price.trials, plan.price.gpu_seconds) == (6, pytest.approx(12 * 3600))
    assert (plan.price.wall_seconds, plan.price.money) == (pytest.approx(12 * 3600), pytest.approx(36))
    text = printed(plan)
    assert "search.seeds: [0, 1] → [0, 2]" in text
    assert "2 kept (2 of them have ended), 6 new, 6 no longer needed, which stay in the record" in text
    assert "about 12 h for 6 trials, 12 GPU-hours, 36.00 at the price per GPU-hour" in text


def test_the_price_of_a_race_is_a_range() -> None:
    price = Price(9, 36.0, 7200.0, 38.0, 6.0, 4, "other sweeps", 36, 150.0)
    assert str(price) == (
        "about 38 s to 2 min 30 s for 9 to 36 trials, 2 to 8 GPU-hours, 6.00 to 24.00 at the price per GPU-hour "
        "(by the epochs of 4 finished trials of other sweeps)"
    )


def printed(plan: Plan) -> str:
    console = Console(file=io.StringIO(), width=200, color_system=None)
    console.print(render(plan))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_sweep_that_has_ended_costs_nothing_more(spec: Callable[..., Sweep]) -> None:
    assert "not known before a trial has finished" in printed(make_plan(spec(), HERE, growth_of(spec())))
    carried_out(spec())
    assert "nothing left to run" in printed(make_plan(spec(), HERE, growth_of(spec())))


def test_a_sweep_without_a_record_knows_no_price_and_other_sweeps_tell_it(spec: Callable[..., Sweep]) -> None:
    assert make_plan(spec(), HERE, growth_of(spec())).price is None
    carried_out(spec({"name": "other"}))
    price = make_plan(spec(), HERE, growth_of(spec())).price
    assert price is not None
    assert (price.measured, price.of) == (4, "other sweeps")
    # Of other images nothing is known.
    images = spec({"data": {"name": "digits", "images": 64}, "name": "small"})
    assert make_plan(images, HERE, growth_of(images)).price is None


# Killed in the middle of it


@pytest.mark.slow
def test_growth_that_is_killed_goes_on_to_the_same_table(spec: Callable[..., Sweep], tmp_path: Path) -> None:
    """Two storages go through the same specs; the launches of one are killed while it grows."""
    steps: list[dict[str, Any]] = [
        {**SEARCHED, "search/trials": 2},
        {**SEARCHED, "search/trials": 3, "search/seeds": [0, 1], "search/first": [{DEPTH: 2, RANK: 3}]},
        {**SEARCHED, "search/trials": 3, "search/seeds": [1], "train/epochs": 4},
    ]
    small = {"data": {"name": "digits", "images": 64}, "train/epochs": 2}
    frames = {}
    for storage in ("runs", "others"):
        for place, step in enumerate(steps):
            sweep = spec({**small, **step}, storage=storage)
            command = module("linsweep", "launch", sweep.source, "--debug", "--fresh", "--set", "tracking.uri=null")
            if storage == "runs" and place:
                _killed(command, SweepPaths(sweep.folder))
            launch(sweep, Console(file=io.StringIO()), InProcess(HERE, execute), fresh=True)
        record = analysis.load(sweep.folder)
        keys = [key for key in record.metrics if not key.startswith("cost/")]
        frames[storage] = record.runs.query("kind == 'search'")[["trial", "state", "epoch", "overrides", *keys]]
        assert frames[storage]["state"].tolist() == ["finished"] * 3
    left, right = frames["runs"], frames["others"]
    assert left[["trial", "epoch", "overrides"]].equals(right[["trial", "epoch", "overrides"]])
    assert np.array_equal(left.iloc[:, 4:].to_numpy(), right.iloc[:, 4:].to_numpy(), equal_nan=True)


def _killed(command: list[str], paths: SweepPaths) -> None:
    """Start a launch, and kill it once its sweep has grown and one of its trials has begun to train."""
    before = {path: path.stat().st_size for path in paths.journals.glob("t*.jsonl")}
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        grown = [path for path in paths.journals.glob("t*.jsonl") if path.stat().st_size > before.get(path, 0) + 2000]
        if grown:
            break
        time.sleep(0.02)
    assert process.poll() is None, process.stderr and process.stderr.read().decode()
    process.send_signal(signal.SIGKILL)
    process.wait()
