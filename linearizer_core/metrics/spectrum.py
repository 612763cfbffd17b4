"""Numbers that describe the singular values of an operator."""

from __future__ import annotations

import torch
from torch import Tensor


def effective_rank(singular_values: Tensor) -> float:
    """exp of the entropy of the normalised singular values (Roy & Vetterli, 2007): 1 … their count."""
    share = singular_values.double() / singular_values.double().sum()
    return float(torch.exp(-(share * share.clamp_min(1e-300).log()).sum()))


def energy_rank(singular_values: Tensor, fraction: float = 0.99) -> int:
    """The fewest singular values whose squares hold ``fraction`` of the sum of all squares."""
    energy = singular_values.double().square().sort(descending=True).values.cumsum(0)
    return int((energy < fraction * energy[-1]).sum()) + 1
