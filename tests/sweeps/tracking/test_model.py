"""Models in MLflow sample what the trial's model samples, and loading them unpickles nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from sweeps.tracking.parent_run import finish

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
def uri(store: Store) -> str:
    return str(store.uri)


def finished(record: Record, model: Model, trial: str, **identity: Any) -> None:
    """A finished trial that kept its model."""
    journal = record.begin(trial, **identity)
    checkpoint.save(record.paths.artifacts(trial) / "checkpoint", model, CONFIG)
    journal.artifact("checkpoint")
    journal.summary({})
    journal.end("finished", 3)


def shipped(record: Record, uri: str, best: list[str]) -> Any:
    record.sweep["best"] = best
    record.paths.sweep_json.write_text(json.dumps(record.sweep))
    sync = record.sync(uri)
    sync.send()
    finish(sync.connect(), sync.paths)
    return sync


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


LOAD = """
import json, sys
import numpy as np
unpickled, watching = [], [True]
def watch(event, arguments):
    if watching[0] and event == "pickle.find_class":
        unpickled.append(str(arguments))
sys.addaudithook(watch)
"""

CHECK = """
watching[0] = False
assert unpickled == [], unpickled
signature = model.metadata.signature
print(json.dumps([signature.inputs.input_names(), signature.outputs.inputs[0].shape]))
np.save(sys.argv[1], images)
"""


def test_a_promoted_model_is_loaded_as_printed_from_any_folder_and_samples_what_the_trial_does(
    record: Record,
    model: Model,
    run_cli: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On the default storage, with another tracking URI in the environment than that of the sweep."""
    folder, elsewhere = tmp_path / "a folder", tmp_path / "elsewhere"
    for place in (folder, elsewhere):
        place.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{elsewhere}/other.db")
    finished(record, model, "t000-s0")
    finished(record, model, "t001-s0")
    record.sweep["best"] = ["t000-s0"]
    record.paths.sweep_json.write_text(json.dumps(record.sweep))
    storage = ("--storage", str(record.paths.storage))
    assert run_cli("sync", "demo", *storage) == 0
    capsys.readouterr()
    said = []
    for trial in ("t001-s0", "t000-s0", "t001-s0"):
        assert run_cli("promote", f"demo/{trial}", *storage) == 0
        said.append(capsys.readouterr().out.splitlines())
    assert [lines[0] for lines in said] == [
        f"demo version {version} is the model of {trial}. In Python:"
        for version, trial in ((1, "t001-s0"), (2, "t000-s0"), (1, "t001-s0"))
    ]
    assert list(folder.iterdir()) == list(elsewhere.iterdir()) == []
    printed = "\n".join(line.strip() for line in said[0][1:]).replace("[16]", "[5, 2]").replace("[0]", "[7, 8]")
    images = tmp_path / "images.npy"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD + printed + CHECK, str(images)],
        cwd=elsewhere,
        env=clean | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [["count", "seed"], [-1, 1, 4, 4]]
    assert list(elsewhere.iterdir()) == []
    family = family_of(CONFIG)
    expected = torch.cat([
        family.sample(model, count, CONFIG, torch.Generator().manual_seed(seed)) for count, seed in ((5, 7), (2, 8))
    ]).clamp(-1, 1)  # fmt: skip
    np.testing.assert_array_equal(np.load(images), expected.detach().numpy())


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


def test_a_kept_model_samples_in_whole_float32_whatever_is_set(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeps.tracking.pyfunc import _load_pyfunc

    checkpoint.save(tmp_path, model, CONFIG)
    sampler = _load_pyfunc(str(tmp_path))
    seen: list[tuple[bool, bool]] = []
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    for layer in sampler.model.modules():
        layer.register_forward_pre_hook(lambda *_: seen.append((matmul.allow_tf32, cudnn.allow_tf32)))
    monkeypatch.setattr(matmul, "allow_tf32", True)
    monkeypatch.setattr(cudnn, "allow_tf32", True)
    sampler.predict({"count": [2], "seed": [0]})
    assert set(seen) == {(False, False)}
    assert (matmul.allow_tf32, cudnn.allow_tf32) == (True, True)


def test_what_cannot_be_promoted_is_told(record: Record, uri: str, model: Model) -> None:
    record.begin("t000-s0").end("stopped", 1, "asha")
    sync = record.sync(uri)
    sync.send()
    with pytest.raises(InputError, match="demo/t000-s0: has no checkpoint; only trials that finished keep one"):
        promote(sync.connect, sync.paths, "t000-s0")
    finished(record, model, "t001-s0")
    with pytest.raises(InputError, match="demo/t001-s0: is not in MLflow yet; send it first: linsweep sync demo"):
        promote(sync.connect, sync.paths, "t001-s0")
