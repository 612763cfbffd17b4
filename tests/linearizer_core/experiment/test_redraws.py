"""Several draws of samples: their mean and spread, and nothing else than before where there is one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from linearizer_core.experiment.configuration import EvaluateConfig, TrialConfig, config_hash, to_mapping
from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.evaluation import Quality, sampling_noise, scores, sureness_keys
from linearizer_core.experiment.redraws import over_draws


class Noise:
    """What samples noise, brighter the longer it is asked."""

    asked = 0

    def sample(self, model: Any, count: int, config: TrialConfig, generator: torch.Generator) -> Tensor:
        self.asked += 1
        return torch.randn(count, 1, 8, 8, generator=generator) + 0.1 * self.asked


def configured(**evaluate: Any) -> TrialConfig:
    return replace(TrialConfig(), evaluate=EvaluateConfig(quality=("swd",), samples=64, **evaluate))


def first(config: TrialConfig, quality: Quality) -> dict[str, float]:
    images = torch.randn(64, 1, 8, 8, generator=sampling_noise(config))
    return {**scores(quality, images, "sampled"), **scores(quality, images, "collapsed"), "quality/swd_k1": 1.0}


def test_draws_have_their_mean_and_their_spread(digits: ImageData) -> None:
    quality, config, family = Quality(["swd"], digits, None, "cpu"), configured(repeats=3), Noise()
    summary = first(config, quality)
    found = over_draws(family, None, config, quality, summary)  # type: ignore[arg-type]
    assert family.asked == 2
    again = Noise()
    drawn = []
    for draw in (1, 2):
        generator = torch.Generator().manual_seed(99 + 1_000_003 * draw)
        images = again.sample(None, 64, config, generator)
        drawn.append(scores(quality, images, "sampled")["test/swd_sampled"])
    values = torch.tensor([summary["test/swd_sampled"], *drawn], dtype=torch.float64)
    assert found["test/swd_sampled"] == found["test/swd_collapsed"] == pytest.approx(float(values.mean()))
    assert found["test/swd_draws"] == pytest.approx(float(values.std()))
    assert set(found) == {
        f"{split}/swd_{how}" for split in ("quality", "test") for how in ("sampled", "collapsed", "draws")
    }


def test_one_draw_is_as_it_was(digits: ImageData) -> None:
    quality, config, family = Quality(["swd"], digits, None, "cpu"), configured(), Noise()
    assert over_draws(family, None, config, quality, first(config, quality)) == {}  # type: ignore[arg-type]
    assert family.asked == 0
    assert sureness_keys(config.evaluate) == []
    assert sureness_keys(configured(repeats=2).evaluate) == ["quality/swd_draws", "test/swd_draws"]


def test_what_makes_no_samples_draws_none(digits: ImageData) -> None:
    quality, config = Quality(["swd"], digits, None, "cpu"), configured(repeats=3)
    assert over_draws(Noise(), None, config, quality, {"quality/psnr": 1.0}) == {}  # type: ignore[arg-type]


def test_the_default_keeps_the_names_of_old_records() -> None:
    values = to_mapping(TrialConfig())
    old = to_mapping(TrialConfig())
    del old["evaluate"]["repeats"]
    assert config_hash(values) == config_hash(old)
    values["evaluate"]["repeats"] = 2
    assert config_hash(values) != config_hash(old)
