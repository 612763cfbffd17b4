"""Plans: what runs at once, what can never run, and what a user reads before anything starts."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from linearizer_core.experiment.families import family_of
from sweeps.execution.cluster import Capacity, Node, local_capacity
from sweeps.execution.plan import Plan, make_plan, render
from sweeps.spec.model import Resources, Sweep
from sweeps.spec.validation import InputError

ToSweep = Callable[..., Sweep]
HERE = Capacity((Node(8, 0),), "this machine")
TWO_SEEDS = {"search/seeds": [0, 1]}


def shown(plan: Plan, width: int = 160, whole: bool = False) -> str:
    """The plan as it is printed on a terminal of some width."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(render(plan, whole))
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("cpus", "gpus", "needs", "at_once"),
    [
        (8, 0, {}, 8),
        (8, 0, {"cpus_per_worker": 3}, 2),
        (2, 0, {"cpus_per_worker": 3}, 0),
        (0.5, 0, {}, 0),
        (8, 4, {"gpus_per_worker": 1}, 4),
        (8, 4, {"gpus_per_worker": 2}, 2),
        (8, 3, {"gpus_per_worker": 2}, 1),
        (8, 1, {"gpus_per_worker": 0.5}, 2),
        (8, 1, {"gpus_per_worker": 0.3}, 3),
        (40, 1, {"gpus_per_worker": 0.1}, 10),
        (40, 3, {"gpus_per_worker": 0.1}, 30),
        (2, 4, {"gpus_per_worker": 0.25}, 2),
        (8, 0, {"gpus_per_worker": 1}, 0),
        (8, 1, {"gpus_per_worker": 2}, 0),
        (8, 4, {"workers": 2, "gpus_per_worker": 1, "cpus_per_worker": 2}, 2),
    ],
)
def test_how_many_trials_run_at_once(cpus: float, gpus: float, needs: dict[str, Any], at_once: int) -> None:
    assert Capacity((Node(cpus, gpus),), "here").concurrency(Resources(**needs)) == at_once


@pytest.mark.parametrize(
    ("cpus", "edits", "at_once", "lookahead"),
    [
        # Half as many again as run at once, of configurations that take as many trials as there are seeds; 2 at least.
        (1, {}, 1, 2),
        (2, {}, 2, 3),
        (4, {}, 4, 6),
        (8, {}, 8, 12),
        (8, TWO_SEEDS, 8, 6),
        (4, TWO_SEEDS, 4, 3),
        (8, {"search/seeds": [0, 1, 2]}, 8, 4),
        (1, TWO_SEEDS, 1, 2),
        # No more than there are trials.
        (64, {}, 10, 96),
        (64, {**TWO_SEEDS, "budget/trials": 3}, 6, 48),
    ],
)
def test_concurrency_and_lookahead(
    sweep: ToSweep, cpus: float, edits: dict[str, Any], at_once: int, lookahead: int
) -> None:
    plan = make_plan(sweep(edits), Capacity((Node(cpus, 0),), "here"))
    assert (plan.concurrency, plan.lookahead) == (at_once, lookahead)


@pytest.mark.parametrize(
    ("edits", "trials"),
    [
        ({}, 10 + 1),
        ({"controls": []}, 10),
        (TWO_SEEDS, 20 + 2),
        ({"search/confirm": {"top": 3, "seeds": [5, 6]}}, 10 + 1 + 6),
        ({"search/confirm": {"top": 10, "seeds": [5]}}, 10 + 1 + 10),
    ],
)
def test_how_many_trials_there_are(sweep: ToSweep, edits: dict[str, Any], trials: int) -> None:
    assert make_plan(sweep(edits), HERE).trials == trials


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        ({"cpus_per_worker": 9}, "a trial needs 9 CPUs; this machine has 8 CPUs and 0 GPUs"),
        ({"gpus_per_worker": 0.5}, "a trial needs 1 CPU and 0.5 GPUs; this machine has 8 CPUs and 0 GPUs"),
    ],
)
def test_a_trial_that_can_never_be_placed_is_refused(sweep: ToSweep, needs: dict[str, Any], said: str) -> None:
    made = sweep({f"resources/{name}": value for name, value in needs.items()})
    with pytest.raises(InputError) as caught:
        make_plan(made, HERE)
    assert [str(problem) for problem in caught.value.problems] == [f"resources: {said}"]
    assert caught.value.source == made.source


def test_this_machine_has_what_this_process_may_use() -> None:
    import os

    here = local_capacity()
    assert here.where == "this machine"
    assert here.cpus == len(os.sched_getaffinity(0))


