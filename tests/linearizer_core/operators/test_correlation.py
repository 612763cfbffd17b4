"""The operator of canonical correlations against the Gaussian it stands for."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from sklearn.cross_decomposition import CCA
from torch import Tensor

from linearizer_core.operators import LearnedCorrelation

close = partial(torch.testing.assert_close, rtol=0, atol=1e-9)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def learned() -> LearnedCorrelation:
    """From 6 dimensions to 4, of rank 3, with random frames."""
    made = LearnedCorrelation(6, 3, 4).double().requires_grad_(False)
    made.u.copy_(normal(4, 3))
    made.v.copy_(normal(6, 3, seed=1))
    made.logits.copy_(torch.tensor([2.0, 0.0, -1.0]))
    return made


def joint(learned: LearnedCorrelation) -> torch.distributions.MultivariateNormal:
    """x and y side by side, with unit covariances and A between them."""
    a = learned.operator().to_dense()
    covariance = torch.cat([torch.cat([torch.eye(6), a.T], 1), torch.cat([a, torch.eye(4)], 1)])
    return torch.distributions.MultivariateNormal(torch.zeros(10).double(), covariance)


def test_the_density_is_that_of_the_joint_gaussian(learned: LearnedCorrelation) -> None:
    x, y = normal(7, 6, seed=2), normal(7, 4, seed=3)
    alone = torch.distributions.MultivariateNormal(torch.zeros(6).double(), torch.eye(6).double())
    close(learned.log_prob(y, x) + alone.log_prob(x), joint(learned).log_prob(torch.cat([x, y], 1)))


def test_the_information_is_that_of_gaussians(learned: LearnedCorrelation) -> None:
    close(learned.information(), -0.5 * joint(learned).covariance_matrix.logdet())


def test_singular_values_are_the_correlations(learned: LearnedCorrelation) -> None:
    values = learned.operator().singular_values()[:3]
    close(values, learned.logits.sigmoid().sqrt())


def test_it_starts_from_the_canonical_correlations_of_scikit_learn() -> None:
    shared = normal(4000, 2)
    x = torch.cat([shared + 0.3 * normal(4000, 2, seed=1), normal(4000, 2, seed=2)], 1)
    y = shared * torch.tensor([-1.0, 1.0]) + torch.tensor([0.3, 1.0]) * normal(4000, 2, seed=3)
    learned = LearnedCorrelation(4, 2, 2).double()
    learned.fit(x, y)
    a, b = CCA(n_components=2, scale=False).fit_transform(x.numpy(), y.numpy())
    expected = [abs(torch.corrcoef(torch.tensor([a[:, i].tolist(), b[:, i].tolist()]))[0, 1]) for i in range(2)]
    torch.testing.assert_close(
        learned.logits.sigmoid().sqrt().detach().float(), torch.stack(expected), rtol=0, atol=1e-3
    )
    # y is -x along the first axis, and x along the second.
    assert learned.operator().to_dense().detach()[:, :2].diagonal().sign().tolist() == [-1, 1]


def test_ranks_it_cannot_have() -> None:
    with pytest.raises(ValueError, match="rank must be between 1 and the dimension 4, got 5"):
        LearnedCorrelation(6, 5, 4)
