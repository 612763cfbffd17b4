"""Families and recipes in a spec: what they bring, and that the search is over one family."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from linearizer_core.experiment.configuration import TrialConfig, from_mapping
from linearizer_core.experiment.nested import flatten
from linearizer_core.experiment.recipes import recipe
from sweeps.spec.load import load
from sweeps.spec.model import Sweep

ToSweep = Callable[..., Sweep]
Refusal = Callable[..., list[str]]

FD = "quality/classifier_fd_collapsed"
PSNR = "quality/psnr_collapsed"
SPACE = "search/space"
RATE: dict[str, Any] = {SPACE: {"train.lr": {"float": [1e-4, 1e-3]}}}
BARE: dict[str, Any] = {"model": ..., "train": ..., "evaluate": ..., "search/stop_early": ..., "controls": ...}
"""Nothing set but what is searched: the rest is the recipe's."""


def controlled(set_: dict[str, Any], **edits: Any) -> dict[str, Any]:
    return {"controls": [{"name": "it", "set": set_}], **edits}


# What a family or a recipe brings


def test_a_spec_of_the_recipe_with_a_learned_operator_has_the_defaults_of_the_core(sweep: ToSweep) -> None:
    assert sweep({**BARE, "recipe": "learned"}).trial_config({}, 0) == TrialConfig(recipe="learned")


def test_a_spec_of_a_recipe_has_its_values(sweep: ToSweep) -> None:
    made = sweep({**BARE, "recipe": "paper", **RATE})
    expected = from_mapping(TrialConfig, {"recipe": "paper", **recipe("diffusion", "paper", "digits")})
    assert made.trial_config({}, 0) == expected
    # arXiv 2510.08570: a shared network, all four terms and no likelihood.
    assert made.base_leaves["model.noise_flow"] == "shared"
    assert [made.base_leaves[f"train.loss.{term}"] for term in ("flow", "noise", "data", "endpoint", "likelihood")] == [
        1.0, 1.0, 1.0, 1.0, 0.0,
    ]  # fmt: skip


def test_what_a_spec_sets_itself_wins_over_its_recipe(sweep: ToSweep) -> None:
    edits = {
        **BARE,
        "recipe": "paper",
        **RATE,
        "train": {"lr": 0.002},
        "profiles": {"deep": {"model.flow.depth": 2}},
    }
    leaves = sweep(edits, ["train.loss.noise=0.5"], "deep").base_leaves
    assert (leaves["train.lr"], leaves["model.flow.depth"], leaves["train.loss.noise"]) == (0.002, 2, 0.5)
    assert (leaves["model.flow.conditioner"], leaves["train.loss.data"]) == ("unet", 1.0)


@pytest.mark.parametrize(("family", "kind"), [("idempotent", "projection"), ("style", "diagonal")])
def test_a_family_brings_its_operator(sweep: ToSweep, family: str, kind: str) -> None:
    made = sweep({**BARE, **RATE, "family": family, "search/objective": {PSNR: "max"}})
    assert made.base_leaves["model.operator.kind"] == kind


def test_the_baseline_as_a_control_has_the_configuration_of_the_base(sweep: ToSweep) -> None:
    made = sweep(controlled({"family": "flow_matching"}))
    (control,) = made.model.controls
    base, config = made.trial_config({}, 3), made.trial_config(control.set, 3)
    assert config.family == "flow_matching"
    clean = dataclasses.replace(base.train, dequantise=0.0)  # it would show the noise that it has learned
    assert (config.model, config.train, config.evaluate, config.seed) == (base.model, clean, base.evaluate, 3)


@pytest.mark.parametrize(("family", "kind"), [("idempotent", "projection"), ("style", "diagonal")])
def test_a_control_of_another_family_has_its_recipe_and_the_rest_of_the_base(
    sweep: ToSweep, family: str, kind: str
) -> None:
    made = sweep(controlled({"family": family}))
    brought = {"family": family, **flatten(recipe(family, "default", "digits"))}
    assert brought["model.operator.kind"] == kind
    assert flatten(made.resolve(made.model.controls[0].set)) == {**made.base_leaves, **brought}


