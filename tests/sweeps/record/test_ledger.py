"""What is spent, over launches that end and launches that die."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from sweeps.record.ledger import Ledger, Meter, Spent
from sweeps.record.paths import SweepPaths
from sweeps.spec.model import Budget, Resources
from sweeps.spec.validation import InputError
from sweeps.supervise import _Pulse


def ledger(folder: Path, *launches: Spent) -> Ledger:
    made = Ledger(SweepPaths(folder / "demo"), list(launches))
    made.write()
    return made


def test_launches_add_up(tmp_path: Path) -> None:
    ledger(
        tmp_path,
        Spent(100, 4000, seconds=3600, trial_seconds=7200, gpu_seconds=14400, ended=True),
        Spent(5000, 6000, seconds=900, trial_seconds=1800, gpu_seconds=3600),
    )
    read = Ledger.read(SweepPaths(tmp_path / "demo"))
    assert (read.hours, read.trial_hours, read.gpu_hours, read.seen) == (1.25, 2.5, 5.0, 6000)


def test_a_ledger_that_is_not_there_is_empty(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path / "demo")
    assert Ledger.read(paths).launches == []
    assert Ledger.read(paths).seen is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"launches": [{"started": 1}]}',
        '{"launches": [{"started": 1, "seen": 2, "seconds": "3600"}]}',
        '{"launches": [{"started": 1, "seen": 2, "seconds": NaN}]}',
    ],
)
def test_a_damaged_ledger_is_refused_by_name_and_not_taken_for_nothing_spent(tmp_path: Path, text: str) -> None:
    paths = SweepPaths(tmp_path / "demo")
    paths.root.mkdir()
    paths.ledger.write_text(text)
    with pytest.raises(InputError, match=r"demo/ledger\.json: the hours spent cannot be read") as caught:
        Ledger.read(paths)
    assert "\n" not in str(caught.value)


def test_a_ledger_of_a_later_version_keeps_its_hours(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path / "demo")
    paths.root.mkdir()
    paths.ledger.write_text('{"launches": [{"started": 1, "seen": 2, "seconds": 3600, "joules": 5}], "version": 2}')
    assert Ledger.read(paths).hours == 1.0


def test_a_launch_that_cannot_write_its_ledger_still_shows_that_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ledger(tmp_path)
    meter = Meter(made, Resources())
    os.utime(made.paths.ledger, (0, 0))
    before = made.paths.ledger.read_bytes()
    pulse = _Pulse(made.paths, stall=0.05)
    monkeypatch.setattr("sweeps.record.ledger.PERIOD", 0.0)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sweeps.record.ledger.write_whole", full)
    for _ in range(8):
        time.sleep(0.04)
        meter.tick(1)
        assert not pulse.lost()
    assert made.paths.ledger.read_bytes() == before
    time.sleep(0.06)
    assert pulse.lost()


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        ({}, None),
        ({"hours": 1.26}, None),
        ({"hours": 1.25}, "budget.hours = 1.25 spent"),
        ({"gpu_hours": 5}, "budget.gpu_hours = 5 spent"),
        ({"gpu_hours": 5.1}, None),
    ],
)
def test_caps_count_every_launch(tmp_path: Path, budget: dict[str, float], reason: str | None) -> None:
    made = ledger(
        tmp_path,
        Spent(0, 0, seconds=3600, gpu_seconds=14400, ended=True),
        Spent(0, 0, seconds=900, gpu_seconds=3600),
    )
    assert made.exceeded(Budget(**budget)) == reason


def test_a_meter_counts_time_by_what_runs(tmp_path: Path) -> None:
    made = ledger(tmp_path)
    meter = Meter(made, Resources(workers=2, gpus_per_worker=3))
    started = time.monotonic()
    time.sleep(0.1)
    meter.tick(2)
    time.sleep(0.05)
    meter.tick(0)
    meter.close(0)
    most = time.monotonic() - started
    (spent,) = Ledger.read(made.paths).launches
    assert 0.15 <= spent.seconds <= most + 0.05
    assert spent.trial_seconds < 2 * spent.seconds
    assert spent.trial_seconds >= 0.2
    assert spent.gpu_seconds == pytest.approx(6 * spent.trial_seconds)
    assert spent.ended


def test_a_launch_that_dies_leaves_what_it_wrote(tmp_path: Path) -> None:
    made = ledger(tmp_path)
    Meter(made, Resources())
    (spent,) = Ledger.read(made.paths).launches
    assert not spent.ended
    assert spent.seen == pytest.approx(time.time(), abs=60)
