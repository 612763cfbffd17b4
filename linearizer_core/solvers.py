"""Explicit Runge-Kutta methods, as steps on vectors and as products of operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from linearizer_core.operators.base import LinearOperator


@dataclass(frozen=True)
class Solver:
    """A Butcher tableau: stage i is evaluated at t + c_i h from z + h Σ_j a_ij k_j; the step adds h Σ_i b_i k_i.

    >>> import torch, linearizer_core as lc
    >>> midpoint = Solver("midpoint", ((), (0.5,)), (0.0, 1.0), (0.0, 0.5))
    >>> midpoint.step(lambda t, z: z, 0.0, 0.5, torch.ones(1, 1))
    tensor([[1.6250]])
    >>> identity = lc.operators.DiagonalOperator(torch.ones(1))
    >>> midpoint.step_operator([identity, identity], 0.5).to_dense()
    tensor([[1.6250]])
    """

    name: str
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]

    def step(self, velocity: Callable[[float, Tensor], Tensor], t: float, h: float, z: Tensor) -> Tensor:
        """One step on vectors ``(batch, dim)`` from t to t + h, calling ``velocity`` once per stage."""
        slopes: list[Tensor] = []
        for row, c in zip(self.a, self.c, strict=True):
            point = z
            for weight, slope in zip(row, slopes, strict=True):
                if weight:
                    point = point + h * weight * slope
            slopes.append(velocity(t + c * h, point))
        for weight, slope in zip(self.b, slopes, strict=True):
            z = z + h * weight * slope
        return z

    def step_operator(self, velocities: list[LinearOperator], h: float) -> LinearOperator:
        """The same step as the matrix M, from the linear velocities V_i at the stage times.

        The stages nest: K_i = V_i (I + h Σ_j a_ij K_j), M = I + h Σ_i b_i K_i. Without the nesting, as in the public
        implementation, the map would differ from the one that stepping computes.
        """
        slopes: list[LinearOperator] = []
        for row, velocity in zip(self.a, velocities, strict=True):
            inner = _combine(row, slopes, h)
            slopes.append(velocity if inner is None else velocity.compose(inner.shift(1.0)))
        step = _combine(self.b, slopes, h)
        assert step is not None
        return step.shift(1.0)


def _combine(weights: tuple[float, ...], slopes: list[LinearOperator], h: float) -> LinearOperator | None:
    """h Σ w_i K_i over the nonzero weights, or None if there are none."""
    total: LinearOperator | None = None
    for weight, slope in zip(weights, slopes, strict=True):
        if weight:
            term = slope.scale(h * weight)
            total = term if total is None else total.add(term)
    return total


EULER = Solver("euler", ((),), (1.0,), (0.0,))
HEUN = Solver("heun", ((), (1.0,)), (1 / 2, 1 / 2), (0.0, 1.0))
RK4 = Solver("rk4", ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), (0.0, 0.5, 0.5, 1.0))
# The fifth-order method of Dormand & Prince (1980) without its embedded error estimate, since step sizes are given.
DOPRI5 = Solver(
    "dopri5",
    (
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    ),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0),
)
SOLVERS = {solver.name: solver for solver in (EULER, HEUN, RK4, DOPRI5)}
