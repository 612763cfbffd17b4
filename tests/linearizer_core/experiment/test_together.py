"""Trials that train at once: the numbers of each alone, and nothing of one in another."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from linearizer_core.experiment import together as together_module
from linearizer_core.experiment.__main__ import main
from linearizer_core.experiment.configuration import TrialConfig, from_mapping
from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.journal import TrialState, read, state_of
from linearizer_core.experiment.recipes import expand
from linearizer_core.experiment.step import Step
from linearizer_core.experiment.together import Together
from linearizer_core.experiment.training import Trainer, TrainingDiverged, fit

FAMILIES: dict[str, dict[str, Any]] = {
    "affine": {},
    "refined clusters": {"model": {"operators": {"by": "cluster", "count": 3, "refine": 1}}},
    "learned": {"recipe": "learned"},
    "paper": {"recipe": "paper", "train": {"sigma": 0.1, "steps": 2, "batch_size": 16}},
    "idempotent": {"family": "idempotent"},
    "style": {"family": "style"},
    "flow matching": {"family": "flow_matching"},
    "mean flow": {"family": "mean_flow"},
}


def configuration(values: dict[str, Any], **train: Any) -> TrialConfig:
    values = {"model": {}, "train": {}, **values}
    values["model"] = {"flow": {"depth": 2, "width": 16}, **values["model"]}
    values["train"] = {"epochs": 3, "batch_size": 64, "steps": 4, **values["train"], **train}
    config: TrialConfig = from_mapping(TrialConfig, expand(values))
    return config


def trainers(config: TrialConfig, data: ImageData, seeds: Sequence[int] = (0, 1, 2)) -> list[Trainer]:
    return [Trainer(replace(config, seed=seed), data) for seed in seeds]


def assert_equal(one: Trainer, other: Trainer, tolerance: float = 2e-5) -> None:
    for name, value in one.averaged.state_dict().items():
        torch.testing.assert_close(value, other.averaged.state_dict()[name], rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("values", FAMILIES.values(), ids=FAMILIES)
def test_each_has_the_numbers_that_it_would_have_alone(
    values: dict[str, Any], digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large ε keeps Adam from making whole steps of rounding where a gradient is zero, as of a style's first g."""
    monkeypatch.setattr(torch.optim, "Adam", partial(torch.optim.Adam, eps=0.01))
    config = configuration(values)
    alone, several = trainers(config, digits), trainers(config, digits)
    together = Together()
    ways = [together.join(trainer) for trainer in several]
    for _ in range(3):
        for way, trainer in zip(ways, alone, strict=True):
            expected, found = trainer.train_epoch().metrics, next(way).metrics
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert together.warnings == []
    for trainer, other in zip(alone, several, strict=True):
        assert_equal(trainer, other)
    assert [list(way) for way in ways] == [[], [], []]


def test_learning_rates_may_differ_and_nothing_else(digits: ImageData) -> None:
    slow, fast = configuration({}, lr=1e-3), configuration({}, lr=1e-2)
    alone, several = [Trainer(each, digits) for each in (slow, fast)], [Trainer(each, digits) for each in (slow, fast)]
    together = Together()
    for way in [together.join(trainer) for trainer in several]:
        next(way)
    for trainer, other in zip(alone, several, strict=True):
        trainer.train_epoch()
        assert_equal(trainer, other)
    with pytest.raises(ValueError, match="differ in nothing but seed and learning rate"):
        together.join(Trainer(configuration({}, clip=2.0), digits))


def spoil_means(trainer: Trainer) -> None:
    """NaN from the first step on."""
    with torch.no_grad():
        trainer.model.get_parameter("gaussians.offsets").fill_(math.nan)


def spoil_factors(trainer: Trainer) -> None:
    """A matrix that is not positive definite, for which PyTorch raises for the whole batch."""
    with torch.no_grad():
        trainer.model.get_parameter("gaussians.factors").fill_(math.nan)


@pytest.mark.parametrize("spoil", [spoil_means, spoil_factors])
@pytest.mark.parametrize("epoch", [0, 1])
def test_one_that_diverges_stops_no_other(spoil: Callable[[Trainer], None], epoch: int, digits: ImageData) -> None:
    config = configuration({})
    alone, several = trainers(config, digits), trainers(config, digits)
    together = Together()
    ways = [together.join(trainer) for trainer in several]
    for number in range(3):
        if number == epoch:
            spoil(several[1])
        for i, way in enumerate(ways):
            if i == 1 and number == epoch:
                with pytest.raises(TrainingDiverged, match=f"in epoch {epoch + 1}"):
                    next(way)
            elif i != 1 or number < epoch:
                next(way)
    for i in (0, 2):
        list(fit(alone[i]))
        assert_equal(alone[i], several[i])


