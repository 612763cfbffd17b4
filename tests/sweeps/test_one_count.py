"""How many trials there are, and what they have come to: the same wherever it is said."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

import analysis
from analysis.configuration.frame import build
from analysis.record.runs import Record
from analysis.record.sweep_info import SweepInfo
from linearizer_core.experiment.journal import Journal
from sweeps.execution.cluster import Capacity, Node
from sweeps.execution.in_process import InProcess
from sweeps.execution.task import Task
from sweeps.launch import launch
from sweeps.listing import listing, render
from sweeps.spec.model import Sweep
from sweeps.status import status_of, trials_told
from tests.sweeps.offline import offline

SWD = "quality/swd_collapsed"


def execute(task: Task) -> Iterator[dict[str, Any]]:
    """The second trial fails, the third is interrupted as the sweep is stopped, and the others finish."""
    journal = Journal(task.files.journal)
    journal.trial(task.identity, task.config, task.provenance)
    journal.epoch(1, {SWD: 0.5})
    if task.identity.trial == "t001-s0":
        raise OSError("gone")
    if task.identity.trial == "t002-s0":
        task.paths.stop.write_text("enough\n")
        journal.end("interrupted", 1, "stopped on request")
        yield {"epoch": 1, "state": "interrupted"}
        return
    journal.summary({SWD: 0.5})
    journal.end("finished", 9)
    yield {"epoch": 9, "state": "finished", SWD: 0.5}


def test_launch_status_list_and_tables_count_alike(sweep: Callable[..., Sweep], tmp_path: Path) -> None:
    made = sweep(
        {
            "controls": [],
            "search/stop_early": None,
            "search/trials": 5,
            "evaluate/quality": ["swd"],
            "search/objective": {SWD: "min"},
            "resources/retries": 0,
            "storage": str(tmp_path / "runs"),
        }
    )
    printed = io.StringIO()
    with offline():
        result = launch(
            made, Console(file=printed, width=200), InProcess(Capacity((Node(1, 0),), "here"), execute), fresh=True
        )
    states = {"finished": 1, "failed": 1, "interrupted": 1}
    assert result.trials == states
    status = status_of(made.folder)
    assert {state: count for state, count in status.trials.items() if count} == states
    assert trials_told(status) == "2 of 5 ended (1 finished, 1 failed), 1 interrupted"
    assert re.findall(r"\[(\d/\d)\] t00", printed.getvalue()) == ["1/5", "2/5", "2/5"]
    listed = io.StringIO()
    Console(file=listed, width=200).print(render(listing(made.folder.parent)))
    assert "2 of 5" in listed.getvalue()
    record = analysis.load(made.folder)
    runs = record.runs[record.runs["kind"] != "reference"]
    assert Counter(runs["state"]) == states
    frame = analysis.by_configuration(record, ["search"])
    assert frame["words"].tolist() == ["finished", "failed", "interrupted @ 1"]
    # While a launch runs, the third waits.
    (info,) = record.sweeps
    running = SweepInfo.of_document({**info.document, "state": "running"}, info.source)
    assert build(Record([running], record.runs, record.curves))["words"].tolist()[2] == "waiting @ 1"
