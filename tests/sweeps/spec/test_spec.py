"""Specs: what ships loads, what is wrong is said all at once, and a resolved spec is the spec."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from analysis.configuration.constraints import parse_constraint
from linearizer_core.experiment.configuration import config_hash, to_mapping
from linearizer_core.experiment.nested import with_leaves
from sweeps.spec.load import load, shipped
from sweeps.spec.model import Sweep, json_schema
from sweeps.spec.validation import InputError
from sweeps.spec.yaml_text import parsed
from tests.sweeps.conftest import edited

FD = "quality/classifier_fd_collapsed"
SPACE = "search/space"
LR = f"{SPACE}/train.lr"
RANK = f"{SPACE}/model.operator.rank"
KERNEL = f"{SPACE}/model.flow.kernel"
NOT_GRIDS = {LR: {"grid": [0.001, 0.01]}, RANK: ..., f"{SPACE}/model.flow.depth": ...}

DESIGNED = """
name: diffusion-depth-rank
family: diffusion
data: {name: digits}
model:
  flow: {depth: 4, conditioner: mlp, width: 128, activation: gelu}
  operator: {kind: time_lowrank, rank: 16}
train: {epochs: 30, batch_size: 256, lr: 1.0e-3}
evaluate: {steps: [1, 2, 4, 8, 16, 32, 64, 100], solver: euler, quality: [swd, classifier_fd]}
search:
  sampler: tpe                    # tpe | random | grid | nsga2 | gp
  trials: 24
  space:
    model.flow.depth: {int: [2, 8]}
    model.operator.rank: {int: [4, 64], log: true}
    train.lr: {float: [3.0e-4, 3.0e-3], log: true}
    model.flow.kernel: {choice: [3, 5], when: {model.flow.conditioner: conv}}
  objective: {quality/classifier_fd_collapsed: min}     # several keys: multi-objective
  constraints: {linearity/roundtrip: "<= 1e-3"}
  stop_early: {scheduler: asha, grace_epochs: 4, reduction: 3}
  seeds: [0]                      # every configuration at every seed; the objective is their mean
  confirm: {top: 3, seeds: [1, 2, 3, 4]}             # re-run the best at fresh seeds
