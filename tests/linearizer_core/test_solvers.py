"""The solvers against matrix exponentials: order of convergence, and steps as matrices."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from torch import Tensor

from linearizer_core.errors import LinsweepError
from linearizer_core.operators import DenseOperator, Factors, LinearOperator, ScaledIdentityPlusLowRank
from linearizer_core.solvers import DOPRI5, EULER, HEUN, RK4, SOLVERS, Solver

DIM = 4
ORDERS = [(EULER, 1), (HEUN, 2), (RK4, 4), (DOPRI5, 5)]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


FIELD = normal(DIM, DIM) / 2
START = normal(3, DIM, seed=1)


def velocity(t: float, z: Tensor) -> Tensor:
    """z' = 3 cos(3t) M z, with solution z(1) = exp(sin(3) M) z(0)."""
    return 3 * math.cos(3 * t) * z @ FIELD.T


def solution() -> Tensor:
    return START @ torch.from_numpy(expm(math.sin(3.0) * FIELD.numpy())).T


def by_steps(solver: Solver, steps: int) -> Tensor:
    z = START
    for i in range(steps):
        z = solver.step(velocity, i / steps, 1 / steps, z)
    return z


def by_operators(solver: Solver, steps: int) -> Tensor:
    total: LinearOperator = DenseOperator(torch.eye(DIM, dtype=torch.float64))
    for i in range(steps):
        times = [(i + c) / steps for c in solver.c]
        slopes: list[LinearOperator] = [DenseOperator(3 * math.cos(3 * t) * FIELD) for t in times]
        total = solver.step_operator(slopes, 1 / steps).compose(total)
    return total.apply(START)


@pytest.mark.parametrize("integrate", [by_steps, by_operators])
@pytest.mark.parametrize(("solver", "order"), ORDERS)
def test_order_of_convergence(integrate: Callable[[Solver, int], Tensor], solver: Solver, order: int) -> None:
    steps = (32, 64, 128) if order < 5 else (16, 32, 64)
    errors = [float((integrate(solver, n) - solution()).norm()) for n in steps]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize(("solver", "order"), ORDERS)
def test_a_step_on_a_constant_field_is_the_exponentials_taylor_polynomial(solver: Solver, order: int) -> None:
    h, matrix = 0.3, FIELD.numpy()
    expected = sum(np.linalg.matrix_power(h * matrix, n) / math.factorial(n) for n in range(order + 1))
    if solver is DOPRI5:  # has six stages: (hM)⁶/600 is beyond its order (Hairer & Wanner, Solving ODEs II, IV.2)
        expected = expected + np.linalg.matrix_power(h * matrix, 6) / 600
    operator = solver.step_operator([DenseOperator(FIELD)] * len(solver.c), h)
    np.testing.assert_allclose(operator.to_dense().numpy(), expected, atol=1e-14)
    stepped = solver.step(lambda _, z: z @ FIELD.T, 0.0, h, START)
    np.testing.assert_allclose(stepped.numpy(), START.numpy() @ np.asarray(expected).T, atol=1e-14)


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("structured", [False, True])
def test_step_operator_is_the_step(solver: Solver, structured: bool) -> None:
    h, u, v = 0.2, normal(DIM, 2, seed=2), normal(DIM, 2, seed=3)
    fields: list[LinearOperator] = []
    for i in range(len(solver.c)):
        core = normal(2, 2, seed=10 + i)
        low_rank = ScaledIdentityPlusLowRank(0.1 * i - 1, core, Factors(u, v))
        fields.append(low_rank if structured else DenseOperator(low_rank.to_dense()))
    stages = iter(fields)
    stepped = solver.step(lambda _, z: next(stages).apply(z), 0.0, h, START)
    operator = solver.step_operator(fields, h)
    torch.testing.assert_close(operator.apply(START), stepped, rtol=0, atol=1e-13)
    assert isinstance(operator, ScaledIdentityPlusLowRank if structured else DenseOperator)
    if isinstance(operator, ScaledIdentityPlusLowRank):
        assert operator.core.shape == (2, 2)


STAGE_TIMES = {
    "euler": [0.5],
    "heun": [0.5, 0.7],
    "rk4": [0.5, 0.6, 0.6, 0.7],
    "dopri5": [0.5, 0.54, 0.56, 0.66, 0.5 + 0.2 * 8 / 9, 0.7],
}


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_stages_are_evaluated_at_their_times(solver: Solver) -> None:
    times: list[float] = []

    def record(t: float, z: Tensor) -> Tensor:
        times.append(t)
        return z

    solver.step(record, 0.5, 0.2, START)
    assert times == pytest.approx(STAGE_TIMES[solver.name])


