"""A function of one's own in place of a model: searched, stopped early, recorded and tabulated, by a real launch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

import linsweep as ls
from linearizer_core.experiment.journal import TrialState, state_of
from tests.sweeps.offline import offline

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "objective.py"

SMALL: dict[str, Any] = {
    "name": "own",
    "train": {"epochs": 4},
    "search": {
        "sampler": "grid",
        "space": {"settings.rate": {"grid": [0.0001, 0.003]}},
        "objective": {"quality/accuracy": "max"},
        "seeds": [0, 1],
    },
    "resources": {"retries": 0},
}

STEPS = """from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    rate: float = 0.5


def train(config: Settings, report):
    for step in range(1, report.steps + 1):
        {line}
"""
GOOD = STEPS.format(line="report(step=step, accuracy=1.0)")


@pytest.fixture(autouse=True)
def _offline() -> Iterator[None]:
    with offline():
        yield


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """``spec(code, changes)`` writes a function and a small spec that sweeps it."""
    monkeypatch.chdir(tmp_path)

    def write(code: str, changes: Mapping[str, Any] | None = None) -> Path:
        (tmp_path / "objective.py").write_text(code)
        path = tmp_path / "spec.yaml"
        path.write_text(yaml.safe_dump({**SMALL, "function": "./objective.py:train", **(changes or {})}))
        return path

    return write


def trial(name: str) -> TrialState:
    return state_of(Path("runs") / "own" / "journal" / f"{name}.jsonl")


def accuracies(rate: float, seed: int, steps: int) -> list[float]:
    """What scikit-learn gives by itself."""
    images, labels = load_digits(return_X_y=True)
    images = images / 16
    model = MLPClassifier((32,), learning_rate_init=rate, random_state=seed)
    found = []
    for _ in range(steps):
        model.partial_fit(images[:-450], labels[:-450], classes=range(10))
        found.append(model.score(images[-450:], labels[-450:]))
    return found


def test_the_example_is_searched_recorded_and_tabulated(spec: Callable[..., Path]) -> None:
    path = spec(EXAMPLE.read_text())
    assert "objective.py@" in ls.plan(path)._repr_html_()
    result = ls.launch(path, debug=True)
    assert result.state == "finished", result.failure
    for number, rate in enumerate((0.0001, 0.003)):
        for seed in (0, 1):
            found = trial(f"t{number:03d}-s{seed}")
            expected = accuracies(rate, seed, 4)
            assert [found.epochs[step]["metrics"]["quality/accuracy"] for step in (1, 2, 3, 4)] == expected
            assert found.metrics["quality/accuracy"] == expected[-1]
            assert found.metrics["quality/parameters"] == 64 * 32 + 32 + 32 * 10 + 10
    assert result.best[0].trial == "t001-s0"
    best = ls.table("own").tables[0].to_dict()["rows"][0]
    mean = sum(accuracies(0.003, seed, 4)[-1] for seed in (0, 1)) / 2
    assert (best["settings.rate"], best["quality/accuracy"]) == (0.003, pytest.approx(mean))
    runs = result.record.runs.query("kind == 'search'")
    assert sorted(runs["settings.rate"]) == [0.0001, 0.0001, 0.003, 0.003]
    again = ls.launch(path, set={"search.seeds": [0, 1, 2]}, debug=True)  # more seeds of what is there
    assert (again.trials["finished"], trial("t000-s2").metrics["quality/accuracy"]) == (6, accuracies(0.0001, 2, 4)[-1])


def test_early_stopping_ends_the_function(spec: Callable[..., Path]) -> None:
    code = STEPS.format(line="report(step=step, accuracy=config.rate * step)")
    search = {
        **SMALL["search"],
        "sampler": "grid",
        "space": {"settings.rate": {"grid": [0.9, 0.8, 0.7, 0.6]}},
        "seeds": [0],
        "stop_early": {"grace_epochs": 1, "reduction": 2},
    }
    result = ls.launch(spec(code, {"search": search}), debug=True)
    assert result.trials["stopped"] >= 1
    assert trial("t003-s0").state == "stopped"
    assert trial("t003-s0").epoch < 4
    assert trial("t000-s0").metrics["quality/accuracy"] == pytest.approx(3.6)
    assert "train" not in {thread.name for thread in threading.enumerate()}  # the function's own, called as it is


def test_files_of_a_function_are_kept(spec: Callable[..., Path]) -> None:
    code = f"{GOOD}    (report.folder / 'notes.txt').write_text('well')\n"
    ls.launch(spec(code), debug=True)
    assert "notes.txt" in trial("t000-s0").artifacts
    assert (Path("runs") / "own" / "artifacts" / "t000-s0" / "notes.txt").read_text() == "well"


def test_a_number_that_is_not_finite_is_a_diverged_trial(spec: Callable[..., Path]) -> None:
    code = STEPS.format(line="report(step=step, accuracy=float('nan') if step == 2 else 1.0)")
    ls.launch(spec(code), debug=True)
    found = trial("t000-s0")
    assert (found.state, found.diverged, found.epoch) == ("failed", True, 2)
    assert found.reason == "diverged: not finite at step 2: quality/accuracy"


FAILS = {
    "raises": ("1 / 0", "objective.py:11: ZeroDivisionError: division by zero"),
    "no number": ("report(step=step, accuracy='x')", "objective.py:11: report(step=1): accuracy must be a number, got"),
    "backwards": (
        "report(step=1, accuracy=1.0)",
        "objective.py:11: report(step=1): steps must rise from 1 to train.epochs",
    ),
}


@pytest.mark.parametrize("fault", FAILS)
def test_what_a_function_does_wrong_is_told_by_its_line(fault: str, spec: Callable[..., Path]) -> None:
    line, message = FAILS[fault]
    result = ls.launch(spec(STEPS.format(line=line)), debug=True)
    found = trial("t000-s0")
    assert (found.state, result.trials["failed"]) == ("failed", 4)
    assert found.reason is not None
    assert message in found.reason


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "no function": (GOOD.replace("def train", "def other"), {}, r"function: .*objective\.py: has no function train"),
    "no name": (GOOD, {"function": "./objective.py"}, r"function: must name a file and a function in it, such as"),
    "no file": (GOOD, {"function": "./gone.py:train"}, r"function: \./gone\.py: no such file in /"),
    "parameters": (
        GOOD.replace("config: Settings, report", "settings"),
        {},
        r"objective\.py:9: train must take config and report, but its parameters are settings",
    ),
    "no type": (
        GOOD.replace("config: Settings", "config"),
        {},
        r"objective\.py:9: config of train has no type; annotate it with a frozen dataclass",
    ),
    "unknown setting": (GOOD, {"settings": {"rat": 1.0}}, r"settings\.rat: unknown key; did you mean settings\.rate\?"),
    "a model's key": (GOOD, {"data": {"name": "digits"}}, r"data: unknown key"),
    "group": (
        GOOD,
        {"search": {**SMALL["search"], "objective": {"accuracy": "max"}}},
        r"search\.objective\.accuracy: a metric that a function reports as accuracy is recorded as quality/accuracy",
    ),
    "workers": (GOOD, {"resources": {"workers": 2}}, r"resources\.workers: a function runs in one process, got 2"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_function_that_cannot_be_swept_is_refused_before_anything_starts(
    fault: str, spec: Callable[..., Path], tmp_path: Path
) -> None:
    code, changes, message = BAD[fault]
    with pytest.raises(ls.LinsweepError, match=message) as caught:
        ls.launch(spec(code, changes), debug=True)
    assert len(caught.value.problems) == 1, str(caught.value)  # type: ignore[attr-defined]
    assert not (tmp_path / "runs").exists()


def test_a_function_is_launched_from_python(spec: Callable[..., Path]) -> None:
    path = spec(GOOD)
    values = yaml.safe_load(path.read_text())
    del values["function"]
    path.write_text(yaml.safe_dump(values))
    from tests.sweeps import own_function

    result = ls.launch(path, function=own_function.train, set={"search.seeds": [0]}, debug=True)
    assert result.state == "finished", result.failure
    assert trial("t001-s0").metrics["quality/accuracy"] == pytest.approx(4 * 0.003)
    with pytest.raises(ls.LinsweepError, match=r"function: .* must be a function at the top level of a Python file"):
        ls.launch(path, function=lambda config, report: None, debug=True)


@pytest.mark.slow
def test_ray_runs_functions(spec: Callable[..., Path]) -> None:
    result = ls.launch(spec(GOOD))
    assert result.trials["finished"] == 4, result.failure
