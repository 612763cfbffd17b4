"""A whole sweep through Ray, Optuna and MLflow, and what must survive its interruption."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
import torch
from mlflow import MlflowClient
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import TrialState

from linearizer_core.experiment import checkpoint, data
from linearizer_core.experiment.configuration import DataConfig, TrialConfig, from_mapping
from linearizer_core.experiment.evaluation import Quality
from linearizer_core.experiment.families import family_of
from linearizer_core.experiment.recipes import expand
from tests.end_to_end.audit import effective
from tests.end_to_end.lab import has_summary, last, ray_workers

pytestmark = pytest.mark.slow

OBJECTIVE = "quality/classifier_fd_collapsed"
SEARCH = ["t000-s0", "t001-s0", "t002-s0", "t003-s0"]
CONTROLS = ["c000-s0", "c001-s0"]
TRIALS = [*CONTROLS, "r000", "r001", "r002", *SEARCH]


def objective_of(events: list[dict[str, Any]]) -> float:
    """What a search trial's journal says of the objective: its final metrics, or the last evaluated epoch's value."""
    summaries = [event for event in events if event["event"] == "summary"]
    metrics = summaries[-1]["metrics"] if summaries else last(events, "epoch")["metrics"]
    return float(metrics[OBJECTIVE])


def study_of(folder: Path) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    return optuna.load_study(study_name=folder.name, storage=storage)


@pytest.fixture(scope="module")
def swept(linsweep: Any, mlflow_server: str) -> str:
    """The sweep that the tests of the record look at."""
    return str(linsweep.run("launch", "tiny.yaml", "--set", f"tracking.uri={mlflow_server}"))


@pytest.fixture(scope="module")
def runs(swept: str, mlflow_server: str) -> dict[str, Any]:
    """MLflow's child runs by trial, asked for over HTTP."""
    client = MlflowClient(mlflow_server)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    return {run.data.tags["sweep.trial_id"]: run for run in found}


def test_ends_with_the_best_configuration_and_the_next_command(swept: str) -> None:
    assert "tiny finished" in swept
    assert re.search(r"best: t\d{3}  depth=", swept)
    assert "Next: linsweep table tiny" in swept


def test_every_trial_has_one_journal_and_one_end(linsweep: Any, swept: str) -> None:
    assert linsweep.trials("tiny") == sorted(TRIALS)
    for trial in TRIALS:
        events = linsweep.events("tiny", trial)
        assert [event["event"] for event in events].count("trial") == 1
        assert [event["event"] for event in events].count("end") == 1
        assert last(events, "end")["state"] == ("stopped" if not has_summary(events) else "finished")
    record = json.loads((linsweep.folder / "runs/tiny/sweep.json").read_text())
    assert record["state"] == "finished"
    assert (
        record["provenance"]["data_checksum"]
        == data.load(DataConfig(name="npz", root=str(linsweep.folder / "digits.npz"))).checksum
    )


def test_trials_run_side_by_side(linsweep: Any, swept: str) -> None:
    spans = []
    for trial in [*CONTROLS, *SEARCH]:
        events = linsweep.events("tiny", trial)
        spans.append((events[0]["time"], events[-1]["time"]))
    overlaps = [a for i, a in enumerate(spans) for b in spans[i + 1 :] if a[0] < b[1] and b[0] < a[1]]
    assert overlaps or psutil.cpu_count() == 1


def test_the_objective_of_the_study_is_the_one_in_the_journal_in_mlflow_and_in_the_table(
    linsweep: Any, swept: str, runs: dict[str, Any]
) -> None:
    linsweep.run("table", "tiny")
    with (linsweep.folder / "runs/tiny/tables/configurations.csv").open() as file:
        table = {row["configuration"]: row for row in csv.DictReader(file)}
    study = study_of(linsweep.folder / "runs/tiny")
    assert len(study.trials) == len(SEARCH)
    for trial, told in zip(SEARCH, study.trials, strict=True):
        value = objective_of(linsweep.events("tiny", trial))
        stopped = not has_summary(linsweep.events("tiny", trial))
        assert told.state == (TrialState.PRUNED if stopped else TrialState.COMPLETE)
        assert told.value == value
        assert runs[trial].data.metrics[OBJECTIVE] == value
        assert float(table[trial.partition("-")[0]][OBJECTIVE]) == value
        assert {name: str(v) for name, v in told.params.items()} == {
            name: runs[trial].data.params[name] for name in told.params
        }


