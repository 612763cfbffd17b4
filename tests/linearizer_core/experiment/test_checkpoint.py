"""Checkpoints: the same samples after loading, and errors that name the file that is broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

from linearizer_core.experiment.checkpoint import CONFIG, WEIGHTS, CheckpointError, load, save
from linearizer_core.experiment.configuration import (
    EvaluateConfig,
    FlowConfig,
    ModelConfig,
    OperatorConfig,
    TrialConfig,
    to_mapping,
)
from linearizer_core.experiment.families.diffusion import build_diffusion
from linearizer_core.experiment.nested import flatten
from linearizer_core.flows import ActNorm, Labelled
from linearizer_core.models.diffusion import LinearDiffusion
from linearizer_core.solvers import EULER

EVENT = (1, 4, 4)
BROKEN = {WEIGHTS: "not the weights of the model", CONFIG: "not a checkpoint's configuration"}
DENSE, LOW_RANK = OperatorConfig(kind="time_dense"), OperatorConfig(kind="time_lowrank", rank=3)
DIAGONAL = OperatorConfig(kind="time_diagonal", rank=3)
FLOWS = {
    "mlp": FlowConfig(frame="pixels", depth=2, width=8, mixing="lu"),
    "principal": FlowConfig(frame="principal", depth=2, width=8, mixing="permutation", coordinates=10),
    "conv": FlowConfig(depth=1, width=8, mixing="lu", conditioner="conv", kernel=1),
    "identity": FlowConfig(kind="identity"),
    "p4": FlowConfig(frame="pixels", depth=1, width=8, mixing="p4"),
    "spline": FlowConfig(frame="pixels", depth=1, width=8, coupling="spline", mixing="permutation", memory="recompute"),
    "unet": FlowConfig(depth=1, width=8, conditioner="unet", levels=2, coupling="mixture", mixing="householder"),
}


def trial(flow: str = "mlp", operator: OperatorConfig = LOW_RANK) -> TrialConfig:
    return TrialConfig(
        model=ModelConfig(flow=FLOWS[flow], operator=operator, noise_flow="same"),
        evaluate=EvaluateConfig(end=0.8, steps=(1, 5)),
        seed=6,
    )


Store = Callable[[TrialConfig], tuple[Path, LinearDiffusion]]


@pytest.fixture
def store(tmp_path: Path, randomise: Callable[..., nn.Module]) -> Store:
    """``store(config)`` saves a fitted, randomised model and returns its folder and itself."""

    def save_model(config: TrialConfig) -> tuple[Path, LinearDiffusion]:
        model = build_diffusion(config.model, config.evaluate, EVENT, config.seed)
        model.g_x.initialise(3 * model.noise(50, torch.Generator().manual_seed(1)) + 1)
        randomise(model)
        folder = tmp_path / "trial" / "checkpoint"
        save(folder, model, config)
        return folder, model

    return save_model


@pytest.fixture
def folder(store: Store) -> Path:
    """A checkpoint's folder, to be broken."""
    return store(trial())[0]


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("operator", [LOW_RANK, DENSE, DIAGONAL], ids=["lowrank", "dense", "diagonal"])
def test_loaded_model_makes_the_same_samples(store: Store, flow: str, operator: OperatorConfig) -> None:
    config = trial(flow, operator)
    folder, model = store(config)
    loaded, loaded_config = load(folder)
    assert loaded_config == config
    assert not loaded.training
    assert (loaded.end, loaded.event) == (0.8, EVENT)
    x0 = model.noise(8, torch.Generator().manual_seed(0))
    assert torch.equal(loaded.sample_stepping(x0, 4, EULER), model.sample_stepping(x0, 4, EULER))
    collapsed, again = (m.generator(m.collapse(4, EULER))(x0) for m in (model, loaded))
    assert torch.equal(collapsed, again)


def test_a_shared_network_is_saved_once_and_stays_shared(store: Store) -> None:
    config = TrialConfig(model=ModelConfig(flow=FLOWS["mlp"], operator=LOW_RANK, noise_flow="shared"))
    folder, model = store(config)
    loaded, _ = load(folder)
    assert isinstance(loaded.g_x, Labelled)
    assert isinstance(loaded.g_y, Labelled)
    assert loaded.g_x.network is loaded.g_y.network
    x = model.noise(4, torch.Generator().manual_seed(0))
    for own, other in ((loaded.g_x, model.g_x), (loaded.g_y, model.g_y)):
        assert torch.equal(own(x)[0], other(x)[0])
    with safe_open(folder / WEIGHTS, "pt") as file:
        written = set(file.keys())
    assert not any(name.startswith("g_y") for name in written)
    assert written | {name.replace("g_x", "g_y") for name in written} == set(model.state_dict())


def test_loaded_actnorm_is_not_fitted_again(folder: Path) -> None:
    loaded, _ = load(folder)
    norms = [module for module in loaded.g_x.modules() if isinstance(module, ActNorm)]
    assert all(bool(norm.initialised) for norm in norms)
    x = loaded.noise(20, torch.Generator().manual_seed(0))
    before = loaded.g_x(x)[0]
    loaded.g_x.initialise(5 * x)
    assert torch.equal(loaded.g_x(x)[0], before)


