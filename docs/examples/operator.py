"""An operator of the style family: a diagonal with few distinct entries."""

from dataclasses import dataclass

import torch
from torch import nn

from linearizer_core import plugins
from linearizer_core.operators import DiagonalOperator, OperatorModule


@dataclass(frozen=True)
class Ties:
    groups: int = plugins.setting(4, "different entries, each for as many latents in a row", ge=1)


class Tied(OperatorModule):
    """A learned diagonal whose entries are equal within groups, initially the identity."""

    def __init__(self, dim: int, groups: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.ones(groups))
        self.register_buffer("group", torch.arange(dim) * groups // dim)

    def operator(self) -> DiagonalOperator:
        return DiagonalOperator(self.values[self.get_buffer("group")])


@plugins.operator(family="style")
def tied(dim: int, settings: Ties) -> OperatorModule:
    """On latents (batch, dim)."""
    return Tied(dim, min(settings.groups, dim))
