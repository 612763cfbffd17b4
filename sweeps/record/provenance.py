"""The origin of a result: code, packages, machine and data."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch

from sweeps.spec.model import Resources

PACKAGES = ("linearizer-sweeps", "torch", "torchvision", "numpy", "ray", "optuna", "mlflow", "pandas", "scikit-learn")


DIFF = ("-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false",
        "diff", "--binary", "--no-color", "--no-ext-diff", "--no-textconv")  # fmt: skip
"""Settings that make the diff readable for ``git apply``, whatever the user has configured."""


def git_state() -> dict[str, Any]:
    """The commit and dirty flag of the code's checkout; both None for an installed package.

    If dirty, ``patch`` is the digest of the changes, which is part of their file's name.
    """
    try:
        commit = _git("rev-parse", "HEAD").decode().strip()
        if not _git("status", "--porcelain", "--untracked-files=no").strip():
            return {"commit": commit, "dirty": False}
        return {"commit": commit, "dirty": True, "patch": digest(uncommitted())}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def uncommitted() -> bytes:
    """The uncommitted changes as a patch for ``git apply``, without untracked files; empty without a checkout."""
    try:
        return _git(*DIFF, "HEAD")
    except (OSError, subprocess.SubprocessError):
        return b""


def digest(patch: bytes) -> str:
    """The first twelve hexadecimal digits of a patch's SHA-256."""
    return hashlib.sha256(patch).hexdigest()[:12]


def _git(*arguments: str) -> bytes:
    """The output of git for the checkout of this file; raises ``SubprocessError`` if there is none."""
    here = Path(__file__).resolve()
    # If this package is installed inside somebody's project, the file is not tracked by that project.
    for words in (("ls-files", "--error-unmatch", here.name), arguments):
        command = ["git", "-C", str(here.parent), *words]
        done = subprocess.run(command, capture_output=True, check=True, timeout=10)
    return done.stdout


def package_versions() -> dict[str, str]:
    """The installed versions of packages that a result depends on."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def hardware() -> dict[str, Any]:
    """The machine, without its host name."""
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cpus": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def processes(resources: Resources, together: bool = False) -> dict[str, Any]:
    """The resources of a trial that decide the order in which it adds numbers, and so their last digits.

    ``together`` is whether trials of the sweep train together.
    """
    return {
        "workers": resources.workers,
        "threads": resources.cpus_per_worker,
        "gpu": resources.gpus_per_worker > 0,
        **({"together": True} if together else {}),  # records of before know nothing of it
    }


def provenance(data_checksum: str) -> dict[str, Any]:
    """All of the above, with the checksum of the data set."""
    return {
        "git": git_state(),
        "packages": package_versions(),
        "hardware": hardware(),
        "data_checksum": data_checksum,
    }
