"""What the tests of the sweeps share: a small spec to edit, an objective in closed form, and real MLflow stores."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

import linearizer_core
from linearizer_core.experiment.journal import Journal, Outcome, TrialIdentity
from sweeps import cli
from sweeps.record.paths import SweepPaths
from sweeps.search.halving import Competitors
from sweeps.search.schedule import PlannedTrial, Schedule, make_study
from sweeps.spec.load import load
from sweeps.spec.model import Sweep
from sweeps.spec.validation import InputError
from sweeps.tracking.sync import Sync

optuna.logging.set_verbosity(optuna.logging.WARNING)

FD = "quality/classifier_fd_collapsed"

SPEC: dict[str, Any] = {
    "name": "demo",
    "family": "diffusion",
    "data": {"name": "digits"},
    "model": {
        "flow": {"depth": 2, "conditioner": "mlp", "width": 16, "activation": "gelu"},
        "operator": {"kind": "time_lowrank", "rank": 8},
    },
    "train": {"epochs": 9, "batch_size": 256, "lr": 0.002, "loss": {"flow": 1.0}},
    "evaluate": {"steps": [1, 10], "solver": "euler", "quality": ["swd", "classifier_fd"]},
    "controls": [{"name": "g = identity", "set": {"model.flow.kind": "identity"}}],
    "search": {
        "sampler": "tpe",
        "trials": 10,
        "space": {
            "model.flow.depth": {"int": [1, 6]},
            "model.operator.rank": {"int": [4, 64], "log": True},
            "train.lr": {"float": [0.001, 0.01], "log": True},
        },
        "objective": {FD: "min"},
        "stop_early": {"scheduler": "asha", "grace_epochs": 2, "reduction": 2},
        "seeds": [0],
    },
    "resources": {"workers": 1, "gpus_per_worker": 0, "cpus_per_worker": 1},
    "budget": {"trials": None},
    "tracking": {"uri": None},
    "storage": "./runs",
}

Edits = Mapping[str, Any]
"""``"search/space/train.lr/log"`` → its new value; ``...`` takes the key out."""


def edited(edits: Edits) -> dict[str, Any]:
    """The small spec with some of its keys set or taken out."""
    values: dict[str, Any] = json.loads(json.dumps(SPEC))
    for path, value in edits.items():
        *parents, last = path.split("/")
        target = values
        for name in parents:
            if not isinstance(target.get(name), dict):
                target[name] = {}
            target = target[name]
        if value is ...:
            del target[last]
        else:
            target[last] = value
    return values


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with real data sets: the environment's LINEARIZER_DATA, or one beside the repository."""
    named = os.environ.get("LINEARIZER_DATA")
    root = Path(named) if named else Path(linearizer_core.__file__).parents[2] / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"not found: {root}")
    return root


@pytest.fixture
def spec_file(tmp_path: Path) -> Callable[..., Path]:
    """``spec_file(edits)`` writes the small spec, edited; ``spec_file(text=…)`` anything else."""

    def write(edits: Edits | None = None, *, text: str | None = None) -> Path:
        path = tmp_path / "spec.yaml"
        path.write_text(yaml.safe_dump(edited(edits or {}), sort_keys=False) if text is None else text)
        return path

    return write


@pytest.fixture
def sweep(spec_file: Callable[..., Path]) -> Callable[..., Sweep]:
    """``sweep(edits, sets, profile)`` loads the small spec, edited, under a profile and ``--set`` overrides."""

    def read(edits: Edits | None = None, sets: Sequence[str] = (), profile: str | None = None) -> Sweep:
        return load(str(spec_file(edits)), sets, profile)

    return read


def record_of(sweep: Sweep) -> str:
    """sweep.json of a sweep that has begun, with what every reader asks of it."""
    fields = {"name": sweep.name, "state": "running", "axes": [], "objective": {}, "started": 1.0}
    return json.dumps({**fields, "spec": sweep.resolved})


