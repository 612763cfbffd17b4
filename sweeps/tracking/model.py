"""A trial's model as an MLflow model: it samples once loaded, and can be registered under the sweep's name."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING

import numpy as np
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

from analysis.record.copies import fetch_artifacts
from analysis.record.mlflow_settings import WRITING, held
from linearizer_core.experiment.checkpoint import CONFIG
from linearizer_core.experiment.journal import state_of
from linearizer_core.plugins.loading import FOLDER
from sweeps.record.lookup import named
from sweeps.record.paths import SweepPaths
from sweeps.spec.validation import InputError, Problem

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

    from sweeps.tracking.connection import Connection

LOADER = "sweeps.tracking.pyfunc"
CHECKPOINT = "checkpoint"
KIND = "sampler"
NEEDED = ("linearizer-sweeps", "torch", "numpy")
"""Packages needed to load a model."""


def signature_of(checkpoint: Path) -> ModelSignature:
    """The signature: rows of ``count`` and ``seed`` in, images ``(count, channels, height, width)`` out."""
    event = json.loads((checkpoint / CONFIG).read_text())["event"]
    inputs = Schema([ColSpec("long", "count"), ColSpec("long", "seed")])
    return ModelSignature(inputs, Schema([TensorSpec(np.dtype(np.float32), (-1, *event))]))


def write_model(
    folder: Path, checkpoint: Path, packages: dict[str, str], model: LoggedModel, plugins: Path | None = None
) -> None:
    """Write a model's folder for MLflow: the checkpoint, the module that loads it, and the plugins that it needs."""
    described = Model(run_id=model.source_run_id, model_id=model.model_id, signature=signature_of(checkpoint))
    shutil.copytree(checkpoint, folder / CHECKPOINT)
    if plugins is not None and plugins.is_dir():
        shutil.copytree(plugins, folder / CHECKPOINT / FOLDER)
    # This is what mlflow.pyfunc would add; importing that warns about other people's types.
    described.add_flavor("python_function", loader_module=LOADER, data=CHECKPOINT, python_version=python_version())
    described.save(str(folder / "MLmodel"))
    needed = [f"{name}=={packages[name]}" for name in NEEDED if name in packages]
    (folder / "requirements.txt").write_text("\n".join(needed) + "\n")


def log_model(connection: Connection, paths: SweepPaths, trial: str) -> str:
    """Log a trial's model as an output of its run, once, and return the model's id."""
    client, run = connection.client, connection.cursors[trial].run
    condition = f"source_run_id = '{run}'"
    found = client.search_logged_models([connection.experiment], condition)
    for model in found:
        if model.status == LoggedModelStatus.READY:
            return str(model.model_id)
    if found:  # an earlier upload was interrupted
        model = found[0]
    else:
        model = client.create_logged_model(connection.experiment, name=trial, source_run_id=run, model_type=KIND)
    head = state_of(paths.journal(trial)).head
    packages = head["provenance"].get("packages", {}) if head else {}
    with tempfile.TemporaryDirectory() as place:
        write_model(Path(place), paths.artifacts(trial) / "checkpoint", packages, model, paths.plugins)
        client.log_model_artifacts(model.model_id, place)
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run, [LoggedModelOutput(model.model_id, step=0)])
    return str(model.model_id)


def promote(connect: Callable[[], Connection], paths: SweepPaths, trial: str) -> str:
    """Register a trial's model under the name of its sweep's folder, once, and return the version.

    Raises ``InputError`` for a trial that has no checkpoint or has not been sent.
    """
    name = paths.root.absolute().name
    source = f"{name}/{trial}"
    fetch_artifacts(paths.root, trial)
    if not (paths.artifacts(trial) / "checkpoint" / CONFIG).exists():
        raise InputError(source, [Problem("", "has no checkpoint; only trials that finished keep one")])
    connection = connect()
    if trial not in connection.cursors:
        raise InputError(
            source, [Problem("", f"is not in MLflow yet; send it first: linsweep sync {named(paths.root)}")]
        )
    with held(WRITING):
        model = log_model(connection, paths, trial)
        client, run = connection.client, connection.cursors[trial].run
        _ensure_registered(client, name)
        for version in client.search_model_versions(f"name = '{name}'"):
            if version.run_id == run:
                return str(version.version)
        # Pass the folder: MLflow would resolve models:/ID with its own global tracking URI.
        place = str(client.get_logged_model(model).artifact_location)
        made = client.create_model_version(name, place, run_id=run, model_id=model, tags={"trial": trial})
        return str(made.version)


def _ensure_registered(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
