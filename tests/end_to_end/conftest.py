"""Real processes: the command line, Ray below it, and an MLflow server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end import lab
from tests.end_to_end.lab import Linsweep

TINY = """
name: tiny
recipe: learned
data: {name: npz, root: digits.npz}
model:
  flow: {depth: 1, width: 16}
  operator: {rank: 8}
train: {epochs: 6, batch_size: 512}
evaluate: {steps: [1, 4, 16], quality: [swd, classifier_fd], every: 1, samples: 128}
controls:
  - {name: g = identity, set: {model.flow.kind: identity}}
  - {name: flow matching, set: {family: flow_matching}}
search:
  trials: 4
  space:
    model.flow.depth: {int: [1, 2]}
    model.operator.rank: {int: [4, 32], log: true}
  stop_early: {scheduler: asha, grace_epochs: 2, reduction: 2}
"""


@pytest.fixture(scope="session")
def linsweep(tmp_path_factory: pytest.TempPathFactory) -> Linsweep:
    """One storage folder for all tests, so that the classifier is trained once; sweeps differ by name."""
    folder = tmp_path_factory.mktemp("sweeps")
    (folder / "tiny.yaml").write_text(TINY)
    return Linsweep.with_digits(folder)


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of an MLflow server process on SQLite."""
    with lab.mlflow_server(tmp_path_factory.mktemp("mlflow")) as server:
        yield server.uri
