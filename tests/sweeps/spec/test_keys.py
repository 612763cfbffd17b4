"""The keys of a spec, told one by one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from linearizer_core.experiment.nested import flatten
from sweeps.spec.keys import all_keys, keys_of
from sweeps.spec.load import load
from sweeps.spec.validation import InputError

Cli = Callable[..., int]


def test_every_leaf_of_a_configuration_is_a_key() -> None:
    names = {key.name for key in all_keys()}
    assert set(load("quickstart").base_leaves) <= names
    whole = {name for name in flatten(load("quickstart").resolved) if not name.startswith("search.space")}
    assert {name for name in whole - names if not name.startswith("search.objective")} == set()


def test_every_key_says_what_it_means_and_no_two_are_the_same() -> None:
    assert [key.name for key in all_keys() if not key.meaning] == []
    names = [key.name for key in all_keys()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("model.flow.depth", ("whole number", "≥ 1, ≤ 128", 4)),
        ("train.warmup", ("number", "≥ 0, < 1", 0.05)),
        ("evaluate.temperatures", ("list of numbers", "", [])),
        ("resources.device", ("one of auto, cpu, cuda", "", "auto")),
        ("budget.hours", ("number or null", "> 0", None)),
        ("search.space.train.lr.log", ("true or false", "", False)),
        ("search.space.model.flow.depth.int", ("[whole number, whole number] or null", "", None)),
        ("notify.command", ("list of strings or null", "at least one", None)),
        ("controls[0].set", ("mapping", "", {})),
        ("search.confirm.seeds", ("list of whole numbers", "at least one", [1, 2, 3, 4])),
    ],
)
def test_one_key(name: str, told: tuple[str, str, object]) -> None:
    (key,) = keys_of(name).keys
    assert (key.type, key.bounds, key.default) == told
    assert not key.required


def test_defaults_of_recipes_that_differ() -> None:
    (key,) = keys_of("model.operator.kind").keys
    assert key.default == "time_lowrank"
    assert key.recipes["diffusion"] == "affine"
    assert key.recipes["idempotent"] == "projection"
    (lr,) = keys_of("train.lr").keys
    assert lr.recipes["diffusion on digits"] == 0.003
    assert "diffusion on larger images" not in lr.recipes  # 0.001, as without a recipe


def test_a_section_has_the_keys_below_it() -> None:
    names = [key.name for key in keys_of("search.confirm").keys]
    assert names == ["search.confirm", "search.confirm.top", "search.confirm.seeds"]
    assert [key.required for key in keys_of("name").keys] == [True]
    assert "search.space.<key>.when" in [key.name for key in keys_of("search.space").keys]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lr", "lr: is not a key of a spec; did you mean train.lr?"),
        ("train.lrr", "train.lrr: is not a key of a spec; did you mean train.lr?"),
        ("train.lr.high", "train.lr.high: is not a key of a spec; train.lr has no keys of its own"),
        ("", ": is not a key of a spec; known: family, recipe, data, "),
    ],
)
def test_a_name_that_is_no_key(run_cli: Cli, capsys: pytest.CaptureFixture[str], name: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        keys_of(name)
    assert str(caught.value).startswith(said)
    assert run_cli("schema", name) == 2
    assert capsys.readouterr().out == ""
