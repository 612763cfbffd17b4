"""Sweeps in folders that are in the way: with modules named as ours and Ray's are, and with too long a name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.children import environment, module
from tests.end_to_end.lab import Linsweep

pytestmark = pytest.mark.slow

PACKAGES = ("sweeps", "analysis", "linsweep", "linearizer_core")
MODULES = ("yaml", "random", "ray", "optuna", "mlflow", "numpy", "torch")

SPEC = """
name: small
recipe: learned
data: {name: npz, root: digits.npz, images: 128}
model: {flow: {depth: 1, width: 8}, operator: {rank: 4}}
train: {epochs: 1, batch_size: 64}
evaluate: {steps: [1], quality: [swd], samples: 32, held_out: 32}
search:
  trials: 2
  space: {model.operator.rank: {int: [2, 8]}}
  objective: {quality/swd_collapsed: min}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a spec, its data, and modules that raise when they are imported."""
    Linsweep.with_digits(tmp_path)
    (tmp_path / "small.yaml").write_text(SPEC)
    for name in PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise RuntimeError('the {name} of the current folder')\n")
    for name in MODULES:
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('the {name} of the current folder')\n")
    return tmp_path


def launched(folder: Path, *arguments: str, env: dict[str, str], code: int = 0) -> str:
    command = module("linsweep", "launch", "small.yaml", *arguments)
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_modules_of_the_current_folder_and_a_long_name_for_temporary_files(folder: Path) -> None:
    long = folder / ("tmp" * 20)
    long.mkdir()
    output = launched(folder, env=environment() | {"TMPDIR": str(long)})
    assert "small finished: 2 finished" in output
    assert "MLflow is not complete" not in output


BROKEN = """
import sys
from sweeps import cli
from sweeps.execution import trainable

class Broken(trainable.TrialTrainable):
    def setup(self, config):
        raise ModuleNotFoundError("no module named missing")

from sweeps.execution import ray_tune
ray_tune.RayTune.__init__.__defaults__ = (None, (), Broken)
cli.main()
"""


@pytest.mark.long
def test_workers_that_cannot_take_up_a_trial_say_why(folder: Path) -> None:
    command = [sys.executable, "-P", "-c", BROKEN, "launch", "small.yaml", "--set", "resources.retries=0"]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment(), capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the first failure: t000-s0: ModuleNotFoundError: no module named missing" in done.stdout
