"""The resources that a trial's process uses between epochs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch

STATM = Path("/proc/self/statm")
GIB = 2**30


class Usage:
    """Processor, memory and GPU use of this process; with several workers, of the leader."""

    def __init__(self, device: str) -> None:
        self._gpu = torch.device(device) if torch.device(device).type == "cuda" else None
        self._tells = self._gpu is not None
        self._wall, self._busy = time.perf_counter(), time.process_time()

    def since_last(self) -> dict[str, float]:
        """``system/…`` values: mean ``cpu_cores`` busy since the last call, and current memory and GPU use.

        ``memory_gb`` is resident memory (Linux) and ``gpu_memory_gb`` the GPU memory held by PyTorch. ``gpu_percent``
        is the GPU's utilisation by all processes, available if its driver reports it and ``nvidia-ml-py`` is installed.
        """
        wall, busy = time.perf_counter(), time.process_time()
        usage = {"cpu_cores": (busy - self._busy) / max(wall - self._wall, 1e-9)}
        self._wall, self._busy = wall, busy
        if STATM.exists():
            usage["memory_gb"] = int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / GIB
        if self._gpu is not None:
            usage["gpu_memory_gb"] = torch.cuda.memory_reserved(self._gpu) / GIB
        if self._tells:
            try:
                usage["gpu_percent"] = float(torch.cuda.utilization(self._gpu))
            except Exception:  # noqa: BLE001 - vendor libraries raise their own types, and no trial must fail for this
                self._tells = False
        return {f"system/{name}": value for name, value in usage.items()}
