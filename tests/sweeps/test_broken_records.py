"""Records whose journals have lines that cannot be read: every command goes on, and tells of each line once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from linearizer_core.experiment.journal import state_of
from tests.sweeps.offline import offline

Cli = Callable[..., int]
Store = Any
RECORDED = Path(__file__).parents[1] / "records" / "b428e36"
TRIAL = "t000-s0"
SWD = "quality/swd_collapsed"
JOURNAL = f"runs/before/journal/{TRIAL}.jsonl"


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The journal of a trial in a finished sweep that may be broken; commands run in the folder above the storage."""
    shutil.copytree(RECORDED / "runs" / "before", tmp_path / "runs" / "before")
    (tmp_path / "runs" / "before" / "shipped.json").unlink()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path / JOURNAL


def glued(content: bytes) -> bytes:
    """A write that failed half-way, on a full disk, with the next event behind it."""
    lines = content.splitlines(keepends=True)
    middle = len(lines) // 2
    lines[middle : middle + 2] = [lines[middle][:25] + lines[middle + 1]]
    return b"".join(lines)


def nulls(content: bytes) -> bytes:
    """What a power cut leaves on some file systems."""
    return content[:-200] + b"\0" * 200


def headless(content: bytes) -> bytes:
    """The beginning of the line that says which trial it is was lost."""
    return content[10:]


BREAKS = {
    glued: (f"{JOURNAL}:10: contains something besides an event: ", "finished"),
    nulls: (f"{JOURNAL}:18: NUL bytes, as a power cut leaves them", "interrupted"),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_every_command_goes_on_and_tells_of_the_line_once(
    run_cli: Cli, journal: Path, store: Store, capsys: pytest.CaptureFixture[str], broken: Callable[[bytes], bytes]
) -> None:
    journal.write_bytes(broken(journal.read_bytes()))
    warning, state = BREAKS[broken]
    commands = {
        ("status", "before"): "13 of 13 ended (8 finished, 5 stopped early)"
        if state == "finished"
        else "12 of 13 ended (7 finished, 5 stopped early), 1 interrupted",
        ("compare", f"before/{TRIAL}", "before/t001-s0"): state,
        ("compare", "before", f"before/{TRIAL}"): state,
        ("table", "before"): "written:",
        ("table", "before", "--markdown"): "### before: sliced W2 of every configuration",  # read from the cache
        ("report", "before"): "open in a browser: ",
        ("export", "before"): "written: ",
        ("sync", "before", "--to", store.uri): "events sent to ",
    }
    for command, said in commands.items():
        assert run_cli(*command) == 0, command
        printed = capsys.readouterr()
        assert said in printed.out, command
        warnings = [line for line in printed.err.splitlines() if line.startswith("warning: ")]
        assert len(warnings) == 1, command
        assert warnings[0].startswith(f"warning: {warning}"), command


def test_a_trial_whose_end_was_lost_is_carried_out_again(
    run_cli: Cli, journal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = state_of(journal)
    others = {path.name: path.read_bytes() for path in journal.parent.iterdir() if path != journal}
    journal.write_bytes(nulls(journal.read_bytes()))
    with offline():
        assert run_cli("resume", "before", "--debug") == 0
    assert capsys.readouterr().err.count("NUL bytes") == 1
    assert {path.name: path.read_bytes() for path in journal.parent.iterdir() if path != journal} == others
    # What the power cut left is gone from the journal, and nothing is warned of any more.
    assert b"\0" not in journal.read_bytes()
    found = state_of(journal)
    assert (found.state, found.epoch, len(found.attempts)) == ("finished", whole.epoch, 2)
    assert found.metrics[SWD] == pytest.approx(whole.metrics[SWD], rel=1e-3)


@pytest.mark.filterwarnings("ignore::linearizer_core.experiment.journal.JournalWarning")
def test_a_trial_whose_first_line_was_lost_is_carried_out_again(
    run_cli: Cli, journal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = state_of(journal)
    journal.write_bytes(headless(journal.read_bytes()))
    with offline():
        assert run_cli("resume", "before", "--debug") == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert [line.removeprefix(f"warning: {JOURNAL}:")[:40] for line in told] == [
        "1: is not a JSON object with an event: \"", "2: a journal begins with a trial line, g"
    ]  # fmt: skip
    found = [json.loads(line) for line in journal.read_bytes().splitlines()[1:]]
    assert [event["attempt"] for event in found if event["event"] == "trial"] == [1]
    state = state_of(journal)
    assert state.state == "finished"
    assert state.metrics[SWD] == pytest.approx(whole.metrics[SWD], rel=1e-3)


@pytest.mark.parametrize("broken", [False, True])
def test_a_broken_journal_is_not_reused(run_cli: Cli, journal: Path, broken: bool) -> None:
    """Where a line is missing, nobody knows what else is: the other sweep's trial runs."""
    spec = journal.parents[3] / "again.yaml"
    text = (RECORDED / "before.yaml").read_text().replace("name: before", "name: again\nrecipe: learned")
    # What the recipe had when the record was made.
    text = text.replace("train: {", "train: {detach: false, ").replace("evaluate: {", "evaluate: {tempered: true, ")
    spec.write_text(text)
    if broken:
        journal.write_bytes(glued(journal.read_bytes()))
    with offline(), pytest.MonkeyPatch.context() as patch:
        # As if this code had made the record.
        origin = json.loads((journal.parents[1] / "sweep.json").read_text())["provenance"]
        patch.setattr("sweeps.record.opening.provenance", lambda checksum: origin)
        assert run_cli("launch", str(spec), "--debug") == 0
    reused = {trial: state_of(Path(f"runs/again/journal/{trial}.jsonl")).reused_from for trial in (TRIAL, "t000-s1")}
    assert reused == {TRIAL: None if broken else f"before/{TRIAL}", "t000-s1": "before/t000-s1"}
