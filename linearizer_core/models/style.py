"""Style transfer: one invertible network, and one linear operator per style (arXiv 2510.08570, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from torch import Tensor, nn

from linearizer_core.errors import InputValueError
from linearizer_core.flows.base import Invertible
from linearizer_core.linearizer import Linearizer
from linearizer_core.models.base import Event, Model
from linearizer_core.operators.affine import Operator
from linearizer_core.operators.module import OperatorModule


class StyleTransfer(Model):
    """y_s = g⁻¹(A_s g(x)): images ``(batch, *event)`` in each of the styles s named in ``operators``.

    All styles share g, so every linear combination of their operators is a Linearizer of the same space.

    >>> import torch, linearizer_core as lc
    >>> g = lc.flows.coupling((1, 4, 4), depth=1, width=8)
    >>> styles = {"edges": lc.operators.diagonal(16), "blur": lc.operators.dense(16)}
    >>> model = lc.models.StyleTransfer(g, styles, (1, 4, 4))
    >>> x = torch.ones(2, 1, 4, 4)
    >>> model(x, "blur").shape, model.mix({"edges": 0.5, "blur": 0.5})(x).shape
    (torch.Size([2, 1, 4, 4]), torch.Size([2, 1, 4, 4]))
    """

    def __init__(self, g: Invertible, operators: Mapping[str, OperatorModule], event: Event) -> None:
        super().__init__()
        self.g = g
        self.operators = nn.ModuleDict(operators)
        self.event = event

    @property
    def styles(self) -> tuple[str, ...]:
        """The styles' names, in order."""
        return tuple(self.operators)

    def initialise(self, images: Tensor) -> None:
        """Fit the data-dependent parts to images ``(count, *event)``."""
        latents = self.g.initialise(images)
        for learned in self.operators.values():
            assert isinstance(learned, OperatorModule)
            learned.initialise(latents)

    def operator(self, style: str) -> Operator:
        """A_s with its gradients; raises ``ValueError`` for an unknown style."""
        if style not in self.operators:
            raise InputValueError(f"there is no style {style!r}; the styles are {', '.join(self.styles)}")
        learned = self.operators[style]
        assert isinstance(learned, OperatorModule)
        return learned.operator()

    def transfer(self, style: str) -> Linearizer:
        """x ↦ g⁻¹(A_s g(x)); raises ``ValueError`` for an unknown style."""
        return Linearizer(self.g, self.operator(style))

    def mix(self, weights: Mapping[str, float]) -> Linearizer:
        """x ↦ g⁻¹(Σ_s w_s A_s g(x)), a mix of styles by their operators (section 4.2, "style interpolation").

        In the induced space this is Σ_s w_s y_s, whatever the weights. Raises ``ValueError`` for no weights and for an
        unknown style.
        """
        if not weights:
            raise InputValueError("a mix needs the weight of at least one style")
        parts = [self.operator(style).scale(weight) for style, weight in weights.items()]
        return Linearizer(self.g, reduce(lambda total, part: total.add(part), parts))

    def forward(self, images: Tensor, style: str) -> Tensor:
        """Images ``(batch, *event)`` in a style."""
        return self.transfer(style)(images)
