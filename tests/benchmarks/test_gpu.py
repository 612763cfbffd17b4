"""One trial over several processes, as ``benchmarks/gpu.py --gpus`` measures it; here they are joined by gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
SMALL = ("--batch", "64", "--epochs", "3", "--steps", "4")


def measured(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Also where there are GPUs: a machine of one must run this too.
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "benchmarks/gpu.py", *arguments, *SMALL]
    return subprocess.run(command, cwd=ROOT, env=hidden, capture_output=True, text=True, timeout=500, check=False)


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one() -> None:
    done = measured("--gpus", "2")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["device"], found["backend"], found["batch"]) == ("cpu", "gloo", 64)
    assert found["torch"] == torch.__version__
    assert found["loss_error_1"] == 0
    assert found["loss_error_2"] < 1e-4
    # What two processes must not differ by: another seed.
    assert found["loss_error_other_seed"] > 100 * found["loss_error_2"]
    assert found["loss_error_other_seed"] > 1e-3
    assert found["efficiency_2"] == pytest.approx(found["images_2"] / 2 / found["images_1"], rel=1e-3)


def test_a_batch_that_processes_cannot_share_is_refused_before_any_starts() -> None:
    done = measured("--gpus", "3")
    assert done.returncode != 0
    assert done.stderr.strip() == "--batch 64: must be a multiple of 3"
