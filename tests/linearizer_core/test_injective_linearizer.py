"""Linearizers with injective networks: exact where A g_x(x) is in the range of g_y, with a residual elsewhere."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from linearizer_core.flows.base import Identity
from linearizer_core.flows.conditioners import MLP
from linearizer_core.flows.couplings import AdditiveCoupling
from linearizer_core.flows.injective import Injective, InjectiveConv, InjectiveDense, InjectiveNetwork
from linearizer_core.flows.squeeze import Flatten
from linearizer_core.injective import InjectiveLinearizer
from linearizer_core.operators import DenseOperator

close = partial(torch.testing.assert_close, rtol=0, atol=1e-10)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def number(value: Tensor) -> float:
    return float(value.detach())


def eye(dim: int) -> Tensor:
    return torch.eye(dim, dtype=torch.float64)


def dense(seed: int, inputs: int = 3, latent: int = 14) -> InjectiveNetwork:
    """A network of two scattered layers with extra rows."""
    torch.manual_seed(seed)
    g = InjectiveNetwork([InjectiveDense(inputs, 2 * inputs + 1), InjectiveDense(2 * inputs + 1, latent)]).double()
    with torch.no_grad():
        for i, parameter in enumerate(g.parameters()):
            parameter.add_(0.3 * normal(*parameter.shape, seed=seed + i))
    return g


def images(seed: int) -> InjectiveNetwork:
    """A network from images ``(1, 3, 4)`` to 24 dimensions."""
    torch.manual_seed(seed)
    return InjectiveNetwork([InjectiveConv(1, 2, 3, (3, 4)), Flatten((2, 3, 4))]).double()


def plain(dim: int) -> InjectiveDense:
    """g(x) = (x₊, x₋), whose left inverse is y₊ - y₋."""
    g = InjectiveDense(dim, 2 * dim).double()
    with torch.no_grad():
        g.mixing.permutation.copy_(torch.eye(dim))
        g.mixing.sign.fill_(1)
        for parameter in g.parameters():
            parameter.zero_()
    return g


@pytest.mark.parametrize(("g", "event"), [(dense(1), (3,)), (images(1), (1, 3, 4)), (plain(4), (4,))])
def test_the_identity_reproduces_its_input(g: Injective, event: tuple[int, ...]) -> None:
    x = 10 * normal(6, *event)
    latent = g(x).shape[1]
    f = InjectiveLinearizer(g, DenseOperator(eye(latent)))
    close(f(x), x)
    close(f.residual(x), torch.zeros(6, dtype=torch.float64))
    assert torch.equal(f.encode(x), g(x))
    assert torch.equal(f.decode(f.encode(x)), g.left_inverse(g(x)))


def test_is_encode_apply_decode() -> None:
    g_x, g_y = dense(1), images(2)
    matrix, x = normal(24, 14), normal(5, 3)
    f = InjectiveLinearizer(g_x, DenseOperator(matrix), g_y)
    close(f.latent(x), g_x(x) @ matrix.T)
    assert f(x).shape == (5, 1, 3, 4)
    close(f(x), g_y.left_inverse(g_x(x) @ matrix.T))


def test_on_the_range_outputs_are_exact() -> None:
    """An operator that maps the range of g_x into that of g_y: g_y first does to a latent what g_x does to x."""
    g_x, then = dense(1), dense(2, inputs=14, latent=60)
    g_y = InjectiveNetwork([g_x, then])
    x = normal(7, 3)
    targets = g_y(x)
    # Seven pairs of latents are met exactly by a least-squares operator.
    matrix = (torch.linalg.pinv(g_x(x)) @ targets).T.detach()
    f = InjectiveLinearizer(g_x, DenseOperator(matrix), g_y)
    close(f.latent(x), targets)
    close(f(x), x)
    close(g_y(f(x)), f.latent(x))
    close(f.residual(x), torch.zeros(7, dtype=torch.float64))
    other = normal(50, 3, seed=3)
    assert number(f.residual(other).max()) > 1e-2


def test_closed_form() -> None:
    """On (x₊, x₋): positive scaling and swapping the halves stay in the range, a negative one leaves it for good."""
    x = normal(6, 3)
    g = plain(3)
    zero = torch.zeros(3, 3, dtype=torch.float64)
    swap = torch.cat([torch.cat([zero, eye(3)], 1), torch.cat([eye(3), zero], 1)])
    for matrix, expected, residual in (
        (2.5 * eye(6), 2.5 * x, 0.0),
        (swap, -x, 0.0),
        # g(-x) = (x₋, x₊) differs from -(x₊, x₋) by |x| in both halves.
        (-eye(6), -x, 2**0.5),
        # Both halves y = |x|: the left inverse gives 0, which is g(0) = 0, at the distance ‖y‖.
        (eye(6) + swap, 0 * x, 1.0),
    ):
        f = InjectiveLinearizer(g, DenseOperator(matrix))
        close(f(x), expected)
        close(f.residual(x), torch.full((6,), residual, dtype=torch.float64))


def test_residual_is_positive_off_the_range() -> None:
    f = InjectiveLinearizer(dense(1), DenseOperator(normal(14, 14)), dense(2))
    residual = f.residual(normal(20, 3))
    assert residual.shape == (20,)
    assert number(residual.min()) > 1e-2
    # It does not depend on the size of what it is measured against, but for the bias.
    plain_f = InjectiveLinearizer(plain(3), DenseOperator(normal(6, 6)))
    x = normal(5, 3)
    torch.testing.assert_close(plain_f.residual(100 * x), plain_f.residual(x))


def test_residual_bounds_the_distance_to_the_range() -> None:
    """The range of x ↦ (x₊, x₋) in one dimension is the two half-axes: distances to it are known."""
    g = plain(1)
    f = InjectiveLinearizer(g, DenseOperator(torch.tensor([[1.0, 0.0], [0.5, 0.0]], dtype=torch.float64)))
    residual = f.residual(torch.tensor([[2.0]], dtype=torch.float64))
    # z = (2, 1): the nearest point is (2, 0), the one found g(2 - 1) = (1, 0).
    close(residual, torch.tensor([2**0.5 / 5**0.5], dtype=torch.float64))
    assert number(residual) >= 1 / 5**0.5


def test_residual_at_zero() -> None:
    x, operator = normal(2, 1), DenseOperator(torch.zeros(2, 2, dtype=torch.float64))
    g = plain(1)
    assert InjectiveLinearizer(g, operator).residual(x).tolist() == [0, 0]
    moved = plain(1)
    with torch.no_grad():
        moved.bias.fill_(1)
    # The left inverse -1 of zero has the image 0 again; with a third row, free to be 1 there, it has not.
    assert InjectiveLinearizer(g, operator, moved).residual(x).tolist() == [0, 0]
    extra = InjectiveDense(1, 3).double()
    with torch.no_grad():
        extra.extra.bias.fill_(9)  # type: ignore[union-attr, operator]
        extra.extra.weight.zero_()  # type: ignore[union-attr, operator]
    operator = DenseOperator(torch.zeros(3, 2, dtype=torch.float64))
    assert (InjectiveLinearizer(g, operator, extra).residual(x) > 1e300).all()


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_an_operator_of_small_rank(rank: int) -> None:
    """Left inverses of ReLU layers are affine, so outputs fill an affine space of the operator's rank."""
    matrix = normal(24, rank, seed=1) @ normal(rank, 14, seed=2)
    f = InjectiveLinearizer(dense(1), DenseOperator(matrix), images(2))
    y = f(normal(40, 3)).flatten(1)
    origin = f.decode(torch.zeros(1, 24, dtype=torch.float64)).flatten(1)
    assert int(torch.linalg.matrix_rank(y - origin, rtol=1e-10)) == rank