def test_what_a_user_reads(sweep: ToSweep, tmp_path: Path) -> None:
    made = sweep(
        {
            **TWO_SEEDS,
            "search/confirm": {"top": 3, "seeds": [5, 6]},
            "search/constraints": {"linearity/roundtrip": "<= 1e-3"},
            "search/space/model.flow.kernel": {"choice": [3, 5], "when": {"model.flow.conditioner": "conv"}},
            "budget/hours": 1.5,
            "storage": str(tmp_path / "runs"),
            "tracking/uri": "http://ann:s3cret@mlflow.example:5000",
        }
    )
    text = shown(make_plan(made, Capacity((Node(8, 0),), "this machine")), whole=True)
    for line in (
        "sweep           demo (",
        "data            digits: 1079 / 359 / 359 images of 1×8×8 to train / validate / test",
        "objective       min quality/classifier_fd_collapsed, subject to linearity/roundtrip <= 1e-3",
        "search          tpe, 10 configurations × 2 seeds (0, 1)",
        "early stopping  asha at epochs 2, 4, 8: one in 2 goes on",
        "controls        g = identity; never stopped early, not seen by the search",
        "confirm         the best 3 at seeds 5, 6",
        "trials          28 of up to 9 epochs",
        "resources       1 CPU per trial; this machine has 8 CPUs and 0 GPUs: 8 at a time",
        "budget          1.5 hours",
        f"record          {tmp_path}/runs/demo",
        "MLflow          http://mlflow.example:5000",
        "model.flow.depth     int 1 … 6",
        "model.operator.rank  int 4 … 64 log",
        "train.lr             float 0.001 … 0.01 log",
        "model.flow.kernel    choice 3, 5 when model.flow.conditioner = conv",
        "nfe/swd, nfe/classifier_fd at 2 step counts",
    ):
        assert line in text
    low, high = re.search(r"model +([\d,]+) … ([\d,]+) parameters", text).groups()  # type: ignore[union-attr]
    assert 0 < int(low.replace(",", "")) < int(high.replace(",", ""))
    words = set(re.findall(r"[\w]+", text))
    config = made.trial_config({}, 0)
    assert {key.partition("/")[2] for key in family_of(config).summary_keys(config)} <= words
    assert "s3cret" not in text


def test_a_race_is_told_by_its_least_and_its_most(sweep: ToSweep) -> None:
    edits = {"search/seeds": {"at_least": 3, "at_most": 12}, "search/trials": 3, "controls": [], "train/epochs": 1}
    edits |= {"search/stop_early": None}
    plan = make_plan(sweep(edits), HERE)
    assert (plan.trials, plan.sweep.most_trials) == (9, 36)
    text = shown(plan, 200)
    assert "3 configurations × 3 seeds (0, 1, 2), up to 12 seeds for configurations still in the race" in text
    assert "trials     9 to 36 of up to 1 epoch\n" in re.sub(" +\n", "\n", text)
    assert "3 seeds: intervals of ± 2.5 standard deviations" in text
    assert "12 seeds: intervals of ± 0.64 standard deviations" in text
    assert "of the paired differences (power 80 %)" in text


def test_many_keys_are_folded_unless_all_are_asked_for(sweep: ToSweep) -> None:
    plan = make_plan(sweep(), HERE)
    short, whole = shown(plan), shown(plan, whole=True)
    assert "penrose_4" not in short
    assert re.search(r"linearity/… +\d+ keys: \w+, \w+, \w+, …", short)
    assert "--all names every key" in short
    assert "penrose_4" in whole
    assert "--all" not in whole
    assert len(short.splitlines()) < len(whole.splitlines())


def test_curves_over_rank_are_told_of_where_there_are_any(sweep: ToSweep) -> None:
    affine = {
        "model/operator": {"kind": "affine", "rank": 8}, "model/operators": {"by": "label"},
        "evaluate/ranks": [1, 4, 64], "controls": [],
    }  # fmt: skip
    text = " ".join(shown(make_plan(sweep(affine), HERE), whole=True).split())
    assert "rank/… rank/swd, rank/classifier_fd and rank/test_… at the ranks 1, 4, 64" in text
    assert "controls/… flat, random, swapped, shared, pooled, means" in text
    assert "rank/…" not in shown(make_plan(sweep(), HERE))


def test_what_has_no_effect_is_noted(sweep: ToSweep) -> None:
    text = shown(make_plan(sweep({"search/sampler": "nsga2", "search/trials": 40, "model/flow/kernel": 5}), HERE))
    assert "note            search.sampler: nsga2 draws the first 50 configurations at random" in text
    assert "note            model.flow.kernel: no effect with model.flow.conditioner: mlp, only with conv" in text


def test_gpus_are_shown(sweep: ToSweep) -> None:
    text = shown(make_plan(sweep({"resources/gpus_per_worker": 0.5}), Capacity((Node(8, 2),), "head:6379")))
    assert "1 CPU and 0.5 GPUs per trial; head:6379 has 8 CPUs and 2 GPUs: 4 at a time" in text


def test_without_early_stopping_controls_and_confirmation_there_is_no_word_of_them(sweep: ToSweep) -> None:
    text = shown(make_plan(sweep({"search/stop_early": None, "controls": []}), HERE))
    assert [word for word in ("early stopping", "controls", "confirm") if word in text] == []
    assert "no cap" in text


def test_a_narrow_terminal_loses_no_word(sweep: ToSweep) -> None:
    made = sweep()
    plan = make_plan(made, HERE)
    narrow, wide = (set(re.findall(r"[a-z]\w{3,}", shown(plan, width))) for width in (80, 160))
    # A long path is broken wherever the line ends.
    assert wide - narrow <= set(re.findall(r"\w+", f"{made.source} {Path.cwd()} mlflow db runs"))
