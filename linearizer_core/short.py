"""Modules with a one-line ``repr``: that of a flow of many layers would otherwise fill a screen."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


class Short(nn.Module):
    """A module whose ``repr`` is one line: its name and ``extra_repr``.

    >>> from torch import nn
    >>> class Pair(Short):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.first, self.second = nn.ReLU(), nn.Tanh()
    >>> Pair()
    Pair(first=ReLU(), second=Tanh())
    """

    def extra_repr(self) -> str:
        """The text between the parentheses: the parts of the module."""
        return ", ".join(f"{name}={child!r}" for name, child in self.named_children())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


def by(shape: Sequence[int]) -> str:
    """A shape as text.

    >>> by((1, 8, 8))
    '1×8×8'
    """
    return "×".join(str(side) for side in shape)
