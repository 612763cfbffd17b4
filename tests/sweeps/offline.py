"""Launches whose test is not about MLflow: nothing is sent, and no process is started to send it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sweeps.tracking.sync import Sync


class Silent:
    """Stands for the process that sends journals."""

    error: str | None = None

    def __init__(self, sync: Sync) -> None:
        self.sync = sync

    def close(self) -> bool:
        return True

    def kill(self) -> None:
        """Nothing to end."""


@contextmanager
def offline() -> Iterator[None]:
    """Let launches in this process send nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sweeps.launch.BackgroundSync", Silent)
        yield
