"""What is used of Ray that it does not promise to keep: an upgrade that takes it away fails here, by its name."""

from __future__ import annotations

import inspect
import logging
import pickle
import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import ray
from ray import tune
from ray.exceptions import RayActorError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from sweeps.execution import ray_internals
from sweeps.execution.ray_environment import ENVIRONMENT, FORCED, OF_A_CLUSTER, settle

HERE = ("ray_internals.py", "ray_environment.py")

SOURCES = [Path(ray.__file__).parent / name for name in ("tune", "air", "train", "_private", "_common")]


@pytest.fixture(scope="module")
def source() -> str:
    """All that Ray says in Python."""
    return "".join(path.read_text(errors="replace") for folder in SOURCES for path in folder.rglob("*.py"))


NAMES = [*ENVIRONMENT, *FORCED, ray_internals.PENDING_LIMIT, *OF_A_CLUSTER]


@pytest.mark.parametrize("name", NAMES)
def test_ray_still_reads_the_variable(source: str, name: str) -> None:
    assert name in source


@pytest.mark.parametrize("name", ["_node_ip_address", "_temp_dir"])
def test_init_still_takes_the_argument(name: str) -> None:
    assert f'"{name}"' in inspect.getsource(ray.init)


def test_the_constant_that_keeps_a_private_ray_to_itself_is_there() -> None:
    from ray._private import ray_constants, services

    assert isinstance(ray_constants.ENABLE_RAY_CLUSTER, bool)
    assert "ENABLE_RAY_CLUSTER" in inspect.getsource(services)


def test_sockets_lie_where_they_are_counted() -> None:
    from ray._private import node

    text = inspect.getsource(node)
    assert '"sockets"' in text
    assert "plasma_store" in text


def test_tune_has_the_logger_that_is_silenced() -> None:
    assert ray_internals.LOGGER in logging.Logger.manager.loggerDict


def test_trials_have_a_status_and_an_error() -> None:
    trial = Trial("trainable", trial_id="a", stub=True)
    assert trial.status == Trial.PENDING
    assert not ray_internals.placed(trial)
    assert ray_internals.given_up(trial)
    assert ray_internals.error_of(trial) is None
    trial.status = Trial.RUNNING
    assert ray_internals.placed(trial)
    assert not ray_internals.given_up(trial)


def test_trials_run_in_the_order_of_tunes_own_scheduler_without_a_walk_over_the_ended_ones() -> None:
    trials = {name: Trial("trainable", trial_id=name, stub=True) for name in ("a", "b", "c", "d")}
    unended, fifo = dict(trials), FIFOScheduler()
    everything = cast(Any, SimpleNamespace(get_trials=lambda: list(trials.values())))

    def chosen(**statuses: str) -> str | None:
        for name, status in statuses.items():
            trials[name].status = status
        found = ray_internals.next_to_run(unended)
        assert found is fifo.choose_trial_to_run(everything)
        return found and found.trial_id

    assert chosen() == "a"
    assert chosen(a=Trial.RUNNING) == "b"
    assert chosen(a=Trial.TERMINATED, b=Trial.RUNNING, c=Trial.PAUSED) == "d"
    assert chosen(d=Trial.ERROR) == "c"
    assert list(unended) == ["b", "c"]
    assert chosen(b=Trial.PENDING) == "b"  # tried again
    assert chosen(b=Trial.TERMINATED, c=Trial.TERMINATED) is None
    assert unended == {}


def test_tune_writes_down_what_ended_a_trial(tmp_path: Path) -> None:
    assert isinstance(Trial.pickled_error_file, property)
    assert "self.pickled_error_file" in inspect.getsource(Trial.handle_error)
    path = tmp_path / "error.pkl"
    failed = cast(Trial, SimpleNamespace(pickled_error_file=str(path)))
    assert ray_internals.error_of(failed) is None
    path.write_bytes(b"half")
    assert ray_internals.error_of(failed) is None
    path.write_bytes(pickle.dumps(ValueError("no good")))
    assert str(ray_internals.error_of(failed)) == "no good"


def test_rays_error_about_versions_is_understood() -> None:
    from ray._private.utils import check_version_info

    with pytest.raises(RuntimeError) as caught:
        check_version_info({"ray_version": "2.9.3", "python_version": "3.10.1"}, "node 10.0.0.2")
    here = f"Ray {ray.__version__} on Python {platform.python_version()}"
    told = ray_internals.other_versions(caught.value)
    assert told is not None
    assert told.startswith(f"runs Ray 2.9.3 on Python 3.10.1, and here is {here}; both must be the same")
    check_version_info({"ray_version": ray.__version__, "python_version": platform.python_version()}, "node 10.0.0.2")
    assert ray_internals.other_versions(RuntimeError("No node in the cluster has this address")) is None


def test_trials_without_them_are_done_without() -> None:
    bare = cast(Trial, SimpleNamespace())
    assert ray_internals.placed(bare)
    assert not ray_internals.given_up(bare)
    assert ray_internals.error_of(bare) is None


def test_what_the_seam_derives_from_is_there() -> None:
    assert Searcher.FINISHED
    assert callable(tune.Stopper.stop_all)
    assert isinstance(RayActorError.actor_init_failed, property)


def test_settings_of_the_user_are_kept_but_those_that_a_sweep_relies_on() -> None:
    environment = {
        **dict.fromkeys(ENVIRONMENT, "mine"), **dict.fromkeys(FORCED, ""), **dict.fromkeys(OF_A_CLUSTER, "there"),
        "TUNE_RESULT_DIR": "/old", "RAY_AIR_LOCAL_CACHE_DIR": "/old", "RAY_DEDUP_LOGS": "0",
    }  # fmt: skip
    on_a_cluster = dict(environment)
    settle(environment, private=True)
    assert environment == {**dict.fromkeys(ENVIRONMENT, "mine"), **FORCED, "RAY_DEDUP_LOGS": "0"}
    settle(on_a_cluster, private=False)
    assert on_a_cluster == environment | dict.fromkeys(OF_A_CLUSTER, "there")


def test_nothing_else_uses_them() -> None:
    words = ("ray._private", "_temp_dir", "TUNE_", "RAY_AIR", "error_file", "get_error", "tune_controller.")
    others = [path for path in Path(ray_internals.__file__).parents[1].rglob("*.py") if path.name not in HERE]
    assert [path.name for path in others if any(word in path.read_text() for word in words)] == []
