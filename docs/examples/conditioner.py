"""A conditioner: a perceptron with a shortcut around its hidden layers."""

from torch import Tensor, nn

from linearizer_core import plugins
from linearizer_core.flows.conditioners import MLP, Conditioner


class Residual(Conditioner):
    """W x + MLP(x), initially zero, so that a coupling starts as the identity."""

    def __init__(self, inputs: int, outputs: int, width: int, activation: str) -> None:
        super().__init__(labelled=False)
        self.deep = MLP(inputs, outputs, width=width, activation=activation)
        self.direct = nn.Linear(inputs, outputs)
        nn.init.zeros_(self.direct.weight)
        nn.init.zeros_(self.direct.bias)

    def network(self, x: Tensor, label: Tensor | None) -> Tensor:
        return self.direct(x) + self.deep.network(x, label)


@plugins.conditioner(on="vectors")
def residual(inputs: int, outputs: int, width: int, activation: str) -> Conditioner:
    """(batch, inputs) to (batch, outputs)."""
    return Residual(inputs, outputs, width, activation)