def test_a_control_of_a_recipe_has_its_values_in_place_of_the_bases(sweep: ToSweep) -> None:
    made = sweep(controlled({"recipe": "paper", "train.lr": 0.005}))
    brought = {**flatten(recipe("diffusion", "paper", "digits")), "recipe": "paper", "train.lr": 0.005}
    leaves = flatten(made.resolve(made.model.controls[0].set))
    assert leaves == {**made.base_leaves, **brought}
    # Of what the base sets: the recipe says nothing of the first, and something else of the second.
    assert (leaves["train.epochs"], leaves["model.flow.depth"]) == (9, 4)


def test_a_point_of_the_space_may_name_a_recipe(sweep: ToSweep) -> None:
    made = sweep({f"{SPACE}/recipe": {"choice": ["default", "paper"]}})
    point = {"recipe": "paper", "model.flow.depth": 3, "train.lr": 0.005}
    leaves = flatten(made.resolve(point))
    assert (leaves["model.flow.depth"], leaves["train.lr"], leaves["model.flow.conditioner"]) == (3, 0.005, "unet")
    assert made.resolve({**point, "recipe": "default"})["model"]["flow"]["conditioner"] == "mlp"


# What is refused


FAMILIES = (
    "'diffusion', 'dynamics', 'flow_matching', 'idempotent', 'inverse', 'koopman', 'mean_flow', 'regression' or 'style'"
)
SET = "controls[0].set"


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({"family": "style"}, "model.operator.kind: style has no operator time_lowrank; use diagonal, lowrank, "),
        ({"family": "idempotent", "recipe": "paper"}, "recipe: idempotent has no recipe 'paper'; use default"),
        (
            controlled({"family": "idempotent", "recipe": "paper"}),
            f"{SET}.recipe: idempotent has no recipe 'paper'; use default",
        ),
        (controlled({"family": "gan"}), f"{SET}.family: must be {FAMILIES}, got 'gan'"),
        (controlled({"family": ["style"]}), f"{SET}.family: must be {FAMILIES}, got ['style']"),
        (controlled({"recipe": {"a": 1}}), f"{SET}.recipe: must be "),
        (
            controlled({"family": "idempotent", "model.operator.kind": "dense"}),
            f"{SET}.model.operator.kind: idempotent has no operator dense; use projection, learned_projection",
        ),
    ],
)
def test_a_family_or_recipe_that_does_not_fit(refusal: Refusal, edits: dict[str, Any], said: str) -> None:
    said_all = refusal(edits)
    assert any(text.startswith(said) for text in said_all), said_all


@pytest.mark.parametrize(
    ("family", "objective", "meant"),
    [
        ("flow_matching", FD, None),
        ("flow_matching", "linearity/roundtrip", None),
        ("mean_flow", FD, None),
        ("style", "quality/psnr_k1", "quality/psnr_collapsed"),
        ("idempotent", "quality/psnr", "quality/psnr_collapsed"),
    ],
)
def test_an_objective_that_the_searched_family_does_not_record(
    refusal: Refusal, family: str, objective: str, meant: str | None
) -> None:
    edits = {
        **BARE,
        "evaluate": {"steps": [1, 10]},
        "family": family,
        **RATE,
        "search/objective": {objective: "min"},
    }
    (said,) = refusal(edits)
    assert said.startswith(f"search.objective.{objective}: is not recorded; ")
    assert meant is None or said.endswith(f"did you mean {meant}?")


def test_a_constraint_that_the_searched_family_does_not_record(refusal: Refusal) -> None:
    (said,) = refusal(
        {
            "family": "flow_matching",
            "search/objective": {"quality/swd_k10": "min"},
            "search/constraints": {"linearity/roundtrip": "<= 1e-3"},
        }
    )
    assert said.startswith("search.constraints.linearity/roundtrip: is not recorded; ")


def test_a_search_over_families_that_do_not_share_the_objective(refusal: Refusal) -> None:
    (said,) = refusal({f"{SPACE}/family": {"choice": ["diffusion", "flow_matching", "idempotent"]}})
    keys = ("swd_k10", "classifier_fd_k10", "swd_sampled", "classifier_fd_sampled")
    recorded = f"flow_matching records {', '.join(f'quality/{key} (min)' for key in keys)}"
    why = f"flow_matching does not record the objective {FD}; make it a control ({recorded})"
    assert said == f"search.space.family: {why}"


def test_a_search_over_families_by_the_name_that_they_share(sweep: ToSweep) -> None:
    edits = {f"{SPACE}/family": {"choice": ["diffusion", "flow_matching", "mean_flow", "idempotent"]}}
    made = sweep({**edits, "search/objective": {"quality/classifier_fd_sampled": "min"}})
    assert made.resolve({"family": "mean_flow"})["train"]["time"] == "logit_normal"


