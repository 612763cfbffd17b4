"""What a sweep survives: every fault of ``faults.py``, done to real processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end import faults, lab
from tests.end_to_end.faults import FAULTS, Laboratory, Survival

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> object:
    with lab.mlflow_server(tmp_path_factory.mktemp("server")) as server:
        yield Laboratory.open(tmp_path_factory.mktemp("faults"), server)


def nothing_lost(survival: Survival) -> None:
    assert survival.audit.problems == []
    assert (survival.audit.lost, survival.audit.duplicated) == (0, 0)
    # Half a second between saved states, an epoch that was not over, and what a busy machine adds.
    assert survival.audit.redone_seconds < 5


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_lost_and_nothing_done_twice(laboratory: Laboratory, fault: str) -> None:
    nothing_lost(FAULTS[fault](laboratory, f"fault-{fault}"))


def test_a_full_disk_costs_no_trial(laboratory: Laboratory) -> None:
    if os.geteuid() != 0 or not _can_mount(laboratory.linsweep.folder):
        pytest.skip("a file system of its own cannot be mounted here")
    nothing_lost(faults.disk_full(laboratory, "fault-full"))


def _can_mount(folder: Path) -> bool:
    place = folder / "mount"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True)
    if done.returncode == 0:
        subprocess.run(["umount", str(place)], check=True)
    return done.returncode == 0


def test_postgres_may_restart(laboratory: Laboratory, tmp_path_factory: pytest.TempPathFactory) -> None:
    binaries = lab.postgres_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server is installed")
    # Its user must be able to reach the folder.
    folder = Path(tmp_path_factory.getbasetemp()) / "postgres"
    folder.mkdir()
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    with lab.postgres_server(folder, binaries) as postgres:
        nothing_lost(faults.postgres_restarted(laboratory, "fault-postgres", postgres))
