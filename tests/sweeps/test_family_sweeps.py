"""Whole sweeps of every family, carried out in this process: journals, replay, progress and tables."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from rich.console import Console

from analysis.configuration.configurations import best
from analysis.record import runs
from analysis.report.write import Written, write_tables
from linearizer_core.experiment.configuration import TrialConfig, from_mapping
from linearizer_core.experiment.families import family_of
from sweeps.execution.cluster import Capacity, Node
from sweeps.execution.executor import Work
from sweeps.execution.in_process import InProcess
from sweeps.execution.replay import replayed
from sweeps.launch import launch
from sweeps.record.paths import SweepPaths
from sweeps.record.sweep_json import read_record
from sweeps.result import LaunchResult
from sweeps.search.schedule import Schedule
from sweeps.spec.load import load
from sweeps.spec.model import Sweep
from tests.sweeps.offline import offline

SWD, PSNR, PARAMS, RANK = "quality/swd_collapsed", "quality/psnr_collapsed", "cost/params", "spectrum/rank"
TIMES = {"cost/train_seconds", "cost/evaluate_seconds"}

BASE: dict[str, Any] = {
    "data": {"images": 128},
    "model": {"flow": {"depth": 1, "width": 8, "coordinates": 8}, "operator": {"rank": 4}},
    "train": {"epochs": 2, "batch_size": 64},
    "evaluate": {"steps": [1, 4], "quality": ["swd"], "samples": 32, "held_out": 32},
}
HALVING = {"scheduler": "asha", "grace_epochs": 1, "reduction": 2}


@dataclass
class Carried:
    """A sweep that was carried out: what is recorded of it, and what was shown."""

    sweep: Sweep
    paths: SweepPaths
    result: LaunchResult
    shown: str
    views: list[str]
    written: Written

    def events(self, trial: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.paths.journal(trial).read_text().splitlines()]

    def summary(self, trial: str) -> dict[str, float]:
        (metrics,) = (event["metrics"] for event in self.events(trial) if event["event"] == "summary")
        return dict(metrics)

    @property
    def table(self) -> pd.DataFrame:
        """The configurations, by name, as they were written."""
        return pd.read_csv(self.paths.root / "tables" / "configurations.csv").set_index("configuration")


class Viewed(InProcess):
    """The executor in this process, which keeps what a terminal would show at each result."""

    def __init__(self) -> None:
        super().__init__(Capacity((Node(1, 0),), "here"))
        self.views: list[str] = []

    def carry_out(self, work: Work) -> None:
        tell = work.jobs.progress.result

        def keep(job: str, result: Mapping[str, Any]) -> None:
            tell(job, result)
            view = Console(file=io.StringIO(), width=200, color_system=None)
            view.print(work.jobs.progress._render())
            self.views.append(view.file.getvalue())  # type: ignore[attr-defined]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(work.jobs.progress, "result", keep)
            super().carry_out(work)


def carry_out(folder: Path, spec: dict[str, Any]) -> Carried:
    """What ``linsweep launch --debug`` does."""
    file = folder / f"{spec['name']}.yaml"
    file.write_text(yaml.safe_dump({**BASE, **spec, "storage": str(folder / "runs")}, sort_keys=False))
    sweep, executor = load(str(file)), Viewed()
    console = Console(file=io.StringIO(), width=200, color_system=None)
    with offline():
        result = launch(sweep, console, executor, fresh=True)
    paths = SweepPaths(sweep.folder)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    return Carried(sweep, paths, result, shown, executor.views, write_tables([paths.root]))


def check_record(carried: Carried) -> None:
    """Every trial ended and recorded exactly what its family says; a second launch finds nothing to do."""
    trials = sorted(path.stem for path in carried.paths.journals.glob("[ct]*.jsonl"))
    assert len(trials) == carried.sweep.trials
    for trial in trials:
        events = carried.events(trial)
        config: TrialConfig = from_mapping(TrialConfig, events[0]["config"])
        family = family_of(config)
        epochs = [set(event["metrics"]) for event in events if event["event"] == "epoch"]
        assert {key for key in epochs[0] if not key.startswith(("train/", "system/"))} == set(
            family.interim_keys(config)
        )
        if events[-1]["state"] == "stopped":
            assert len(epochs) == 1
            continue
        assert events[-1]["state"] == "finished"
        assert set(carried.summary(trial)) == set(family.summary_keys(config)) | TIMES
        written = {event["path"] for event in events if event["event"] == "artifact"}
        assert all((carried.paths.artifacts(trial) / name).exists() for name in written)
        assert "checkpoint" in written
    schedule = again(carried)
    assert schedule.complete
    assert schedule.best() == carried.result.best
    assert schedule.best_value() == carried.result.best_value


def again(carried: Carried) -> Schedule:
    """The schedule as the next launch has it."""
    record = read_record(carried.paths)
    assert record is not None
    return replayed(carried.sweep, carried.paths, record).schedule


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Carried:
    """A search of the diffusion family with a control of each of the others."""
    spec = {
        "name": "mixed",
        "controls": [
            {"name": "flow matching", "set": {"family": "flow_matching"}},
            {"name": "projector", "set": {"family": "idempotent"}},
            {"name": "styles", "set": {"family": "style"}},
        ],
        "search": {
            "trials": 2,
            "space": {"model.operator.rank": {"int": [2, 8]}},
            "objective": {SWD: "min"},
            "stop_early": HALVING,
        },
    }
    return carry_out(tmp_path_factory.mktemp("mixed"), spec)


def test_every_family_records_what_it_says(mixed: Carried) -> None:
    check_record(mixed)
    families = [mixed.events(f"c{number:03d}-s0")[0]["config"]["family"] for number in range(3)]
    assert families == ["flow_matching", "idempotent", "style"]
    first = mixed.events("c000-s0")[0]
    assert (first["kind"], first["label"], first["overrides"]) == (
        "control",
        "flow matching",
        {"family": "flow_matching"},
    )


def test_a_control_without_the_objective_is_shown_without_it(mixed: Carried) -> None:
    lines = mixed.shown.splitlines()
    assert [line for line in lines if "flow matching" in line] == ["[1/5] c000-s0 flow matching  finished"]
    assert next(line for line in lines if "projector" in line).startswith("[2/5] c001-s0 projector  finished  " + SWD)
    assert any("c000-s0" in view and "flow matching" in view for view in mixed.views)


def test_a_control_is_never_the_best(mixed: Carried) -> None:
    searched = [identity.trial for identity in mixed.result.best]
    values = {trial: mixed.summary(trial)[SWD] for trial in ("t000-s0", "t001-s0") if has_summary(mixed, trial)}
    assert searched == [min(values, key=lambda trial: values[trial])]
    assert mixed.result.best_value == min(values.values())


def has_summary(carried: Carried, trial: str) -> bool:
    return any(event["event"] == "summary" for event in carried.events(trial))


def test_tables_have_a_control_without_the_objective_beside_the_others(mixed: Carried) -> None:
    table = mixed.table
    baseline, projector = table.loc["flow matching"], table.loc["projector"]
    summary = mixed.summary("c000-s0")
    assert pd.isna(baseline[SWD])
    assert pd.isna(baseline["linearity/roundtrip"])
    for key in ("quality/swd_k1", "quality/swd_k4", PARAMS):
        assert baseline[key] == pytest.approx(summary[key], rel=1e-12)
    assert projector[SWD] == pytest.approx(mixed.summary("c001-s0")[SWD], rel=1e-12)
    assert pd.isna(projector["quality/swd_k1"])
    assert pd.isna(table.loc["styles"][SWD])
    assert "Finished without a finite" not in (mixed.paths.root / "tables" / "configurations.md").read_text()
    figures = {"steps_versus_quality.png", "ranks_versus_quality.png"}
    assert {path.name for path in mixed.written.files if path.suffix == ".png"} == figures


def test_the_frames_have_every_metric_of_every_family(mixed: Carried) -> None:
    record = runs.load([mixed.paths.root])
    frame = record.runs.set_index("trial")
    for trial in ("c000-s0", "c001-s0", "c002-s0"):
        # A journal has words for what is not finite.
        summary = {key: float(value) for key, value in mixed.summary(trial).items()}
        assert frame.loc[trial, list(summary)].to_dict() == pytest.approx(summary, nan_ok=True)
    stepped = record.curves[record.curves["metric"].astype(str).str.startswith("nfe/")]
    assert set(stepped.loc[stepped["trial"] == "c000-s0", "metric"]) == {"nfe/swd"}
    assert set(stepped["trial"]).isdisjoint({"c001-s0", "c002-s0"})


def test_a_style_sweep_maximises_psnr(tmp_path: Path) -> None:
    spec = {
        "name": "styles",
        "family": "style",
        "train": {"epochs": 2, "batch_size": 64, "lr": 0.01},
        "search": {
            "sampler": "grid",
            "space": {"model.operator.kind": {"grid": ["diagonal", "lowrank", "dense"]}},
            "objective": {PSNR: "max"},
            "stop_early": HALVING,
        },
    }
    carried = carry_out(tmp_path, spec)
    check_record(carried)
    values = {t: carried.summary(t)[PSNR] for t in ("t000-s0", "t001-s0", "t002-s0") if has_summary(carried, t)}
    assert carried.result.best_value == max(values.values())
    top = best(runs.load([carried.paths.root]))
    assert top is not None
    assert (top.metric, top.direction) == (PSNR, "max")
    assert top.trials == (max(values, key=lambda trial: values[trial]),)
    assert list(carried.table.index)[-1] == "images unchanged"
    # Styles are not sampled in steps: there is no curve to draw.
    assert [path for path in carried.written.files if path.suffix == ".png"] == []


def test_an_idempotent_sweep_weighs_quality_against_size(tmp_path: Path) -> None:
    spec = {
        "name": "ranks",
        "family": "idempotent",
        "search": {
            "trials": 3,
            "space": {"model.operator.rank": {"int": [2, 16]}, "model.flow.depth": {"int": [1, 2]}},
            "objective": {PSNR: "max", PARAMS: "min", RANK: "min"},
        },
    }
    carried = carry_out(tmp_path, spec)
    check_record(carried)
    study = again(carried).study
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]
    for trial in study.trials:
        summary = carried.summary(f"t{trial.number:03d}-s0")
        assert trial.values == [summary[PSNR], summary[PARAMS], summary[RANK]]
        assert summary[RANK] == trial.params["model.operator.rank"]
    assert carried.result.best_value == max(carried.summary(f"t{number:03d}-s0")[PSNR] for number in range(3))
    note = (carried.paths.root / "tables" / "configurations.md").read_text()
    best = rf"Bold: the best finished configuration by collapsed PSNR \(dB\) \(by {PSNR}, the first of 3 objectives\)"
    assert re.search(best, note)


def test_the_baseline_can_be_searched_itself(tmp_path: Path) -> None:
    key = "quality/swd_k4"
    spec = {
        "name": "baseline",
        "family": "flow_matching",
        "controls": [{"name": "linearizer", "set": {"family": "diffusion"}}],
        "search": {
            "sampler": "grid",
            "space": {"train.lr": {"grid": [0.001, 0.01]}},
            "objective": {key: "min"},
            "stop_early": HALVING,
        },
    }
    carried = carry_out(tmp_path, spec)
    check_record(carried)
    assert carried.table.loc["linearizer"][key] == pytest.approx(carried.summary("c000-s0")[key], rel=1e-12)
    # The references have no steps: their quality stands under another key.
    assert pd.isna(carried.table.loc["noise"][key])