resources: {workers: 1, gpus_per_worker: 0, cpus_per_worker: 1}   # workers > 1: DDP
budget: {trials: null, hours: null, gpu_hours: null}
tracking: {uri: null, experiment: null}              # null: sqlite:///mlflow.db beside the run
storage: ./runs                   # any pyarrow/fsspec location that all nodes see
"""


# What loads


def test_the_designed_spec_loads_with_every_key(spec_file: Callable[..., Path]) -> None:
    sweep = load(str(spec_file(text=DESIGNED)))
    given = yaml.safe_load(DESIGNED)

    def kept(part: Any, whole: Any) -> bool:
        return all(kept(v, whole[k]) for k, v in part.items()) if isinstance(part, dict) else part == whole

    assert kept(given, sweep.resolved)
    assert sweep.folder == Path("runs/diffusion-depth-rank")
    assert sweep.configurations == 24


def test_configurations_are_the_smallest_cap(sweep: Callable[..., Sweep]) -> None:
    grid = {"search/sampler": "grid", RANK: ..., LR: {"grid": [0.001, 0.01]}}
    assert sweep().configurations == 10
    assert sweep({"budget/trials": 7}).configurations == 7
    assert sweep({"search/trials": ..., "budget/trials": 7}).configurations == 7
    assert sweep({**grid, "search/trials": None}).configurations == 6 * 2
    assert sweep({**grid, "search/trials": 5}).configurations == 5
    assert sweep({**grid, "search/trials": 50}).configurations == 12


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("train.lr=1e-4", "train.lr", 1e-4),
        ("train.epochs=20", "train.epochs", 20),
        ("train.sigma=1", "train.sigma", 1.0),
        ("model.flow.activation=relu", "model.flow.activation", "relu"),
        ("evaluate.steps=[1, 5]", "evaluate.steps", [1, 5]),
        ("evaluate.every=2", "evaluate.every", 2),
    ],
)
def test_set_is_typed(sweep: Callable[..., Sweep], text: str, key: str, value: object) -> None:
    leaf = sweep(sets=[text]).base_leaves[key]
    assert leaf == value
    assert type(leaf) is type(value)


def test_set_reaches_the_space_and_what_is_around_it(sweep: Callable[..., Sweep]) -> None:
    made = sweep(sets=["search.space.train.lr={float: [0.002, 0.003]}", "search.trials=3", "tracking.uri="])
    assert made.search.space["train.lr"].float_ == (0.002, 0.003)
    assert list(made.search.space) == ["model.flow.depth", "model.operator.rank", "train.lr"]
    assert (made.search.trials, made.model.tracking.uri) == (3, None)


def test_the_later_set_counts(sweep: Callable[..., Sweep]) -> None:
    assert sweep(sets=["train.lr=0.1", "train.lr=0.2"]).base_leaves["train.lr"] == 0.2


# YAML reads 1e-3, which has no dot, as text.


def test_values_of_the_space_have_the_type_of_the_leaf(sweep: Callable[..., Sweep]) -> None:
    dimension = sweep({LR: {"choice": ["1e-3", 1]}}).search.space["train.lr"]
    assert [repr(value) for value in dimension.edges()] == ["0.001", "1.0"]


def test_values_of_controls_have_the_type_of_the_leaf(sweep: Callable[..., Sweep]) -> None:
    (control,) = sweep({"controls": [{"name": "slow", "set": {"train.lr": "1e-3", "train.sigma": 1}}]}).model.controls
    assert {name: repr(value) for name, value in control.set.items()} == {"train.lr": "0.001", "train.sigma": "1.0"}


# YAML 1.1 reads 010 as eight, 1:30 as ninety and 2024-01-01 as a date.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", "010"), ("1:30", "1:30"), ("2024-01-01", "2024-01-01"), ("2024-99-99", "2024-99-99"),
        ("1_000", 1000), ("0x10", 16), ("-3", -3), ("0", 0), ("1.5e-3", 0.0015), ("1.", 1.0), (".5", 0.5), ("on", True),
        ("1e-3", "1e-3"), ("~", None), ("", None), (".inf", math.inf),
    ],
)  # fmt: skip
def test_plain_text_is_what_it_reads_as(text: str, value: object) -> None:
    found = parsed(text)
    assert found == value
    assert type(found) is type(value)


def test_a_name_that_is_a_date_is_a_name(sweep: Callable[..., Sweep]) -> None:
    assert sweep(sets=["name=2024-01-01"]).name == "2024-01-01"
    assert sweep(sets=["search.seeds=[010]"]).search.seeds == (10,)


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in itertools.pairwise("abcdefghi")
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x: &a {b: *a}\n", "the value in line 1 contains itself through an alias"),
        ("y: 1\nx: &a [1, [*a]]\n", "the value in line 2 contains itself through an alias"),
        ("x: " + "[" * 3000 + "]" * 3000, "it is nested too deeply"),
        (LAUGHS, "its aliases expand to 490329"),
    ],
    ids=["mapping", "list", "deep", "billion laughs"],
)
def test_text_that_never_ends_is_refused(refusal: Callable[..., list[str]], text: str, said: str) -> None:
    (problem,) = refusal(text=text)
    assert problem.startswith(f"is not valid YAML: {said}")


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        (
            {"train/epochs": True},
            "train.epochs: must be a number, got true (YAML also reads yes, no, on and off as true or false)",
        ),
        (
            {"search/seeds": [0, False]},
            "search.seeds: must be a number, got false (YAML also reads yes, no, o",
        ),
        ({"budget/hours": "1:30"}, "budget.hours: must be a valid number, unable to parse string as a number, got '1:"),
        (
            {"name": "cache"},
            "name: cache is reserved for the cache that trials share in the storage folder; use another name",
        ),
        ({"name": "mlflow.db"}, "name: mlflow.db is reserved for MLflow's database in the storage folder"),
        ({"controls": [{"name": "a\nb"}]}, "controls[0].name: must be one line of printable text, got 'a\\nb'"),
        ({"controls": [{"name": " "}]}, "controls[0].name: must be one line of printable text, got ' '"),
        ({"tracking/experiment": "a\nb"}, "tracking.experiment: must be one line of printable text, got 'a\\nb'"),
        ({"storage": "a\0b"}, "storage: must be a path without NUL characters, got 'a\\x00b'"),
    ],
)
def test_what_would_be_taken_for_something_else_is_refused(
    refusal: Callable[..., list[str]], edits: dict[str, Any], said: str
) -> None:
    (problem,) = refusal(edits)
    assert problem.startswith(said)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({1: 2}, "the key 1 must be text; put it in quotes"),
        ({"model": {"flow": {None: 2}}}, "model.flow: the key None must be text; put it in quotes"),
        ({"controls": [{"name": "a", "set": {1: 2}}]}, "controls[0].set: the key 1 must be text; put it in quotes"),
    ],
)
def test_keys_are_text(refusal: Callable[..., list[str]], values: dict[Any, Any], said: str) -> None:
    assert said in refusal(text=yaml.safe_dump({**edited({}), **values}))


def test_of_a_search_that_is_not_there_nothing_is_wrong(refusal: Callable[..., list[str]]) -> None:
    assert refusal({"search": ...}) == ["search: is required"]


# What is refused

UNKNOWN = [
    ("modle", {}, "modle", "model"),
    ("data/nam", "digits", "data.nam", "data.name"),
    ("model/flo", {}, "model.flo", "model.flow"),
    ("model/flow/dept", 3, "model.flow.dept", "model.flow.depth"),
    ("model/operator/rnk", 3, "model.operator.rnk", "model.operator.rank"),
    ("train/epoch", 3, "train.epoch", "train.epochs"),
    ("train/loss/flw", 1, "train.loss.flw", "train.loss.flow"),
    ("evaluate/solvers", "euler", "evaluate.solvers", "evaluate.solver"),
    ("controls", [{"name": "a", "sett": {}}], "controls[0].sett", "controls[0].set"),
    ("search/samplr", "tpe", "search.samplr", "search.sampler"),
    ("search/stop_early/grace", 2, "search.stop_early.grace", "search.stop_early.grace_epochs"),
    ("search/confirm", {"seed": [1]}, "search.confirm.seed", "search.confirm.seeds"),
    (f"{LR}/lgo", True, "search.space.train.lr.lgo", "search.space.train.lr.log"),
    (f"{LR}/flot", [0, 1], "search.space.train.lr.flot", "search.space.train.lr.float"),
    ("resources/worker", 1, "resources.worker", "resources.workers"),
    ("budget/hour", 1, "budget.hour", "budget.hours"),
    ("tracking/url", None, "tracking.url", "tracking.uri"),
    (f"{SPACE}/train.lrr", {"float": [0.1, 0.2]}, "search.space.train.lrr", "train.lr"),
    (f"{SPACE}/depth", {"int": [1, 2]}, "search.space.depth", "model.flow.depth"),
    ("controls", [{"name": "a", "set": {"train.epoch": 1}}], "controls[0].set.train.epoch", "train.epochs"),
    (f"{LR}/when", {"model.flow.knid": "mlp"}, "search.space.train.lr.when", "model.flow.kind"),
    (
        "search/objective",
        {"quality/swd_colapsed": "min"},
        "search.objective.quality/swd_colapsed",
        "quality/swd_collapsed",
    ),
    (
        "search/constraints",
        {"linearity/roundtip": "<= 1"},
        "search.constraints.linearity/roundtip",
        "linearity/roundtrip",
    ),
]


@pytest.mark.parametrize(("path", "value", "key", "meant"), UNKNOWN, ids=[f"{key}" for _, _, key, _ in UNKNOWN])
def test_an_unknown_name_is_told_with_the_nearest_one(
    refusal: Callable[..., list[str]], path: str, value: object, key: str, meant: str
) -> None:
    (said,) = refusal({"search/stop_early/grace_epochs": 2, path: value})
    assert said.startswith(f"{key}: ")
    assert said.endswith(f"did you mean {meant}?")


def test_off_is_off_though_yaml_reads_it_as_false(sweep: Callable[..., Sweep]) -> None:
    made = sweep(None, ["train.graph=off", "resources.together=off"])
    assert (made.base_leaves["train.graph"], made.model.resources.together) == ("off", "off")
    with pytest.raises(InputError, match=r"train\.graph: must be 'auto' or 'off', got True"):
        sweep(None, ["train.graph=on"])


def test_an_unknown_name_that_is_near_none_is_told_with_all(refusal: Callable[..., list[str]]) -> None:
    (said,) = refusal({"resources/zzz": 1})
    assert said == (
        "resources.zzz: unknown key; known: resources.workers, resources.gpus_per_worker, resources.device, "
        "resources.cpus_per_worker, resources.together, resources.retries, resources.checkpoint_seconds, "
        "resources.collective_timeout, resources.price_per_gpu_hour"
    )


ONE_OF = "give exactly one of int: [low, high], float: [low, high], choice: [...], grid: [...]"
READ = 'must read "<= number" or ">= number"'

ACTIVATIONS = "'gelu', 'relu', 'silu', 'glu', 'swiglu', 'bilinear', 'polynorm', 'star' or 'aptx'"

WRONG: list[tuple[dict[str, Any], list[str], str]] = [
    ({"train/epochs": "many"}, [], "train.epochs: must be a valid integer"),
    ({"train/lr": "fast"}, [], "train.lr: must be a valid number"),
    ({"train": 3}, [], "train: must be a mapping of keys to values, got 3"),
    ({"train/lr": 0}, [], "train.lr: must be greater than 0, got 0"),
    ({"train/lr": 2}, [], "train.lr: must be less than or equal to 1, got 2"),
    ({"model/flow/depth": 129}, [], "model.flow.depth: must be less than or equal to 128, got 129"),
    (
        {"model/flow/activation": "tanh"},
        [],
        f"model.flow.activation: must be {ACTIVATIONS}, got 'tanh'",
    ),
    ({"search/sampler": "cmaes"}, [], "search.sampler: must be 'tpe', 'random', 'grid', 'nsga2' or 'gp', got 'cmaes'"),
    (
        {"search/objective": ..., "evaluate/quality": ["swd"]},
        [],
        "search.objective: is not given, and its default, quality/classifier_fd_collapsed, is not recorded; write it, "
        "such as {quality/swd_sampled: min}",
    ),
    ({"search/trials": 0}, [], "search.trials: must be greater than or equal to 1, got 0"),
    ({"search/seeds": []}, [], "search.seeds: must have at least 1 item"),
    ({"search/objective": {FD: "least"}}, [], f"search.objective.{FD}: must be 'min' or 'max', got 'least'"),
    ({"name": "a/b"}, [], "name: must match pattern"),
    ({"name": ".."}, [], "name: must match pattern"),
    ({"name": "../up"}, [], "name: must match pattern"),
    ({"name": "a\n"}, [], "name: must match pattern"),
    ({"name": ...}, [], "name: is required"),
    ({"search": ...}, [], "search: is required"),
    ({SPACE: ...}, [], "search.space: is required"),
    # Values that do not go together.
    ({"model/operator/rank": 65}, [], "model.operator.rank: rank 65 exceeds the data's dimension 64 (digits: 1×8×8)"),
    ({"train/batch_size": 1080}, [], "train.batch_size: 1080 exceeds the 1079 training images of digits"),
    (
        {"evaluate/steps": [10, 1]},
        [],
        "evaluate.steps: must be ascending positive step counts such as [1, 10, 100], got [10, 1]",
    ),
    ({"evaluate/every": 10}, [], "evaluate.every: 10 exceeds train.epochs = 9"),
    (
        {"storage": "ftp://host/runs"},
        [],
        "storage: must be a folder that all nodes can reach, or begin with s3://, gs:// or az://, got 'ftp://host/runs'",
    ),
    (
        {"storage": "s3://key:secret@bucket/runs"},
        [],
        "storage: s3://…: has credentials in it; give them in the environment, and the bucket alone",
    ),
    (
        {"resources/workers": 7, "train/batch_size": 64},
        [],
        "train.batch_size: 64 images cannot be divided equally among 7 workers; use 63 or 70",
    ),
    ({"seed": 3}, [], "seed: "),
    # Ray: "quantities >1 must be whole numbers".
    ({"resources/gpus_per_worker": 1.5}, [], "resources.gpus_per_worker: "),
    (
        {"resources": {"workers": 2, "gpus_per_worker": 0.5}},
        [],
        "resources.gpus_per_worker: with several workers must be a whole number, got 0.5",
    ),
    # The space.
    (
        {LR: {"float": [0.01, 0.001]}},
        [],
        "search.space.train.lr: the lower bound must be below the upper one, got [0.01, 0.001]",
    ),
    ({LR: {"float": [0, 0.01], "log": True}}, [], "search.space.train.lr: log needs a lower bound above 0, got 0"),
    (
        {LR: {"float": [0.001, 0.01], "log": True, "step": 0.001}},
        [],
        "search.space.train.lr: log and step cannot be combined; drop one",
    ),
    ({LR: {"float": [0.001, 0.01], "choice": [0.1]}}, [], f"search.space.train.lr: {ONE_OF}; got float and choice"),
    ({LR: {"log": True}}, [], f"search.space.train.lr: {ONE_OF}"),
    (
        {LR: {"choice": [0.1], "log": True}},
        [],
        "search.space.train.lr: log and step go with int and float, not with choice",
    ),
    ({LR: {"choice": []}}, [], "search.space.train.lr.choice: must have at least 1 item"),
    ({LR: {"choice": [0.1, None]}}, [], "search.space.train.lr.choice[1]: "),
    ({LR: {"float": [0.001, 2]}}, [], "search.space.train.lr: 2.0: must be less than or equal to 1, got 2.0"),
    (
        {f"{SPACE}/model.flow.depth": {"int": [1, 6], "step": 1.5}},
        [],
        "search.space.model.flow.depth: step of an int must be a whole number, got 1.5",
    ),
    (
        {RANK: {"int": [4, 65], "log": True}},
        [],
        "search.space.model.operator.rank: 65: rank 65 exceeds the data's dimension 64",
    ),
    (
        {f"{SPACE}/model.flow.activation": {"choice": ["gelu", "tanh"]}},
        [],
        f"search.space.model.flow.activation: tanh: must be {ACTIVATIONS}",
    ),
    (NOT_GRIDS, [], "search.space.train.lr: grid: needs sampler: grid; with tpe use choice: [...]"),
    (
        {"search/sampler": "grid", RANK: ...},
        [],
        "search.space.train.lr: sampler: grid needs values that can be listed; use grid: [...], or set a step",
    ),
    (
        {
            f"{LR}/when": {"model.flow.depth": 2},
            f"{SPACE}/model.flow.depth": {"int": [1, 6], "when": {"train.lr": 0.1}},
        },
        [],
        "search.space: the conditions of model.flow.depth, train.lr depend on each other in a cycle; drop one",
    ),
    # The search.
    (
        {"search/constraints": {"linearity/roundtrip": "< 3"}},
        [],
        f"search.constraints: linearity/roundtrip: {READ}, got '< 3'",
    ),
    (
        {"search/constraints": {"linearity/roundtrip": "<= nan"}},
        [],
        f"search.constraints: linearity/roundtrip: {READ}, got '<= nan'",
    ),
    (
        {"search/objective": {FD: "min", "quality/swd_collapsed": "min"}},
        [],
        "search.stop_early: needs a single objective; with several use null",
    ),
    (
        {"search/objective": {"test/swd_collapsed": "min"}},
        [],
        f"search.stop_early: test/swd_collapsed is not measured during training; use one of "
        f"quality/swd_collapsed, {FD}, quality/swd_sampled, quality/classifier_fd_sampled",
    ),
    ({"search/stop_early/grace_epochs": 9}, [], "search.stop_early.grace_epochs: must be below train.epochs = 9"),
    ({"search/stop_early/reduction": 1}, [], "search.stop_early.reduction: must be greater than or equal to 2, got 1"),
    ({"search/seeds": [0, 1, 0]}, [], "search.seeds: lists a seed twice: [0, 1, 0]"),
    (
        {"search/seeds": [0, 1], "search/confirm": {"seeds": [1, 2]}},
        [],
        "search.confirm.seeds: must be fresh: [1] are in search.seeds, which choose the best",
    ),
    ({"search/trials": ...}, [], "search.trials: is required with sampler: tpe"),
    # Controls.
    ({"controls": [{"name": "a"}, {"name": "b"}, {"name": "a"}]}, [], "controls[2].name: 'a' is used twice"),
    (
        {"controls": [{"name": "a", "set": {"model.operator.rank": 65}}]},
        [],
        "controls[0].set.model.operator.rank: rank 65 exceeds the data's dimension 64",
    ),
    ({"controls": [{"set": {}}]}, [], "controls[0].name: is required"),
    # --set.
    ({}, ["train.lr"], "--set train.lr: must read key=value, such as train.lr=1e-4"),
    ({}, ["=3"], "--set =3: must read key=value, such as train.lr=1e-4"),
    ({}, ["train.lr={"], "--set train.lr: '{' is not a YAML value"),
    ({}, ["train.lrr=1"], "train.lrr: unknown key; did you mean train.lr?"),
    ({}, ["name.first=a"], "name: must be a valid string, got {'first': 'a'}"),
    (
        {},
        ["search.space.train.lr={float: [0.2, 0.1]}"],
        "search.space.train.lr: the lower bound must be below the upper one, got [0.2, 0.1]",
    ),
    (
        {},
        ["search.space.train.lr.log=true"],
        "search.space.train.lr.log: must be a mapping of keys to values, got True",
    ),
]


@pytest.mark.parametrize(("edits", "sets", "said"), WRONG, ids=[said.replace("\n", " ")[:70] for _, _, said in WRONG])
def test_what_is_wrong_is_said_once(
    refusal: Callable[..., list[str]], edits: dict[str, Any], sets: list[str], said: str
) -> None:
    (found,) = refusal(edits, sets)
    assert found.startswith(said)


def test_a_seed_is_no_dimension(refusal: Callable[..., list[str]]) -> None:
    said = refusal({f"{SPACE}/seed": {"int": [0, 3]}})
    assert "search.space.seed: seeds are replicates, not a dimension; use search.seeds" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be a mapping of keys to values, with at least name and search"),
        ("- a\n- b\n", "must be a mapping of keys to values, with at least name and search"),
        ("name: [1\n", "is not valid YAML: while parsing a flow sequence"),
        ("name: a\n\tb: 1\n", "is not valid YAML: "),
    ],
)
def test_what_is_no_spec_at_all(refusal: Callable[..., list[str]], text: str, said: str) -> None:
    (found,) = refusal(text=text)
    assert found.startswith(said)


@pytest.mark.parametrize(("extra", "key"), [("name: other\n", "name"), ("train:\n  epochs: 5\n", "train")])
def test_a_key_given_twice_is_told_with_its_lines(refusal: Callable[..., list[str]], extra: str, key: str) -> None:
    lines = DESIGNED.strip().splitlines()
    first = next(i for i, line in enumerate(lines, 1) if line.startswith(f"{key}:"))
    said = refusal(text=DESIGNED.strip() + f"\n{extra}")
    assert said == [f"{key}: is given twice, in lines {first} and {len(lines) + 1}; keep one"]


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [
        ("lr: 1.0e-3}", "lr: 1.0e-3, lr: 0.1}", "train.lr"),
        ("    train.lr: {", "    train.lr: {int: [1, 2]}\n    train.lr: {", "search.space.train.lr"),
        ("storage:", "controls: [{name: a}, {name: b, name: c}]\nstorage:", "controls[1].name"),
    ],
)
def test_a_key_given_twice_is_found_at_every_level(
    refusal: Callable[..., list[str]], before: str, after: str, key: str
) -> None:
    assert before in DESIGNED
    (said,) = refusal(text=DESIGNED.replace(before, after))
    assert said.startswith(f"{key}: is given twice, in lines ")


def test_a_file_that_cannot_be_read_is_told_with_the_shipped_specs(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load("quikstart")
    assert str(caught.value) == (
        "quikstart: cannot be read (No such file or directory); shipped specs: did you mean quickstart?"
    )
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        load(str(tmp_path))


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(InputError, match=r"spec\.yaml: "):
        load(str(path))


MANY: dict[str, Any] = {
    "modle": {},
    "train/lr": 0,
    "model/flow/activation": "tanh",
    "model/operator/rank": 65,
    f"{SPACE}/model.flow.dpth": {"int": [1, 2]},
    f"{SPACE}/model.flow.depth": {"int": [6, 1]},
    "search/constraints": {"linearity/roundtip": "<= 1"},
    "search/objective": {"quality/sw": "min"},
    "search/stop_early/grace_epochs": 9,
    "search/seeds": [0, 0],
    "search/confirm": {"seeds": [0]},
    "resources": {"workers": 2, "gpus_per_worker": 0.5},
    "controls": [{"name": "a", "set": {"train.lrr": 1}}, {"name": "a"}],
}
KEYS = {
    "modle", "train.lr", "model.flow.activation", "model.operator.rank", "search.space.model.flow.dpth",
    "search.space.model.flow.depth", "search.constraints.linearity/roundtip", "search.objective.quality/sw",
    "search.stop_early.grace_epochs", "search.seeds", "search.confirm.seeds", "resources.gpus_per_worker",
    "controls[0].set.train.lrr", "controls[1].name", "--set foo",
}  # fmt: skip


def test_everything_that_is_wrong_is_said_at_once(refusal: Callable[..., list[str]]) -> None:
    said = refusal(MANY, ["foo"])
    keys = [text.partition(": ")[0] for text in said]
    assert sorted(keys) == sorted(KEYS)


@pytest.mark.parametrize(
    ("edits", "keys"),
    [
        ({f"{SPACE}/model.flow.depth": {"int": ["a", 6]}}, ["search.space.model.flow.depth.int[0]"]),
        ({"search": ...}, ["search"]),
        ({"search/seeds": ["a", "b"]}, ["search.seeds[0]", "search.seeds[1]"]),
        ({RANK: {"int": [4, 66]}}, ["search.space.model.operator.rank"]),
    ],
    ids=["bound", "search", "list", "edge"],
)
def test_one_fault_does_not_hide_another(
    refusal: Callable[..., list[str]], edits: dict[str, Any], keys: list[str]
) -> None:
    said = refusal({**edits, "model/operator/rank": 65})
    assert sorted(text.partition(": ")[0] for text in said) == sorted([*keys, "model.operator.rank"])


@pytest.mark.parametrize("search", ["nonsense", [1], {"space": [1]}])
def test_set_of_a_dimension_in_a_search_that_is_none(refusal: Callable[..., list[str]], search: object) -> None:
    (said, *_) = refusal({"search": search}, ["search.space.train.lr={float: [0.1, 0.2]}"])
    assert said.startswith("search")


# The command line


@pytest.mark.parametrize("command", ["plan", "launch"])
def test_the_command_line_says_everything_and_writes_nothing(
    command: str, spec_file: Callable[..., Path], tmp_path: Path
) -> None:
    path = spec_file(MANY)
    before = path.read_text()
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-m", "linsweep", command, path.name, "--set", "foo"],
        cwd=tmp_path, env={"PATH": "", "PYTHONPATH": root, "HOME": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert {line.partition(": ")[2].partition(": ")[0] for line in done.stderr.splitlines()} == KEYS
    assert {line.partition(": ")[0] for line in done.stderr.splitlines()} == {path.name}
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == before


# What a spec comes to


def test_a_resolved_spec_is_the_spec(sweep: Callable[..., Sweep], spec_file: Callable[..., Path]) -> None:
    made = sweep(
        {
            KERNEL: {"choice": [3, 5], "when": {"model.flow.conditioner": ["conv", "mlp"]}},
            f"{SPACE}/train.sigma": {"float": [0, 1], "step": 0.25},
            "search/constraints": {"linearity/roundtrip": "<= 1e-3"},
            "search/confirm": {"top": 2, "seeds": [5]},
            "budget/hours": 1.5,
        }
    )
    path = spec_file(text=yaml.safe_dump(json.loads(json.dumps(made.resolved))))
    again = load(str(path))
    assert again == made
    assert again.resolved == made.resolved
    assert list(again.search.space) == sorted(made.search.space)


def test_a_trials_configuration_is_the_base_with_its_point(sweep: Callable[..., Sweep]) -> None:
    config = sweep().trial_config({"train.lr": 0.5, "model.flow.depth": 3}, 7)
    assert (config.train.lr, config.model.flow.depth, config.model.flow.width, config.seed) == (0.5, 3, 16, 7)
    assert (config.evaluate.steps, config.train.sigma) == ((1, 10), 0.3)


def test_the_hash_of_a_configuration_is_the_sha256_of_its_sorted_leaves() -> None:
    assert (
        config_hash({"b": {"y": [1, 2], "x": "é"}, "a": 0.5, "seed": 3})
        == (hashlib.sha256(rb'{"a": 0.5, "b.x": "\u00e9", "b.y": [1, 2]}').hexdigest()[:12])
    )
    # printf '{"a.b": 1}' | sha256sum
    assert config_hash({"a": {"b": 1}}) == "e95da86db0b6"


def test_the_hash_ignores_the_seed_and_where_the_data_are_and_depends_on_every_other_leaf(
    sweep: Callable[..., Sweep],
) -> None:
    made = sweep()
    same = [with_leaves(made.base, {leaf: "other"}) for leaf in ("seed", "data.root", "data.download")]
    assert {config_hash(values) for values in same} == {config_hash(made.base)}
    others = set(made.base_leaves) - {"data.root", "data.download"}
    changed = {config_hash(with_leaves(made.base, {leaf: "other"})) for leaf in others}
    assert len(changed | {config_hash(made.base)}) == len(others) + 1


def test_the_hash_is_that_of_the_configuration_in_the_journal(sweep: Callable[..., Sweep]) -> None:
    made = sweep()
    point = {"train.lr": 0.005, "model.operator.rank": 9}
    assert config_hash(to_mapping(made.trial_config(point, 4))) == config_hash(with_leaves(made.base, point))


@pytest.mark.parametrize(
    ("text", "parsed"),
    [("<= 1e-3", ("<=", 1e-3)), (">=2", (">=", 2.0)), ("  <=  -0.5 ", ("<=", -0.5))],
)
def test_constraints_are_read(text: str, parsed: tuple[str, float]) -> None:
    assert parse_constraint(text) == parsed


@pytest.mark.parametrize("text", ["", "1e-3", "< 1", "== 1", "<= x", "<=", "<= 1 >= 2", "<= nan"])
def test_anything_else_is_no_constraint(text: str) -> None:
    with pytest.raises(ValueError, match='must read "<= number" or ">= number", got '):
        parse_constraint(text)


# The JSON schema


def test_a_database_is_known_by_its_whole_path(
    sweep: Callable[..., Sweep], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = sweep(sets=["tracking.uri=sqlite:///rel.db?timeout=5"])
    assert made.resolved["tracking"]["uri"] == f"sqlite:///{tmp_path}/rel.db?timeout=5"
    for uri in ("sqlite:////abs/a.db", "http://h:1", "sqlite:///file:a.db?uri=true"):
        assert sweep(sets=[f"tracking.uri={uri}"]).model.tracking.uri == uri


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("' '", "tracking.experiment: must not be blank; use null for the sweep's name"),
        ("e" * 501, "tracking.experiment: has 501 characters; MLflow takes at most 500"),
    ],
)
def test_an_experiment_that_mlflow_would_refuse(refusal: Callable[..., list[str]], name: str, said: str) -> None:
    assert refusal(sets=[f"tracking.experiment={name}"]) == [said]


def test_the_schema_is_one_and_takes_what_ships() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for path in shipped().values():
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)
    jsonschema.validate(yaml.safe_load(DESIGNED), schema)


@pytest.mark.parametrize(
    ("path", "value"),
    [("train/epoch", 3), ("train/lr", 0), ("search/sampler", "cmaes"), ("name", "a/b"), (f"{LR}/flot", [0, 1])],
)
def test_the_schema_refuses_what_the_spec_refuses(spec_file: Callable[..., Path], path: str, value: object) -> None:
    values = yaml.safe_load(spec_file({path: value}).read_text())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, json_schema())


def test_the_schema_explains_every_key() -> None:
    schema = json_schema()
    for model in [schema, *schema["$defs"].values()]:
        assert [name for name, entry in model["properties"].items() if not entry.get("description")] == []
        assert model["additionalProperties"] is False
