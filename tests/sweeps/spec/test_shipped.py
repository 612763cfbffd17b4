"""The specs that ship: each asks a question, loads under each of its profiles, and can be planned."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from linearizer_core.experiment.configuration import DataConfig
from linearizer_core.experiment.data import DataError
from linearizer_core.experiment.data.named import locate
from linearizer_core.experiment.families import family_of
from sweeps.execution.cluster import Capacity, Node
from sweeps.execution.plan import make_plan, render
from sweeps.spec.load import load, shipped
from sweeps.spec.model import Sweep
from sweeps.spec.validation import InputError

SHIPPED = {
    "activation", "baselines", "controls", "diffusion-depth-rank", "diffusion-search", "dynamics", "idempotent-rank",
    "inverse", "mixing", "nested-rank", "operators", "quickstart", "rank-curve", "recipe", "solver-steps",
    "style-operators", "variance",
}  # fmt: skip
DATA_SETS = {"mnist", "fashion-mnist", "cifar10"}


def values_of(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(shipped()[name].read_text())
    return values


def profiles_of(name: str) -> dict[str, dict[str, Any]]:
    profiles: dict[str, dict[str, Any]] = values_of(name).get("profiles", {})
    return profiles


# One data set after the other: the last that were read are kept.
PROFILES = sorted(
    ((name, profile) for name in shipped() for profile in profiles_of(name)),
    key=lambda pair: str(profiles_of(pair[0])[pair[1]].get("data.name")),
)


def missing_of(data: str) -> str:
    """What is said to be missing of a data set, nothing where it is there."""
    try:
        locate(DataConfig(name=data))  # type: ignore[arg-type]
    except DataError as error:
        return str(error)
    return ""


def test_what_ships() -> None:
    assert set(shipped()) == SHIPPED
    assert profiles_of("quickstart") == {}
    for name in SHIPPED - {"quickstart"}:
        assert set(profiles_of(name)) >= DATA_SETS


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_spec_begins_with_its_question(name: str) -> None:
    lines = shipped()[name].read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if not line.startswith("# "))
    header = " ".join(line.removeprefix("# ") for line in lines[:first])
    assert re.search(r"^[A-Z].*\?", header), "a spec begins with a comment that asks what it answers"
    assert lines[first] == f"name: {name}"


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_spec_loads_by_name(name: str) -> None:
    sweep = load(name)
    assert (sweep.name, sweep.source) == (name, f"{name}.yaml")
    assert sweep.base_leaves["data.name"] == "digits"
    assert sweep.resolved["search"]["space"] == values_of(name)["search"]["space"]


@pytest.mark.parametrize(("name", "profile"), PROFILES)
def test_a_profile_of_a_shipped_spec_loads_where_its_data_are(
    name: str, profile: str, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINEARIZER_DATA", str(data_root))
    given = profiles_of(name)[profile]
    assert profile.startswith(given["data.name"])
    missing = missing_of(given["data.name"])
    if missing:
        with pytest.raises(InputError) as caught:
            load(name, (), profile)
        assert [str(problem) for problem in caught.value.problems] == [f"data: {missing}"]
        return
    sweep = load(name, (), profile)
    assert sweep.name == f"{name}-{profile}"
    assert sweep.model.resources.gpus_per_worker == (0 if profile.endswith("-cpu") else 1)
    assert {key: sweep.base_leaves[key] for key in given if key in sweep.base_leaves} == {
        key: value for key, value in given.items() if key in sweep.base_leaves
    }
    prefix = "search.space."
    space = {key.removeprefix(prefix): value for key, value in given.items() if key.startswith(prefix)}
    assert sweep.resolved["search"]["space"] == {**values_of(name)["search"]["space"], **space}


@pytest.mark.parametrize(
    ("profile", "file"), [("mnist", "train-images-idx3-ubyte"), ("cifar10", "data_batch_1"), ("fashion-mnist", "t10k-")]
)
def test_missing_data_are_told_once_with_the_file_the_field_and_the_remedy(
    tmp_path: Path, profile: str, file: str
) -> None:
    with pytest.raises(InputError) as caught:
        load("controls", [f"data.root={tmp_path}"], profile)
    (problem,) = caught.value.problems
    assert problem.key == "data"
    assert problem.message.startswith(f"{profile}: ")
    assert [word for word in (file, str(tmp_path), "data.download", "data.root") if word not in problem.message] == []


def plain(sweep: Sweep) -> str:
    """A sweep's plan as it is printed whole on a wide terminal."""
    console = Console(file=io.StringIO(), width=200, color_system=None)
    console.print(render(make_plan(sweep, Capacity((Node(8, 1),), "here")), whole=True))
    return console.file.getvalue()  # type: ignore[attr-defined]


def learned_values(sweep: Sweep, point: dict[str, Any]) -> int:
    """The parameters of a model that is really built."""
    config = sweep.trial_config(point, 0)
    return sum(value.numel() for value in family_of(config).build(config, (1, 8, 8), 10).parameters())


@pytest.mark.parametrize(
    ("name", "edges"),
    [
        ("quickstart", {"model.flow.depth": (1, 6), "model.operator.rank": (1, 32)}),
        ("idempotent-rank", {"model.operator.rank": (2, 64)}),
        ("style-operators", {"model.operator.kind": ("diagonal", "conv")}),
    ],
)
def test_a_plan_tells_the_sizes_of_the_models_and_what_is_recorded(name: str, edges: dict[str, Any]) -> None:
    sweep = load(name)
    text = plain(sweep)
    low, high = sorted(learned_values(sweep, {leaf: ends[i] for leaf, ends in edges.items()}) for i in (0, 1))
    assert f"{low:,} … {high:,} parameters" in text
    config = sweep.trial_config({}, 0)
    words = set(re.findall(r"\w+", text))
    assert {key.partition("/")[2] for key in family_of(config).summary_keys(config)} <= words
    # Only a family that samples in steps has curves over them.
    assert ("nfe/…" in text) == (name == "quickstart")


def test_a_plan_of_the_baseline(sweep: Callable[..., Sweep]) -> None:
    edits = {
        "family": "flow_matching",
        "search/objective": {"quality/swd_k10": "min"},
        "search/space": {"model.flow.depth": {"int": [1, 3]}},
    }
    made = sweep(edits)
    low, high = sorted(learned_values(made, {"model.flow.depth": depth}) for depth in (1, 3))
    text = plain(made)
    assert f"{low:,} … {high:,} parameters" in text
    assert "nfe/swd, nfe/classifier_fd at 2 step counts" in text
    assert "collapsed" not in text