def test_couplings_bend_what_a_small_rank_spans() -> None:
    torch.manual_seed(0)
    coupling = AdditiveCoupling(3, partial(MLP, width=8, activation="gelu"))
    with torch.no_grad():
        for parameter in coupling.parameters():
            parameter.add_(normal(*parameter.shape).float())
    g_y = InjectiveNetwork([Identity(), coupling, InjectiveDense(3, 6)]).double()
    f = InjectiveLinearizer(dense(1), DenseOperator(normal(6, 1, seed=1) @ normal(1, 14, seed=2)), g_y)
    y = f(normal(40, 3))
    assert int(torch.linalg.matrix_rank(y - y.mean(0), rtol=1e-3)) == 3
    f = InjectiveLinearizer(g_y, DenseOperator(eye(6)))
    close(f(y), y)


def test_gradients_reach_all_parts() -> None:
    g_x, g_y, matrix = dense(1), images(2), normal(24, 14).requires_grad_()
    f = InjectiveLinearizer(g_x, DenseOperator(matrix), g_y)
    x = normal(4, 3)
    (f(x).square().sum() + f.residual(x).sum()).backward()
    for parameter in (matrix, *g_x.parameters(), *g_y.parameters()):
        assert parameter.grad is not None
        assert parameter.grad.any()


def test_dimensions_must_fit() -> None:
    x = normal(2, 3)
    with pytest.raises(ValueError, match=r"g_x must end in vectors of the operator's 13 dimensions, got \(2, 14\)"):
        InjectiveLinearizer(dense(1), DenseOperator(normal(14, 13)))(x)
    with pytest.raises(ValueError, match=r"the operator's 14 dimensions, got \(2, 2, 3, 4\)"):
        InjectiveLinearizer(images(1).layers[0], DenseOperator(normal(14, 14)), dense(1))(normal(2, 1, 3, 4))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"the layer has 14 outputs, got \(2, 13\) to invert"):
        InjectiveLinearizer(dense(1), DenseOperator(normal(13, 14)))(x)
