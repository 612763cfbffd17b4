"""Operators as modules: a Linearizer's core, learned or fixed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from linearizer_core.errors import InputValueError
from linearizer_core.operators.affine import AffineOperator, Operator
from linearizer_core.operators.base import LinearOperator
from linearizer_core.short import Short


class OperatorModule(Short, ABC):
    """A module that holds a linear or affine operator; ``operator()`` returns its current value with gradients.

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
    def operator(self) -> Operator:
        """The operator ``(batch, in_dim)`` to ``(batch, out_dim)``, with its gradients."""

    def initialise(self, z: Tensor) -> None:
        """Fit data-dependent parameters to latents ``(count, in_dim)``; most operators have none."""

    def forward(self, z: Tensor) -> Tensor:
        """A z, or A z + b, for each row: ``(batch, in_dim)`` to ``(batch, out_dim)``."""
        return self.operator().apply(z)

    def extra_repr(self) -> str:
        return repr(self.operator()).partition("(")[2].removesuffix(")")


class FixedOperator(OperatorModule):
    """A linear or affine operator that is not trained: its tensors are buffers, saved and moved with the module.

    Numbers that are not tensors, such as α of αI + U C Vᵀ, belong to the module and not to its ``state_dict``. Complex
    tensors are stored by ``torch.view_as_real``, so that ``double()`` and ``to`` convert them too; half precision has
    no complex tensors, and there ``operator`` raises ``InputValueError``. Results that the operator has computed about
    itself are kept until its tensors are replaced or changed in place (changes through ``Tensor.data``, which torch
    does not count, go unnoticed).

    An operator computed from parameters carries their graph, and ``copy.deepcopy`` refuses such tensors: anything that
    will be copied, such as the ``pinv()`` of a Linearizer that learns, must be made under ``torch.no_grad()``.

    >>> import torch, linearizer_core as lc
    >>> fixed = lc.operators.FixedOperator(lc.operators.DiagonalOperator(torch.tensor([1.0, 2.0])))
    >>> fixed, list(fixed.parameters()), fixed.double().operator().values
    (DiagonalOperator(2 → 2), [], tensor([1., 2.], dtype=torch.float64))
    """

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self._held = operator
        self._seen: list[tuple[Tensor, int]] = []
        """The buffers from which the held operator was assembled, each with its version counter at that time."""
        self._names: dict[str, str] = {}
        """The buffer's name for each tensor of the operator: factors that are one tensor share one buffer."""
        self._complex: set[str] = set()
        """The names of the buffers that hold complex tensors as pairs of real numbers."""
        first: dict[int, str] = {}
        for name, tensor in _tensors(operator):
            self._names[name] = first.setdefault(id(tensor), name)
            if first[id(tensor)] == name and tensor.is_complex():
                self._complex.add(name)
                self.register_buffer(name, torch.view_as_real(tensor.resolve_conj()))
            elif first[id(tensor)] == name:
                self.register_buffer(name, tensor)
        if not self._complex:
            self._seen = self._now()

    def operator(self) -> Operator:
        if not self._is_current():
            now = self._now()
            tensors = {
                name: _as_complex(buffer) if name in self._complex else buffer for name, buffer in self.named_buffers()
            }
            self._held = _with_tensors(self._held, {name: tensors[first] for name, first in self._names.items()})
            self._seen = now
        return self._held

    def _now(self) -> list[tuple[Tensor, int]]:
        # Changes of inference tensors are not counted: -1 means that they may have changed.
        return [(buffer, -1 if buffer.is_inference() else buffer._version) for buffer in self.buffers()]

    def _is_current(self) -> bool:
        """Whether the held operator matches the current buffers."""
        now = self._now()
        return len(now) == len(self._seen) and all(
            buffer is before and version == count >= 0
            for (buffer, version), (before, count) in zip(now, self._seen, strict=True)
        )

    def __getstate__(self) -> dict[str, Any]:
        # Copied tensors restart their version counters, so a copy must reassemble its operator.
        return {**self.__dict__, "_seen": []}

    def __repr__(self) -> str:
        return repr(self._held)


def as_module(operator: Operator | OperatorModule) -> OperatorModule:
    """A module of a fixed operator; a learned one is returned unchanged. Raises ``TypeError`` for anything else."""
    if isinstance(operator, OperatorModule):
        return operator
    if isinstance(operator, LinearOperator | AffineOperator):
        return FixedOperator(operator)
    kind = type(operator).__name__
    raise TypeError(
        "operator must be a LinearOperator, an AffineOperator, or a module that learns one (an OperatorModule), "
        f"got {kind}"
    )


def _as_complex(pairs: Tensor) -> Tensor:
    if pairs.dtype not in (torch.float32, torch.float64):
        name = str(pairs.dtype).removeprefix("torch.")
        raise InputValueError(
            f"an operator with complex tensors must be float32 or float64, but was converted to {name}"
        )
    return torch.view_as_complex(pairs)


def _tensors(value: Any, prefix: str = "") -> list[tuple[str, Tensor]]:
    """The tensors of nested dataclasses, with names that are valid for buffers."""
    found: list[tuple[str, Tensor]] = []
    for field in fields(value) if is_dataclass(value) else ():
        part, name = getattr(value, field.name), f"{prefix}{field.name}"
        found += [(name, part)] if isinstance(part, Tensor) else _tensors(part, f"{name}_")
    return found


def _with_tensors(value: Any, tensors: dict[str, Tensor], prefix: str = "") -> Any:
    """Nested dataclasses with their tensors replaced, by the names that ``_tensors`` gives them."""
    if not is_dataclass(value) or isinstance(value, type):
        return value
    names = {field.name: f"{prefix}{field.name}" for field in fields(value)}
    return type(value)(
        **{
            field: tensors[name] if name in tensors else _with_tensors(getattr(value, field), tensors, f"{name}_")
            for field, name in names.items()
        }
    )
