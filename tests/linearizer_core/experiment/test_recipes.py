"""Recipes: the published values, what a configuration sets itself, and families' defaults."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from linearizer_core.experiment.checks import problems
from linearizer_core.experiment.configuration import LossConfig, TrialConfig, config_hash, from_mapping, to_mapping
from linearizer_core.experiment.recipes import RECIPES, brought, expand, of_then, recipe


def read(values: dict[str, Any]) -> TrialConfig:
    config: TrialConfig = from_mapping(TrialConfig, expand(values))
    return config


def test_the_papers_recipe_has_the_published_settings() -> None:
    """arXiv 2510.08570, section 4.1: four losses of weight one, latent noise, one network for both ends, a U-Net."""
    config = read({"recipe": "paper"})
    loss = LossConfig(flow=1.0, noise=1.0, data=1.0, endpoint=1.0, likelihood=0.0, whitening=0.0)
    assert config.train.loss == loss
    train = config.train
    assert (train.lr, train.batch_size, train.sigma, train.dequantise, train.time) == (1e-4, 256, 0.3, 0.0, "uniform")
    flow = config.model.flow
    assert (flow.kind, flow.frame, flow.depth, flow.levels) == ("coupling", "pixels", 4, 1)
    assert (flow.coupling, flow.mixing, flow.conditioner) == ("affine", "lu", "unet")
    assert (flow.width, flow.activation, flow.attention) == (16, "silu", False)
    assert config.model.noise_flow == "shared"
    assert (config.model.operator.kind, config.model.operator.rank) == ("time_factors", 8)
    assert config.evaluate.temperature == 1.0
    assert config.recipe == "paper"


def test_what_a_configuration_sets_itself_wins() -> None:
    values = {
        "recipe": "paper",
        "model": {"flow": {"depth": 9}, "operator": {"rank": 3}},
        "train": {"lr": 0.5, "loss": {"noise": 0.0}},
        "seed": 7,
    }
    before = copy.deepcopy(values)
    config = read(values)
    assert (config.model.flow.depth, config.model.flow.conditioner) == (9, "unet")
    assert (config.model.operator.rank, config.model.operator.kind) == (3, "time_factors")
    assert (config.train.lr, config.train.sigma, config.seed) == (0.5, 0.3, 7)
    assert (config.train.loss.noise, config.train.loss.data) == (0.0, 1.0)
    assert values == before


def test_expanding_leaves_the_recipe_as_it_was() -> None:
    before = copy.deepcopy(RECIPES)
    expanded = expand({"recipe": "paper", "model": {"flow": {"depth": 9}}, "train": {"loss": {"flow": 3.0}}})
    assert expanded["model"]["flow"]["depth"] == 9
    assert before == RECIPES


def test_the_recipe_with_a_learned_operator_is_the_default_configuration() -> None:
    assert read({"recipe": "learned"}) == TrialConfig(recipe="learned")
    assert read({"recipe": "learned", "seed": 3}) == TrialConfig(recipe="learned", seed=3)


def test_the_default_recipe_has_operators_by_label_or_by_cluster() -> None:
    assert read({}) == read({"recipe": "default"})
    for data, by in (("digits", "label"), ("mnist", "label"), ("cifar10", "label"), ("folder", "cluster"),
                     ("celeba", "cluster"), ("npz", "cluster")):  # fmt: skip
        config = read({"data": {"name": data}})
        assert (config.model.operator.kind, config.model.operators.by) == ("affine", by), data


def test_the_default_recipe_is_valid_for_every_data_set() -> None:
    """Of the size that images have then: celeba's and folders' own would make matrices of 12,288 rows."""
    sides = {"digits": 8, "mnist": 32, "fashion-mnist": 32, "cifar10": 32, "celeba": 32, "folder": 32, "npz": 32}
    for data, side in sides.items():
        config = read({"data": {"name": data}})
        assert config.data.size in (0, side)
        event = (1 if data in ("digits", "mnist", "fashion-mnist") else 3, side, side)
        classes = 0 if config.model.operators.by == "cluster" else 10
        quality = {"evaluate": {"quality": ["swd"]}} if not classes else {}
        assert problems(read({"data": {"name": data}, **quality}), event, 2000, classes) == {}, data


def test_a_record_from_before_affine_operators_means_what_it_meant() -> None:
    """Its ``default`` is the recipe that is called ``learned`` now, and its hash stays as it was."""
    then = {"family": "diffusion", "recipe": "default", "model": {"operator": {"kind": "time_lowrank", "rank": 8}}}
    now = of_then(then)
    assert now["recipe"] == "learned"
    assert now["model"]["operators"]["by"] == "one"
    assert read(now).model.operator.kind == "time_lowrank"
    assert of_then(now) == now
    assert config_hash(then) == config_hash(now)
    assert of_then({**then, "recipe": "paper"})["recipe"] == "paper"
    assert of_then({**then, "family": "style"})["recipe"] == "default"


def test_the_recipes_of_larger_images_are_other_ones() -> None:
    learned = read({"recipe": "learned", "data": {"name": "mnist"}})
    assert (learned.model.flow.frame, learned.model.operator.kind) == ("principal", "time_diagonal")
    config = read({"data": {"name": "mnist"}, "train": {"lr": 0.5}})
    assert (config.model.flow.frame, config.model.operator.spread) == ("principal", "diagonal")
    assert (config.train.batch_size, config.train.dequantise, config.train.lr) == (256, 0.05, 0.5)
    assert read({"data": {"name": "mnist"}, "recipe": "paper"}).model.flow.frame == "pixels"
    baseline = read({"data": {"name": "mnist"}, "family": "flow_matching"})
    assert (baseline.model, baseline.train.dequantise) == (config.model, 0.0)


def test_the_baseline_beside_a_linearizer_keeps_its_values() -> None:
    base = to_mapping(read({"data": {"name": "mnist"}}))
    assert brought(base, "flow_matching", "default") == {"family": "flow_matching", "train": {"dequantise": 0.0}}
    brings = {"family": "mean_flow", "train": {"dequantise": 0.0, "time": "logit_normal"}}
    assert brought(base, "mean_flow", "default") == brings
    assert brought(base, "diffusion", "paper")["model"]["noise_flow"] == "shared"


def test_an_expanded_configuration_is_its_own_expansion() -> None:
    for family, name in RECIPES:
        config = read({"family": family, "recipe": name})
        assert read(to_mapping(config)) == config


@pytest.mark.parametrize(("family", "name"), RECIPES)
@pytest.mark.parametrize("event", [(1, 8, 8), (1, 32, 32), (3, 32, 32)])
def test_every_recipe_is_without_problems(family: str, name: str, event: tuple[int, int, int]) -> None:
    assert problems(read({"family": family, "recipe": name}), event, 1000, 10) == {}


@pytest.mark.parametrize(("family", "kind"), [("idempotent", "projection"), ("style", "diagonal")])
def test_other_families_start_with_an_operator_of_their_own(family: str, kind: str) -> None:
    assert read({"family": family}).model.operator.kind == kind
    assert read({"family": family, "model": {"operator": {"rank": 4}}}).model.operator.kind == kind
    assert read({"family": family, "model": {"operator": {"kind": "conv"}}}).model.operator.kind == "conv"


@pytest.mark.parametrize(
    "values",
    [
        {"family": "style", "recipe": "paper", "seed": 1},
        {"family": "other"},
        {"recipe": "best"},
        {"family": ["diffusion"]},
        {"recipe": {"a": 1}},
        {"family": None},
    ],
)
def test_values_that_name_no_recipe_are_left_to_validation(values: dict[str, Any]) -> None:
    assert expand(values) == values


@pytest.mark.parametrize("broken", [None, 3, [1], "text"])
def test_a_value_in_place_of_a_mapping_is_left_to_validation(broken: object) -> None:
    assert expand({"recipe": "paper", "model": {"flow": broken}})["model"]["flow"] == broken


def test_a_family_without_the_recipe_says_which_it_has() -> None:
    assert recipe("diffusion", "paper", "mnist")["model"]["noise_flow"] == "shared"
    with pytest.raises(ValueError, match="style has no recipe 'paper'; use default"):
        recipe("style", "paper", "digits")
    with pytest.raises(ValueError, match="diffusion has no recipe 'best'; use default, learned, paper"):
        recipe("diffusion", "best", "digits")
