"""Profiles: named leaves of a spec that differ, chosen on the command line."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from sweeps.search.growth import growth_of
from sweeps.spec.load import load
from sweeps.spec.model import Sweep, json_schema
from sweeps.spec.validation import InputError
from tests.sweeps.conftest import record_of

ToSweep = Callable[..., Sweep]
Refusal = Callable[..., list[str]]

SMALL = {
    "train.epochs": 5,
    "train.lr": 0.004,
    "search.trials": 3,
    "search.space.train.lr": {"float": [0.002, 0.005]},
    "controls": [],
}
ANCHORED = """
name: demo
search: {trials: 2, space: {train.lr: {float: [1.0e-3, 1.0e-2]}}}
profiles:
  quick: &quick
    train.epochs: 2
    train.batch_size: 64
  quicker: {<<: *quick, train.epochs: 1}
"""


def test_without_a_profile_none_counts(sweep: ToSweep) -> None:
    assert sweep({"profiles": {"small": SMALL}}).resolved == sweep().resolved


def test_a_profile_sets_its_leaves_and_adds_its_name(sweep: ToSweep) -> None:
    made = sweep({"profiles": {"small": SMALL, "other": {"train.epochs": 7}}}, profile="small")
    assert made.name == "demo-small"
    assert made.folder == Path("runs/demo-small")
    assert (made.base_leaves["train.epochs"], made.base_leaves["train.lr"]) == (5, 0.004)
    assert made.search.space["train.lr"].float_ == (0.002, 0.005)
    assert list(made.search.space) == ["model.flow.depth", "model.operator.rank", "train.lr"]
    assert (made.configurations, made.model.controls) == (3, ())
    assert made.base_leaves["train.batch_size"] == sweep().base_leaves["train.batch_size"]


def test_set_wins_over_a_profile(sweep: ToSweep) -> None:
    edits = {"profiles": {"small": SMALL}}
    made = sweep(edits, ["train.lr=0.006", "name=mine", "search.space.train.lr={float: [0.001, 0.002]}"], "small")
    assert (made.name, made.base_leaves["train.lr"], made.base_leaves["train.epochs"]) == ("mine", 0.006, 5)
    assert made.search.space["train.lr"].float_ == (0.001, 0.002)


def test_a_profile_may_name_the_sweep(sweep: ToSweep) -> None:
    assert sweep({"profiles": {"small": {"name": "other"}}}, profile="small").name == "other"


@pytest.mark.parametrize(
    ("profiles", "profile", "said"),
    [
        (..., "mnist", "profiles: there is no profile mnist; the spec has none"),
        ({}, "mnist", "profiles: there is no profile mnist; the spec has none"),
        ({"mnist": {}, "cifar10": {}}, "minst", "profiles: there is no profile minst; did you mean mnist?"),
        ({"mnist": {}, "cifar10": {}}, "zzz", "profiles: there is no profile zzz; known: mnist, cifar10"),
        ({"a": {"train.epoch": 3}}, "a", "train.epoch: unknown key; did you mean train.epochs?"),
        ({"a": {"train.lr": 2}}, "a", "train.lr: must be less than or equal to 1, got 2"),
        ({"a": {"model.operator.rank": 65}}, "a", "model.operator.rank: rank 65 exceeds the data's dimension 64 "),
        ({"a": 3}, "a", "profiles.a: must be a mapping of keys to values, got 3"),
        ({"a": 3}, None, "profiles.a: must be a mapping of keys to values, got 3"),
        ([1], None, "profiles: must be a mapping of keys to values, got [1]"),
    ],
)
def test_what_is_wrong_with_a_profile_is_said_once(
    refusal: Refusal, profiles: object, profile: str | None, said: str
) -> None:
    edits = {} if profiles is ... else {"profiles": profiles}
    (found,) = refusal(edits, (), profile)
    assert found.startswith(said)


def test_a_profile_whose_name_is_a_number(refusal: Refusal) -> None:
    said = refusal({"profiles": {32: {"train.epochs": 3}}}, (), "32")
    assert [text for text in said if text.startswith("profiles: there is no profile 32; ")]
    assert "profiles: the key 32 must be text; put it in quotes" in said


def test_a_sweep_without_a_name_has_none_under_a_profile_either(refusal: Refusal) -> None:
    said = refusal({"name": ..., "profiles": {"small": SMALL}}, (), "small")
    assert said == ["name: is required"]


def test_a_profile_does_not_hide_what_else_is_wrong(refusal: Refusal) -> None:
    said = refusal({"search/seeds": [0, 0], "profiles": {}}, ["foo"], "mnist")
    assert {text.partition(": ")[0] for text in said} == {"profiles", "search.seeds", "--set foo"}


# Anchors


@pytest.mark.parametrize(("profile", "epochs"), [("quick", 2), ("quicker", 1)])
def test_what_a_profile_merges_in_counts_unless_it_says_otherwise(
    spec_file: Callable[..., Path], profile: str, epochs: int
) -> None:
    leaves = load(str(spec_file(text=ANCHORED)), (), profile).base_leaves
    assert (leaves["train.epochs"], leaves["train.batch_size"]) == (epochs, 64)


def test_a_key_given_twice_where_others_merge_it_in_is_told_once(refusal: Refusal) -> None:
    text = ANCHORED.replace("    train.batch_size: 64\n", "    train.batch_size: 64\n    train.epochs: 3\n")
    assert refusal(text=text) == ["profiles.quick.train.epochs: is given twice, in lines 6 and 8; keep one"]


def test_a_key_given_twice_beside_a_merge_is_told(refusal: Refusal) -> None:
    text = ANCHORED.replace("train.epochs: 1}", "train.epochs: 1, train.epochs: 3}")
    assert refusal(text=text) == ["profiles.quicker.train.epochs: is given twice, in lines 8 and 8; keep one"]


# What is recorded, and the command line


def test_a_profile_that_is_added_later_does_not_make_another_sweep(sweep: ToSweep, tmp_path: Path) -> None:
    before = sweep({"storage": str(tmp_path / "runs")})
    before.folder.mkdir(parents=True)
    (before.folder / "sweep.json").write_text(record_of(before))
    assert "profiles" not in before.resolved
    assert growth_of(sweep({"storage": str(tmp_path / "runs"), "profiles": {"small": SMALL}})).changes == ()


def test_data_may_move_between_two_launches(sweep: ToSweep, tmp_path: Path) -> None:
    before = sweep({"storage": str(tmp_path / "runs")})
    before.folder.mkdir(parents=True)
    (before.folder / "sweep.json").write_text(record_of(before))
    moved = sweep({"storage": str(tmp_path / "runs")}, ["data.root=/elsewhere", "data.download=true"])
    assert moved.base_leaves["data.root"] == "/elsewhere"
    assert moved.base_leaves["data.download"] is True
    assert growth_of(moved).changes == ()
    with pytest.raises(InputError, match=r"data\.images: 0 → 500"):
        growth_of(sweep({"storage": str(tmp_path / "runs")}, ["data.images=500"]))


def test_a_plan_under_a_profile_names_it_in_the_next_command(
    run_cli: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    spec_file: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    path = spec_file({"profiles": {"small": SMALL}})
    arguments = [path.name, "--profile", "small", "--set", "search.trials=2"]
    assert run_cli("plan", *arguments) == 0
    out, _, command = capsys.readouterr().out.partition("Next: ")
    assert "demo-small (spec.yaml)" in out
    assert "2 configurations" in out
    assert shlex.split(command) == ["linsweep", "launch", *arguments]
    for command in ("plan", "launch"):
        assert run_cli(command, path.name, "--profile", "smal") == 2
        assert capsys.readouterr() == ("", "spec.yaml: profiles: there is no profile smal; did you mean small?\n")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_the_schema_knows_profiles_and_where_data_are() -> None:
    schema = json_schema()
    assert schema["properties"]["profiles"]["additionalProperties"]["type"] == "object"
    data = schema["$defs"]["DataConfig"]["properties"]
    assert {"name", "root", "size", "images", "download"} <= set(data)
    values: dict[str, Any] = yaml.safe_load(ANCHORED)
    jsonschema.validate(values, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**values, "profiles": {"quick": 3}}, schema)
