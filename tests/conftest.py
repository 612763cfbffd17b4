"""How the suite shares the machine: one process a core, and one of them for all that starts Ray."""

from __future__ import annotations

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # A process for each core: threads of their own would only wait for each other. Read by torch when it is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Keep the tests that start Ray in one process, and those of any other file with its fixtures.

    Named as each test is collected: xdist reads the groups before any hook of a conftest sees the whole list.
    """
    ray = item.get_closest_marker("slow") and "linearizer_core" not in item.path.parts
    item.add_marker(pytest.mark.xdist_group("ray" if ray else item.location[0]))