def test_a_search_over_families_that_share_the_objective(sweep: ToSweep) -> None:
    made = sweep({f"{SPACE}/family": {"choice": ["diffusion", "idempotent"]}})
    assert made.resolve({"family": "idempotent"})["model"]["operator"]["kind"] == "projection"


def test_no_step_counts_for_a_family_that_only_samples_in_steps(refusal: Refusal) -> None:
    said = refusal({"family": "flow_matching", "evaluate/steps": [], "search/objective": {"quality/swd_k10": "min"}})
    assert any(text.startswith("evaluate.steps: must be ascending positive step counts") for text in said)


def test_the_loss_of_a_family_is_its_own(refusal: Refusal) -> None:
    said = refusal(controlled({"family": "flow_matching", "train.loss.flow": 0}))
    assert said == [
        "controls[0].set.train.loss: every weight of flow_matching is zero; give a weight to at least one of flow"
    ]


# Objectives beyond the quality of samples


def test_style_maximises_psnr_and_may_stop_early(sweep: ToSweep) -> None:
    made = sweep(
        {
            **BARE,
            "family": "style",
            SPACE: {"model.operator.rank": {"int": [2, 8]}},
            "search/objective": {PSNR: "max"},
            "search/stop_early": {"grace_epochs": 2, "reduction": 2},
        }
    )
    assert made.search.objective == {PSNR: "max"}


def test_costs_can_be_objectives(sweep: ToSweep) -> None:
    objective = {FD: "min", "cost/params": "min", "cost/sample_mflop_collapsed": "min"}
    made = sweep({"search/objective": objective, "search/stop_early": None})
    assert list(made.search.objective) == list(objective)


@pytest.mark.parametrize(
    ("key", "direction", "words"),
    [
        ("linearity/collapse_psnr", "min", "higher is better: write max, not min"),
        ("quality/precision_collapsed", "min", "higher is better: write max, not min"),
        (FD, "max", "lower is better: write min, not max"),
        ("cost/params", "max", "lower is better: write min, not max"),
    ],
)
def test_an_objective_against_the_direction_of_its_metric(
    refusal: Refusal, key: str, direction: str, words: str
) -> None:
    quality = ["classifier_fd", "precision"]
    said = refusal({"search/objective": {key: direction}, "search/stop_early": None, "evaluate/quality": quality})
    assert said == [f"search.objective.{key}: {words}"]


def test_an_objective_that_is_better_neither_way_may_go_either(sweep: ToSweep) -> None:
    for direction in ("min", "max"):
        sweep({"search/objective": {"spectrum/condition": direction}, "search/stop_early": None})


def test_a_cost_is_not_measured_during_training(refusal: Refusal) -> None:
    (said,) = refusal({"search/objective": {"cost/params": "min"}})
    assert said.startswith("search.stop_early: cost/params is not measured during training; ")


# Data


def test_data_that_only_a_control_or_a_point_lacks(refusal: Refusal, tmp_path: Path) -> None:
    said = refusal(
        {
            "data": {"name": "digits", "root": str(tmp_path)},
            "controls": [{"name": "other data", "set": {"data.name": "npz"}}],
            f"{SPACE}/data.name": {"choice": ["digits", "mnist"]},
        }
    )
    of_control, of_point = sorted(said)
    assert of_control.startswith("controls[0].set.data: npz: ")
    assert of_point.startswith("search.space.data.name: mnist makes data wrong: mnist: ")
    assert [text for text in said if str(tmp_path) not in text] == []


def test_more_images_than_there_are(refusal: Refusal) -> None:
    assert refusal({"data/images": 1080}) == ["data: data.images = 1080 exceeds the 1079 training images of digits"]


def test_a_batch_larger_than_the_images_that_are_used(refusal: Refusal) -> None:
    (said,) = refusal({"data/images": 200})
    assert said == "train.batch_size: 256 exceeds the 200 training images of digits"


def test_data_root_can_be_set(spec_file: Callable[..., Path], data_root: Path) -> None:
    made = load(str(spec_file()), ["data.name=mnist", f"data.root={data_root}", "data.images=512"])
    assert made.base["data"]["root"] == str(data_root)
    assert made.trial_config({}, 0).data.images == 512
