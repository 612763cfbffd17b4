"""Whatever the environment says to Ray, MLflow, Python or the terminal: it has no effect, or the effect is said."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import analysis
from linsweep.siblings import ROOT

RUNS = ROOT / "tests" / "records" / "b428e36" / "runs"
NOWHERE, DEAD = "/proc/nowhere", "http://127.0.0.1:9"

WORST = {
    "MLFLOW_TRACKING_URI": DEAD, "MLFLOW_REGISTRY_URI": DEAD, "MLFLOW_EXPERIMENT_NAME": "other",
    "MLFLOW_EXPERIMENT_ID": "77", "MLFLOW_RUN_ID": "0" * 32, "MLFLOW_ENABLE_ASYNC_LOGGING": "true",
    "MLFLOW_TRUNCATE_LONG_VALUES": "false", "MLFLOW_WORKSPACE": "other", "MLFLOW_ACTIVE_MODEL_ID": "m-1",
    "MLFLOW_ARTIFACT_URI": "s3://nowhere", "MLFLOW_DEFAULT_ARTIFACT_ROOT": "s3://nowhere",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "true", "MLFLOW_STATIC_PREFIX": "/other", "MLFLOW_TRACKING_TOKEN": "x",
    "RAY_ADDRESS": "10.255.255.1:6379", "RAY_NAMESPACE": "other", "RAY_RUNTIME_ENV_HOOK": "nowhere.hook",
    "RAY_JOB_CONFIG_JSON_ENV_VAR": '{"runtime_env": {"working_dir": "/proc/nowhere"}}', "RAY_STORAGE": NOWHERE,
    "RAY_REDIS_ADDRESS": "10.255.255.1:6379", "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1", "RAY_TMPDIR": NOWHERE,
    "RAY_AIR_LOCAL_CACHE_DIR": NOWHERE, "RAY_AIR_NEW_OUTPUT": "1", "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AUTH_MODE": "token", "RAY_LOG_TO_DRIVER": "1", "RAY_TRAIN_V2_ENABLED": "1", "RAY_TUNE_CALLBACKS": "no.Such",
    "TUNE_RESULT_DIR": NOWHERE, "TUNE_GLOBAL_CHECKPOINT_S": "never", "TUNE_MAX_PENDING_TRIALS_PG": "none",
    "TUNE_RESULT_BUFFER_LENGTH": "100", "TUNE_RESULT_DELIM": ".", "TUNE_STATE_REFRESH_PERIOD": "often",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "x", "TUNE_DISABLE_AUTO_INIT": "1", "TUNE_RESTORE_RETRY_NUM": "x",
    "OMP_NUM_THREADS": "64", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": f":{ROOT}:", "PYTHONSTARTUP": "/proc/nowhere.py",
    "PYTHONWARNINGS": "error", "PYTHONIOENCODING": "ascii", "NO_COLOR": "1", "FORCE_COLOR": "1", "TERM": "dumb",
    "COLUMNS": "20", "LANG": "C", "LC_ALL": "C", "TZ": "Nowhere/Never", "TMPDIR": NOWHERE,
}  # fmt: skip
"""The worst environment: there is no HOME either."""

SPEC = """
name: worst
recipe: learned
data: {name: digits, images: 128}
model: {flow: {depth: 1, width: 8}, operator: {rank: 4}}
train: {epochs: 1, batch_size: 64}
evaluate: {steps: [1, 2], quality: [swd], every: 1, samples: 64, held_out: 64}
search:
  sampler: grid
  space: {model.flow.depth: {grid: [1]}}
  objective: {quality/swd_collapsed: min}
"""

IN_TURN = """
import shlex, sys
from linsweep.__main__ import main
for line in sys.stdin.read().splitlines():
    sys.argv = ["linsweep", *shlex.split(line)]
    try:
        main()
    except SystemExit as end:
        print(f"exit {end.code}", flush=True)
"""
"""Runs a command of each line: importing everything once."""


def python(folder: Path, *arguments: str, lines: str | None = None) -> subprocess.CompletedProcess[str]:
    """Python in a folder and in the worst environment."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LD_LIBRARY_PATH")}
    return subprocess.run(
        [sys.executable, "-P", *arguments], cwd=folder, env=kept | WORST, input=lines, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.long
def test_the_commands_for_records_in_the_worst_environment(tmp_path: Path) -> None:
    shutil.copytree(RUNS, tmp_path / "runs")
    (tmp_path / "runs" / "before" / "shipped.json").unlink()
    lines = ["status before", "table before", "report before", "export before", "compare before cut", "plan quickstart"]
    lines += ["sync before", "promote before/t000-s0"]
    done = python(tmp_path, "-c", IN_TURN, lines="\n".join(lines))
    assert done.stdout.count("exit 0\n") == len(lines), done.stderr
    assert [line for line in done.stderr.splitlines() if not line.startswith("left out: ")] == []
    # All of it is in the store that is meant, and is what it is without such an environment.
    database = tmp_path / "runs" / "mlflow.db"
    sent, kept = (analysis.load(source).runs for source in (f"sqlite:///{database}", tmp_path / "runs" / "before"))
    assert sent["quality/swd_collapsed"].tolist() == kept["quality/swd_collapsed"].tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]
    # The registry of the environment would be asked for the model, if the lines did not say which is meant.
    assert f'  mlflow.set_registry_uri("sqlite:///{database}")' in done.stdout.splitlines()


@pytest.mark.slow  # it starts Ray
@pytest.mark.long
def test_a_launch_in_the_worst_environment(tmp_path: Path) -> None:
    (tmp_path / "worst.yaml").write_text(SPEC)
    done = python(tmp_path, "-m", "linsweep", "launch", "worst.yaml")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "worst finished: 1 finished; record in runs/worst" in done.stdout
    assert "\x1b[" not in done.stdout
    # A private Ray has run it, with the threads that the spec gives it, and MLflow has it where it belongs.
    record = analysis.load(tmp_path / "runs" / "worst")
    assert record.counts.finished == 1
    assert len(analysis.load(f"sqlite:///{tmp_path}/runs/mlflow.db").runs) == len(record.runs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "worst.yaml"]


@pytest.mark.long
def test_a_home_and_a_current_folder_that_take_nothing(tmp_path: Path) -> None:
    env = os.environ | {"HOME": "/proc"}
    words = ["plan", "quickstart", "--set", f"storage={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "linsweep", *words], cwd="/proc", env=env | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_current_folder_that_is_gone(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"rmdir {tmp_path} && {sys.executable} -m linsweep status"], cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    said = "linsweep: the current folder is gone: No such file or directory; change to one that exists\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)
