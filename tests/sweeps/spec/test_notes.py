"""What has no effect where it stands is said, and nothing is said where all has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from linearizer_core.experiment.configuration import TrialConfig, to_mapping
from linearizer_core.experiment.effects import CONDITIONS
from linearizer_core.experiment.nested import flatten
from sweeps.spec.load import load, shipped
from sweeps.spec.model import Sweep
from sweeps.spec.notes import FIRST_AT_RANDOM, MOST, notes

ToSweep = Callable[..., Sweep]
SPACE = "search/space"
BASE: dict[str, Any] = {"search/stop_early": None, "controls": []}
LR = {SPACE: {"train.lr": {"float": [0.001, 0.01]}}}


def test_the_small_spec_has_none(sweep: ToSweep) -> None:
    assert notes(sweep(BASE)) == []


@pytest.mark.parametrize("name", shipped())
def test_shipped_specs_have_no_key_without_effect(name: str) -> None:
    assert [note for note in notes(load(name)) if "no effect" in note] == []


def test_conditions_name_leaves() -> None:
    leaves = flatten(to_mapping(TrialConfig()))
    assert {name for condition in CONDITIONS for name in condition[:2]} <= set(leaves)


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({"data/root": "/images"}, "data.root: no effect with data.name: digits, only with mnist"),
        ({"model/flow/kernel": 5}, "model.flow.kernel: no effect with model.flow.conditioner: mlp, only with conv"),
        ({"model/flow/bins": 4}, "model.flow.bins: no effect with model.flow.coupling: affine, only with spline"),
        (
            {"model/flow/components": 2},
            "model.flow.components: no effect with model.flow.coupling: affine, only",
        ),
        (
            {"model/flow/attention": True},
            "model.flow.attention: no effect with model.flow.conditioner: mlp, only",
        ),
        (
            {"recipe": "learned", "model/operator/kind": "time_dense", **LR},
            "model.operator.rank: no effect with model.operator.kind: time_dense, only with affine",
        ),
        ({"train/loss/isometry": 3.0}, "train.loss.isometry: no effect with family: diffusion, only with idempotent"),
        (
            {"model/flow/kind": "identity", "train/loss": {"endpoint": 1.0}, **LR},
            "model.flow.depth: no effect with model.flow.kind: identity, only with coupling",
        ),
        (
            {f"{SPACE}/model.flow.kernel": {"choice": [3, 5]}},
            "search.space.model.flow.kernel: no effect with model.flow.conditioner: mlp, only with conv",
        ),
        (
            {
                f"{SPACE}/model.flow.kernel": {"choice": [3, 5]},
                f"{SPACE}/model.flow.conditioner": {"choice": ["mlp", "conv"]},
            },
            "search.space.model.flow.kernel: no effect with model.flow.conditioner: mlp, only with conv; restrict it",
        ),
        (
            {f"{SPACE}/model.flow.kernel": {"choice": [3, 5], "when": {"model.flow.conditioner": "conv"}}},
            "search.space.model.flow.kernel: its `when` never holds in this space",
        ),
        (
            {"controls": [{"name": "c", "set": {"model.flow.kind": "identity", "model.flow.depth": 3}}]},
            "controls[0].set.model.flow.depth: no effect with model.flow.kind: identity, only with coupling",
        ),
        (
            {"search/constraints": {"linearity/roundtrip": ">= 0.5"}},
            "search.constraints.linearity/roundtrip: >= 0.5 asks for worse values: smaller is better",
        ),
        ({"budget/gpu_hours": 3}, "budget.gpu_hours: no effect with resources.gpus_per_worker: 0; budget.hours caps"),
        (
            {"controls": [{"name": "s", "set": {"family": "style", "train.batch_size": 64}}]},
            "controls[0]: s does not record quality/classifier_fd_collapsed; style records quality/psnr_coll",
        ),
    ],
)
def test_what_has_no_effect_is_said(sweep: ToSweep, edits: Mapping[str, Any], said: str) -> None:
    found = notes(sweep({**BASE, **edits}))
    assert any(note.startswith(said) for note in found), found


@pytest.mark.parametrize(
    ("dimension", "said"),
    [
        ({"choice": [3, 4, 3]}, "3 is listed more than once; a random draw picks it as often as it is listed"),
        ({"choice": [3]}, "3 is its only value, so nothing varies"),
        ({"int": [1, 3], "step": 10}, "1 is its only value, so nothing varies"),
        ({"int": [1, 6], "step": 2}, "6 is not reached in steps of 2: the last value is 5"),
    ],
)
def test_values_that_are_not_what_they_seem_are_said(sweep: ToSweep, dimension: Mapping[str, Any], said: str) -> None:
    found = notes(sweep({**BASE, SPACE: {"model.flow.depth": dimension}}))
    assert f"search.space.model.flow.depth: {said}" in found


def test_an_axis_that_changes_what_is_measured_is_said(sweep: ToSweep) -> None:
    found = notes(sweep({**BASE, SPACE: {"evaluate.samples": {"choice": [64, 128]}}}))
    assert found[0].startswith(
        "search.space.evaluate.samples: its values use different images or samples for measuring"
    )


def test_values_that_are_one_once_they_have_a_type_are_said(sweep: ToSweep) -> None:
    grid = {"search/sampler": "grid", SPACE: {"train.lr": {"grid": ["1e-3", 0.001, 0.01]}}}
    said = "search.space.train.lr: 0.001 is listed more than once; the grid takes it once"
    assert said in notes(sweep({**BASE, **grid}))


@pytest.mark.parametrize("sampler", ["gp", "nsga2"])
def test_what_a_sampler_draws_at_random_is_said(sweep: ToSweep, sampler: str) -> None:
    space = {
        "model.flow.conditioner": {"choice": ["mlp", "conv"]},
        "model.flow.kernel": {"choice": [3, 5], "when": {"model.flow.conditioner": "conv"}},
    }
    (said,) = notes(sweep({**BASE, SPACE: space, "search/sampler": sampler, "search/trials": 60}))
    assert said.startswith(
        f"search.sampler: {sampler} draws model.flow.kernel at random, since not every configuration"
    )


def test_what_has_one_is_not_said(sweep: ToSweep) -> None:
    conditional = {
        f"{SPACE}/model.flow.kernel": {"choice": [3, 5], "when": {"model.flow.conditioner": "conv"}},
        f"{SPACE}/model.flow.conditioner": {"choice": ["mlp", "conv"]},
    }
    assert notes(sweep({**BASE, **conditional, "model/flow/kernel": 5})) == []


@pytest.mark.parametrize(("sampler", "first"), list(FIRST_AT_RANDOM.items()))
def test_a_sampler_that_the_trials_cannot_serve_is_said(sweep: ToSweep, sampler: str, first: int) -> None:
    few = notes(sweep({**BASE, "search/sampler": sampler, "search/trials": first}))
    assert len(few) == 1
    assert few[0].startswith(f"search.sampler: {sampler} draws the first {first} configurations at random")
    assert notes(sweep({**BASE, "search/sampler": sampler, "search/trials": first + 1})) == []


@pytest.mark.parametrize("sampler", FIRST_AT_RANDOM)
def test_samplers_draw_as_many_at_random_as_is_told(sampler: str, sweep: ToSweep) -> None:
    from sweeps.search.schedule import make_study

    used = make_study(sweep({**BASE, "search/sampler": sampler})).sampler
    names = {"tpe": "_n_startup_trials", "gp": "_n_startup_trials", "nsga2": "_population_size"}
    assert getattr(used, names[sampler]) == FIRST_AT_RANDOM[sampler]


def test_a_grid_that_is_cut_short_is_said(sweep: ToSweep) -> None:
    grid = {SPACE: {"model.flow.depth": {"grid": [1, 2, 3]}, "train.sigma": {"grid": [0.1, 0.2]}}}
    (note,) = notes(sweep({**BASE, **grid, "search/sampler": "grid", "search/trials": 4}))
    assert note == "search.trials: the grid has 6 points; its last 2 are left out"


def test_many_notes_are_counted(sweep: ToSweep) -> None:
    losses = {f"train/loss/{name}": 3.0 for name in ("reconstruction", "sparsity", "isometry", "transfer")}
    flow = {f"model/flow/{name}": value for name, value in
            {"bins": 3, "components": 3, "kernel": 7, "attention": True, "coordinates": 9}.items()}  # fmt: skip
    found = notes(sweep({**BASE, **losses, **flow}))
    assert len(found) == MOST + 1
    assert found[-1] == "… and 1 more"
