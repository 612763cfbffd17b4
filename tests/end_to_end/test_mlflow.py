"""MLflow on PostgreSQL over HTTP gets every journal, once, though it is killed on the way; and can be made anew."""

from __future__ import annotations

import json
import math
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import psycopg
import pytest

from analysis import load
from analysis.report.list_of_tables import ablation_tables
from linearizer_core.experiment.evaluation import Curve
from linearizer_core.experiment.journal import Journal, TrialIdentity
from sweeps.record.paths import SweepPaths
from sweeps.search.study_copy import StudyCopy
from sweeps.tracking.cursors import offsets
from sweeps.tracking.parent_run import finish
from sweeps.tracking.process import BackgroundSync
from sweeps.tracking.sync import sync_of
from tests.end_to_end import lab
from tests.end_to_end.lab import Linsweep, MlflowServer, PostgresServer, free_port, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.long]

ROOT = Path(__file__).parents[2]
FD = "quality/classifier_fd_collapsed"
DEPTH, LR = "model.flow.depth", "train.lr"
EPOCHS, TERMS, STEPS = 30, 20, (1, 4, 16, 64)
SECRET = "s3cr3t-of-the-server"


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    binaries = lab.postgres_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server is installed")
    # Its user must be able to reach the folder.
    folder = tmp_path_factory.mktemp("postgres")
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    with lab.postgres_server(folder, binaries) as server:
        yield server


