"""The library's checkpoints: a model from its plain arguments, and errors that name the file that is broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from linearizer_core import flows
from linearizer_core.checkpoint import CONFIG, WEIGHTS, CheckpointError, load, save

ARGUMENTS = {"event": [1, 4, 4], "depth": 2, "width": 8}


def saved(folder: Path) -> flows.Chain:
    model = flows.coupling(**ARGUMENTS)  # type: ignore[arg-type]
    save(folder, model, ARGUMENTS)
    return model


def test_a_model_is_built_from_its_arguments_and_has_its_weights(tmp_path: Path) -> None:
    model = saved(tmp_path / "a" / "model")
    again = load(tmp_path / "a" / "model", flows.coupling)
    assert not again.training
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_arguments_that_json_has_not_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        save(tmp_path / "model", flows.identity((2,)), {"event": torch.ones(2)})
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "name", "message"),
    [
        ({"event": [1, 4, 4], "deep": 2}, CONFIG, "unexpected keyword argument 'deep'"),
        ({"event": [1, 4, 4], "depth": 0}, CONFIG, "depth must be at least 1, got 0"),
        ({"event": [1, 4, 4], "depth": 2, "width": 9}, WEIGHTS, "size mismatch"),
    ],
)
def test_other_arguments_than_the_weights_were_saved_with(
    tmp_path: Path, arguments: dict[str, object], name: str, message: str
) -> None:
    saved(tmp_path)
    record = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps({**record, "arguments": arguments}))
    with pytest.raises(CheckpointError, match=message) as caught:
        load(tmp_path, flows.coupling)
    assert str(tmp_path / name) in str(caught.value)


def test_a_trials_checkpoint_is_of_another_format(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / CONFIG).write_text(json.dumps({"format": 3, "config": {}}))
    with pytest.raises(CheckpointError, match="format 3, this version reads format 1"):
        load(tmp_path, flows.coupling)
