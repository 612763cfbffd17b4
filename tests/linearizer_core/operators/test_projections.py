"""Learned projections: projections at every moment of training, of a fixed rank or of one that is learned."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from linearizer_core import Linearizer
from linearizer_core.flows import Invertible
from linearizer_core.operators import DiagonalOperator, FrameProjection, OrthogonalProjection, SpectrumProjection

close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_a_frame_projection_stays_one_of_its_rank(rank: int) -> None:
    torch.manual_seed(0)
    learned = FrameProjection(6, rank).double()
    with torch.no_grad():
        learned.weight.add_(torch.randn(6, rank, dtype=torch.float64))
    operator = learned.operator()
    assert isinstance(operator, OrthogonalProjection)
    matrix = operator.to_dense().detach()
    close(matrix, learned.weight.detach() @ torch.linalg.pinv(learned.weight.detach()))
    close(matrix @ matrix, matrix)
    assert operator.rank() == rank
    z = torch.randn(4, 6, dtype=torch.float64)
    close(learned(z), z @ matrix)


def test_a_frame_is_learned() -> None:
    """The best projection of rank 2 is that of the two leading principal directions."""
    torch.manual_seed(0)
    scales = torch.tensor([3.0, 2.0, 0.3, 0.2, 0.1], dtype=torch.float64)
    frame, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))
    z = torch.randn(400, 5, dtype=torch.float64) * scales @ frame.T
    learned = FrameProjection(5, 2).double()
    optimiser = torch.optim.Adam(learned.parameters(), lr=0.05)
    for _ in range(200):
        optimiser.zero_grad()
        (learned(z) - z).square().mean().backward()
        optimiser.step()
    leading = torch.linalg.svd(z, full_matrices=False).Vh[:2]
    torch.testing.assert_close(learned.operator().to_dense().detach(), leading.T @ leading, rtol=0, atol=1e-3)


@pytest.mark.parametrize("rank", [0, 7])
def test_rank_out_of_range(rank: int) -> None:
    with pytest.raises(ValueError, match=f"rank must be between 1 and the dimension 6, got {rank}"):
        FrameProjection(6, rank)


def test_a_spectrum_is_zeros_and_ones_with_the_sigmoids_gradient() -> None:
    learned = SpectrumProjection(4).double()
    logits = torch.tensor([2.0, -0.1, 0.1, -3.0], dtype=torch.float64)
    with torch.no_grad():
        learned.logits.copy_(logits)
    assert learned.spectrum().tolist() == [1, 0, 1, 0]
    assert learned.rank() == 2
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    (weights * learned.spectrum()).sum().backward()
    assert learned.logits.grad is not None
    close(learned.logits.grad, weights * logits.sigmoid() * (1 - logits.sigmoid()))


def test_a_spectrum_projection_is_its_diagonal_operator() -> None:
    learned = SpectrumProjection(3)
    with torch.no_grad():
        learned.logits[1] = -1.0
    operator = learned.operator()
    assert isinstance(operator, DiagonalOperator)
    z = torch.randn(5, 3)
    assert torch.equal(learned(z), operator.apply(z))
    assert torch.equal(learned(learned(z)), learned(z))
    assert torch.equal(learned(z)[:, 1], torch.zeros(5))


def test_rank_is_learned_by_a_sparsity_term() -> None:
    """Coordinates whose loss exceeds the price of their 1 stay, the others go."""
    torch.manual_seed(0)
    z = torch.randn(500, 4) * torch.tensor([2.0, 1.0, 0.2, 0.05])
    learned = SpectrumProjection(4, logit=0.5)
    optimiser = torch.optim.Adam(learned.parameters(), lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        ((learned(z) - z).square().mean(0).sum() + 0.3 * learned.spectrum().sum()).backward()
        optimiser.step()
    assert learned.spectrum().tolist() == [1, 1, 0, 0]


def test_an_idempotent_linearizer(sinh: Invertible) -> None:
    torch.manual_seed(0)
    f = Linearizer(sinh, FrameProjection(5, 2).double().operator())
    x = torch.randn(6, 5, dtype=torch.float64)
    close(f(f(x)), f(x))
    assert float((f(x) - x).detach().norm()) > 0.1