def database(postgres: PostgresServer, name: str) -> str:
    """The URI of an empty database."""
    with psycopg.connect(postgres.uri(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return postgres.uri(name).replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture(scope="module")
def team(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server of many sweeps; its own store is the database ``team``."""
    with lab.mlflow_server(tmp_path_factory.mktemp("team"), database(postgres, "team")) as server:
        yield server


@dataclass(frozen=True)
class Written:
    """A sweep that was written by hand."""

    paths: SweepPaths
    uri: str | None

    @property
    def points(self) -> int:
        """Every metric point of the journals: none is there twice."""
        found = 0
        for path in self.paths.journals.glob("*.jsonl"):
            for line in path.read_text().splitlines():
                event = json.loads(line)
                found += len(event.get("metrics", ())) + len(event.get("steps", ()))
        return found


def write_sweep(storage: Path, name: str, trials: int, uri: str | None) -> Written:
    """A finished sweep of ``trials`` trials, each of 30 epochs of 20 metrics and a curve, as trials write them."""
    paths = SweepPaths(storage / name)
    paths.root.mkdir(parents=True)
    provenance = {
        "git": {"commit": "c" * 40, "dirty": False},
        "packages": {"torch": "2.15.0"},
        "hardware": {"cpus": 2},
        "data_checksum": "ab" * 32,
    }
    for number in range(trials):
        depth, lr = 1 + number % 6, 1e-3 * (1 + number)
        point = {DEPTH: depth, LR: lr}
        identity = TrialIdentity(
            name, f"t{number:03d}-s0", "search", None, number, f"{number:012x}", 0, overrides=point
        )
        journal = Journal(paths.journal(identity.trial))
        config = {
            "family": "diffusion",
            "data": {"name": "digits", "root": "data"},
            "model": {"flow": {"depth": depth, "width": 64}},
            "train": {"lr": lr, "epochs": EPOCHS},
            "seed": 0,
        }
        journal.trial(identity, config, provenance)
        for epoch in range(1, EPOCHS + 1):
            journal.epoch(epoch, {f"train/term_{term}": math.sin(number + term) / epoch for term in range(TERMS)})
        value = abs(depth - 4) + math.cos(number)
        journal.curve("nfe/classifier_fd", Curve(list(STEPS), [value + 10 / k for k in STEPS]))
        journal.summary({FD: value, "quality/classifier_fd_k64": value + 10 / 64, "cost/params": 1000.0 * depth})
        journal.end("finished", EPOCHS)
    sweep = {
        "id": f"{trials:032x}",
        "name": name,
        "family": "diffusion",
        "axes": [DEPTH, LR],
        "objective": {FD: "min"},
        "state": "finished",
        "reason": None,
        "started": 1_700_000_000.0,
        "ended": time.time(),
        "best": ["t003-s0"],
        "best_value": math.cos(3),
        "provenance": provenance,
        "spec": {
            "name": name,
            "family": "diffusion",
            "evaluate": {"steps": list(STEPS), "quality": ["classifier_fd"]},
            "search": {
                "space": {DEPTH: {"int": [1, 6]}, LR: {"float": [1e-3, 1.0], "log": True}},
                "seeds": [0],
                "sampler": "random",
                "trials": trials,
            },
            "tracking": {"uri": uri, "experiment": None},
        },
    }
    paths.sweep_json.write_text(json.dumps(sweep))
    return Written(paths, uri)


def rows(uri: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(uri.replace("+psycopg", "")) as connection:
        return connection.execute(query.encode()).fetchall()


def tables(source: Path | str, name: str) -> dict[str, bytes]:
    """What ``linsweep table`` exports of a sweep, read from its folder or from MLflow."""
    record = load(source, [name]) if isinstance(source, str) else load(source)
    made = ablation_tables(record).made
    assert len(made) > 2
    return {
        f"{table.name}{suffix}": text.encode()
        for table in made
        for suffix, text in {".csv": table.to_csv(), ".md": table.to_markdown(), ".tex": table.to_latex()}.items()
    }


@pytest.mark.timeout(1800)
def test_two_hundred_trials_arrive_once_though_the_server_is_killed_twice(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    store = database(postgres, "killed")
    server = MlflowServer(tmp_path, store)
    server.start()
    written = write_sweep(tmp_path / "runs", "killed", 200, server.uri)
    sync = sync_of(written.paths.root, None)
    background = BackgroundSync(sync, period=0.1)
    try:
        for trials in (40, 120):
            wait_until(f"{trials} trials are noted", lambda n=trials: len(offsets(written.paths.cursors)) >= n, 240)
            server.kill()
            wait_until("the sync has found out", lambda: background.error is not None, 60)
            noted = len(offsets(written.paths.cursors))
            assert trials <= noted < 200
            assert f" of the journals of {200 - noted} trials" in sync.lack()
            server.start()
            wait_until("the sync goes on", lambda n=noted: len(offsets(written.paths.cursors)) > n, 120)
        assert background.close(), background.error
        assert sync.lack() == "0 KiB of the journals of 0 trials"

        per_run = "SELECT value, count(*) FROM tags JOIN runs USING (run_uuid) WHERE key = 'sweep.trial_id' GROUP BY 1"
        trials = [f"t{number:03d}-s0" for number in range(200)]
        assert dict(rows(store, per_run)) == dict.fromkeys([*trials, "parent"], 1)
        of_trials = (
            "SELECT count(*) FROM metrics WHERE run_uuid NOT IN (SELECT run_uuid FROM tags WHERE value = 'sweep')"
        )
        assert rows(store, of_trials) == [(written.points,)]
        assert rows(store, "SELECT status, count(*) FROM runs GROUP BY 1") == [("FINISHED", 201)]
        exported = tables(written.paths.root, "killed")
        assert tables(server.uri, "killed") == exported

        # From the journals alone into an empty store.
        anew = f"sqlite:///{tmp_path}/anew.db"
        again = sync_of(written.paths.root, anew)
        again.send()
        finish(again.connect(), again.paths)
        assert tables(anew, "killed") == exported
    finally:
        background.kill()
        server.kill()


def test_a_laptops_sweep_moves_to_the_team_server(team: MlflowServer, tmp_path: Path) -> None:
    linsweep = Linsweep(tmp_path)
    written = write_sweep(tmp_path / "runs", "moved", 12, None)
    linsweep.run("table", "moved")
    for _ in range(2):
        output = linsweep.run("sync", "moved")
        assert f"events sent to sqlite:///{tmp_path}/runs/mlflow.db" in output
    for sent in (12 * (EPOCHS + 4), 0):
        assert f"moved: {sent} events sent to {team.uri}" in linsweep.run("sync", "moved", "--to", team.uri)
    local = f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert tables(team.uri, "moved") == tables(local, "moved") == tables(written.paths.root, "moved")
    client = load_client(team.uri)
    (parent,) = client.search_runs(
        [client.get_experiment_by_name("moved").experiment_id], "tags.`sweep.kind` = 'sweep'"
    )
    files = {entry.path for entry in client.list_artifacts(parent.info.run_id)}
    assert files == {"sweep.json", "spec.yaml", "environment.json", "summary.json", "importance.csv", "tables"}
    assert {"importance/depth", "importance/lr", "trials/finished", f"best/{FD}"} <= set(parent.data.metrics)


def load_client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri)


def test_the_team_servers_page_is_told_by_status_and_table(team: MlflowServer, tmp_path: Path) -> None:
    linsweep = Linsweep(tmp_path)
    write_sweep(tmp_path / "runs", "linked", 12, team.uri)
    linsweep.run("sync", "linked")
    experiment = load_client(team.uri).get_experiment_by_name("linked")
    link = f"{team.uri}/#/experiments/{experiment.experiment_id}/runs?viewStateShareKey="
    assert any(key.startswith("mlflow.sharedViewState.linsweep-") for key in experiment.tags)
    for command in ("status", "table", "ui"):
        words = ["ui"] if command == "ui" else [command, "linked"]
        assert link in linsweep.run(*words)


@pytest.mark.parametrize("kind", ["http", "postgres"])
def test_no_credential_is_left_anywhere(
    team: MlflowServer, postgres: PostgresServer, tmp_path: Path, kind: str
) -> None:
    """The servers ask for no password, so that one that is given goes all the way it would go."""
    linsweep = Linsweep(tmp_path)
    plain = team.uri if kind == "http" else database(postgres, "direct")
    user = "ann" if kind == "http" else "postgres"
    uri = re.sub(r"://([^@/]*@)?", f"://{user}:{SECRET}@", plain)
    name = f"secret-{kind}"
    written = write_sweep(tmp_path / "runs", name, 12, None)
    output = linsweep.run("sync", name, "--to", uri)
    # Wrong input is told with the server as well.
    closed = re.sub(r":\d+($|/)", rf":{free_port()}\1", uri)
    output += linsweep.run("sync", name, "--to", closed, code=2)
    output += linsweep.run("promote", f"{name}/t000-s0", "--to", closed, code=2)
    assert "127.0.0.1" in output
    assert SECRET not in output
    files = [path for folder in (tmp_path, team.folder) for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "sweep.json" for path in files)
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    dump = subprocess.run(
        [str(postgres.binaries / "pg_dump"), postgres.uri("team" if kind == "http" else "direct")],
        capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    assert name.encode() in dump.stdout
    assert SECRET.encode() not in dump.stdout
    assert written.paths.cursors_of(re.sub("://.*@", "://", uri)).exists()


def documented(start: str) -> str:
    """The one command of docs/tracking.md that begins so."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "docs/tracking.md").read_text())
    (line,) = [line.strip() for line in text.splitlines() if line.strip().startswith(start)]
    return line


def test_the_documented_dashboard_shows_the_study(postgres: PostgresServer, tmp_path: Path) -> None:
    uri = database(postgres, "studies")
    study = optuna.create_study(study_name="shown", directions=["minimize"])
    for value in (2.0, 1.0):
        trial = study.ask({LR: optuna.distributions.FloatDistribution(0, 1)})
        study.tell(trial, value)
    copy = StudyCopy(study, uri, SweepPaths(tmp_path / "shown"), "f" * 32)
    copy.close()
    port = free_port()
    line = documented("optuna-dashboard ")
    command = shlex.split(re.sub(r"postgresql\S*", uri, line).replace("8080", str(port)))
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / command[0]), *command[1:]], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        page = f"http://127.0.0.1:{port}/api/studies"
        wait_until("the dashboard answers", answers(page), 60, lambda: process.poll() is None or log_of(tmp_path))
        with urllib.request.urlopen(page, timeout=30) as answer:
            (summary,) = json.loads(answer.read())["study_summaries"]
        assert summary["study_name"] == "shown"
        with urllib.request.urlopen(f"{page}/{summary['study_id']}?after=0", timeout=30) as answer:
            assert [trial["values"] for trial in json.loads(answer.read())["trials"]] == [[2.0], [1.0]]
    finally:
        process.terminate()
        process.wait(timeout=30)


def answers(page: str) -> Callable[[], bool]:
    def ask() -> bool:
        try:
            with urllib.request.urlopen(page, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    return ask


def log_of(folder: Path) -> str:
    return (folder / "log").read_text()
