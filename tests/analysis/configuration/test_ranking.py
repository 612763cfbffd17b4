"""Which way metrics are better, and rankings in which not every configuration has the objective."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from analysis import best, configurations, load
from analysis.configuration.configurations import Configurations
from analysis.configuration.objective import better
from analysis.record.runs import Record
from analysis.tables.layout import header
from linearizer_core.experiment.configuration import (
    EvaluateConfig,
    ModelConfig,
    OperatorConfig,
    OperatorsConfig,
    TrialConfig,
)
from linearizer_core.experiment.families import family_of
from tests.analysis.record_factory import DEPTH, FD, LR, RANK, SweepFiles

PSNR = "quality/psnr_collapsed"
HIGHER = {"precision", "recall", "density", "coverage", "psnr", "ssim"}
ACCURACIES = {"posterior_accuracy", "judged_accuracy", "edit_accuracy"}
LOWER = {
    "swd",
    "classifier_fd",
    "classifier_kid",
    "imagenet_fd",
    "imagenet_kid",
    "inception_fid",
    "inception_kid",
    "bits_per_dim",
}
RESIDUALS = {"additivity", "homogeneity", "roundtrip", "idempotency", "projection_idempotency", "penrose_1"}


def of_objective(folder: Path, objective: dict[str, str]) -> Record:
    files = SweepFiles(folder, objective=objective)
    files.finished(0, {DEPTH: 1, RANK: 4, LR: 0.001}, 1.0)
    return load([files.path])


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return of_objective(tmp_path, {FD: "min"})


@pytest.mark.parametrize("metric", sorted(HIGHER))
def test_what_is_better_the_higher_it_is(record: Record, metric: str) -> None:
    for key in (
        f"quality/{metric}_collapsed",
        f"test/{metric}_k16",
        f"quality/{metric}_auc",
        f"quality/{metric}_noise",
    ):
        assert better(record, key) == "max"
        assert header(record, key).endswith(" ↑")


@pytest.mark.parametrize("key", ["linearity/collapse_psnr", "linearity/inversion_psnr", "linearity/inverse_psnr"])
def test_signal_to_noise_is_better_the_higher_it_is(record: Record, key: str) -> None:
    assert header(record, key) == f"{key.partition('/')[2].partition('_')[0]} PSNR (dB) ↑"
    assert better(record, key) == "max"


@pytest.mark.parametrize(
    "key", ["controls/random", "controls/flat", *(f"quality/{name}" for name in sorted(ACCURACIES))]
)
def test_controls_are_better_the_worse_they_are_and_accuracies_the_higher(record: Record, key: str) -> None:
    assert better(record, key) == "max"


@pytest.mark.parametrize(
    "key",
    [
        *(f"quality/{name}_k1" for name in sorted(LOWER)),
        *(f"linearity/{name}" for name in sorted(RESIDUALS)),
        "quality/bits_per_dim",
        "cost/params",
        "cost/sample_mflop_collapsed",
        "cost/train_seconds",
        "train/loss",
    ],
)
def test_what_is_better_the_lower_it_is(record: Record, key: str) -> None:
    assert better(record, key) == "min"
    assert header(record, key).endswith(" ↓")


@pytest.mark.parametrize(
    "key",
    [
        "spectrum/rank",
        "spectrum/effective_rank",
        "spectrum/condition",
        "linearity/noise_norm_ratio",
        "linearity/noise_kurtosis",
        "linearity/lipschitz_g_x",
        "linearity/lipschitz_g_y_inverse",
        "linearity/inversion_images",
        "sampling/rank",
        "sampling/temperature",
        "operators/count",
    ],
)
def test_what_is_better_neither_way(record: Record, key: str) -> None:
    assert better(record, key) is None
    assert not {"↑", "↓"} & set(header(record, key))


@pytest.mark.parametrize("direction", ["min", "max"])
@pytest.mark.parametrize("key", ["spectrum/rank", PSNR, FD])
def test_an_objective_is_better_as_the_spec_says(tmp_path: Path, key: str, direction: str) -> None:
    assert better(of_objective(tmp_path, {key: direction}), key) == direction


BY_LABEL = ModelConfig(operator=OperatorConfig(kind="affine"), operators=OperatorsConfig(by="label"))


@pytest.mark.parametrize("model", [ModelConfig(), BY_LABEL], ids=["default", "by label"])
@pytest.mark.parametrize("family", get_args(get_type_hints(TrialConfig)["family"]))
def test_every_metric_that_has_samples_or_a_residual_has_a_direction(
    record: Record, family: str, model: ModelConfig
) -> None:
    evaluate = EvaluateConfig(steps=(1, 4), temperatures=(0.9,))
    config = TrialConfig(family=family, model=model, evaluate=evaluate)  # type: ignore[arg-type]
    for key in family_of(config).summary_keys(config):
        if key.startswith(("quality/", "test/")):
            higher = "psnr" in key or "ssim" in key or any(f"/{name}" in key for name in HIGHER | ACCURACIES)
            assert better(record, key) == ("max" if higher else "min"), key
        if key.startswith("cost/"):
            assert better(record, key) == "min", key


# Rankings


def beside(tmp_path: Path, objective: dict[str, str]) -> SweepFiles:
    """A search with the objective, a control with another metric only, and one that has a better objective."""
    files = SweepFiles(tmp_path, objective=objective)
    for number, value in enumerate((3.0, 1.0, 2.0)):
        point = {DEPTH: number + 1, RANK: 4, LR: 0.001}
        files.finished(number, point, value, **{"quality/classifier_fd_k1": value + 1, PSNR: 10 * value})
    files.begin("c000-s0", 0, {DEPTH: 1, RANK: 4, LR: 0.001}, kind="control", label="baseline")
    files.add("c000-s0", "summary", metrics={"quality/classifier_fd_k1": 0.5, "cost/params": 7.0})
    files.end("c000-s0")
    files.control(1, "g linear", {DEPTH: 1, RANK: 4, LR: 0.001}, 0.1, **{PSNR: 99.0})
    return files


@pytest.mark.parametrize(
    ("objective", "order"), [({FD: "min"}, ["t001", "t002", "t000"]), ({PSNR: "max"}, ["t000", "t002", "t001"])]
)
def test_controls_come_after_the_search_by_number_with_or_without_the_objective(
    tmp_path: Path, objective: dict[str, str], order: list[str]
) -> None:
    record = load([beside(tmp_path, objective).path])
    frame = Configurations(record).ranked
    assert list(frame["name"]) == [*order, "baseline", "g linear"]
    assert np.isnan(frame[next(iter(objective))].iloc[-2])
    top = best(record)
    assert top is not None
    assert (top.name, top.direction) == (order[0], next(iter(objective.values())))


def test_a_control_without_the_objective_is_no_fault_of_the_sweep(tmp_path: Path) -> None:
    table = configurations(load([beside(tmp_path, {FD: "min"}).path]))
    assert table.notes == (
        "Bold: the best finished configuration by collapsed classifier FD.",
        "One seed per configuration: no difference between configurations can be tested.",
    )
    row, _ = [row for row in table.rows if row.block == "controls"]
    values: dict[str, Any] = {column.key: cell.value for column, cell in zip(table.columns, row.cells, strict=True)}
    assert (values[FD], values["quality/classifier_fd_k1"], values["cost/params"]) == (None, 0.5, 7.0)
