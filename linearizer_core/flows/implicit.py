"""Roots of increasing maps, differentiated by the implicit function theorem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Increasing = Callable[..., tuple[Tensor, Tensor]]
"""``f(x, *parameters)`` returns its value, elementwise increasing in x, and the log of its x-derivative, both ``(…)``.

"""


def monotone_root(
    f: Increasing, y: Tensor, lower: Tensor, upper: Tensor, *parameters: Tensor, iterations: int = 100
) -> Tensor:
    """The x in [lower, upper] with f(x, *parameters) = y, entry by entry, differentiable in y and the parameters.

    ``y``, ``lower`` and ``upper`` are ``(…)``; the parameters have any shapes that f broadcasts to that. A bracketed
    Newton method runs to float precision relative to 1 + |x|, which takes few of the ``iterations``. The gradients are
    ∂x/∂y = 1/f′ and ∂x/∂θ = -f_θ/f′, to any order; they store x alone, whatever the iterations (Köhler, Krämer & Noé,
    Smooth Normalizing Flows, 2021). Entries that are not finite give NaN.

    Raises ``ArithmeticError`` if f does not reach y: the bracket holds no root, or the iterations ran out.
    """
    root: Tensor = _Root.apply(f, iterations, y, lower, upper, *parameters)
    return root


class _Root(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, f: Increasing, iterations: int, y: Tensor, lower: Tensor, upper: Tensor, *parameters: Tensor
    ) -> Tensor:
        x = _solve(lambda x: f(x, *parameters), y, lower, upper, iterations)
        ctx.f = f
        ctx.save_for_backward(x, *parameters)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        differentiable = torch.is_grad_enabled()
        needed = ctx.needs_input_grad[5:]
        with torch.enable_grad():
            # Views: x is itself a function of the parameters, and f_θ is the derivative at a fixed x.
            x, *parameters = (saved.view_as(saved) for saved in ctx.saved_tensors)
            value, log_derivative = ctx.f(x, *parameters)
        grad_y = grad * (-log_derivative).exp()
        wanted = [p for p, need in zip(parameters, needed, strict=True) if need]
        found = torch.autograd.grad(value, wanted, -grad_y, create_graph=differentiable) if wanted else ()
        remaining = iter(found)
        grads = [next(remaining) if need else None for need in needed]
        return None, None, grad_y, None, None, *grads


def _solve(
    f: Callable[[Tensor], tuple[Tensor, Tensor]], y: Tensor, lower: Tensor, upper: Tensor, iterations: int
) -> Tensor:
    # After a step this small the next has converged, as Newton's method is quadratic; a smaller bound would hit
    # rounding.
    tolerance = torch.finfo(y.dtype).eps ** 0.5
    previous = upper - lower
    x = lower + previous / 2
    for _ in range(iterations):
        value, log_derivative = f(x)
        lower = torch.where(value < y, x, lower)
        upper = torch.where(value > y, x, upper)
        newton = _newton(y, value, log_derivative)
        small = newton.abs() <= tolerance * (1 + x.abs())
        inside = (x + newton > lower) & (x + newton < upper)
        # Bisect wherever Newton's steps do not at least halve, so that no f can make them wander.
        trusted = small | (inside & (2 * newton.abs() <= previous))
        step = torch.where(trusted, newton, lower + (upper - lower) / 2 - x)
        x = x + step
        previous = step.abs()
        if bool((small | (step == 0) | ~x.isfinite()).all()):
            break
    value, log_derivative = f(x)
    newton = _newton(y, value, log_derivative)
    # Where f is steep, even the x closest to the root can be far from y in value.
    missed = ((value - y).abs() > tolerance * (1 + y.abs())) & (newton.abs() > tolerance * (1 + x.abs()))
    if bool(missed.any()):
        raise ArithmeticError(
            f"f must reach y inside the bracket within {iterations} iterations; it did not for {int(missed.sum())} of "
            f"{missed.numel()} entries"
        )
    # Where f is flat, the step is only f's rounding error.
    return torch.where(newton.abs() > tolerance * (1 + x.abs()), x, x + newton)


def _newton(y: Tensor, value: Tensor, log_derivative: Tensor) -> Tensor:
    step = (y - value) * (-log_derivative).exp()
    return torch.where(value == y, 0.0, step)  # also where the derivative underflows