def test_folder_holds_weights_and_json_only(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "config.json"}
    assert json.loads((folder / CONFIG).read_text())["config"]["model"]["operator"]["rank"] == 3
    for path in folder.iterdir():
        content = path.read_bytes()
        assert not content.startswith((b"PK", b"\x80"))  # neither torch's zip archive nor a pickle


def test_saving_again_replaces(folder: Path, store: Store) -> None:
    _, model = store(trial("identity"))
    loaded, config = load(folder)
    assert config.model.flow.kind == "identity"
    assert loaded.state_dict().keys() == model.state_dict().keys()


def fails(folder: Path, name: str, message: str) -> None:
    """Loading must raise, naming the file and what is wrong."""
    with pytest.raises(CheckpointError, match=message) as caught:
        load(folder)
    assert str(folder / name) in str(caught.value)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
@pytest.mark.parametrize("keep", [0, 5, 300])
def test_truncated_file(folder: Path, name: str, keep: int) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:keep])
    fails(folder, name, BROKEN[name])


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    fails(folder, name, "No such file")


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_pickle_is_not_read(folder: Path, name: str) -> None:
    torch.save({"a": torch.zeros(2)}, folder / name)
    fails(folder, name, BROKEN[name])


def edit(folder: Path, **changes: Any) -> None:
    path = folder / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_other_format(folder: Path) -> None:
    edit(folder, format=1)
    fails(folder, CONFIG, "format 1, this version reads format 3")


@pytest.mark.parametrize("flow", ["conv", "identity"])
def test_weights_of_another_architecture(folder: Path, flow: str) -> None:
    edit(folder, config=to_mapping(trial(flow)))
    fails(folder, WEIGHTS, "not the weights of the model in config.json")


@pytest.mark.parametrize("rank", [2, 4])
def test_weights_of_another_rank(folder: Path, rank: int) -> None:
    edit(folder, config=to_mapping(trial(operator=OperatorConfig(kind="time_lowrank", rank=rank))))
    fails(folder, WEIGHTS, "size mismatch")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {"sed": 1}}, "TrialConfig has no field sed"),
        ({"config": None}, "not a checkpoint's configuration"),
        ({"config": []}, "not a checkpoint's configuration"),
        (
            {"config": {"model": {"operator": {"rank": 17}}}},
            "rank 17 exceeds the data's dimension 16",
        ),
        ({"config": {"model": {"flow": {"width": -1}}}}, "not a checkpoint's configuration"),
        ({"config": {"evaluate": {"end": 2.0}}}, r"EvaluateConfig.end cannot be 2\.0"),
        ({"config": {"model": {"flow": {"depth": 10**9}}}}, "FlowConfig.depth cannot be 1000000000"),
        ({"config": {"seed": 1e400}}, "TrialConfig.seed cannot be inf"),
        ({"dtype": "int8"}, "not a checkpoint's configuration"),
        ({"event": [1, -4, -4]}, "is not the shape of an image"),
        ({"event": [1, 4]}, "not a checkpoint's configuration"),
        ({"event": None}, "not a checkpoint's configuration"),
    ],
)
def test_broken_configuration(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit(folder, **changes)
    fails(folder, CONFIG, message)


@pytest.mark.parametrize("text", ["[]", "3", '{"config": {}}'])
def test_a_configuration_of_another_kind(folder: Path, text: str) -> None:
    (folder / CONFIG).write_text(text)
    fails(folder, CONFIG, "not a checkpoint's configuration")


def test_precision_is_kept(store: Store) -> None:
    config = trial()
    folder, model = store(config)
    save(folder, model.double(), config)
    loaded, _ = load(folder)
    assert loaded.dtype == torch.float64
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))


def test_weights_of_another_type_are_not_converted(folder: Path) -> None:
    edit(folder, dtype="float64")
    fails(folder, WEIGHTS, r"is torch\.float32, but the model's is torch\.float64")


RECORD = Path(__file__).parents[2] / "records" / "b428e36" / "runs" / "before" / "artifacts"


def test_a_checkpoint_of_the_version_before_is_read_and_written_again(tmp_path: Path) -> None:
    folder = RECORD / "t000-s0" / "checkpoint"
    model, config = load(folder)
    with safe_open(folder / WEIGHTS, "pt") as file:
        names = file.keys()
        assert all(torch.equal(model.state_dict()[name], file.get_tensor(name)) for name in names)
    save(tmp_path, model, config)
    assert (tmp_path / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    before, now = (json.loads((each / CONFIG).read_text()) for each in (folder, tmp_path))
    # What has been added to the configuration since stands at values that change nothing.
    kept, leaves = flatten(before.pop("config")), flatten(now["config"])
    assert kept == {name: leaves[name] for name in kept}
    assert before == {name: now[name] for name in before}
