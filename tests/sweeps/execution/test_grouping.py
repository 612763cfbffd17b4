"""Trials of a sweep that train together: the record of each alone, and the faults of each its own."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from linearizer_core.experiment.journal import Journal, TrialState, read, state_of
from sweeps.execution import trial as execution
from sweeps.execution.cluster import Capacity, Node
from sweeps.execution.executor import Work
from sweeps.execution.in_process import InProcess
from sweeps.execution.plan import Plan, make_plan, render
from sweeps.execution.ray_tune import HalvingScheduler, ScheduleSearcher
from sweeps.execution.task import MEMBER, Task
from sweeps.execution.trainable import TrialTrainable
from sweeps.launch import launch
from sweeps.record.paths import SweepPaths
from sweeps.record.requests import ask_to_retry, ask_to_stop
from sweeps.result import LaunchResult
from sweeps.spec.load import load
from sweeps.spec.model import Sweep
from sweeps.spec.validation import InputError
from tests.sweeps.offline import offline

SWD = "quality/swd_sampled"
SPEC = f"""
name: tiny
family: flow_matching
data: {{name: digits}}
model: {{flow: {{depth: 1, width: 8}}}}
train: {{epochs: 3, batch_size: 64, steps: 2}}
evaluate: {{steps: [1], quality: [swd], temperatures: [1.0], every: 1, samples: 16, held_out: 16}}
search:
  sampler: grid
  space: {{train.lr: {{grid: [0.001, 0.004]}}}}
  seeds: [0, 1, 2]
  objective: {{{SWD}: min}}
resources: {{together: auto, retries: 1}}
"""
Results = Generator[dict[str, Any], None, None]


@pytest.fixture(autouse=True)
def _offline() -> Iterator[None]:
    with offline():
        yield


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Sweep]:
    """``tiny(set, …)``: six trials on digits, of two configurations at three seeds."""
    path = tmp_path / "tiny.yaml"
    path.write_text(SPEC)

    def make(*sets: str) -> Sweep:
        return load(str(path), [f"storage={tmp_path / 'runs'}", *sets])

    return make


def here(cpus: int = 2) -> Capacity:
    return Capacity((Node(cpus, 0),), "here")


def carried_out(sweep: Sweep, together: Callable[[Sequence[Task]], Results] | None = None) -> LaunchResult:
    executor = InProcess(here(), alone, together) if together else InProcess(here())
    return launch(sweep, Console(file=io.StringIO()), executor, fresh=True)


def states(sweep: Sweep) -> dict[str, TrialState]:
    journals = sorted(SweepPaths(sweep.folder).journals.glob("[tkc]*.jsonl"))
    return {path.stem: state_of(path) for path in journals}


def kinds(sweep: Sweep, trial: str) -> list[str]:
    """The events of a trial's journal, without the states that it saved as time passed."""
    found = [event["event"] for event in read(SweepPaths(sweep.folder).journal(trial))]
    return [kind for kind in found if kind != "saved"]


def among(state: TrialState) -> list[str] | None:
    assert state.head is not None
    return state.head["provenance"].get("together")


NAMES = [f"t00{number}-s{seed}" for number in (0, 1) for seed in (0, 1, 2)]


def test_the_record_of_trials_together_is_that_of_each_alone(tiny: Callable[..., Sweep]) -> None:
    together, alone = (tiny(f"name=way-{way}", f"resources.together={way}") for way in ("auto", "off"))
    results = [carried_out(sweep) for sweep in (together, alone)]
    assert [result.state for result in results] == ["finished", "finished"]
    assert results[0].best_value == pytest.approx(results[1].best_value, rel=1e-3)
    found, expected = states(together), states(alone)
    assert list(found) == list(expected) == NAMES
    for name, state in found.items():
        other = expected[name]
        assert state.head is not None
        assert other.head is not None
        assert state.head["config_hash"] == other.head["config_hash"]
        assert (state.state, state.epoch) == (other.state, other.epoch) == ("finished", 3)
        assert kinds(together, name) == kinds(alone, name)
        assert set(state.metrics) == set(other.metrics)
        for epoch, measured in other.rungs.items():
            assert state.rungs[epoch] == pytest.approx(measured, rel=1e-3)
        assert among(state) == [each for each in NAMES if each[:4] == name[:4]]
        assert among(other) is None


def test_early_stopping_stops_each_by_itself_and_the_same(tiny: Callable[..., Sweep]) -> None:
    more = ("search.stop_early={scheduler: asha, grace_epochs: 1, reduction: 2}",
            "search.space={train.lr: {grid: [0.004, 0.00001, 0.00002]}}", "search.seeds=[0, 1]")  # fmt: skip
    together, alone = tiny("name=together", *more), tiny("name=alone", "resources.together=off", *more)
    for sweep in (together, alone):  # on one place: what a search knows depends on how many trials it may have open
        launch(sweep, Console(file=io.StringIO()), InProcess(here(1)), fresh=True)
    found, expected = states(together), states(alone)
    ends = [{name: (state.state, state.epoch) for name, state in each.items()} for each in (found, expected)]
    assert ends[0] == ends[1]
    assert {"finished", "stopped"} == {state for state, _ in ends[0].values()}
    assert not list((together.folder / "training").glob("*.pt"))


