"""Linear operators as modules: what a Linearizer has as its core, learned or fixed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor, nn

from linearizer_core.operators.base import LinearOperator
from linearizer_core.short import Short


class OperatorModule(Short, ABC):
    """A module that holds a linear operator: ``operator()`` is it as it is now, with the gradients of its parameters.

    >>> import torch, linearizer_core as lc
    >>> class Multiple(lc.operators.OperatorModule):
    ...     def __init__(self, dim):
    ...         super().__init__()
    ...         self.dim, self.factor = dim, torch.nn.Parameter(torch.ones(()))
    ...     def operator(self):
    ...         return lc.operators.DiagonalOperator(self.factor.expand(self.dim))
    >>> Multiple(3)
    Multiple(3 → 3)
    """

    @abstractmethod
    def operator(self) -> LinearOperator:
        """The operator ``(batch, in_dim)`` to ``(batch, out_dim)``, with its gradients."""

    def initialise(self, z: Tensor) -> None:
        """Fit data-dependent parameters to latents ``(count, in_dim)``; most have none."""

    def forward(self, z: Tensor) -> Tensor:
        """A z for each row: ``(batch, in_dim)`` to ``(batch, out_dim)``."""
        return self.operator().apply(z)

    def extra_repr(self) -> str:
        return repr(self.operator()).partition("(")[2].removesuffix(")")


class FixedOperator(OperatorModule):
    """A linear operator that is not trained: its tensors are buffers, saved and moved with the module.

    Numbers that are no tensors, such as α of αI + U C Vᵀ, belong to the module and not to its ``state_dict``. What the
    operator has computed of itself is kept until its tensors are others.

    >>> import torch, linearizer_core as lc
    >>> fixed = lc.operators.FixedOperator(lc.operators.DiagonalOperator(torch.tensor([1.0, 2.0])))
    >>> fixed, list(fixed.parameters()), fixed.double().operator().values
    (DiagonalOperator(2 → 2), [], tensor([1., 2.], dtype=torch.float64))
    """

    def __init__(self, operator: LinearOperator) -> None:
        super().__init__()
        self._held = operator
        self._names: dict[str, str] = {}
        """The name of the buffer for each tensor of the operator: factors that are one tensor stay one."""
        first: dict[int, str] = {}
        for name, tensor in _tensors(operator):
            self._names[name] = first.setdefault(id(tensor), name)
            if first[id(tensor)] == name:
                self.register_buffer(name, tensor)
        self.register_load_state_dict_post_hook(_rebuild)  # type: ignore[no-untyped-call]

    def operator(self) -> LinearOperator:
        buffers = dict(self.named_buffers())
        if any(tensor is not buffers[self._names[name]] for name, tensor in _tensors(self._held)):
            _rebuild(self)
        return self._held

    def __repr__(self) -> str:
        return repr(self.operator())


def as_module(operator: LinearOperator | OperatorModule) -> OperatorModule:
    """A module of a fixed operator, and a learned one as it is; raises ``TypeError`` for anything else."""
    if isinstance(operator, OperatorModule):
        return operator
    if isinstance(operator, LinearOperator):
        return FixedOperator(operator)
    kind = type(operator).__name__
    raise TypeError(f"operator must be a LinearOperator, or a module that learns one (an OperatorModule), got {kind}")


def _rebuild(module: nn.Module, _keys: Any = None) -> None:
    """Put the operator together from the buffers, without what was computed of its tensors before."""
    assert isinstance(module, FixedOperator)
    buffers = dict(module.named_buffers())
    module._held = _with_tensors(module._held, {name: buffers[first] for name, first in module._names.items()})


def _tensors(value: Any, prefix: str = "") -> list[tuple[str, Tensor]]:
    """The tensors of nested dataclasses by names that a buffer may have."""
    found: list[tuple[str, Tensor]] = []
    for field in fields(value) if is_dataclass(value) else ():
        part, name = getattr(value, field.name), f"{prefix}{field.name}"
        found += [(name, part)] if isinstance(part, Tensor) else _tensors(part, f"{name}_")
    return found


def _with_tensors(value: Any, tensors: dict[str, Tensor], prefix: str = "") -> Any:
    """Nested dataclasses with tensors by the names that ``_tensors`` gives them."""
    if not is_dataclass(value) or isinstance(value, type):
        return value
    names = {field.name: f"{prefix}{field.name}" for field in fields(value)}
    return type(value)(
        **{
            field: tensors[name] if name in tensors else _with_tensors(getattr(value, field), tensors, f"{name}_")
            for field, name in names.items()
        }
    )
