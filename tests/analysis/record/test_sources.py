"""The frames are the same from the journals, from MLflow and from an exported file."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from analysis import Record, RecordError, load
from analysis.record.mlflow_store import literal
from analysis.tables.cost import cost
from sweeps.record.paths import SweepPaths
from sweeps.tracking.parent_run import finish
from sweeps.tracking.sync import Sync
from tests.analysis.record_factory import DEPTH, FD, LR, RANK, START, SweepFiles, assert_same

POINT = {DEPTH: 3, RANK: 16, LR: 2e-3}
CONFIG = {
    "family": "diffusion",
    "data.name": "digits",
    "data.root": "",
    "data.size": None,
    "data.label": "1e3",
    "data.note": "None",
    "data.download": False,
    "evaluate.steps": [1, 10, 100],
    "evaluate.quality": ["swd", "it's"],
    "evaluate.end": 0.99,
    "train.betas": [],
}


def everything(storage: Path, name: str = "demo", *, state: str = "interrupted") -> SweepFiles:
    """A sweep in which everything happens that a journal can tell of."""
    files = SweepFiles(storage, name, state=state, seeds=(0, 1), tick=0.123456)
    for seed, end in ((0, 8.0), (1, math.pi)):
        trial = f"t000-s{seed}"
        files.begin(trial, 0, POINT, seed=seed, config=CONFIG)
        for epoch in range(1, 5):
            files.epoch(trial, epoch, 50.0 / 3 / epoch if epoch % 2 == 0 else None)
        files.add(trial, "warning", message="the state could not\n be saved")
        files.add(trial, "warning", message="again")
        files.add(trial, "warning", message="again")
        files.complete(trial, end, curve={1: 30.0, 2: 1e-300, 100: 8.0}, **{"cost/params": 1200, "test/a": "NaN"})
    files.begin("t001-s0", 1, {**POINT, LR: 1, RANK: None}, config=CONFIG | {"data.root": "/data"})
    files.epoch("t001-s0", 1, 70.0)
    files.epoch("t001-s0", 2)
    files.end("t001-s0", "stopped", 2, reason="rung 2")
    files.begin("t001-s1", 1, POINT, seed=1)
    files.end("t001-s1", "failed", 1, reason="diverged: loss is nan")
    # Resumed from epoch 1, and stopped earlier than it had been.
    files.begin("t002-s0", 2, POINT, config_hash="again")
    for epoch in (1, 2, 3):
        files.epoch("t002-s0", epoch, 60.0 - epoch)
    files.add("t002-s0", "curve", metric="nfe/classifier_fd", steps=[1, 2], values=[5.0, "Infinity"])
    files.add("t002-s0", "summary", metrics={FD: 1.0, "cost/params": 3.0})
    files.end("t002-s0", "failed", 3, reason="OSError: the disk is full")
    files.begin("t002-s0", 2, POINT, config_hash="again", attempt=2, resumed_epoch=1)
    files.epoch("t002-s0", 2, 58.0)
    files.end("t002-s0", "stopped", 2, reason="rung 2")
    # Resumed from epoch 1, and finished.
    files.begin("t002-s1", 2, POINT, seed=1, config_hash="again")
    files.epoch("t002-s1", 1, 60.0)
    files.add("t002-s1", "curve", metric="nfe/classifier_fd", steps=[1, 2, 3], values=[5.0, 6.0, 7.0])
    files.begin("t002-s1", 2, POINT, seed=1, config_hash="again", attempt=2, resumed_epoch=1)
    files.epoch("t002-s1", 2)
    files.add("t002-s1", "curve", metric="rank/test_swd", steps=[1, 64], values=[0.5, 0.25])
    files.complete("t002-s1", "-Infinity", curve={1: 4.0, 2: 3.0})
    files.begin("t003-s0", 3, POINT, config_hash="again")
    files.complete("t003-s0", 2.0)
    files.begin("t004-s0", 4, POINT, config_hash="again", reused_from="t003-s0")
    files.complete("t004-s0", 2.0)
    files.begin("t005-s0", 5, {DEPTH: 3})
    files.epoch("t005-s0", 1, 44.0)
    files.begin("k000-s7", 0, POINT, kind="confirm", seed=7)
    files.complete("k000-s7", 9.0)
    files.control(0, "g = identity", POINT, 50.0)
    files.reference(0, "noise", 900.0)
    return files


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store: its migrations take seconds, so that tests copy it."""
    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def sent(empty_store: Path, tmp_path: Path) -> Callable[..., str]:
    """``sent(files, …)`` sends sweeps to MLflow as a launch does; gives the tracking URI."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"

    def send(*sweeps: SweepFiles, ended: bool = True) -> str:
        for files in sweeps:
            tracking = {"tracking": {"uri": uri, "experiment": None}}
            sweep: dict[str, Any] = files.sweep | {"spec": files.sweep["spec"] | tracking}
            sync = Sync(SweepPaths(files.path), uri, files.name, sweep)
            sync.send()
            if ended:
                finish(sync.connect(), sync.paths)
        return uri

    return send


def as_mlflow_has_it(record: Record) -> Record:
    """A record without what only journals tell: how long the trials that have no end were worked on."""
    endless = (record.runs["state"] == "running") | (record.runs["reason"] == "its journal has no end")
    assert record.runs.loc[endless, "seconds"].notna().all()
    return replace(record, runs=record.runs.assign(seconds=record.runs["seconds"].mask(endless)))


def test_a_sweep_reads_the_same_from_all_three(tmp_path: Path, sent: Callable[..., str]) -> None:
    files = everything(tmp_path)
    record = load(files.path)
    assert_same(load(tmp_path), record)
    assert_same(load(record.export(tmp_path / "demo.parquet")), record)
    assert_same(load(sent(files)), as_mlflow_has_it(record))
    # What the comparison would not notice if all three lost it.
    counts = record.counts
    assert (counts.trials, counts.resumed, counts.reused, counts.duplicated, counts.warned) == (11, 2, 1, 1, 2)
    assert str(counts) == (
        "11 trials: 7 finished, 2 stopped early, 1 failed, 1 interrupted; "
        "2 resumed, 1 reused, 1 duplicated, 2 with warnings"
    )
    runs = record.runs.set_index("trial")
    assert runs.loc["t000-s0", ["data.label", "data.note", "data.root"]].tolist() == ["1e3", "None", ""]
    assert runs.loc["t000-s0", "warnings"] == "the state could not be saved; again"
    assert runs.loc["t002-s1", FD] == -math.inf
    assert runs.loc["t002-s0", FD] == 58.0
    assert record.curves.query("trial == 't002-s0'")["value"].tolist() == [59.0, 58.0, 1.0, 0.5]
    assert record.curves.query("trial == 't002-s1' and metric == 'nfe/classifier_fd'")["value"].tolist() == [4.0, 3.0]
    assert record.curves.query("trial == 't002-s1' and metric == 'rank/test_swd'")["step"].tolist() == [1, 64]
    assert not any(metric.startswith("rank/") for metric in record.metrics)


def test_a_journal_sent_line_by_line_reads_the_same(tmp_path: Path, sent: Callable[..., str]) -> None:
    files = everything(tmp_path, state="running")
    whole = {path: path.read_bytes().splitlines(keepends=True) for path in files.path.glob("journal/t00[02]*")}
    for path in whole:
        path.unlink()
    uri = ""
    for path, lines in whole.items():
        for line in lines:
            with path.open("ab") as file:
                file.write(line)
            uri = sent(files, ended=False)
    assert_same(load(uri), as_mlflow_has_it(load(files.path)))


def test_several_sweeps_read_the_same_together_and_by_name(tmp_path: Path, sent: Callable[..., str]) -> None:
    first, second = everything(tmp_path / "runs", "first"), SweepFiles(tmp_path / "runs", "second", tick=0.1)
    second.sweep["started"] = START + 5000
    second.write_sweep()
    second.begin("t000-s0", 0, {**POINT, LR: "high"}, config={"model.kind": "conv"})
    second.complete("t000-s0", 1.0, curve={1: 2.0}, **{"test/b": 3.0})
    record = load(tmp_path / "runs")
    assert record.runs["sweep"].unique().tolist() == ["first", "second"]
    assert record.runs.loc[record.runs["sweep"] == "second", [LR, "test/b"]].to_numpy().tolist() == [["high", 3.0]]
    exported, uri = record.export(tmp_path / "both.parquet"), sent(first, second)
    assert_same(load([first.path, second.path]), record)
    assert_same(load(exported), record)
    assert_same(load(uri), as_mlflow_has_it(record))
    assert_same(load(uri, ["first"]), as_mlflow_has_it(load(first.path)))
    assert_same(load(uri, experiment="second"), load(second.path))
    assert_same(load(tmp_path / "runs", ["second"]), load(second.path))
    assert load(exported, ["second"]).runs["trial"].tolist() == ["t000-s0"]
    folder = tmp_path / "exports"
    load(first.path).export(folder / "a.parquet")
    load(second.path).export(folder / "b.parquet")
    assert_same(load(folder), record)


def test_a_sweep_without_trials_reads_the_same(tmp_path: Path, sent: Callable[..., str]) -> None:
    files = SweepFiles(tmp_path)
    record = load(files.path)
    assert record.runs.empty
    assert str(record.counts) == "0 trials"
    assert_same(load(record.export(tmp_path / "none.parquet")), record)
    assert_same(load(sent(files)), record)


def test_what_is_not_in_the_journals_is_not_taken_for_a_sweep(tmp_path: Path, sent: Callable[..., str]) -> None:
    files = SweepFiles(tmp_path, tick=0.1)
    files.finished(0, POINT, 1.0)
    uri = sent(files)
    client = MlflowClient(uri)
    stranger = client.create_run("0", tags={"mlflow.runName": "somebody else's"})
    client.log_metric(stranger.info.run_id, "loss", 1.0)
    assert_same(load(uri), load(files.path))


def test_leaves_come_back_from_mlflow_as_they_were(tmp_path: Path, sent: Callable[..., str]) -> None:
    values = [3, -1.5e-7, 1e22, True, None, "", "mlp", "1e3", "None", "[1]", "'quoted'", "it's", [1, 2.5, None], []]
    leaves = {f"train.x{number}": value for number, value in enumerate(values)}
    files = SweepFiles(tmp_path)
    files.begin("t000-s0", 0, POINT, config=leaves)
    client = MlflowClient(sent(files))
    run = client.search_runs([e.experiment_id for e in client.search_experiments()], "tags.`sweep.number` = '0'")[0]
    found = [literal(run.data.params[name]) for name in leaves]
    assert found == values
    assert list(map(type, found)) == list(map(type, values))


def test_an_exported_file_is_plain_parquet(tmp_path: Path) -> None:
    record = load(everything(tmp_path).path)
    frame = pd.read_parquet(record.export(tmp_path / "demo.parquet"))
    assert list(frame.columns) == [*record.runs.columns, "curves"]
    first = pd.DataFrame(list(frame["curves"].iloc[0]))
    expected = record.curves.loc[record.curves["trial"] == "t000-s0", ["metric", "step", "value"]]
    assert first.to_numpy().tolist() == expected.to_numpy().tolist()


def test_an_export_of_a_part_holds_that_part(tmp_path: Path) -> None:
    record = load(everything(tmp_path).path)
    finished = record.runs[record.runs["state"] == "finished"]
    part = Record(record.sweeps, finished.sample(frac=1, random_state=0), record.curves.sample(frac=1, random_state=0))
    found = load(part.export(tmp_path / "part.parquet"))
    assert found.runs["trial"].tolist() == part.runs["trial"].tolist()
    for trial in found.runs["trial"]:
        columns = ["metric", "step", "value"]
        ours, theirs = (
            frame.loc[frame["trial"] == trial, columns]
            .astype({"metric": "str"})
            .sort_values(columns)
            .to_numpy()
            .tolist()
            for frame in (found.curves, record.curves)
        )
        assert ours == theirs
    assert set(found.curves["trial"]) <= set(finished["trial"])


def test_a_crash_leaves_the_exported_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = load(everything(tmp_path).path)
    path = record.export(tmp_path / "out" / "demo.parquet")
    before = path.read_bytes()

    def write(table: pa.Table, where: Path, **options: object) -> None:
        Path(where).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(pq, "write_table", write)
    with pytest.raises(OSError, match="no space left"):
        record.export(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_read_is_named(tmp_path: Path, sent: Callable[..., str]) -> None:
    files = SweepFiles(tmp_path)
    uri = sent(files)
    with pytest.raises(RecordError, match=r"mlflow\.db: is not a file that Record\.export wrote"):
        load(tmp_path / "mlflow.db")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(RecordError, match=r"other\.parquet: is not a file that Record\.export wrote"):
        load(tmp_path / "other.parquet")
    with pytest.raises(RecordError, match=r"sqlite:////.*gone\.db: there is no file .*gone\.db"):
        load(f"sqlite:///{tmp_path / 'gone.db'}")
    assert not (tmp_path / "gone.db").exists()
    (tmp_path / "text.db").write_text("no database at all, but long enough to be read as one" * 40)
    with pytest.raises(RecordError, match=r"text\.db: cannot be read \(.*not a database"):
        load(f"sqlite:///{tmp_path / 'text.db'}")
    with pytest.raises(RecordError, match=r"mlflow\.db: no experiment 'gone'; it has Default, demo"):
        load(uri, experiment="gone")
    with pytest.raises(RecordError, match=r"mlflow\.db: no sweep 'gone'; sweeps: demo"):
        load(uri, ["gone"])
    with pytest.raises(RecordError, match=r"no sweep 'gone'; sweeps: demo"):
        load(files.path, ["gone"])


def test_a_server_that_is_away_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RecordError, match=r"http://127\.0\.0\.1:9: cannot be read") as caught:
        load("http://user:s3cret@127.0.0.1:9")
    assert "s3cret" not in str(caught.value)


def test_a_store_without_sweeps_is_named(empty_store: Path) -> None:
    with pytest.raises(RecordError, match=r"empty\.db: no sweep to read"):
        load(f"sqlite:///{empty_store}")
    with pytest.raises(RecordError, match="no source: no sweep to read"):
        load([])


def test_an_export_of_another_version_is_refused(tmp_path: Path) -> None:
    path = load(everything(tmp_path).path).export(tmp_path / "demo.parquet")
    table = pq.read_table(path)
    about = json.loads(table.schema.metadata[b"linearizer_sweeps"]) | {"version": 99}
    pq.write_table(table.replace_schema_metadata({b"linearizer_sweeps": json.dumps(about)}), path)
    with pytest.raises(RecordError, match=r"demo\.parquet: has format version 99; this program reads version 1"):
        load(path)


def test_hours_are_those_that_were_worked_whatever_the_clock_does(tmp_path: Path, sent: Callable[..., str]) -> None:
    files = SweepFiles(tmp_path, space={DEPTH: {"int": [1, 6]}})

    def trial(name: str, number: int, *events: tuple[float, str]) -> None:
        attempts = 0
        for seconds, event in events:
            time = START + seconds
            if event == "trial":
                attempts += 1
                files.begin(name, number, {DEPTH: 1}, attempt=attempts, resumed_epoch=attempts - 1, time=time)
            elif event == "epoch":
                files.epoch(name, attempts, 5.0, time=time)
            elif event == "curve":
                files.add(name, "curve", metric="nfe/classifier_fd", steps=[1, 2], values=[6.0, 3.0], time=time)
            elif event == "summary":
                files.add(name, "summary", metrics={FD: 3.0, "cost/params": 10.0}, time=time)
            else:
                files.add(name, "end", state="finished", epoch=attempts, reason=None, time=time)

    # An hour back in the middle of the only attempt: 20 seconds before, and 30 after.
    trial("t000-s0", 0, (0, "trial"), (20, "epoch"), (-3580, "curve"), (-3560, "summary"), (-3550, "end"))
    # Stopped on Friday after a minute, resumed on Monday for another.
    trial("t001-s0", 1, (0, "trial"), (60, "epoch"), (2.5e5, "trial"), (250030, "epoch"), (250050, "summary"),
          (250060, "end"))  # fmt: skip
    # Resumed, and set back by an hour before the final metrics.
    trial("t002-s0", 2, (0, "trial"), (60, "epoch"), (100, "trial"), (130, "epoch"), (-3470, "curve"),
          (-3465, "summary"), (-3460, "end"))  # fmt: skip
    record = load(files.path)
    assert record.runs["seconds"].tolist() == [50.0, 120.0, 100.0]
    assert record.runs["cost/params"].tolist() == [10.0] * 3
    assert_same(load(sent(files)), record)
    table = cost(record)
    assert table.rows[-1].cells[3].value == pytest.approx(270 / 3600)