@pytest.mark.parametrize(("solver", "order"), ORDERS)
def test_tableau_satisfies_the_order_conditions(solver: Solver, order: int) -> None:
    """Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, table 2.2."""
    stages = len(solver.c)
    a = np.zeros((stages, stages))
    for i, row in enumerate(solver.a):
        a[i, : len(row)] = row
    b, c = np.array(solver.b), np.array(solver.c)
    np.testing.assert_allclose(a.sum(1), c)
    ac = a @ c
    conditions: list[list[tuple[float, float]]] = [
        [(b.sum(), 1)],
        [(b @ c, 1 / 2)],
        [(b @ c**2, 1 / 3), (b @ ac, 1 / 6)],
        [(b @ c**3, 1 / 4), (b @ (c * ac), 1 / 8), (b @ a @ c**2, 1 / 12), (b @ a @ ac, 1 / 24)],
        [
            (b @ c**4, 1 / 5),
            (b @ (c**2 * ac), 1 / 10),
            (b @ ac**2, 1 / 20),
            (b @ (c * (a @ c**2)), 1 / 15),
            (b @ a @ c**3, 1 / 20),
            (b @ (c * (a @ ac)), 1 / 30),
            (b @ a @ (c * ac), 1 / 40),
            (b @ a @ a @ c**2, 1 / 60),
            (b @ a @ a @ ac, 1 / 120),
        ],
        [(b @ c**5, 1 / 6)],
    ]
    for found, expected in chain.from_iterable(conditions[:order]):
        assert found == pytest.approx(expected)
    assert not all(found == pytest.approx(expected) for found, expected in conditions[order])


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_steps_and_their_matrices_at_every_size(solver: Solver) -> None:
    """Of z' = λz with λ = 1/2 on z of sizes from 0 to 1e30: the polynomial of the method's order, times z."""
    h, rate = 0.3, 0.5
    order = {known.name: order for known, order in ORDERS}[solver.name]
    growth = sum((h * rate) ** n / math.factorial(n) for n in range(order + 1))
    growth += (h * rate) ** 6 / 600 if solver is DOPRI5 else 0
    for size in (0.0, 1e-30, 1.0, 1e30):
        for dim in (1, 3):
            z = torch.full((2, dim), size, dtype=torch.float64)
            operator = solver.step_operator([DenseOperator(rate * torch.eye(dim).double())] * len(solver.c), h)
            for found in (solver.step(lambda _, at: rate * at, 0.0, h, z), operator.apply(z)):
                torch.testing.assert_close(found, growth * z, rtol=1e-12, atol=0)


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_fields_that_are_nothing_huge_or_not_finite(solver: Solver) -> None:
    z = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    stages = len(solver.c)
    for value in (math.nan, math.inf, -math.inf):
        assert not solver.step(lambda _, at, value=value: value * at, 0.0, 0.1, z).isfinite().any()
        # Of one stage alone: all that it has a part in.
        operators: list[LinearOperator] = [DenseOperator(torch.eye(2).double()) for _ in range(stages)]
        operators[-1] = DenseOperator(torch.full((2, 2), value, dtype=torch.float64))
        found = solver.step_operator(operators, 0.1)
        assert not found.apply(z).isfinite().any()
        with pytest.raises(LinsweepError, match="not finite"):
            found.rank()
    nothing = DenseOperator(torch.zeros(2, 2).double())
    assert torch.equal(solver.step_operator([nothing] * stages, 0.1).to_dense(), torch.eye(2).double())
    assert torch.equal(solver.step(lambda _, at: 0 * at, 0.0, 0.1, z), z)
    # The product of six fields of 1e30 is within float64, of 1e60 beyond it: it says so.
    wide = DenseOperator(torch.full((2, 2), 1e30, dtype=torch.float64))
    torch.testing.assert_close(
        solver.step_operator([wide] * stages, 1.0).apply(z), solver.step(lambda _, at: wide.apply(at), 0.0, 1.0, z)
    )
    if stages == 6:
        beyond = DenseOperator(torch.full((2, 2), 1e60, dtype=torch.float64))
        assert not solver.step_operator([beyond] * stages, 1.0).apply(z).isfinite().any()


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_an_empty_batch_and_no_dimension_are_stepped_as_what_they_are(solver: Solver) -> None:
    stages = len(solver.c)
    for rows, dim in ((0, 3), (2, 0), (0, 0)):
        z, eye = torch.zeros(rows, dim, dtype=torch.float64), torch.eye(dim, dtype=torch.float64)
        assert solver.step(lambda _, at: at, 0.0, 0.1, z).shape == (rows, dim)
        operator = solver.step_operator([DenseOperator(eye)] * stages, 0.1)
        assert operator.apply(z).shape == (rows, dim)
        assert operator.rank() == dim