def test_one_whose_numbers_are_lost_stops_no_other(digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the third step on the joint loss raises, as a lost inverse does: the others go on alone, then together."""
    config = configuration({"recipe": "learned"})
    alone, several = trainers(config, digits), trainers(config, digits)
    advance = together_module._Batch._advance

    def breaks(batch: Any, inputs: Sequence[Tensor]) -> None:
        if several[1] in batch.trainers and several[1].step.taken >= 2:
            raise ArithmeticError("an inverse is lost")
        advance(batch, inputs)

    def lost(*_: Any) -> Any:
        raise ArithmeticError("an inverse is lost")

    monkeypatch.setattr(together_module._Batch, "_advance", breaks)
    monkeypatch.setattr(several[1].step, "differentiate", lost)
    together = Together()
    ways = [together.join(trainer) for trainer in several]
    next(ways[0])
    with pytest.raises(TrainingDiverged, match="in epoch 1: an inverse is lost"):
        next(ways[1])
    next(ways[2])
    for _ in range(2):
        for i in (0, 2):
            next(ways[i])
    for i in (0, 2):
        list(fit(alone[i]))
        assert_equal(alone[i], several[i])


def test_one_that_leaves_stops_no_other(digits: ImageData) -> None:
    config = configuration({})
    alone, several = trainers(config, digits), trainers(config, digits)
    together = Together()
    ways = [together.join(trainer) for trainer in several]
    for way in ways:
        next(way)
    ways[0].close()
    for _ in range(2):
        for way in ways[1:]:
            next(way)
    assert several[0].epoch == 1
    for i in (1, 2):
        list(fit(alone[i]))
        assert_equal(alone[i], several[i])


def test_going_on_from_saved_states_is_as_if_there_had_been_no_break(digits: ImageData) -> None:
    config = configuration({"recipe": "learned"})
    whole, first, second = (trainers(config, digits) for _ in range(3))
    for several, epochs in ((whole, 3), (first, 1)):
        together = Together()
        ways = [together.join(trainer) for trainer in several]
        for _ in range(epochs):
            for way in ways:
                next(way)
    for before, after in zip(first, second, strict=True):
        after.load_state_dict(before.state_dict())
    together = Together()
    ways = [together.join(trainer) for trainer in second]
    for _ in range(2):
        for way in ways:
            next(way)
    for trainer, other in zip(whole, second, strict=True):
        for name, value in trainer.averaged.state_dict().items():
            assert torch.equal(value, other.averaged.state_dict()[name]), name


def test_what_cannot_be_batched_is_trained_one_after_the_other(digits: ImageData) -> None:
    config = configuration({"model": {"flow": {"depth": 1, "width": 8, "mixing": "p4"}}})
    alone, several = trainers(config, digits, (0, 1)), trainers(config, digits, (0, 1))
    together = Together()
    for way in [together.join(trainer) for trainer in several]:
        next(way)
    assert len(together.warnings) == 1
    assert together.warnings[0].startswith("training goes on one trial after the other: matrices that perturbations")
    for trainer, other in zip(alone, several, strict=True):
        assert other.warnings == together.warnings
        trainer.train_epoch()
        assert_equal(trainer, other, tolerance=0)


def metrics(state: TrialState) -> dict[str, float]:
    assert state.summary is not None
    return dict(state.summary["metrics"])


def test_the_command_trains_seeds_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Records as those of the same seeds one by one, but for what a clock says."""
    config = {
        "model": {"flow": {"depth": 1, "width": 8}},
        "train": {"epochs": 2, "batch_size": 64, "steps": 3},
        "evaluate": {"steps": [1, 2], "quality": ["swd"], "samples": 32, "held_out": 32, "ranks": [2]},
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    assert main([str(file), "--seeds", "0,1", "--out", str(tmp_path / "together"), "--device", "cpu"]) == 0
    for seed in (0, 1):
        arguments = [str(file), "--set", f"seed={seed}", "--out", str(tmp_path / "alone"), "--device", "cpu"]
        assert main(arguments) == 0
    for journal in sorted((tmp_path / "together" / "journal").glob("*.jsonl")):
        alone = tmp_path / "alone" / "journal" / journal.name
        found, expected = state_of(journal), state_of(alone)
        assert found.state == expected.state == "finished"
        kinds = [[event["event"] for event in read(path)] for path in (journal, alone)]
        assert kinds[0] == kinds[1]
        assert metrics(found).keys() == metrics(expected).keys()
        for key, value in metrics(expected).items():
            # Directions of equal variance are any basis of their space, by rounding, and noise is measured along them.
            if not key.startswith(("cost/", "linearity/noise_")):
                assert metrics(found)[key] == pytest.approx(value, rel=1e-2, abs=1e-3, nan_ok=True), key
        names = [path.name for path in sorted((tmp_path / "together" / "artifacts" / journal.stem).rglob("*"))]
        assert names == [path.name for path in sorted((tmp_path / "alone" / "artifacts" / journal.stem).rglob("*"))]
    capsys.readouterr()
    assert main([str(file), "--seeds", "0,1", "--out", str(tmp_path / "together"), "--device", "cpu"]) == 0
    assert capsys.readouterr().out.count("has finished already") == 2


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ("0,a", "must be seeds such as 0,1,2, got '0,a'"),
        ("1,1", "must be different seeds from 0 to"),
        ("-1", "different seeds"),
    ],
)
def test_wrong_seeds_are_refused(seeds: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main([str(tmp_path / "config.yaml"), f"--seeds={seeds}"])
    assert refused.value.code == 2
    assert message in capsys.readouterr().err


def test_steps_of_several_are_recorded_as_those_of_one(digits: ImageData) -> None:
    """Inputs are put where the recorded work reads them: the numbers are those of each alone, over two epochs."""
    replayed = []

    class Calls:
        def warm(self, run: Callable[[], None]) -> None:
            run()

        def record(self, run: Callable[[], None]) -> Callable[[], None]:
            def replay() -> None:
                replayed.append(1)
                run()

            return replay

    config = configuration({"recipe": "learned"})
    alone, several = trainers(config, digits), trainers(config, digits)
    for trainer in several:
        trainer.step = Step(trainer.step.losses, trainer.averaged, trainer.config.train, Calls())
    together = Together()
    ways = [together.join(trainer) for trainer in several]
    for _ in range(2):
        for way, trainer in zip(ways, alone, strict=True):
            assert next(way).metrics == pytest.approx(trainer.train_epoch().metrics, rel=1e-4)
    assert len(replayed) == 5  # of eight steps, after three that warm up
    for trainer, other in zip(alone, several, strict=True):
        assert_equal(trainer, other, tolerance=1e-4)
