"""Records that leave figures little room: long names, many values, numbers of many digits, logarithmic axes."""

from __future__ import annotations

from pathlib import Path

from analysis import Record, load
from tests.analysis.record_factory import DEPTH, LR, RANK, SweepFiles, nested

LONG = "a-sweep-with-a-name-that-is-as-long-as-names-of-sweeps-may-be-12"
KIND = "model.flow.conditioner"
WORDS = ("multi-layer-perceptron-with-skips", "convolutional", "an attention over patches of pixels")
STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64, 96, 100, 128, 1000)


def awkward(folder: Path) -> Record:
    """Two sweeps of the longest names, over depths, ranks, words and learning rates of many digits."""
    paths = []
    for place, name in enumerate((LONG, f"{LONG[:-2]}34")):
        space = {
            DEPTH: {"grid": list(range(1, 13))},
            RANK: {"int": [1, 4096], "log": True},
            KIND: {"choice": list(WORDS)},
            LR: {"float": [1.23456789e-5, 0.0987654321], "log": True},
        }
        files = SweepFiles(folder, name, space=space, seeds=(0, 1, 2))
        files.sweep["spec"] = {**nested({}), "name": name, "search": files.sweep["spec"]["search"]}  # type: ignore[dict-item, index]
        files.write_sweep()
        for number in range(12):
            at = {
                DEPTH: 1 + number,
                RANK: 4 ** (number % 7) + number,
                KIND: WORDS[number % 3],
                LR: 1.23456789e-5 * 2**number,
            }
            for seed in range(3):
                value = 1234.5678 / (1 + number) ** 1.5 * (1 + 0.2 * seed) + place
                curve = {step: value * (1 + 20 / step) for step in STEPS}
                more = {"cost/params": 123456.0 * (1 + number) ** 3, "test/classifier_fd_collapsed": value}
                files.finished(number, at, value, seed=seed, curve=curve, **more)
        files.stopped(12, {DEPTH: 3, RANK: 9, KIND: WORDS[0], LR: 3.3e-4}, 9999.0, epoch=120)
        files.failed(13, {DEPTH: 4, RANK: 9, KIND: WORDS[1], LR: 3.3e-4}, "out of memory")
        label = "a control whose name says at length what it is a control of, and why"
        files.control(0, label, {DEPTH: 4, RANK: 9, KIND: WORDS[1], LR: 1e-3}, 40.0, curve={1: 80.0, 1000: 41.0})
        for number, (words, value) in enumerate(
            (("real against real", 1.0), ("Gaussian fitted to the training pixels", 39.0), ("noise", 42.0))
        ):
            files.reference(number, words, value)
        paths.append(files.path)
    return load(paths)
