"""The library's checkpoints: a model from its plain arguments, and errors that name the file that is broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from linearizer_core import Linearizer, flows
from linearizer_core.checkpoint import CONFIG, WEIGHTS, CheckpointError, load, save
from linearizer_core.experiment import checkpoint as trial_checkpoint
from linearizer_core.operators import ConvolutionalOperator, DenseOperator

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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_dtype_that_is_saved_is_loaded(tmp_path: Path, dtype: torch.dtype) -> None:
    model = flows.coupling(**ARGUMENTS).to(dtype)  # type: ignore[arg-type]
    save(tmp_path, model, ARGUMENTS)
    again = load(tmp_path, flows.coupling)
    assert {p.dtype for p in again.parameters()} == {dtype}
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_fixed_operator_without_parameters_has_the_dtype_of_its_buffers(tmp_path: Path) -> None:
    def build(factor: float) -> Linearizer:
        return Linearizer(flows.identity((4,)), DenseOperator(factor * torch.eye(4, dtype=torch.float64)))

    save(tmp_path, build(1 / 3), {"factor": 0.0})
    assert torch.equal(load(tmp_path, build).operator.to_dense(), torch.eye(4, dtype=torch.float64) / 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_fixed_convolution_is_loaded_as_it_was_saved(tmp_path: Path, dtype: torch.dtype) -> None:
    def build(seed: int) -> Linearizer:
        kernel = torch.randn(1, 1, 3, 3, generator=torch.Generator().manual_seed(seed))
        return Linearizer(flows.identity((1, 4, 4)), ConvolutionalOperator.from_kernel(kernel, 4, 4))

    model = build(0).to(dtype)
    save(tmp_path, model, {"seed": 1})
    again = load(tmp_path, build)
    x = torch.randn(3, 1, 4, 4, dtype=dtype, generator=torch.Generator().manual_seed(2))
    assert torch.equal(again(x), model(x))
    assert torch.equal(again.adjoint()(x), model.adjoint()(x))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a": torch.ones(2), "b": torch.ones(2).double()}, r"a is torch\.float32 and b is torch\.float64"),
        ({"a": torch.ones(2, dtype=torch.complex64).conj()}, r"a is torch\.complex64.*view_as_real"),
        ({"a": torch.ones(2).to(torch.float8_e5m2)}, r"a is torch\.float8_e5m2.*float32, float64"),
    ],
    ids=["mixed", "complex", "float8"],
)
def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path, tensors: dict[str, torch.Tensor], message: str) -> None:
    model = nn.Module()
    for name, tensor in tensors.items():
        model.register_buffer(name, tensor)
    with pytest.raises(TypeError, match=message):
        save(tmp_path / "model", model, {})
    assert not (tmp_path / "model").exists()


def test_a_trials_checkpoint_is_of_another_format(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / CONFIG).write_text(json.dumps({"format": 3, "config": {}}))
    with pytest.raises(CheckpointError, match="format 3, this version reads format 1") as caught:
        load(tmp_path, flows.coupling)
    assert "trial's checkpoint, use linearizer_core.experiment.checkpoint.load" in str(caught.value)
    saved(tmp_path)
    with pytest.raises(CheckpointError, match=r"use linearizer_core\.checkpoint\.load"):
        trial_checkpoint.load(tmp_path)