@pytest.fixture
def refusal(spec_file: Callable[..., Path]) -> Callable[..., list[str]]:
    """``refusal(edits, sets, profile)``: all that is said against the small spec, edited, each as ``key: message``."""

    def read(
        edits: Edits | None = None,
        sets: Sequence[str] = (),
        profile: str | None = None,
        *,
        text: str | None = None,
    ) -> list[str]:
        path = spec_file(edits, text=text)
        with pytest.raises(InputError) as caught:
            load(str(path), sets, profile)
        assert caught.value.source == str(path)
        return [str(problem) for problem in caught.value.problems]

    return read


@pytest.fixture
def run_cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """``run_cli("plan", "x.yaml")`` is the exit code of the command line, run in this process."""

    def run(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["linsweep", *arguments])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


def objective(overrides: Mapping[str, Any], seed: int = 0) -> float:
    """An objective in closed form, least at depth 4, rank 16 and rate 0.003, that differs between seeds."""
    depth = overrides.get("model.flow.depth", 2)
    rank = overrides.get("model.operator.rank", 8)
    lr = overrides.get("train.lr", 0.002)
    return abs(depth - 4) + abs(math.log2(rank / 16)) + 2 * abs(math.log10(lr / 0.003)) + 0.125 * seed


@pytest.fixture(scope="session")
def closed_form() -> Callable[..., float]:
    """The objective of a point of the small spec's space."""
    return objective


def ending(
    value: float | Mapping[str, float], state: str = "finished", epoch: int = 9, diverged: bool = False
) -> Outcome:
    """How a trial ended, with its objective or with all of its metrics."""
    metrics = dict(value) if isinstance(value, Mapping) else {FD: value}
    return Outcome(state, epoch, metrics, diverged)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def ended() -> Callable[..., Outcome]:
    """``ended(value, state, epoch)``: an outcome."""
    return ending


Evaluate = Callable[[PlannedTrial], Outcome]


@dataclass
class Driven:
    """A schedule that was carried out: the trials in the order in which they were handed out, and their outcomes."""

    schedule: Schedule
    study: optuna.Study
    planned: list[PlannedTrial] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [trial.identity.trial for trial in self.planned]

    @property
    def points(self) -> list[tuple[str, dict[str, Any]]]:
        return [(trial.identity.trial, dict(trial.identity.overrides)) for trial in self.planned]

    @property
    def told(self) -> list[tuple[Any, ...]]:
        """Everything that the study knows of its trials."""
        return [
            (trial.number, trial.params, trial.state.name, trial.values, trial.intermediate_values, trial.constraints)
            for trial in self.study.get_trials(deepcopy=False)
        ]


@dataclass(frozen=True)
class Known:
    """A record in memory."""

    outcomes: dict[str, Outcome]

    def look_up(self, planned: PlannedTrial, competitors: Competitors) -> Outcome | None:
        return self.outcomes.get(planned.identity.trial)

    def of_duplicate(self, planned: PlannedTrial, duplicate: str) -> Outcome:
        return self.outcomes.setdefault(planned.identity.trial, self.outcomes[duplicate])

    def of_decided(self, trial: PlannedTrial | TrialIdentity, reason: str) -> Outcome:
        identity = trial.identity if isinstance(trial, PlannedTrial) else trial
        self.outcomes[identity.trial] = Outcome("stopped", 0, {})
        return self.outcomes[identity.trial]


@pytest.fixture(scope="session")
def drive() -> Callable[..., Driven]:
    """``drive(sweep, evaluate, …)`` carries a schedule out with workers that finish in an order drawn from ``order``.

    Outcomes of an earlier run are given as ``recorded``.
    """

    def run(
        sweep: Sweep,
        evaluate: Evaluate | None = None,
        *,
        lookahead: int = 1,
        workers: int = 1,
        order: int = 0,
        recorded: Mapping[str, Outcome] | None = None,
    ) -> Driven:
        study = make_study(sweep)
        record = Known(dict(recorded or {}))
        schedule = Schedule(sweep, study, lookahead, record)
        driven = Driven(schedule, study)
        draw = random.Random(order)
        running: list[PlannedTrial] = []
        while True:
            while len(running) < workers and (planned := schedule.next()) is not None:
                running.append(planned)
                driven.planned.append(planned)
            if not running:
                return driven
            done = running.pop(draw.randrange(len(running)))
            if evaluate is None:
                result = ending(objective(done.identity.overrides, done.identity.seed or 0))
            else:
                result = evaluate(done)
            driven.outcomes[done.identity.trial] = record.outcomes[done.identity.trial] = result
            schedule.take_outcome(done.identity.trial, result)

    return run


