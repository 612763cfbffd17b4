"""Models in MLflow sample what the trial's model samples, and loading them unpickles nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch

from linearizer_core.experiment import checkpoint
from linearizer_core.experiment.configuration import (
    EvaluateConfig,
    FlowConfig,
    ModelConfig,
    OperatorConfig,
    TrialConfig,
)
from linearizer_core.experiment.families import family_of
from linearizer_core.models.base import Model
from sweeps.spec.validation import InputError
from sweeps.tracking.model import promote

Record = Any
Store = Any

CONFIG = TrialConfig(
    model=ModelConfig(
        flow=FlowConfig(frame="pixels", depth=1, width=8, mixing="lu"),
        operator=OperatorConfig(kind="time_lowrank", rank=3),
    ),
    evaluate=EvaluateConfig(steps=(1, 4)),
    seed=3,
)


@pytest.fixture
def model() -> Model:
    return family_of(CONFIG).build(CONFIG, (1, 4, 4)).eval()


@pytest.fixture
def uri(store: Store) -> Iterator[str]:
    """The store, where ``mlflow`` itself looks for models."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(store.uri)
    yield store.uri
    mlflow.set_tracking_uri(before)


def finished(record: Record, model: Model, trial: str, **identity: Any) -> None:
    """A finished trial that kept its model."""
    journal = record.begin(trial, **identity)
    checkpoint.save(record.paths.artifacts(trial) / "checkpoint", model, CONFIG)
    journal.artifact("checkpoint")
    journal.end("finished", 3)


def shipped(record: Record, uri: str, best: list[str]) -> Any:
    record.sweep["best"] = best
    record.paths.sweep_json.write_text(json.dumps(record.sweep))
    shipper = record.shipper(uri)
    shipper.ship()
    shipper.finish()
    return shipper


def test_the_best_and_the_confirmed_models_are_kept_once(record: Record, store: Store, uri: str, model: Model) -> None:
    finished(record, model, "t000-s0")
    finished(record, model, "t001-s0")
    finished(record, model, "k000-s1", kind="confirm")
    record.begin("k000-s2", kind="confirm").end("failed", 1, "diverged")
    for _ in range(2):
        shipped(record, uri, ["t000-s0"])
    experiment = store.client.get_experiment_by_name("demo").experiment_id
    models = store.client.search_logged_models([experiment])
    assert sorted(found.name for found in models) == ["k000-s1", "t000-s0"]
    assert {str(found.status) for found in models} == {"READY"}
    runs = store.runs()
    assert {found.name: found.source_run_id for found in models} == {
        name: runs[name].info.run_id for name in ("k000-s1", "t000-s0")
    }
    assert [output.model_id for output in runs["t000-s0"].outputs.model_outputs] == [
        found.model_id for found in models if found.name == "t000-s0"
    ]


@pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")  # of MLflow's own types, as mlflow.pyfunc is imported
def test_a_registered_model_samples_what_the_trial_does(record: Record, store: Store, uri: str, model: Model) -> None:
    finished(record, model, "t000-s0")
    finished(record, model, "t001-s0")
    shipper = shipped(record, uri, ["t000-s0"])
    versions = [promote(shipper, "demo", t) for t in ("t000-s0", "t001-s0", "t000-s0")]
    assert versions == ["1", "2", "1"]
    unpickled: list[str] = []
    watching = [True]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching[0] and event == "pickle.find_class":
            unpickled.append(str(arguments))

    sys.addaudithook(watch)
    try:
        loaded = mlflow.pyfunc.load_model("models:/demo/1")
        images = loaded.predict({"count": [5, 2], "seed": [7, 8]})
    finally:
        watching[0] = False
    assert unpickled == []
    assert images.shape == (7, 1, 4, 4)
    family = family_of(CONFIG)
    expected = torch.cat([
        family.sample(model, count, CONFIG, torch.Generator().manual_seed(seed)) for count, seed in ((5, 7), (2, 8))
    ]).clamp(-1, 1)  # fmt: skip
    np.testing.assert_array_equal(images, expected.detach().numpy())
    signature = loaded.metadata.signature
    assert signature.inputs.input_names() == ["count", "seed"]
    assert signature.outputs.inputs[0].shape == (-1, 1, 4, 4)


def test_a_models_files_are_numbers_and_text(record: Record, uri: str, model: Model, tmp_path: Path) -> None:
    finished(record, model, "t000-s0")
    shipped(record, uri, ["t000-s0"])
    folders = {path.parent for path in record.paths.mlflow_artifacts.rglob("MLmodel")}
    (folder,) = folders
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"MLmodel", "requirements.txt", "checkpoint/model.safetensors", "checkpoint/config.json"}
    assert str(tmp_path) not in (folder / "MLmodel").read_text()


@pytest.mark.parametrize(("count", "said"), [(0, "count must be at least 1, got 0"), (-1, "got -1")])
def test_counts_that_are_no_counts(model: Model, tmp_path: Path, count: int, said: str) -> None:
    from sweeps.tracking.pyfunc import _load_pyfunc

    checkpoint.save(tmp_path, model, CONFIG)
    with pytest.raises(ValueError, match=said):
        _load_pyfunc(str(tmp_path)).predict({"count": [count], "seed": [0]})


def test_what_cannot_be_promoted_is_told(record: Record, uri: str, model: Model) -> None:
    record.begin("t000-s0").end("stopped", 1, "asha")
    shipper = record.shipper(uri)
    shipper.ship()
    with pytest.raises(InputError, match="demo/t000-s0: has no checkpoint; only trials that finished keep one"):
        promote(shipper, "demo", "t000-s0")
    finished(record, model, "t001-s0")
    with pytest.raises(InputError, match="demo/t001-s0: is not in MLflow yet; send it first: linsweep sync demo"):
        promote(shipper, "demo", "t001-s0")
