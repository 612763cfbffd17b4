"""Sample quality over several draws of samples: its mean, and beside it how far the draws are apart."""

from __future__ import annotations

from statistics import fmean, stdev
from typing import Any

import torch

from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.evaluation import SAMPLE_SEED, Quality, score_keys, scores
from linearizer_core.experiment.families.base import Family

STRIDE = 1_000_003
"""Between the seeds of draws: ``seeds.sampling`` 0, 1, 2, … each have draws of their own."""


@torch.no_grad()
def over_draws(
    family: Family, model: Any, config: TrialConfig, quality: Quality, summary: dict[str, float]
) -> dict[str, float]:
    """The scores of samples as means over ``evaluate.repeats`` draws of noise, the first of which ``summary`` has.

    ``<split>/<metric>_sampled``, and the same as ``_collapsed`` where a family calls it that;
    ``<split>/<metric>_draws`` is the standard deviation over the draws. Curves and everything else stay those of the
    first draw. Nothing where there is one draw, or the family makes no samples.
    """
    values = {key: [summary[key]] for key in score_keys(config.evaluate, "sampled") if key in summary}
    if config.evaluate.repeats < 2 or not values:
        return {}
    for draw in range(1, config.evaluate.repeats):
        generator = torch.Generator().manual_seed(SAMPLE_SEED + config.seeds.sampling + STRIDE * draw)
        images = family.sample(model, config.evaluate.samples, config, generator)
        for key, value in scores(quality, images, "sampled").items():
            values[key].append(value)
    found: dict[str, float] = {}
    for key, drawn in values.items():
        stem = key.removesuffix("sampled")
        found |= {name: fmean(drawn) for how in ("sampled", "collapsed") if (name := f"{stem}{how}") in summary}
        found[f"{stem}draws"] = stdev(drawn)
    return found