@dataclass
class Record:
    """A sweep's folder with real journals, and the means to ship it."""

    paths: SweepPaths
    sweep: dict[str, Any]

    def begin(self, trial: str = "t000-s0", **identity: Any) -> Journal:
        """A journal with the line that a trial starts with."""
        journal = Journal(self.paths.journal(trial))
        who = {
            "kind": "search",
            "label": None,
            "number": 0,
            "config_hash": "0123456789ab",
            "seed": 0,
            "overrides": {"train.lr": 0.003},
        }
        journal.trial(
            TrialIdentity(sweep="demo", trial=trial, **{**who, **identity}),
            {"train": {"lr": 0.003, "epochs": 3}, "evaluate": {"steps": [1, 10]}, "seed": 0},
            {"git": {"commit": "c" * 40, "dirty": True}},
        )
        return journal

    def sync(self, uri: str) -> Sync:
        tracking = {"uri": uri, "experiment": None}
        return Sync(self.paths, uri, "demo", self.sweep | {"spec": {"name": "demo", "tracking": tracking}})


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """An empty record of a sweep named demo."""
    paths = SweepPaths(tmp_path / "runs" / "demo")
    paths.root.mkdir(parents=True)
    sweep = {
        "id": "f" * 32,
        "name": "demo",
        "started": 1_700_000_000.0,
        "state": "finished",
        "ended": 1_700_000_100.0,
        "best": None,
        "best_value": 1.0,
        "axes": ["train.lr"],
        "objective": {FD: "min"},
        "spec": {"name": "demo", "tracking": {"uri": None, "experiment": None}},
    }
    paths.sweep_json.write_text(json.dumps(sweep))
    return Record(paths, sweep)


@pytest.fixture(scope="session")
def _migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store: its migrations take seconds, so that tests copy it."""
    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@dataclass
class Store:
    """A real MLflow store in SQLite."""

    path: Path

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.path}"

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)

    def runs(self) -> dict[str, Run]:
        """Every run of the experiment, by ``sweep.trial_id``; asserts that no two are of the same trial."""
        experiment = self.client.get_experiment_by_name("demo")
        assert experiment is not None
        runs = self.client.search_runs([experiment.experiment_id])
        by_trial = {run.data.tags["sweep.trial_id"]: run for run in runs}
        assert len(by_trial) == len(runs)
        return by_trial

    def history(self, trial: str, key: str) -> list[tuple[int, float]]:
        """The points of a metric, as step and value, in the order of the steps."""
        run = self.runs()[trial].info.run_id
        return sorted((point.step, point.value) for point in self.client.get_metric_history(run, key))

    @contextmanager
    def without(self, table: str) -> Iterator[None]:
        """The store refuses whatever needs a table, as one that is being repaired does."""
        self._rename(table, f"{table}_away")
        try:
            yield
        finally:
            self._rename(f"{table}_away", table)

    def _rename(self, before: str, after: str) -> None:
        with closing(sqlite3.connect(self.path)) as database:
            database.execute("PRAGMA legacy_alter_table = ON")
            database.execute(f"ALTER TABLE {before} RENAME TO {after}")
            database.commit()


@pytest.fixture
def new_store(_migrated: Path, tmp_path: Path) -> Callable[..., Store]:
    """``new_store(name)`` is an empty MLflow store of its own."""

    def make(name: str = "mlflow") -> Store:
        path = tmp_path / f"{name}.db"
        shutil.copy(_migrated, path)
        return Store(path)

    return make


@pytest.fixture
def store(new_store: Callable[..., Store]) -> Store:
    """An empty MLflow store."""
    return new_store()
