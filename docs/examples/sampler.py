"""A sampler: points that fill the space evenly."""

from dataclasses import dataclass
from typing import Literal

import optuna

from linearizer_core import plugins


@dataclass(frozen=True)
class Sequence:
    kind: Literal["sobol", "halton"] = plugins.setting("sobol", "the sequence of low discrepancy")


@plugins.sampler()
def even(seed: int, settings: Sequence) -> optuna.samplers.BaseSampler:
    """The same seed gives the same points, which a resumed sweep relies on."""
    return optuna.samplers.QMCSampler(qmc_type=settings.kind, scramble=True, seed=seed)
