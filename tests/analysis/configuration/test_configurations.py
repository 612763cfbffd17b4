"""A record's configurations: built once, whatever is made of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from analysis import Configurations, best, by_configuration, load
from analysis.configuration import frame
from analysis.configuration.constraints import Constraint
from analysis.record.runs import Record, RecordError
from analysis.report.write import write_report, write_tables
from tests.analysis.record_factory import DEPTH, FD, LR, RANK, SweepFiles

OLD = Path(__file__).parents[2] / "records" / "b428e36" / "runs" / "before"


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    """The records whose frame of configurations was built, each time that one was."""
    records: list[Record] = []
    build = frame.build

    def counted(record: Record) -> pd.DataFrame:
        records.append(record)
        return build(record)

    monkeypatch.setattr(frame, "build", counted)
    return records


def test_a_report_and_its_tables_build_the_frame_once(tmp_path: Path, built: list[Record]) -> None:
    folder = tmp_path / "before"
    shutil.copytree(OLD, folder)
    write_tables([folder])
    assert len(built) == 1
    write_report([folder])
    assert len(built) == 2


def test_what_is_asked_twice_is_the_same_object(tmp_path: Path, built: list[Record]) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, {DEPTH: 1, RANK: 4, LR: 1e-3}, 2.0)
    files.reference(0, "real", 1.0)
    found = Configurations(load([files.path]))
    assert Configurations.of(found) is found
    assert found.frame is found.frame
    assert found.ranked is found.ranked
    assert found.best is found.best
    assert best(found) == best(found.record)
    assert list(by_configuration(found, ["reference"])["name"]) == ["real"]
    assert list(by_configuration(found).index) == [0, 1]
    assert built == [found.record, found.record], "once for the configurations, once for best of the record"


def test_a_frame_that_was_asked_for_may_be_changed(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    files.finished(0, {DEPTH: 1, RANK: 4, LR: 1e-3}, 2.0)
    found = Configurations(load([files.path]))
    mine = by_configuration(found)
    mine["name"] = "other"
    assert list(found.frame["name"]) == ["t000"]


def test_duplicates_and_constraints(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, constraints={"cost/params": "<= 1e3"})
    point = {DEPTH: 1, RANK: 4, LR: 1e-3}
    files.finished(0, point, 2.0)
    for number, reused in ((1, "t000-s0"), (2, None)):
        trial = f"t00{number}-s0"
        files.begin(trial, number, point, config_hash="s00000000000", reused_from=reused)
        files.complete(trial, 2.0)
    found = Configurations(load([files.path]))
    assert found.duplicates.to_dict("list") == {
        "sweep": ["demo", "demo"],
        "trial": ["t001-s0", "t002-s0"],
        "duplicate_of": ["t000-s0", "t000-s0"],
        "reused": [True, False],
    }
    assert found.constraints == {"demo": {"cost/params": Constraint("<=", 1000.0)}}
    assert list(found.frame["broken"]) == ["cost/params <= 1e3"], "not measured is not kept to"
    assert list(found.frame["name"]) == ["t000"], "drawn again, it is the same configuration"


def test_a_constraint_that_says_nothing_names_the_file(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path, constraints={FD: "less"})
    files.finished(0, {DEPTH: 1, RANK: 4, LR: 1e-3}, 2.0)
    with pytest.raises(RecordError, match=r"sweep.json: search.constraints: must read \"<= number\""):
        Configurations(load([files.path])).frame  # noqa: B018