def test_mlflow_holds_every_journal_line_once(
    linsweep: Any, swept: str, runs: dict[str, Any], mlflow_server: str
) -> None:
    assert sorted(runs) == sorted([*TRIALS, "parent"])
    client = MlflowClient(mlflow_server)
    parent = runs["parent"].info.run_id
    for trial in TRIALS:
        events, run = linsweep.events("tiny", trial), runs[trial]
        assert run.data.tags["mlflow.parentRunId"] == parent
        assert run.info.status == ("FINISHED" if has_summary(events) else "KILLED")
        if not has_summary(events):
            assert run.data.tags["stop_reason"].startswith("asha: not among the best at epoch")
        expected = effective(events)
        for key, points in expected.items():
            history = client.get_metric_history(run.info.run_id, key)
            assert sorted((point.step, point.value) for point in history) == sorted(points), (trial, key)
        assert set(run.data.metrics) == set(expected)


def test_the_curve_is_recorded_at_every_step_count(linsweep: Any, swept: str) -> None:
    curves = [event for event in linsweep.events("tiny", "c000-s0") if event["event"] == "curve"]
    assert {curve["metric"] for curve in curves} == {
        "nfe/swd", "nfe/classifier_fd", "nfe/collapse_psnr", "nfe/finest_psnr",
    }  # fmt: skip
    assert all(curve["steps"] == [1, 4, 16] for curve in curves)


def test_the_kept_checkpoint_gives_the_recorded_quality(
    linsweep: Any, swept: str, runs: dict[str, Any], mlflow_server: str, tmp_path: Path
) -> None:
    trial = next(trial for trial in SEARCH if has_summary(linsweep.events("tiny", trial)))
    client = MlflowClient(mlflow_server)
    folder = client.download_artifacts(runs[trial].info.run_id, "checkpoint", str(tmp_path))
    model, config = checkpoint.load(Path(folder))
    digits = data.load(config.data)
    quality = Quality.cached(config.evaluate.quality, digits, linsweep.folder / "runs" / "cache", "cpu")
    measured = family_of(config).interim(model, config, digits, quality)[OBJECTIVE]
    assert measured == pytest.approx(objective_of(linsweep.events("tiny", trial)), rel=1e-4)


def test_sample_grids_curves_and_figures_are_kept_as_artifacts(
    runs: dict[str, Any], swept: str, mlflow_server: str
) -> None:
    client, run = MlflowClient(mlflow_server), runs["c000-s0"].info.run_id
    names = {file.path for file in client.list_artifacts(run)}
    pictures = ("k1", "k16", "collapsed", "reconstruction", "interpolation", "singular_vectors")
    files = {"checkpoint", "curves.csv", "figures", "spectra.csv", "trial.json"}
    assert names == files | {f"samples_{name}.png" for name in pictures}
    figures = {file.path for file in client.list_artifacts(run, "figures")}
    assert figures == {"figures/spectrum.png", "figures/steps.png"}


def test_launching_a_finished_sweep_again_changes_nothing(linsweep: Any, swept: str, mlflow_server: str) -> None:
    journals = linsweep.folder / "runs/tiny/journal"
    before = {path.name: path.read_bytes() for path in journals.iterdir()}
    output = linsweep.run("launch", "tiny.yaml", "--set", f"tracking.uri={mlflow_server}")
    assert {path.name: path.read_bytes() for path in journals.iterdir()} == before
    assert "tiny finished" in output
    client = MlflowClient(mlflow_server)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == len(TRIALS) + 1


def test_a_folder_with_another_spec_is_refused(linsweep: Any, swept: str) -> None:
    output = linsweep.run("launch", "tiny.yaml", "--set", "model.flow.width=32", code=2)
    assert "model.flow.width: 16 → 32" in output


