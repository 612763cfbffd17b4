"""Reading journals: the frames, and what happens to journals that are cut off, retried or broken."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import RecordError, load
from linearizer_core.experiment.journal import JournalWarning
from tests.analysis.record_factory import DEPTH, FD, LR, RANK, START, SweepFiles

POINT = {DEPTH: 3, RANK: 16, LR: 2e-3}
FIXED = (
    "sweep trial kind label number config_hash seed attempt state reason epoch started ended seconds overrides "
    "reused_from duplicate_of warnings"
)


def test_a_sweep_becomes_tidy_frames(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.begin("t000-s0", 0, POINT)
    files.epoch("t000-s0", 1)
    files.epoch("t000-s0", 2, 9.0)
    files.complete("t000-s0", 7.5, curve={1: 30.0, 100: 8.0}, **{"cost/params": 1200.0})
    record = load([files.path])
    assert list(record.runs.columns) == [
        *FIXED.split(), *POINT, "cost/params", "quality/classifier_fd_collapsed", "quality/classifier_fd_k1",
        "quality/classifier_fd_k100",
    ]  # fmt: skip
    run = record.runs.iloc[0]
    assert (run["trial"], run["state"], run["epoch"], run["attempt"]) == ("t000-s0", "finished", 80, 1)
    assert (run["started"], run["ended"], run["seconds"]) == (START, START + 60, 60.0)
    assert (run[DEPTH], run[RANK], run[LR], run[FD]) == (3, 16, 2e-3, 7.5)
    assert json.loads(run["overrides"]) == POINT
    assert str(record.runs[DEPTH].dtype) == "Int64"
    assert str(record.runs[LR].dtype) == "float64"
    assert list(record.curves.columns) == ["sweep", "trial", "metric", "step", "value"]
    assert record.curves.to_numpy().tolist() == [
        ["demo", "t000-s0", "nfe/classifier_fd", 1, 30.0],
        ["demo", "t000-s0", "nfe/classifier_fd", 100, 8.0],
        ["demo", "t000-s0", FD, 2, 9.0],
        ["demo", "t000-s0", "train/loss", 1, 1.0],
        ["demo", "t000-s0", "train/loss", 2, 0.5],
    ]
    sweep = record.sweeps[0]
    assert (sweep.name, sweep.axes, sweep.objective, sweep.ended) == ("demo", tuple(POINT), {FD: "min"}, START + 1000)


def test_rows_come_by_kind_then_number_then_seed(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, seeds=(0, 1))
    files.reference(0, "noise", 900.0)
    files.control(0, "g = identity", POINT, 50.0)
    files.begin("z9", 2, POINT)
    files.complete("z9", 1.0)
    files.finished(1, POINT, 2.0, seed=1)
    files.finished(1, POINT, 2.0, seed=0)
    files.begin("k001-s7", 1, POINT, kind="confirm", seed=7)
    files.complete("k001-s7", 2.5)
    trials = load([files.path]).runs["trial"].tolist()
    assert trials == ["t001-s0", "t001-s1", "z9", "k001-s7", "c000-s0", "r000"]


def test_controls_have_axes_and_references_have_none(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.control(0, "g = identity", POINT, 50.0)
    files.reference(0, "noise", 900.0)
    runs = load([files.path]).runs
    assert runs[DEPTH].isna().tolist() == [False, True]
    assert runs[DEPTH].iloc[0] == 3
    assert runs["seed"].isna().tolist() == [False, True]
    assert runs["label"].tolist() == ["g = identity", "noise"]


def test_a_stopped_trial_has_the_metrics_of_its_last_evaluation(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.begin("t000-s0", 0, POINT)
    files.epoch("t000-s0", 10, 50.0)
    files.epoch("t000-s0", 20, 40.0)
    files.epoch("t000-s0", 21)
    files.end("t000-s0", "stopped", 21, reason="rung 20")
    run = load([files.path]).runs.iloc[0]
    assert (run["state"], run["reason"], run["epoch"], run[FD]) == ("stopped", "rung 20", 21, 40.0)
    assert "train/loss" not in run.index


def test_a_retry_voids_what_followed_its_checkpoint(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.begin("t000-s0", 0, POINT)
    files.epoch("t000-s0", 10, 50.0)
    files.epoch("t000-s0", 20, 40.0)
    files.epoch("t000-s0", 30, 30.0)
    files.end("t000-s0", "failed", 30, reason="the machine died")
    files.begin("t000-s0", 0, POINT, attempt=2, resumed_epoch=10, time=START + 100)
    files.epoch("t000-s0", 20, 41.0, time=START + 130)
    files.add("t000-s0", "end", time=START + 160, state="stopped", epoch=20, reason="rung 20")
    record = load([files.path])
    run = record.runs.iloc[0]
    assert (run["attempt"], run["state"], run["epoch"], run[FD]) == (2, "stopped", 20, 41.0)
    assert run["seconds"] == 120.0, "60 of each attempt, without the 40 between them"
    objective = record.curves[record.curves["metric"] == FD]
    assert objective[["step", "value"]].to_numpy().tolist() == [[10, 50.0], [20, 41.0]]


def test_the_last_line_of_an_event_counts(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.begin("t000-s0", 0, POINT)
    files.epoch("t000-s0", 10, 50.0)
    files.epoch("t000-s0", 10, 49.0)
    files.add("t000-s0", "curve", metric="nfe/classifier_fd", steps=[1, 2], values=[3.0, 2.0])
    files.add("t000-s0", "curve", metric="nfe/classifier_fd", steps=[1], values=[2.5])
    record = load([files.path])
    assert record.runs[FD].tolist() == [49.0]
    assert record.curves.loc[record.curves["metric"] == "nfe/classifier_fd", "value"].tolist() == [2.5]


@pytest.mark.parametrize("half", [b'{"event": "epo', b'{"event": "end", "reason": "\xc3', b"\0\0\0"])
def test_a_half_written_last_line_is_ignored(tmp_path: Path, half: bytes) -> None:
    files = SweepFiles(tmp_path, state="running")
    files.begin("t000-s0", 0, POINT)
    files.epoch("t000-s0", 10, 50.0)
    with files.journal("t000-s0").open("ab") as file:
        file.write(half)
    with pytest.warns(JournalWarning, match=r"t000-s0\.jsonl:3: (is cut off, or being written|NUL bytes)"):
        run = load([files.path]).runs.iloc[0]
    assert (run["state"], run[FD], run["seconds"]) == ("running", 50.0, 0.0), "its lines are of the same second"


def test_a_half_written_line_before_a_retry_is_ignored(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.begin("t000-s0", 0, POINT)
    with files.journal("t000-s0").open("ab") as file:
        file.write(b'{"event": "epo\n')
    files.begin("t000-s0", 0, POINT, attempt=2)
    files.complete("t000-s0", 5.0)
    with pytest.warns(JournalWarning, match=r"t000-s0\.jsonl:2: is not a JSON object with an event"):
        assert load([files.path]).runs[FD].tolist() == [5.0]


def test_a_journal_whose_first_line_is_cut_off_is_no_trial_yet(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.journal("t000-s0").write_text('{"event": "tri')
    files.journal("t001-s0").write_text("")
    with pytest.warns(JournalWarning, match=r"t000-s0\.jsonl:1: is cut off, or being written"):
        record = load([files.path])
    assert len(record.runs) == len(record.curves) == 0
    assert list(record.runs.columns) == [*FIXED.split(), *POINT]


def test_a_broken_line_in_the_middle_costs_its_event_and_is_named(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.begin("t000-s0", 0, POINT)
    with files.journal("t000-s0").open("a") as file:
        file.write("not json\n")
    files.epoch("t000-s0", 1, 3.0)
    with pytest.warns(JournalWarning, match=r"t000-s0\.jsonl:2: is not a JSON object with an event: not json") as told:
        record = load([files.path])
    assert len(told) == 1
    assert record.runs[FD].tolist() == [3.0]


@pytest.mark.parametrize(
    ("event", "fields", "message"),
    [
        ("end", {"state": "done", "epoch": 1, "reason": None}, "malformed end line: state must be one of finished, "),
        ("epoch", {"metrics": {}}, "the epoch line lacks 'epoch'"),
        ("curve", {"metric": "nfe/a", "steps": [1, 2], "values": [1.0]}, "2 steps but 1 values"),
        ("summary", {"metrics": {"quality/a": "low"}}, "quality/a must be a number, got 'low'"),
    ],
)
def test_a_line_that_lacks_what_it_needs_costs_its_event_and_is_named(
    tmp_path: Path, event: str, fields: dict[str, object], message: str
) -> None:
    files = SweepFiles(tmp_path)
    files.begin("t000-s0", 0, POINT)
    files.epoch("t000-s0", 1, 3.0)
    files.add("t000-s0", event, **fields)
    with pytest.warns(JournalWarning, match=r"t000-s0\.jsonl:3: ") as told:
        record = load([files.path])
    assert message in str(told[0].message)
    assert record.runs[FD].tolist() == [3.0]
    assert "nfe/a" not in set(record.curves["metric"])


def test_a_journal_begins_with_a_trial_line(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.epoch("t000-s0", 1)
    with pytest.warns(JournalWarning, match=r"t000-s0\.jsonl:1: a journal begins with a trial line, got 'epoch'"):
        assert len(load([files.path]).runs) == 0


def test_without_an_end_a_trial_of_a_sweep_that_is_over_was_interrupted(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, state="interrupted")
    files.begin("t000-s0", 0, POINT)
    run = load([files.path]).runs.iloc[0]
    assert (run["state"], run["reason"]) == ("interrupted", "its journal has no end")


def test_values_that_are_not_finite_come_back(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, POINT, "NaN", **{"test/a": "Infinity", "test/b": "-Infinity"})
    run = load([files.path]).runs.iloc[0]
    assert math.isnan(run[FD])
    assert (run["test/a"], run["test/b"]) == (math.inf, -math.inf)


def test_what_is_not_a_sweep_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"nothing/sweep\.json: cannot be read .*<storage>/<sweep>"):
        load([tmp_path / "nothing"])
    files = SweepFiles(tmp_path)
    (files.path / "sweep.json").write_text("{")
    with pytest.raises(RecordError, match=r"demo/sweep\.json: is not a sweep's record"):
        load([files.path])
    (files.path / "sweep.json").write_text("{}")
    with pytest.raises(RecordError, match=r"demo/sweep\.json: lacks 'name'"):
        load([files.path])
    files.write_sweep()
    (files.path / "journal").rmdir()
    with pytest.raises(RecordError, match="demo/journal: no such folder"):
        load([files.path])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "../other"}, "name must be a valid folder name, got '../other'; put the file back"),
        ({"state": 5}, "state must be a string, got 5"),
        ({"axes": DEPTH}, f"axes must be a list of strings, got '{DEPTH}'"),
        ({"objective": {FD: "minimize"}}, "objective must be a mapping of metrics to min or max"),
        ({"objective": [FD]}, "objective must be a mapping of metrics to min or max"),
        ({"started": "yesterday"}, "started must be a number of seconds, got 'yesterday'"),
        ({"started": math.nan}, "started must be a number of seconds, got nan"),
        ({"best": "t000-s0"}, "best must be a list of strings"),
        ({"caveats": 5}, "caveats must be a list of strings, got 5"),
        ({"spec": [1]}, r"spec must be a mapping, got \[1\]"),
        ({"spec": {"search": None}}, "spec.search must be a mapping, got None"),
        ({"spec": {"search": {"seeds": 3}}}, "spec.search.seeds must be a list, or a mapping .*, got 3"),
        ({"spec": {"search": {"space": {DEPTH: [1, 2]}}}}, "spec.search.space must be a mapping of names to dim"),
        ({"spec": {"search": {"constraints": {FD: 3}}}}, "spec.search.constraints must be a mapping of metrics to"),
    ],
)
def test_a_field_that_is_not_what_it_must_be_is_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, POINT, 1.0)
    files.sweep |= changes
    files.write_sweep()
    with pytest.raises(RecordError, match=rf"demo/sweep\.json: {said}"):
        load(files.path)


@pytest.mark.parametrize("content", ["[]", "null", "5", '"text"'])
def test_json_that_is_no_record_is_named(tmp_path: Path, content: str) -> None:
    files = SweepFiles(tmp_path)
    (files.path / "sweep.json").write_text(content)
    with pytest.raises(RecordError, match=r"demo/sweep\.json: is not a sweep's record \(it must be a mapping"):
        load(files.path)


def test_a_mark_of_the_byte_order_costs_nothing(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, POINT, 1.0)
    expected = load(files.path).runs
    file = files.path / "sweep.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    pd.testing.assert_frame_equal(load(files.path).runs, expected)


def test_metrics_that_are_called_like_a_column_do_not_count(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, POINT, 1.0)
    expected = load(files.path).runs
    content = files.journal("t000-s0").read_text()
    odd = content.replace(f'"{FD}": 1.0', f'"{FD}": 1.0, "state": 3.0, "": 1.0, "{DEPTH}": 9.0, "a/": 1.0')
    files.journal("t000-s0").write_text(odd)
    with pytest.warns(JournalWarning, match=rf"are ignored: '', 'a/', '{DEPTH}', 'state'"):
        pd.testing.assert_frame_equal(load(files.path).runs, expected)
    with pytest.warns(JournalWarning, match="are ignored"):
        load(files.path)  # from the cache


def test_several_sweeps_are_read_together_but_none_twice(tmp_path: Path) -> None:
    first, second = SweepFiles(tmp_path, "first"), SweepFiles(tmp_path, "second", space={"model.kind": {}})
    first.finished(0, POINT, 1.0)
    second.finished(0, {"model.kind": "conv"}, 2.0)
    record = load([second.path, first.path])
    assert record.runs["sweep"].tolist() == ["second", "first"]
    assert record.axes == ["model.kind", DEPTH, RANK, LR]
    assert record.runs["model.kind"].isna().tolist() == [False, True]
    with pytest.raises(RecordError, match=r"sweep first is given twice; give it once"):
        load([first.path, first.path])
    shutil.copytree(first.path, tmp_path / "copy")
    with pytest.raises(RecordError, match=r"copy/sweep.json: sweep first was already read from .*: read only one of"):
        load([first.path, tmp_path / "copy"])


def test_sweeps_that_disagree_about_a_direction_have_no_common_objective(tmp_path: Path) -> None:
    first = SweepFiles(tmp_path, "first", objective={"quality/a": "min"})
    second = SweepFiles(tmp_path, "second", objective={"quality/a": "max"})
    with pytest.raises(RecordError, match="quality/a: minimised by one sweep, maximised by another: first, second"):
        _ = load([first.path, second.path]).objective


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([True, False], "boolean", [True, False]),
        ([1, 2.5], "float64", [1.0, 2.5]),
        (["conv", "mlp"], "str", ["conv", "mlp"]),
        (["conv", 3], "str", ["conv", "3"]),
    ],
)
def test_axes_have_one_type(tmp_path: Path, values: list[object], kind: str, expected: list[object]) -> None:
    files = SweepFiles(tmp_path, space={"model.x": {"choice": values}})
    for number, value in enumerate(values):
        files.finished(number, {"model.x": value}, 1.0)
    column = load([files.path]).runs["model.x"]
    assert str(column.dtype) == kind
    assert column.tolist() == expected


def test_analysis_needs_no_cluster() -> None:
    unwanted = {"torch", "ray", "mlflow", "sweeps", "linearizer_core"}
    command = (
        f"import sys, analysis; sys.exit(repr({unwanted} & set(sys.modules)) if {unwanted} & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=Path(__file__).parents[3], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_trial_that_repeats_another_is_named(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    for number, kind in enumerate(["search", "search", "search", "control"]):
        files.begin(f"t{number}", number, POINT, kind=kind, config_hash="same")
        if number:
            files.complete(f"t{number}", 1.0)
    files.begin("t9", 9, POINT, config_hash="same", reused_from="t1")
    files.complete("t9", 1.0)
    files.reference(0, "noise", 900.0)
    files.reference(1, "real", 3.0)
    record = load(files.path)
    found = record.runs.set_index("trial")[["duplicate_of", "reused_from"]].astype("object").fillna("-")
    # The first did not finish: what it would have been is known from the second.
    assert found["duplicate_of"].to_dict() == {
        "t0": "t1", "t1": "-", "t2": "t1", "t9": "t1", "t3": "-", "r000": "-", "r001": "-"
    }  # fmt: skip
    assert found["reused_from"].to_dict()["t9"] == "t1"
    assert (record.counts.duplicated, record.counts.reused, record.counts.interrupted) == (2, 1, 1)


def test_two_journals_of_one_trial_are_an_error(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, POINT, 1.0)
    files.journal("t001-s0").write_text(files.journal("t000-s0").read_text())
    with pytest.raises(
        RecordError, match=r"t001-s0\.jsonl: belongs to trial t000-s0, as t000-s0\.jsonl does; remove one"
    ):
        load(files.path)


def test_what_only_ends_like_a_journal_does_not_count(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, POINT, 1.0)
    content = files.journal("t000-s0").read_text()
    expected = load(files.path).runs
    files.journal("._t000-s0").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    pd.testing.assert_frame_equal(load(files.path).runs, expected)
    files.journal("t000-s0 (1)").write_text(content)
    files.journal("t000-s0.sync-conflict-20240101").write_text(content)
    files.journal("t007-s0").mkdir()
    files.journal("t008-s0").symlink_to("nowhere")
    with pytest.warns(JournalWarning) as told:
        pd.testing.assert_frame_equal(load(files.path).runs, expected)
    assert [str(each.message).partition(": ")[2] for each in told] == [
        "ignored, since its name is not a trial's, such as t000-s0.jsonl",
        "ignored, since its name is not a trial's, such as t000-s0.jsonl",
        "is not a file, so trial t007-s0 is ignored",
        "is a broken link, so trial t008-s0 is ignored",
    ]


def test_every_leaf_of_the_configuration_is_a_column(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.begin("t000-s0", 0, POINT, config={"train.epochs": 3, "evaluate.steps": [1, 2], "data.size": None})
    files.begin("t001-s0", 1, POINT, config={"train.epochs": 4, "model.bias": True})
    record = load(files.path)
    assert record.leaves == [DEPTH, RANK, LR, "data.size", "evaluate.steps", "model.bias", "train.epochs"]
    assert [str(record.runs[leaf].dtype) for leaf in record.leaves[3:]] == ["float64", "str", "boolean", "Int64"]
    assert record.runs["evaluate.steps"].iloc[0] == "[1, 2]"
    assert str(record.runs["kind"].dtype) == str(record.runs["state"].dtype) == "category"
