"""Where a trial computes: a GPU that was asked for and is not there is an error, and never the CPU in silence."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from sweeps.execution.task import Task
from sweeps.execution.trial import DeviceError, device_of


def task(gpus: float, device: str) -> Task:
    values: Any = {"gpus": gpus, "device": device}
    return cast(Task, type("_", (), values))


@pytest.mark.parametrize(
    ("gpus", "device", "there", "expected"),
    [
        (0, "auto", False, "cpu"),
        (0, "auto", True, "cpu"),
        (1, "cpu", False, "cpu"),
        (1, "cpu", True, "cpu"),
        (0.5, "auto", True, "cuda"),
        (1, "cuda", True, "cuda"),
    ],
)
def test_a_trial_computes_where_its_spec_says(
    gpus: float, device: str, there: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert device_of(task(gpus, device)) == expected


@pytest.mark.parametrize(("gpus", "device"), [(1, "auto"), (0.5, "auto"), (1, "cuda")])
def test_a_gpu_that_is_not_there_is_an_error_with_the_remedy(
    gpus: float, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=rf"gpus_per_worker: {gpus:g}, device: {device}.*set device: cpu"):
        device_of(task(gpus, device))
