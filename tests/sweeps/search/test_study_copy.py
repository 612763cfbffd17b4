"""The study as optuna-dashboard sees it: complete, this sweep's, and no part of the search."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import optuna
import psycopg
import pytest
from optuna.trial import TrialState

from sweeps.record.paths import SweepPaths
from sweeps.search.study_copy import StudyCopy, study_storage
from sweeps.spec.validation import InputError

SERVER = "postgresql://postgres@127.0.0.1:5432"


@pytest.fixture
def paths(tmp_path: Path) -> SweepPaths:
    made = SweepPaths(tmp_path / "demo")
    made.root.mkdir()
    return made


@pytest.fixture
def database() -> Iterator[str]:
    """A PostgreSQL database of the test's own."""
    name = f"linsweep_{uuid.uuid4().hex[:12]}"
    try:
        server = psycopg.connect(f"{SERVER}/postgres", autocommit=True, connect_timeout=3)
    except psycopg.OperationalError:
        pytest.skip("no PostgreSQL on 127.0.0.1:5432")
    with server:
        server.execute(f"create database {name}")
        try:
            yield f"{SERVER}/{name}"
        finally:
            server.execute(f"drop database {name} with (force)")


@pytest.fixture(params=["journal", "sqlite", "postgresql"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    if request.param == "postgresql":
        return str(request.getfixturevalue("database"))
    return f"sqlite:///{tmp_path}/study.db" if request.param == "sqlite" else None


def searched(count: int) -> optuna.Study:
    study = optuna.create_study(study_name="demo", sampler=optuna.samplers.RandomSampler(seed=1))
    for number in range(count):
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        trial.suggest_categorical("kind", ["a", "b"])
        trial.set_user_attr("trials", [f"t{number:03d}-s0"])
        trial.set_constraint("bound", x - 0.5)
        if number % 3 == 1:
            trial.report(x, 4)
            study.tell(trial, state=TrialState.PRUNED)
        elif number % 3 == 2:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, x)
    return study


def told(trial: optuna.trial.FrozenTrial) -> tuple[object, ...]:
    return (
        trial.number, trial.state, trial.values, trial.params, trial.intermediate_values, trial.user_attrs,
        trial.constraints,
    )  # fmt: skip


def test_the_copy_is_the_study(paths: SweepPaths, uri: str | None) -> None:
    study = searched(5)
    copy = StudyCopy(study, uri, paths, "id")
    running = study.ask()
    running.suggest_float("x", 0, 1)
    copy._try()
    assert copy.error is None
    shown = optuna.load_study(study_name="demo", storage=study_storage(uri, paths))
    assert [told(trial) for trial in shown.trials] == [told(trial) for trial in study.trials[:-1]]
    # A trial is copied once it has ended, and so with all that is known of it.
    running.suggest_categorical("kind", ["a", "b"])
    study.tell(running, 0.25)
    copy.close()
    assert copy.error is None
    assert [told(trial) for trial in shown.trials] == [told(trial) for trial in study.trials]


def test_a_trial_whose_answer_was_lost_is_there_once(paths: SweepPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    study = searched(3)
    copy = StudyCopy(study, None, paths, "id")
    add = optuna.Study.add_trial

    def lost(self: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        add(self, trial)
        raise ConnectionError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "add_trial", lost)
        assert not copy._try()
    copy.close()
    shown = optuna.load_study(study_name="demo", storage=study_storage(None, paths))
    assert [told(trial) for trial in shown.trials] == [told(trial) for trial in study.trials]


def test_a_file_stays_the_one_that_was_meant(
    paths: SweepPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = searched(1)
    copy = StudyCopy(study, "sqlite:///study.db", paths, "id")
    monkeypatch.chdir(paths.root)
    copy.close()
    assert copy.error is None
    assert len(optuna.load_study(study_name="demo", storage=f"sqlite:///{tmp_path}/study.db").trials) == 1
    assert list(paths.root.glob("*.db")) == []


def test_the_next_launch_copies_anew(paths: SweepPaths, uri: str | None) -> None:
    first = searched(4)
    left = first.ask()
    left.suggest_float("x", 0, 1)
    StudyCopy(first, uri, paths, "id").close()
    again = searched(2)
    StudyCopy(again, uri, paths, "id").close()
    copy = optuna.load_study(study_name="demo", storage=study_storage(uri, paths))
    assert [told(trial) for trial in copy.trials] == [told(trial) for trial in again.trials]


def test_another_sweeps_study_is_left_alone(paths: SweepPaths, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/study.db"
    StudyCopy(searched(2), uri, paths, "one").close()
    with pytest.raises(InputError, match="holds another sweep's study demo"):
        StudyCopy(searched(1), uri, paths, "two")
    assert len(optuna.load_study(study_name="demo", storage=uri).trials) == 2


def test_a_database_that_cannot_be_reached_is_told_without_its_password(paths: SweepPaths) -> None:
    with pytest.raises(InputError) as caught:
        StudyCopy(searched(1), "postgresql://ann:secret@127.0.0.1:1/none", paths, "id")
    text = str(caught.value)
    assert "search.storage: postgresql://127.0.0.1:1/none cannot be used: " in text
    assert "secret" not in text


def test_a_storage_that_goes_away_costs_the_search_nothing(paths: SweepPaths, tmp_path: Path) -> None:
    database = tmp_path / "study.db"
    study = searched(1)
    copy = StudyCopy(study, f"sqlite:///{database}", paths, "id")
    copy._try()
    aside = database.rename(tmp_path / "aside.db")
    os.mkdir(database)  # noqa: PTH102 - in its place
    study.tell(study.ask(), 0.5)
    assert not copy._try()
    assert copy.error
    database.rmdir()
    aside.rename(database)
    copy.close()
    assert copy.error is None
    assert len(optuna.load_study(study_name="demo", storage=f"sqlite:///{database}").trials) == 2


def test_a_database_that_does_not_answer_is_refused_in_time(paths: SweepPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.search.study_copy.PATIENCE", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(InputError) as caught:
        StudyCopy(searched(1), f"postgresql://ann:secret@127.0.0.1:{silent.getsockname()[1]}/none", paths, "id")
    assert "cannot be used: no answer within 1 s" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_database_that_hangs_at_the_end_is_not_waited_for(
    paths: SweepPaths, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.search.study_copy.PATIENCE", 2.0)
    study = searched(1)
    copy = StudyCopy(study, database, paths, "id")
    with psycopg.connect(database) as other:
        other.execute("lock table trials in access exclusive mode")
        study.tell(study.ask(), 0.5)
        copy.close()
        assert copy.error == "no answer within 2 s"
    copy._thread.join(30)
    assert len(optuna.load_study(study_name="demo", storage=database).trials) == 2
