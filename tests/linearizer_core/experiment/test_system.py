"""What a process takes of the machine, beside what psutil says of it."""

from __future__ import annotations

import time

import psutil
import pytest
import torch

from linearizer_core.experiment.system import Usage


def test_memory_is_what_psutil_says() -> None:
    usage = Usage("cpu").since_last()
    assert usage["system/memory_gb"] == pytest.approx(psutil.Process().memory_info().rss / 2**30, rel=0.05)
    assert usage.keys() == {"system/cpu_cores", "system/memory_gb"}


def test_cores_are_of_the_time_since_the_last_call() -> None:
    usage = Usage("cpu")
    ends = time.process_time() + 0.2
    while time.process_time() < ends:
        pass
    busy = usage.since_last()["system/cpu_cores"]
    time.sleep(0.3)
    asleep = usage.since_last()["system/cpu_cores"]
    assert busy > 0
    assert asleep < busy / 2


def test_a_gpu_that_does_not_tell_how_busy_it_is_fails_no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    class NotSupported(Exception):
        """As NVML raises where a GPU is partitioned."""

    asked: list[object] = []

    def utilization(device: object) -> int:
        asked.append(device)
        raise NotSupported

    monkeypatch.setattr(torch.cuda, "utilization", utilization)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2**29)
    usage = Usage("cuda")
    for _ in range(2):
        told = usage.since_last()
        assert told["system/gpu_memory_gb"] == 0.5
        assert "system/gpu_percent" not in told
    assert len(asked) == 1
