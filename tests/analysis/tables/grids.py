"""Larger grids, to fit and to test over."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from analysis import load
from analysis.record.runs import Record
from tests.analysis.record_factory import DEPTH, RANK, SweepFiles

PARAMS = "cost/params"
GRID = {DEPTH: {"grid": [1, 2, 4, 8]}, RANK: {"grid": [4, 8, 16, 32, 64]}}


def gridded(tmp_path: Path, value: Mapping[str, float], seeds: int = 3, noise: float = 0.5) -> Record:
    """Depth × rank: a law in rank, a slope in log depth, and how much the one changes the other."""
    files, random = SweepFiles(tmp_path, "grid", space=GRID, seeds=range(seeds)), np.random.default_rng(1)
    points = itertools.product(GRID[DEPTH]["grid"], GRID[RANK]["grid"])
    for number, (depth, rank) in enumerate(points):
        mean = value["a"] * rank ** -value["b"] + value["depth"] * math.log2(depth)
        mean += value["both"] * (depth == 8) * (rank == 64)
        for seed in range(seeds):
            point = {DEPTH: depth, RANK: rank}
            files.finished(number, point, 20 + mean + noise * float(random.normal()), seed=seed)
    return load([files.path])
