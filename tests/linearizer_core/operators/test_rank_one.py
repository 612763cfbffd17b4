"""Rank-one perturbed matrices against torch.linalg, and thousands of merges of P4 against inversions."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from linearizer_core.operators.base import DenseOperator, LinearOperator
from linearizer_core.operators.rank_one import P4, RankOnePerturbed, dyadic_rotation

close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def eye(dim: int) -> Tensor:
    return torch.eye(dim, dtype=torch.float64)


def build(dim: int, seed: int = 0) -> tuple[RankOnePerturbed, Tensor]:
    """An operator, and the matrix that it is."""
    matrix, u, v = normal(dim, dim, seed=seed) + 3 * eye(dim), normal(dim, seed=seed + 1), normal(dim, seed=seed + 2)
    inverse, log_abs_det = torch.linalg.inv(matrix), torch.linalg.slogdet(matrix).logabsdet
    return RankOnePerturbed(matrix, inverse, log_abs_det, u, v), matrix + torch.outer(u, v)


def same(operator: LinearOperator, matrix: Tensor) -> None:
    """The operator is still a rank-one perturbed one, is ``matrix``, and carries its inverse and determinant."""
    assert isinstance(operator, RankOnePerturbed)
    assert operator.shape == matrix.shape
    z = normal(3, len(matrix), seed=9)
    close(operator.to_dense(), matrix)
    close(operator.apply(z), z @ matrix.T)
    close(operator.inverse().apply(z), z @ torch.linalg.inv(matrix).T)
    close(operator.logdet(), torch.linalg.slogdet(matrix).logabsdet)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(1, 9), st.integers(0, 20))
def test_against_the_matrix(dim: int, seed: int) -> None:
    a, a_matrix = build(dim, 3 * seed)
    b, b_matrix = build(dim, 3 * seed + 100)
    same(a, a_matrix)
    same(a.adjoint(), a_matrix.T)
    same(a.inverse(), torch.linalg.inv(a_matrix))
    same(a.inverse().inverse(), a_matrix)
    same(a.pinv(), torch.linalg.inv(a_matrix))
    same(a.scale(-0.4), -0.4 * a_matrix)
    same(a @ b, a_matrix @ b_matrix)
    same((a @ b).adjoint() @ a, (a_matrix @ b_matrix).T @ a_matrix)
    same(a.power(3), torch.linalg.matrix_power(a_matrix, 3))
    same(a.power(-2), torch.linalg.matrix_power(a_matrix, -2))
    same(a.merged(), a_matrix)
    assert not a.merged().u.any()
    close(a.merged().matrix, a_matrix)
    close(a.merged().matrix_inverse, torch.linalg.inv(a_matrix))
    close(a.merged().log_abs_det, torch.linalg.slogdet(a_matrix).logabsdet)
    close(a.trace(), a_matrix.trace())
    y = normal(4, dim, seed=7)
    close(a.solve(y), y @ torch.linalg.inv(a_matrix).T)
    close(a.solve(a.apply(y)), y)


def test_what_leaves_the_structure() -> None:
    a, matrix = build(5)
    zero = a.scale(0.0)
    assert isinstance(zero, DenseOperator)
    assert not zero.to_dense().any()
    close((a @ DenseOperator(2 * eye(5))).to_dense(), 2 * matrix)
    close((DenseOperator(2 * eye(5)) @ a).to_dense(), 2 * matrix)
    close(a.add(a).to_dense(), 2 * matrix)
    close(a.exp(0.1).to_dense(), torch.linalg.matrix_exp(0.1 * matrix))
    close(a.singular_values(), torch.linalg.svdvals(matrix))
    rcond = 0.5
    close(a.pinv(rcond).to_dense(), torch.linalg.pinv(matrix, rcond=rcond))


def test_no_factorisation_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    a, matrix = build(5)
    y = normal(2, 5)
    expected = torch.linalg.solve(matrix, y.T).T
    log_abs_det = torch.linalg.slogdet(matrix).logabsdet
    for name in ("inv", "solve", "svd", "svdvals", "slogdet", "det", "lu", "pinv", "qr"):
        monkeypatch.delattr(torch.linalg, name)
    close(a.solve(y), expected)
    close(a.pinv().apply(y), expected)
    close(a.merged().corrected().inverse().apply(y), expected)
    close((a @ a).logdet(), 2 * log_abs_det)
    close(a.inverse().logdet(), -log_abs_det)
    p4 = P4(6).double()
    with torch.no_grad():
        p4.u.normal_()
    p4.merge()
    p4.correct()


def test_a_singular_one() -> None:
    """δ = 0: the pseudo-inverse is of the matrix, and nothing is solved."""
    u, v = normal(4, seed=1), normal(4, seed=2)
    a = RankOnePerturbed(eye(4), eye(4), torch.zeros((), dtype=torch.float64), -u / (u @ v), v)
    assert abs(a.delta) < 1e-15
    close(a.pinv().to_dense(), torch.linalg.pinv(a.to_dense(), rcond=1e-12))
    assert a.rank() == 3
    with pytest.raises(ValueError, match=r"the operator is singular \(1 \+ vᵀA⁻¹u = .*\); use lstsq"):
        a.solve(normal(1, 4))
    exactly = RankOnePerturbed(eye(1), eye(1), torch.zeros(()).double(), -eye(1)[0], eye(1)[0])
    assert exactly.logdet() == -math.inf


def test_gradients() -> None:
    a, _ = build(4)
    z = normal(3, 4, seed=5)
    uses: list[Callable[[RankOnePerturbed], Tensor]] = [
        lambda w: w.apply(z),
        lambda w: w.inverse().apply(z),
        lambda w: w.solve(z),
        lambda w: w.logdet(),
        lambda w: w.merged().matrix_inverse,
        lambda w: (w @ w).apply(z),
    ]
    for use in uses:

        def value(u: Tensor, v: Tensor, use: Callable[[RankOnePerturbed], Tensor] = use) -> Tensor:
            return use(RankOnePerturbed(a.matrix, a.matrix_inverse, a.log_abs_det, u, v))

        assert torch.autograd.gradcheck(value, (a.u.clone().requires_grad_(), a.v.clone().requires_grad_()))


def test_newton_schulz_squares_the_error() -> None:
    a, _ = build(6)
    rough = RankOnePerturbed(a.matrix, a.matrix_inverse + 1e-3 * normal(6, 6, seed=8), a.log_abs_det, a.u, a.v)
    residual = eye(6) - rough.matrix @ rough.matrix_inverse
    close(eye(6) - a.matrix @ rough.corrected().matrix_inverse, residual @ residual, rtol=0, atol=1e-14)
    assert (rough.corrected(3).matrix_inverse - a.matrix_inverse).norm() < 1e-14
    assert residual.norm() > 1e-3


def test_p4_starts_as_an_exact_rotation() -> None:
    for dim in (1, 2, 3, 4, 7, 64):
        for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
            rotation = dyadic_rotation(dim).to(dtype).double()
            assert torch.equal(rotation @ rotation.T, eye(dim))
    assert (dyadic_rotation(64) != 0).float().mean() > 0.5  # channels really mix
    p4 = P4(7).double()
    same(p4.operator(), p4.matrix)
    assert not p4.u.any()
    assert p4.operator().logdet() == 0
    assert {name for name, _ in p4.named_parameters()} == {"u", "v"}
    assert {name for name, _ in p4.named_buffers()} == {"matrix", "inverse", "log_abs_det", "merges"}


def residual(p4: P4) -> float:
    return float((p4.inverse @ p4.matrix - torch.eye(len(p4.u), dtype=p4.u.dtype)).abs().max())


def wander(p4: P4, merges: int, seed: int = 1) -> int:
    """Random perturbations until so many are merged; how many were out of bounds."""
    generator = torch.Generator().manual_seed(seed)
    done = refused = 0
    while done < merges:
        with torch.no_grad():
            p4.u.copy_(0.1 * torch.randn(len(p4.u), generator=generator, dtype=torch.float64))
        if p4.merge(generator=generator):
            done += 1
        else:
            refused += 1
    return refused


def test_ten_thousand_merges() -> None:
    torch.manual_seed(0)
    p4 = P4(16, correct_every=20, max_log_scale=5.0).double()
    refused = 0
    for seed in range(10):
        refused += wander(p4, 1000, seed)
        close(p4.inverse, torch.linalg.inv(p4.matrix), rtol=0, atol=1e-12)
        close(p4.log_abs_det, torch.linalg.slogdet(p4.matrix).logabsdet, rtol=0, atol=1e-9)
        assert residual(p4) < 1e-11
    assert p4.merges == 10_000
    assert p4.log_abs_det > 10  # it went far from where it started
    assert refused < 100


def test_correction_takes_away_what_merging_gathers() -> None:
    torch.manual_seed(0)
    corrected, uncorrected = P4(16, correct_every=10), P4(16, correct_every=10**9)
    uncorrected.load_state_dict(corrected.state_dict())
    for p4 in (corrected, uncorrected):
        wander(p4, 500)
    assert residual(corrected) < 2e-4
    assert residual(uncorrected) > 10 * residual(corrected)
    uncorrected.correct()
    assert residual(uncorrected) < 2e-4


def p4_with(u: Tensor, v: Tensor, **bounds: float) -> P4:
    """A P4 of the identity perturbed by u and v."""
    p4 = P4(len(u), **bounds).double()  # type: ignore[arg-type]
    with torch.no_grad():
        p4.matrix.copy_(eye(len(u)))
        p4.inverse.copy_(eye(len(u)))
        p4.u.copy_(u)
        p4.v.copy_(v)
    return p4


def axis(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# u along the first axis with v = (1, 1, 0): δ = 1 + u_1, and log|det W| = log|δ|.
@pytest.mark.parametrize(
    ("u1", "bounds", "merged"),
    [
        (0.5, {}, True),
        (-2.5, {}, True),  # the determinant changes its sign
        (-1.0, {}, False),  # δ = 0
        (-1 + 1e-9, {}, False),
        (-0.96, {}, False),  # log 0.04 < -3
        (-0.94, {}, True),
        (19.0, {}, True),
        (20.0, {}, False),
        (20.0, {"max_log_delta": 4.0}, True),
        (1.7, {"max_log_scale": 1 / 3}, True),  # log 2.7 < 1
        (1.8, {"max_log_scale": 1 / 3}, False),
        (1e300, {"max_log_delta": 1e9, "max_log_scale": 1e9}, True),
        (1e308, {"max_log_delta": 1e9, "max_log_scale": 1e9}, False),  # W overflows: v = (10, 10, 0)
    ],
)
def test_bounds(u1: float, bounds: dict[str, float], merged: bool) -> None:
    v = axis(10, 10, 0) if u1 == 1e308 else axis(1, 1, 0)
    p4 = p4_with(axis(u1, 0, 0), v, **bounds)
    before = {name: value.clone() for name, value in p4.state_dict().items()}
    assert p4.merge(generator=torch.Generator().manual_seed(0)) is merged
    if merged:
        expected = eye(3)
        expected[0, :2] += u1
        assert torch.equal(p4.matrix, expected)
        if u1 < 100:
            close(p4.inverse, torch.linalg.inv(expected))
            close(p4.log_abs_det, torch.linalg.slogdet(expected).logabsdet)
        assert not p4.u.any()
        assert torch.equal(p4.v, normal(3))
        assert p4.merges == 1
    else:
        for name, value in p4.state_dict().items():
            assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("which", ["u", "v"])
def test_perturbations_that_are_not_finite_are_dropped(bad: float, which: str) -> None:
    p4 = p4_with(axis(1, 2, 3), axis(1, 1, 1))
    with torch.no_grad():
        getattr(p4, which)[1] = bad
    optimiser = torch.optim.Adam(p4.parameters())
    for parameter in p4.parameters():
        parameter.grad = torch.full_like(parameter, math.nan)
    optimiser.step()
    assert not p4.merge(optimiser, torch.Generator().manual_seed(0))
    assert torch.equal(p4.matrix, eye(3))
    assert torch.equal(p4.inverse, eye(3))
    assert p4.merges == p4.log_abs_det == 0
    assert not p4.u.any()
    assert torch.equal(p4.v, normal(3))
    assert all(not value.any() for state in optimiser.state.values() for value in state.values())


def test_merging_does_not_change_the_operator() -> None:
    torch.manual_seed(0)
    p4 = P4(8).double()
    with torch.no_grad():
        p4.u.normal_(std=0.1)
    matrix, log_det = p4.operator().to_dense().detach().clone(), p4.operator().logdet().detach().clone()
    drawn = p4.v.detach().clone()
    assert p4.merge()
    close(p4.operator().to_dense(), matrix)
    close(p4.operator().logdet(), log_det)
    assert not torch.equal(p4.v, drawn)


def test_the_optimiser_forgets_the_old_perturbation_and_only_that() -> None:
    torch.manual_seed(0)
    p4, other = P4(4), torch.nn.Parameter(torch.ones(3))
    optimiser = torch.optim.Adam([*p4.parameters(), other], lr=1e-2)
    assert p4.merge(optimiser)  # before there is any state
    for _ in range(3):
        optimiser.zero_grad()
        (p4.operator().apply(torch.randn(5, 4)).square().sum() + other.square().sum()).backward()
        optimiser.step()
    kept = {name: value.clone() for name, value in optimiser.state[other].items()}
    assert p4.merge(optimiser)
    for parameter in p4.parameters():
        assert set(optimiser.state[parameter]) == {"step", "exp_avg", "exp_avg_sq"}
        assert all(not value.any() for value in optimiser.state[parameter].values())
    assert all(value.any() for value in kept.values())
    assert all(torch.equal(optimiser.state[other][name], value) for name, value in kept.items())
    # The first step after a merge is one of a new optimiser: of size lr in each coordinate of u.
    optimiser.zero_grad()
    p4.operator().apply(torch.randn(5, 4)).square().sum().backward()
    optimiser.step()
    torch.testing.assert_close(p4.u.detach().abs(), torch.full((4,), 1e-2), rtol=1e-3, atol=0)
    descent = torch.optim.SGD(p4.parameters(), lr=0.1)  # keeps None for the momentum
    descent.step()
    assert p4.merge(descent)


def test_penalty() -> None:
    inside = p4_with(axis(0.5, 0, 0), axis(1, 0, 0))
    assert inside.penalty() == 0
    for u1 in (math.exp(5.0) - 1, math.exp(-5.0) - 1, -math.exp(5.0) - 1):
        p4 = p4_with(axis(u1, 0, 0), axis(1, 0, 0))
        close(p4.penalty(), axis(4.0)[0], rtol=1e-6, atol=0)  # (5 - 3)²
        p4.penalty().backward()
        assert p4.u.grad is not None
        with torch.no_grad():
            p4.u.sub_(1e-6 * p4.u.grad * (1 + abs(u1)) ** 2)
        assert p4.penalty() < 4
    wide = p4_with(axis(math.exp(5.0) - 1, 0, 0), axis(1, 0, 0), max_log_delta=4.0)
    close(wide.penalty(), axis(1.0)[0], rtol=1e-6, atol=0)
    wide = p4_with(axis(math.exp(7.0) - 1, 0, 0), axis(1, 0, 0), max_log_delta=4.0)
    close(wide.penalty(), axis(9.0)[0], rtol=1e-6, atol=0)
    still = P4(3)
    still.penalty().backward()
    assert still.u.grad is not None
    assert still.u.grad.abs().sum() == 0


def fit(merge_every: int | None, steps: int = 600, dim: int = 6) -> list[float]:
    """Losses of fitting W to a random matrix from the identity."""
    torch.manual_seed(0)
    target = torch.linalg.qr(normal(dim, dim, seed=4))[0] * torch.linspace(0.5, 2, dim, dtype=torch.float64)
    p4 = p4_with(torch.zeros(dim, dtype=torch.float64), normal(dim))
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(p4.parameters(), lr=0.05)
    losses = []
    for step in range(steps):
        optimiser.zero_grad()
        loss = (p4.operator().to_dense() - target).square().sum() + p4.penalty()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
        if merge_every and step % merge_every == merge_every - 1:
            p4.merge(optimiser, generator)
    close(p4.inverse, torch.linalg.inv(p4.matrix))
    return losses


def test_training_with_merges_reaches_a_matrix_that_one_perturbation_cannot() -> None:
    merging, single = fit(merge_every=15), fit(merge_every=None)
    assert merging[-1] < 0.01 * merging[0]
    assert single[-1] > 0.1 * single[0]


def test_a_cpu_generator_gives_the_same_vectors_in_every_dtype() -> None:
    for dtype in (torch.float32, torch.float64):
        p4 = P4(3).to(dtype)
        assert p4.merge(generator=torch.Generator().manual_seed(0))
        assert torch.equal(p4.v, normal(3).to(dtype))


def test_it_goes_on_from_its_state() -> None:
    torch.manual_seed(0)
    p4 = P4(5, correct_every=7).double()
    wander(p4, 5, seed=2)
    torch.manual_seed(1)
    again = P4(5, correct_every=7).double()
    again.load_state_dict(p4.state_dict())
    for layer in (p4, again):
        wander(layer, 10, seed=3)
    for name, value in p4.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert again.merges == 15


def test_errors() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0 and 10"):
        P4(0)
    with pytest.raises(ValueError, match="at least 1, got 3 and 0"):
        P4(3, correct_every=0)
    with pytest.raises(ValueError, match=r"the bounds must be positive, got 0\.0 and 3\.0"):
        P4(3, max_log_delta=0.0)
    with pytest.raises(ValueError, match=r"the bounds must be positive, got 3\.0 and nan"):
        P4(3, max_log_scale=math.nan)


def test_a_singular_operator_composes_as_its_matrix() -> None:
    axis = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    eye = torch.eye(3, dtype=torch.float64)
    singular = RankOnePerturbed(eye, eye, torch.zeros((), dtype=torch.float64), -axis, axis)
    expected = torch.diag(torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64))
    product = singular.compose(singular)
    torch.testing.assert_close(product.to_dense(), expected)
    torch.testing.assert_close(product.pinv().to_dense(), expected)
    assert float(product.logdet()) == -torch.inf
    with pytest.raises(ValueError, match="singular"):
        singular.power(2).solve(axis[None])