class AsTune(InProcess):
    """Does what Tune does with its searcher, its scheduler and a trainable, in this process."""

    def carry_out(self, work: Work) -> None:
        searcher, scheduler = ScheduleSearcher(work.jobs), HalvingScheduler(work.jobs)
        for number in count():
            name = str(number)
            config = searcher.suggest(name)
            if not isinstance(config, dict):
                return
            tune_trial = cast(Trial, SimpleNamespace(trial_id=name, status=Trial.RUNNING))
            scheduler.on_trial_add(None, tune_trial)
            trainable = TrialTrainable(config)
            while not (result := trainable.train())["done"]:
                if scheduler.on_trial_result(None, tune_trial, result) == TrialScheduler.STOP:
                    break
            trainable.stop()
            searcher.on_trial_complete(name, result)


def test_tune_is_told_of_each_by_itself(tiny: Callable[..., Sweep]) -> None:
    more = ("search.stop_early={scheduler: asha, grace_epochs: 1, reduction: 2}",
            "search.space={train.lr: {grid: [0.004, 0.00001]}}")  # fmt: skip
    tuned, here_ = tiny("name=tuned", *more), tiny("name=here", *more)
    for sweep, executor in ((tuned, AsTune(here(1))), (here_, InProcess(here(1)))):
        assert launch(sweep, Console(file=io.StringIO()), executor, fresh=True).state == "finished"
    found, expected = states(tuned), states(here_)
    assert list(found) == NAMES
    for name, state in found.items():
        assert (state.state, state.epoch, state.rungs) == (
            expected[name].state,
            expected[name].epoch,
            expected[name].rungs,
        )
        assert among(state) == among(expected[name])


def test_a_number_takes_learning_rates_too(tiny: Callable[..., Sweep]) -> None:
    sweep = tiny("resources.together=6")
    assert carried_out(sweep).state == "finished"
    assert {tuple(among(state) or ()) for state in states(sweep).values()} == {tuple(NAMES)}


def alone(task: Task) -> Results:
    """One trial by itself, with nothing trained."""
    journal = Journal(task.files.journal)
    journal.trial(task.identity, task.config, task.provenance)
    yield from finish(task)


def finish(task: Task) -> Results:
    journal = Journal(task.files.journal)
    journal.epoch(3, {SWD: 1.0})
    journal.summary({SWD: 1.0})
    journal.end("finished", 3)
    yield {"epoch": 3, "state": "finished", SWD: 1.0}


class Poisoned:
    """Trials together, nothing trained: one named raises each time, after the others have ended."""

    def __init__(self, trial: str) -> None:
        self.trial = trial
        self.calls: list[list[str]] = []

    def __call__(self, tasks: Sequence[Task]) -> Results:
        left = [task for task in tasks if not execution._has_ended(task)]
        self.calls.append([task.identity.trial for task in left])
        for task in left:
            journal = Journal(task.files.journal)
            journal.trial(task.identity, task.config, task.provenance)
            if task.identity.trial != self.trial:
                for result in finish(task):
                    yield {**result, MEMBER: task.identity.trial}
        for task in left:
            if task.identity.trial == self.trial:
                Journal(task.files.journal).end("interrupted", 0, "ValueError: poison")
                raise ValueError("poison")


def test_one_that_raises_is_tried_again_and_then_by_itself(tiny: Callable[..., Sweep]) -> None:
    poisoned = Poisoned("t000-s1")
    sweep = tiny()
    assert carried_out(sweep, poisoned).state == "finished"
    first = [name for name in NAMES if name.startswith("t000")]
    assert poisoned.calls[:2] == [first, ["t000-s1"]]
    found = states(sweep)
    assert {state.state for state in found.values()} == {"finished"}
    assert len(found["t000-s1"].attempts) == 3
    assert among(found["t000-s1"]) is None


def test_one_that_raises_by_itself_too_fails_and_no_other(tiny: Callable[..., Sweep]) -> None:
    sweep = tiny()

    def broken(task: Task) -> Results:
        Journal(task.files.journal).trial(task.identity, task.config, task.provenance)
        raise ValueError("poison")
        yield

    executor = InProcess(here(), broken, Poisoned("t001-s2"))
    launch(sweep, Console(file=io.StringIO()), executor, fresh=True)
    found = states(sweep)
    assert {name: state.state for name, state in found.items() if state.state != "finished"} == {"t001-s2": "failed"}
    assert found["t001-s2"].reason == "ValueError: poison"
    assert len(found["t001-s2"].attempts) == 2 + 2


