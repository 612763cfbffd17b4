"""Launches that keep their record in a bucket: what is in it, who may write, and what goes wrong on the way."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import linsweep as ls
from analysis.record.copies import copied, fetch_artifacts
from analysis.record.pieces import Part, packed, piece_name, put_together, that_count, unpacked
from linearizer_core.bucket import Bucket
from linearizer_core.experiment.journal import Journal, TrialIdentity, state_of
from linearizer_core.files import write_whole
from sweeps.execution.collector import Collector, Superseded
from sweeps.record.lease import held_lease
from sweeps.record.paths import SweepPaths
from sweeps.record.upload import Upload
from sweeps.record.writers import running
from sweeps.spec.validation import InputError
from tests.buckets import S3, Fault, Request, s3_server
from tests.end_to_end.lab import wait_until
from tests.sweeps.offline import offline

SPEC = """
name: small
data: {name: digits}
recipe: learned
model: {flow: {depth: 2, width: 8}, operator: {kind: time_lowrank, rank: 2}}
train: {epochs: 3, batch_size: 128, lr: 1.0e-3, steps: 2}
evaluate: {steps: [1, 2], quality: [swd], samples: 64}
search: {sampler: grid, space: {model.operator.rank: {grid: [2, 4]}}, objective: {quality/swd_collapsed: min}}
resources: {checkpoint_seconds: 0.01, retries: 1}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture
def storage(
    server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[str]:
    """A bucket of the test's own, and a folder with a spec to be launched from."""
    server.fault = lambda request: None
    server.requests.clear()
    (tmp_path / "small.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    on_machine("first", tmp_path, monkeypatch)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sweeps.record.upload.PERIOD", 0.2)
    monkeypatch.setattr("sweeps.record.lease.PERIOD", 0.5)
    monkeypatch.setattr("sweeps.record.lease.PATIENCE", 3.0)
    monkeypatch.setattr("sweeps.record.beats.LOOK", 0.2)
    monkeypatch.setattr("sweeps.execution.courier.PERIOD", 0.2)
    monkeypatch.setattr("analysis.record.copies.ALIVE", 10.0)
    monkeypatch.setattr("linearizer_core.bucket.RETRY_SECONDS", 1)
    bucket = server.new_bucket(f"b{abs(hash(request.node.name))}")
    with offline():
        yield f"{bucket}/runs"


def on_machine(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go on as on another machine: with none of the files of the one before."""
    monkeypatch.setenv("LINSWEEP_CACHE", str(tmp_path / name))


def launched(storage: str, **options: Any) -> ls.LaunchResult:
    return ls.launch("small.yaml", set={"storage": storage}, debug=True, **options)


def tables(name: str, storage: str) -> dict[str, bytes]:
    """The tables without what a clock has measured."""
    made = ls.table(name, storage=storage, metrics=["quality/swd_collapsed", "quality/swd_auc"])
    return {path.name: path.read_bytes() for path in made.files if path.name.startswith("configurations")}


def test_a_sweep_in_a_bucket_is_that_of_a_folder(
    server: S3, storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert launched(storage).state == "finished"
    asked = Counter(server.requests)
    on_machine("second", tmp_path, monkeypatch)
    assert ls.launch("small.yaml", debug=True).state == "finished"
    assert tables("small", storage) == tables("small", "runs")
    assert ls.status("small", storage=storage).state == "finished"
    names = [entry.name for entry in Bucket(f"{storage}/small").entries()]
    assert len([name for name in names if name.startswith("pieces/")]) == 1
    assert not [name for name in names if name.startswith("training/")]
    # Of a trial: each of its artifacts once, and at most a state an epoch. Its events cost nothing of their own.
    assert asked["PUT artifacts"] == len([name for name in names if name.startswith("artifacts/")])
    assert asked["PUT training"] <= 2 * 3
    assert asked["GET training"] == asked["GET artifacts"] == 0
    record = ls.load(f"{storage}/small")
    assert record.runs["attempt"].tolist() == [1] * len(record.runs)
    copy = copied(f"{storage}/small")
    fetch_artifacts(copy, "t000-s0")
    for folder in (copy, tmp_path / "runs/small"):
        assert (folder / "artifacts/t000-s0/checkpoint/model.safetensors").exists()
    weights = [folder / "artifacts/t000-s0/checkpoint/model.safetensors" for folder in (copy, tmp_path / "runs/small")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    # Nobody's keys are in what was written.
    assert not any(server.secret.encode() in server.get(f"{storage}/small/{name}") for name in names)
    again = launched(storage)
    assert again.state == "finished"
    assert len(ls.load(f"{storage}/small").runs) == len(record.runs)


def test_another_machine_goes_on(storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        dying = partial(Dying, trial="t001-s0", uri=f"{storage}/small")
        patch.setattr("sweeps.execution.in_process.Collector", dying)
        with pytest.raises(Killed):
            killed(storage, patch)
    on_machine("second", tmp_path, monkeypatch)
    assert ls.status("small", storage=storage).state in ("running", "interrupted")
    result = ls.resume("small", storage=storage, debug=True)
    assert result.state == "finished"
    record = ls.load(f"{storage}/small")
    assert sorted(record.runs["trial"]) == sorted(set(record.runs["trial"]))
    state = state_of(copied(f"{storage}/small") / "journal/t001-s0.jsonl")
    assert len(state.attempts) == 2
    assert state.attempts[1].event["resumed_epoch"] >= 1  # from the state in the bucket
    assert ls.launch("small.yaml", debug=True).state == "finished"
    assert tables("small", storage) == tables("small", "runs")


class Killed(BaseException):
    """The launch is gone, as by SIGKILL: nothing of it is written any more."""


class Dying(Collector):
    """A collector whose launch is killed when the bucket has a state of a trial, and what led to it."""

    def __init__(self, root: str, holder: str, trial: str, uri: str) -> None:
        super().__init__(root, holder)
        self._trial, self._uri = trial, uri
        self._saved = False

    def take(self, trial: str, attempt: int, begin: int, lines: bytes, *words: Any, **more: Any) -> Any:
        trains = threading.current_thread() is threading.main_thread()
        if trial == self._trial and self._saved:
            if not trains:
                raise ConnectionError
            wait_until("the state is told of", self._told, 60)
            raise Killed
        if trial == self._trial and trains and b'"epoch": 2' in lines:
            raise ConnectionError  # it waits for the state of the first epoch
        answer = super().take(trial, attempt, begin, lines, *words, **more)
        self._saved = self._saved or (trial == self._trial and bool(more.get("states")))
        return answer

    def _told(self) -> bool:
        return (copied(self._uri) / f"training/{self._trial}.json").exists()


def killed(storage: str, patch: pytest.MonkeyPatch) -> None:
    """A launch of which nothing reaches the bucket when it ends: neither the rest nor that it lets go of the lease."""

    def dead(upload: Upload) -> None:
        upload._closing.set()
        upload._beats.close()

    patch.setattr("sweeps.record.upload.Upload.close", dead)
    launched(storage)


def test_one_launch_at_a_time(server: S3, storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Bucket(f"{storage}/small")
    lease, before = held_lease(bucket, "spec", None, lambda: None)
    assert before is None
    lives = threading.Event()

    def beat() -> None:
        while not lives.wait(0.2):
            lease.renew()

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(InputError, match="is being carried out already"):
            launched(storage)
    finally:
        lives.set()
        thread.join()
    # Not heard of for so long: dead.
    told: list[str] = []
    after, before = held_lease(bucket, "spec", None, lambda: told.append("waiting"))
    assert before == lease.holder
    assert told
    assert after.number == lease.number + 1
    after.release()
    last, before = held_lease(bucket, "spec", None, lambda: told.append("again"))
    assert told == ["waiting"]
    assert before == after.holder
    last.release()


@pytest.mark.parametrize("fault", ["busy", "cut", "half"])
def test_what_passes_costs_nothing(server: S3, storage: str, fault: Fault) -> None:
    server.fault = lambda request: fault if request.number % 5 == 3 else None
    assert launched(storage).state == "finished"
    server.fault = lambda request: None
    record = ls.load(f"{storage}/small")
    assert (record.runs["state"] == "finished").all()
    assert record.runs["attempt"].tolist() == [1] * len(record.runs)


def test_the_bucket_is_away_for_some_seconds(server: S3, storage: str) -> None:
    begun: list[float] = []

    def away(request: Request) -> Fault | None:
        if request.method == "PUT" and "artifacts" in request.path and not begun:
            begun.append(time.monotonic())
        return "gone" if begun and time.monotonic() - begun[0] < 5 else None

    server.fault = away
    assert launched(storage).state == "finished"
    record = ls.load(f"{storage}/small")
    assert (record.runs["state"] == "finished").all()
    assert record.runs["attempt"].tolist() == [1] * len(record.runs)


def test_no_bucket_is_one_line_before_anything_starts(
    run_cli: Callable[..., int], storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("launch", "small.yaml", "--debug", "--set", "storage=s3://nobodys/runs") == 2
    told = capsys.readouterr().err
    assert "there is no such bucket" in " ".join(told.split())
    assert "Traceback" not in told


def test_identical_trials_of_another_sweep_are_copied_there(
    server: S3, storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = {"commit": "c" * 40, "dirty": False}
    monkeypatch.setattr("sweeps.record.provenance.git_state", lambda: clean)
    assert launched(storage).state == "finished"
    on_machine("second", tmp_path, monkeypatch)
    server.requests.clear()
    assert ls.launch("small.yaml", set={"storage": storage, "name": "other"}, debug=True).state == "finished"
    assert server.requests["PUT training"] == 0  # nothing was trained
    copy = copied(f"{storage}/other")
    for trial in ("t000-s0", "t001-s0"):
        head = state_of(copy / f"journal/{trial}.jsonl").head
        assert head is not None
        assert head["reused_from"] == f"small/{trial}"
    values = [
        {name: text.replace(b"other", b"small") for name, text in tables(name, storage).items()}
        for name in ("small", "other")
    ]
    assert values[0] == values[1]
    # What it has is its own.
    assert ls.delete("small", storage=storage).done
    fetch_artifacts(copy, "t000-s0")
    assert (copy / "artifacts/t000-s0/checkpoint/model.safetensors").exists()
    with pytest.raises(ls.LinsweepError, match="no sweep of this name"):
        ls.status("small", storage=storage)


def test_what_was_asked_while_nobody_launched_is_met_by_the_next_launch(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        dying = partial(Dying, trial="t001-s0", uri=f"{storage}/small")
        patch.setattr("sweeps.execution.in_process.Collector", dying)
        with pytest.raises(Killed):
            killed(storage, patch)
    on_machine("second", tmp_path, monkeypatch)
    wait_until("it is known to be dead", lambda: not running(SweepPaths(copied(f"{storage}/small"))), 60)
    ls.stop("small/t001-s0", storage=storage)
    end = state_of(copied(f"{storage}/small") / "journal/t001-s0.jsonl")
    assert (end.state, end.by_hand) == ("stopped", True)
    ls.retry("small/t001-s0", storage=storage)
    assert [entry.name for entry in Bucket(f"{storage}/small").entries("requests")] == ["requests/t001-s0.retry"]
    on_machine("third", tmp_path, monkeypatch)
    assert ls.resume("small", storage=storage, debug=True).state == "finished"
    state = state_of(copied(f"{storage}/small") / "journal/t001-s0.jsonl")
    assert state.state == "finished"
    assert state.attempts[-1].event["resumed_epoch"] >= 1
    assert Bucket(f"{storage}/small").entries("requests") == []


def identity(trial: str) -> TrialIdentity:
    return TrialIdentity("small", trial, "search", None, 0, "0", 0)


def test_lines_count_once_and_of_the_last_attempt(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path / "runs" / "small")
    collector = Collector(str(paths.root))
    first = collector.open("t000-s0")
    own = tmp_path / "t000-s0.jsonl"
    journal = Journal(own)
    journal.trial(identity("t000-s0"), {}, {})
    journal.epoch(1, {"train/loss": 1.0})
    lines = own.read_bytes()
    assert collector.take("t000-s0", first.attempt, 0, lines).end == len(lines)
    # An answer that was lost: asked again, in other pieces as well.
    assert collector.take("t000-s0", first.attempt, 0, lines).end == len(lines)
    begin = lines.index(b"\n") + 1
    journal.epoch(2, {"train/loss": 0.5})
    more = own.read_bytes()[begin:]
    assert Collector(str(paths.root)).take("t000-s0", first.attempt, begin, more).end == begin + len(more)
    assert paths.journal("t000-s0").read_bytes() == own.read_bytes()
    second = collector.open("t000-s0")
    assert second.journal == own.read_bytes()
    with pytest.raises(Superseded, match="another attempt"):
        collector.take("t000-s0", first.attempt, len(second.journal), b"{}\n")
    with pytest.raises(Superseded, match="gone on without it"):
        collector.take("t000-s0", second.attempt, begin, b'{"event": "other"}\n')
    assert paths.journal("t000-s0").read_bytes() == own.read_bytes()
    write_whole(paths.holder, "another launch")
    with pytest.raises(Superseded, match="another launch has begun"):
        collector.take("t000-s0", second.attempt, len(second.journal), b"")
    paths.holder.unlink()
    paths.stop_of("t000-s0").parent.mkdir()
    paths.stop_of("t000-s0").touch()
    assert collector.take("t000-s0", second.attempt, len(second.journal), b"").stop


def test_pieces_give_the_folder_again(storage: str, tmp_path: Path) -> None:
    bucket, folder = Bucket(f"{storage}/small"), tmp_path / "copy"

    def write(launch: int, number: int, *parts: Part, whole: bool = False) -> None:
        bucket.write(f"pieces/{piece_name(launch, number, whole)}", packed(parts))

    def files() -> dict[str, bytes]:
        assert put_together(bucket, folder)
        return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert not put_together(bucket, folder)
    write(1, 0, Part("sweep.json", 0, b"{}"), Part("journal/a.jsonl", 0, b"one\n"), whole=True)
    write(1, 1, Part("journal/a.jsonl", 4, b"\xff\xfetwo\n"), Part("journal/b.jsonl", 0, b"b\n"))
    assert files() == {"sweep.json": b"{}", "a.jsonl": b"one\n\xff\xfetwo\n", "b.jsonl": b"b\n"}
    write(1, 2, Part("journal/b.jsonl", 0, None), Part("journal/a.jsonl", 4, b"three\n"))
    assert files() == {"sweep.json": b"{}", "a.jsonl": b"one\nthree\n"}
    # Another launch begins; what the first one still writes does not count.
    write(2, 0, Part("sweep.json", 0, b"[]"), Part("journal/c.jsonl", 0, b"c\n"), whole=True)
    write(1, 3, Part("sweep.json", 0, b"late"))
    assert files() == {"sweep.json": b"[]", "c.jsonl": b"c\n"}
    assert that_count(["000001-00000003.jsonl", "000002-00000000-whole.jsonl"]) == ["000002-00000000-whole.jsonl"]
    with pytest.raises(ValueError, match="leads out"):
        list(unpacked(json.dumps({"file": "../x", "offset": 0, "text": ""}).encode()))
