"""Backpropagation that recovers activations from outputs (Gomez et al., The Reversible Residual Network, 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from linearizer_core.errors import InputValueError

TOLERANCE = 1e-3
"""Largest error of a recovered activation, relative to the largest entry, for which gradients are still returned."""

Direction = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]
"""Returns a value and its log-determinant ``(batch,)``, or None for a log-determinant of zero."""


class Step(NamedTuple):
    """An invertible map in one direction, its other direction, and the module that holds both."""

    run: Direction
    undo: Direction
    module: nn.Module

    def reversed(self) -> Step:
        """The step in the other direction."""
        return Step(self.undo, self.run, self.module)


def run(steps: Sequence[Step], x: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
    """Apply the steps in turn: the value ``(batch, *event)`` and the sum of the log-determinants ``(batch,)``."""
    total: Tensor | None = None
    for step in steps:
        x, log_det = step.run(x, label)
        if log_det is not None:
            total = log_det if total is None else total + log_det
    return x, x.new_zeros(len(x)) if total is None else total


_LOST: ContextVar[list[Exception] | None] = ContextVar("lost", default=None)
"""Collects errors of the backward pass within ``deferred``; if None, they are raised."""


@contextmanager
def deferred(lost: list[Exception]) -> Iterator[None]:
    """Chains that run within the context raise no ``ArithmeticError`` in their backward pass.

    The error is appended to ``lost`` instead and the gradients are NaN, since other workers wait for them either way.
    """
    token = _LOST.set(lost)
    try:
        yield
    finally:
        _LOST.reset(token)


def recompute(steps: Sequence[Step], x: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
    """Like ``run``, but stores only the first and last value for the backward pass (Gomez et al., 2017, algorithm 1).

    The backward pass takes the steps in reverse: it recovers each step's input from its output through the inverse,
    runs the step again from there and passes gradients through it, at the cost of one more inverse and forward pass.
    Gradients are exact up to the rounding errors of the inverses, which compound with depth by their condition numbers.
    The last recovered value is therefore compared with the result of the first step: a chain that loses its precision
    raises an error instead of returning wrong gradients. Labels are data: they get no gradient.

    Raises ``ValueError`` for less than single precision, under autocast and for a label that requires a gradient. The
    backward pass raises ``ValueError`` if a parameter or buffer has changed since or if the graph is to be
    differentiated again, and ``ArithmeticError`` if the recovered value is off by more than ``TOLERANCE``.
    """
    if not torch.is_grad_enabled():
        return run(steps, x, label)
    if torch.is_autocast_enabled(x.device.type) or x.dtype not in (torch.float32, torch.float64):
        mode = "autocast" if torch.is_autocast_enabled(x.device.type) else x.dtype
        raise InputValueError(f"recomputation needs float32 or float64 for maps and inverses, got {mode}")
    if label is not None and label.requires_grad:
        raise InputValueError("recomputation gives labels no gradient, got a label that requires one")
    learned = [_learned(step) for step in steps]
    start = 0 if x.requires_grad else next((i for i, found in enumerate(learned) if found), len(steps))
    x, before = run(steps[:start], x, label)
    parameters = dict.fromkeys(parameter for found in learned for parameter in found)
    x, after = _Recompute.apply(steps[start:], label, x, *parameters)
    return x, before + after


class _Recompute(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, steps: Sequence[Step], label: Tensor | None, x: Tensor, *parameters: nn.Parameter
    ) -> tuple[Tensor, Tensor]:
        y, log_det = run(steps, x, label)
        ctx.save_for_backward(x, y, label)
        ctx.steps, ctx.parameters, ctx.versions = steps, parameters, _versions(steps)
        ctx.lost = _LOST.get()  # now: the backward pass may run in another thread
        return y, log_det

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_log_det: Tensor) -> tuple[Any, ...]:
        # ``once_differentiable`` would return constants here whenever the incoming gradient is constant.
        if torch.is_grad_enabled():
            raise InputValueError("recomputation supports first derivatives only, got create_graph=True")
        try:
            return _Recompute._backward(ctx, grad, grad_log_det)
        except ArithmeticError as error:
            if ctx.lost is None:
                raise
            ctx.lost.append(error)
        x = ctx.saved_tensors[0]
        lost = [torch.full_like(each, math.nan) if each.requires_grad else None for each in (x, *ctx.parameters)]
        return None, None, *lost

    @staticmethod
    def _backward(ctx: Any, grad: Tensor | None, grad_log_det: Tensor) -> tuple[Any, ...]:
        x, y, label = ctx.saved_tensors
        finite = bool(y.isfinite().all())
        now = _versions(ctx.steps)
        if any(a is not b or i != j for (a, i), (b, j) in zip(now, ctx.versions, strict=True)):
            raise InputValueError("recomputation needs unchanged maps: a parameter or buffer has changed since")
        totals: dict[nn.Parameter, Tensor] = {}
        for i, step in reversed(list(enumerate(ctx.steps))):
            with torch.no_grad():
                before = step.undo(y, label)[0] if i else x
            before = before.detach().requires_grad_(i > 0 or x.requires_grad)
            learned = _learned(step)
            after, (grad, *terms) = _gradients(step, before, label, learned, grad, grad_log_det)
            # Where values are not finite, gradients are NaN without recomputation too.
            if i == 0 and finite and len(x):
                _compare(y, after)
            for parameter, term in zip(learned, terms, strict=True):
                if term is not None:
                    totals[parameter] = totals[parameter] + term if parameter in totals else term
            y = before.detach()
        return None, None, grad, *(totals.get(parameter) for parameter in ctx.parameters)


def _gradients(
    step: Step, x: Tensor, label: Tensor | None, learned: list[nn.Parameter], grad: Tensor | None, grad_log_det: Tensor
) -> tuple[Tensor, list[Tensor | None]]:
    """The step's value at x, and the gradients of x and the learned parameters (None where there is none)."""
    with torch.enable_grad():
        y, log_det = step.run(x, label)
    sides = [(y, grad), (log_det, grad_log_det)]
    ends = [(end, g) for end, g in sides if end is not None and end.requires_grad and g is not None]
    inputs = [t for t in (x, *learned) if t.requires_grad]
    found: tuple[Tensor | None, ...] = ()
    if ends:
        found = torch.autograd.grad([end for end, _ in ends], inputs, [g for _, g in ends], allow_unused=True)
    reached = dict(zip(inputs, found, strict=False))
    return y.detach(), [reached.get(t) for t in (x, *learned)]


def _compare(recovered: Tensor, value: Tensor) -> None:
    scale = value.abs().max().clamp_min(torch.finfo(value.dtype).eps ** 0.5)
    error = (recovered - value).abs().max() / scale
    if not error <= TOLERANCE:
        raise ArithmeticError(
            f"recomputation needs inverses accurate to {TOLERANCE:.0e} of the largest entry, but a recovered "
            f"activation is off by {float(error):.1e}; use memory: store or a lower learning rate"
        )


def _learned(step: Step) -> list[nn.Parameter]:
    return [parameter for parameter in step.module.parameters() if parameter.requires_grad]


def _versions(steps: Sequence[Step]) -> list[tuple[Tensor, int]]:
    """The parameters and buffers, each with its version counter, which every write increments."""
    return [(t, t._version) for step in steps for t in (*step.module.parameters(), *step.module.buffers())]