def test_one_that_is_asked_to_stop_leaves_the_others_and_can_be_tried_again(tiny: Callable[..., Sweep]) -> None:
    sweep = tiny()
    paths = SweepPaths(sweep.folder)

    def stopping(tasks: Sequence[Task]) -> Results:
        for result in execution.execute_together(tasks):
            if (result[MEMBER], result["epoch"]) == ("t000-s0", 2):
                ask_to_stop(paths, "t000-s1")
            yield result

    carried_out(sweep, stopping)
    found = states(sweep)
    assert {name: state.state for name, state in found.items() if state.state != "finished"} == {"t000-s1": "stopped"}
    assert (found["t000-s1"].by_hand, found["t000-s1"].epoch) == (True, 2)
    assert paths.training_state("t000-s1").exists()
    ask_to_retry(paths, "t000-s1")
    launch(sweep, Console(file=io.StringIO()), InProcess(here()))
    again = states(sweep)["t000-s1"]
    assert (again.state, again.attempts[-1].event["resumed_epoch"]) == ("finished", 2)
    assert sorted(again.epochs) == [1, 2, 3]


def test_a_launch_that_dies_is_gone_on_with(tiny: Callable[..., Sweep]) -> None:
    """It dies with a part of the trials ended, and the rest at different epochs: the numbers are the same."""
    whole, cut = tiny("name=whole"), tiny("name=cut", "resources.checkpoint_seconds=0")

    class Died(BaseException):
        pass

    def dying(tasks: Sequence[Task]) -> Results:
        for result in execution.execute_together(tasks):
            if (result[MEMBER], result["epoch"]) == ("t001-s1", 2):
                raise Died
            yield result

    carried_out(whole)
    with pytest.raises(Died):
        launch(cut, Console(file=io.StringIO()), InProcess(here(), alone, dying), fresh=True)
    before = states(cut)
    assert [state.state for state in before.values()].count("finished") == 3
    launch(cut, Console(file=io.StringIO()), InProcess(here()))
    found, expected = states(cut), states(whole)
    for name, state in found.items():
        assert state.state == "finished"
        assert len(state.attempts) == 1 + name.startswith("t001")
        assert sorted(state.epochs) == [1, 2, 3]
        assert state.metrics[SWD] == pytest.approx(expected[name].metrics[SWD], rel=1e-3)


@pytest.mark.parametrize(
    ("sets", "cpus", "size", "confirmed"),
    [
        (["resources.together=off"], 2, 1, 1),
        ([], 2, 3, 3),
        ([], 4, 2, 2),  # six trials on four places
        ([], 6, 1, 1),
        (["resources.together=5"], 6, 5, 5),
        (["search.confirm={top: 1, seeds: [5, 6, 7, 8]}"], 2, 3, 2),
    ],
)
def test_no_place_is_left_empty(
    tiny: Callable[..., Sweep], sets: list[str], cpus: int, size: int, confirmed: int
) -> None:
    plan = make_plan(tiny(*sets), here(cpus))
    assert (plan.grouping.size, plan.grouping._confirmed) == (size, confirmed)
    assert plan.concurrency == min(cpus, -(-6 // size))
    assert plan.lookahead >= 2


def said(plan: Plan) -> str:
    console = Console(file=io.StringIO(), width=400, color_system=None)
    console.print(render(plan))
    return next((line for line in console.file.getvalue().splitlines() if line.startswith("together")), "")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("sets", "text"),
    [
        (["resources.together=off"], ""),
        ([], "up to 3 seeds of a configuration in one process"),
        (["resources.together=4"], "up to 4 trials that differ in seed and train.lr alone in one process"),
        (["resources.workers=2"], "no: 2 workers share each trial"),
        (["search.seeds=[0]"], "no: auto takes the seeds of a configuration, and each has one"),
        (["model.flow.mixing=p4"], "no: matrices of model.flow.mixing: p4 change during training"),
        (
            ["controls=[{name: p4, set: {model.flow.mixing: p4}}]"],
            "by itself; not p4: matrices of model.flow.mixing: p4 change during training",
        ),
        (
            ["search.seeds={at_least: 3, at_most: 5}"],
            "a race adds seeds after the first 3 one at a time, each by itself",
        ),
    ],
)
def test_the_plan_says_what_trains_together_and_why_not(tiny: Callable[..., Sweep], sets: list[str], text: str) -> None:
    line = said(make_plan(tiny(*sets), here()))
    assert text in line
    assert bool(line) == bool(text)


def test_a_family_that_cannot_be_batched_trains_alone(tiny: Callable[..., Sweep]) -> None:
    """Of a sweep in which others can."""
    mixed = tiny(
        "family=diffusion", "recipe=learned", "model.operator.rank=4", "search.seeds=[0, 1]", "train.epochs=1",
        "search.space={model.flow.mixing: {grid: [lu, p4]}}"
    )  # fmt: skip
    assert carried_out(mixed).state == "finished"
    for name, state in states(mixed).items():
        assert (among(state) is None) == name.startswith("t001"), name


@pytest.mark.parametrize("value", ["1", "true", "many", "2.5", "1000"])
def test_what_is_no_way_to_train_together_is_refused(tiny: Callable[..., Sweep], value: str) -> None:
    with pytest.raises(InputError, match=r"resources.together: must be auto, off or a number of trials from 2 to 256"):
        tiny(f"resources.together={value}")