@pytest.fixture(scope="module")
def orphans() -> Iterator[list[psutil.Process]]:
    """What may be left behind of a launch that was ended, and must be gone when all these tests have been run.

    Ray's agents notice the death of their raylet within a minute.
    """
    found: list[psutil.Process] = []
    yield found
    _, alive = psutil.wait_procs(found, timeout=90)
    assert not alive, f"left behind: {[child.name() for child in alive]}"


@pytest.mark.parametrize(
    "kill",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, marks=pytest.mark.long),
        signal.SIGKILL,
    ],
)
def test_a_sweep_that_is_cut_short_goes_on_and_gives_the_same_table(
    linsweep: Any, swept: str, kill: signal.Signals, orphans: list[psutil.Process]
) -> None:
    name = f"cut{kill.value}"
    arguments = ("launch", "tiny.yaml", "--fresh", "--set", f"name={name}")
    process: subprocess.Popen[str] = linsweep.start(*arguments, background=kill == signal.SIGTERM)
    children: list[psutil.Process] = []

    def one_has_ended() -> bool:
        children[:] = psutil.Process(process.pid).children(recursive=True)
        ended = [
            trial for trial in [*CONTROLS, *SEARCH] if any(e["event"] == "end" for e in linsweep.events(name, trial))
        ]
        started = [trial for trial in SEARCH if linsweep.events(name, trial)]
        return bool(ended) and len(started) > len([trial for trial in ended if trial in SEARCH])

    linsweep.wait_for("a trial has ended while another runs", one_has_ended, process)
    process.send_signal(kill)
    output, _ = process.communicate(timeout=60)
    if kill == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130, output
        assert f"To continue: linsweep resume {name}" in output
    linsweep.run("resume", name)
    assert linsweep.trials(name) == sorted(TRIALS)
    assert all(last(linsweep.events(name, trial), "end")["state"] in ("finished", "stopped") for trial in TRIALS)
    assert linsweep.tables(name) == linsweep.tables("tiny")
    orphans += children


def launched_by(code: str, linsweep: Any, *sets: str) -> str:
    """What a launch prints that ends in order, carried out by Python code in a process of its own."""
    command = [sys.executable, "-c", code, "launch", "tiny.yaml", "--fresh"]
    command += [word for text in sets for word in ("--set", text)]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        command, cwd=linsweep.folder, env=env, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


KILLED_BETWEEN = """
import os, signal, psutil
from sweeps import cli
from sweeps.execution import progress
from tests.end_to_end.lab import ray_workers

end, ended = progress.Progress.end, []

def kill(self, tune_id):
    end(self, tune_id)
    ended.append(tune_id)
    if len(ended) == 3:
        for process in ray_workers(psutil.Process(), "TrialTrainable"):
            os.kill(process.pid, signal.SIGKILL)

progress.Progress.end = kill
cli.main()
"""


@pytest.mark.long
def test_processes_killed_as_a_trial_ends_cost_the_next_ones_nothing(linsweep: Any, swept: str) -> None:
    name = "between"
    launched_by(KILLED_BETWEEN, linsweep, f"name={name}")
    assert linsweep.trials(name) == sorted(TRIALS)
    assert linsweep.tables(name) == linsweep.tables("tiny")


def test_a_killed_trial_process_is_retried(linsweep: Any, swept: str) -> None:
    name = "killed"
    process = linsweep.start("launch", "tiny.yaml", "--fresh", "--set", f"name={name}")
    victims: list[psutil.Process] = []

    def a_trial_runs() -> bool:
        victims[:] = ray_workers(psutil.Process(process.pid), "TrialTrainable")
        return bool(victims) and bool(linsweep.trials(name)) and len(linsweep.trials(name)) > 3

    linsweep.wait_for("a trial is running", a_trial_runs, process)
    victims[0].kill()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    attempts = {trial: sum(event["event"] == "trial" for event in linsweep.events(name, trial)) for trial in SEARCH}
    assert max(attempts.values()) <= 2
    assert linsweep.tables(name) == linsweep.tables("tiny")


