"""Where a result comes from: code, packages, machine and data."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch

from sweeps.spec.model import Resources

PACKAGES = ("linearizer-sweeps", "torch", "torchvision", "numpy", "ray", "optuna", "mlflow", "pandas", "scikit-learn")


def git_state() -> dict[str, Any]:
    """Commit and dirty flag of the code's checkout; both null for an installed package."""
    folder = Path(__file__).resolve().parent
    try:
        # Installed into somebody's project, this file is not one of that project's.
        _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
        commit = _git(folder, "rev-parse", "HEAD")
        dirty = bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
        return {"commit": commit, "dirty": dirty}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def package_versions() -> dict[str, str]:
    """Installed versions of what a result depends on."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def hardware() -> dict[str, Any]:
    """The machine, without its name."""
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cpus": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def processes(resources: Resources) -> dict[str, Any]:
    """What of a trial's resources decides in which order it adds numbers, and so their last digits."""
    return {
        "workers": resources.workers,
        "threads": resources.cpus_per_worker,
        "gpu": resources.gpus_per_worker > 0,
    }


def provenance(data_checksum: str) -> dict[str, Any]:
    """Everything above, with the checksum of the data set."""
    return {
        "git": git_state(),
        "packages": package_versions(),
        "hardware": hardware(),
        "data_checksum": data_checksum,
    }
