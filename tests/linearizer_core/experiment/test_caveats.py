"""What is said of metrics that the held-out images are too few for."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from linearizer_core.experiment.caveats import caveats
from linearizer_core.experiment.configuration import DataConfig, EvaluateConfig, TrialConfig
from linearizer_core.experiment.data import load


@pytest.mark.parametrize(
    ("count", "metrics", "said"),
    [
        (300, ("classifier_fd",), ["classifier_fd: 30 held-out images have a covariance of rank 29 in 64 features"]),
        (640, ("classifier_fd",), ["rank 63 in 64 features"]),
        (650, ("classifier_fd",), []),
        (300, ("precision", "coverage"), ["precision, coverage: 30 held-out images .* each image is 3.3 % of a share"]),
        (1000, ("precision", "coverage"), []),
        (160, ("swd",), ["swd: 16 held-out images leave a standard error of about 25 %"]),
        (300, ("swd", "classifier_kid"), []),
    ],
)
def test_too_few_held_out_images_are_told_with_their_number(
    count: int, metrics: tuple[str, ...], said: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=np.zeros((count, 4, 4), np.uint8), labels=np.arange(count) % 2)
    config = TrialConfig(
        data=DataConfig(name="npz", root=str(path)),
        evaluate=EvaluateConfig(quality=metrics),  # type: ignore[arg-type]
    )
    found = caveats(config, load(config.data))
    assert len(found) == len(said)
    for text, expected in zip(found, said, strict=True):
        assert re.search(expected, text), text