@pytest.mark.long
def test_a_diverging_trial_fails_with_its_reason_and_the_sweep_goes_on(linsweep: Any, swept: str) -> None:
    # Latent noise of 1e30 overflows float32 when squared: the loss is infinite in the first epoch.
    space = ("--set", "search.space.train.sigma={choice: [0.3, 1.0e+30]}", "--set", "train.loss.data=1.0")
    sampler = ("--set", "search.sampler=random", "--set", "search.trials=6")
    output = linsweep.run("launch", "tiny.yaml", "--fresh", "--set", "name=diverging", *space, *sampler)
    ends = {trial: last(linsweep.events("diverging", trial), "end") for trial in linsweep.trials("diverging")}
    failed = {trial: end for trial, end in ends.items() if end["state"] == "failed"}
    assert failed
    assert len(failed) < 6
    assert all(end["reason"].startswith("diverged: not finite in epoch 1") for end in failed.values())
    assert all(linsweep.events("diverging", trial)[0]["overrides"]["train.sigma"] == 1e30 for trial in failed)
    study = study_of(linsweep.folder / "runs/diverging")
    # It is an outcome, and worse than all: FAIL is left to processes that died.
    assert {told.state for told in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert sum("diverged" in told.user_attrs for told in study.trials) == len(failed)
    assert "diverging finished" in output


@pytest.mark.long
def test_an_interrupt_of_the_last_trial_is_an_interrupt(linsweep: Any, swept: str) -> None:
    name = "last"
    sets = ["controls=[]", "search.trials=1", "search.confirm={top: 1, seeds: [1]}", "search.stop_early=null"]
    sets += ["train.epochs=200", "evaluate.every=200"]
    options = [word for text in (f"name={name}", *sets) for word in ("--set", text)]
    process = linsweep.start("launch", "tiny.yaml", *options)

    def the_last_one_trains() -> bool:
        return len(linsweep.events(name, "k000-s1")) > 3

    linsweep.wait_for("the confirmation trains", the_last_one_trains, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    record = json.loads((linsweep.folder / "runs" / name / "sweep.json").read_text())
    assert (record["state"], record["reason"]) == ("interrupted", "interrupted")
    assert last(linsweep.events(name, "k000-s1"), "end")["state"] == "interrupted"
    assert f"{name} finished: 2 finished" in linsweep.run("resume", name)


@pytest.mark.long
def test_a_trial_that_raises_says_why_and_the_sweep_goes_on(linsweep: Any, swept: str) -> None:
    name = "raising"
    folder = linsweep.folder / "runs" / name / "artifacts"
    folder.mkdir(parents=True)
    (folder / "t000-s0").write_text("a file where the trial's folder should be")
    output = linsweep.run("launch", "tiny.yaml", "--fresh", "--set", f"name={name}", "--set", "search.stop_early=null")
    events = linsweep.events(name, "t000-s0")
    assert [event["event"] for event in events].count("trial") == 3  # once, and two retries
    assert last(events, "end")["state"] == "failed"
    assert last(events, "end")["reason"].startswith("FileExistsError: ")
    assert f"{name} finished: 1 failed, 5 finished" in output
    assert "Failed and left out: 1 of 6 trials: t000-s0 (FileExistsError" in linsweep.run("table", name, "--markdown")


def test_what_the_documentation_says_of_a_checkpoint_runs(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reading.md").read_text()
    (code,) = (code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "checkpoint.load" in code)
    config: TrialConfig = from_mapping(TrialConfig, expand({"model": {"flow": {"depth": 1, "width": 8}}}))
    here = str(tmp_path / "checkpoint")
    checkpoint.save(here, family_of(config).build(config, (1, 8, 8), 10), config)
    code, shown = re.subn(r"runs/first/artifacts/[^/]+/checkpoint", here, code)
    assert shown == 1
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["images"].shape == (16, 1, 8, 8)
    assert names["first"].shape == (8, 1, 8, 8)
    again = names["generate"](names["noise"])
    torch.testing.assert_close(again, names["images"], rtol=0, atol=1e-3)
