"""How the suite shares the machine: one process a core, and one of them for all that starts Ray."""

from __future__ import annotations

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # A process for each core: threads of their own would only wait for each other. Read by torch when it is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests that start Ray in one process, which runs them one after the other."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.xdist_group("ray"))
