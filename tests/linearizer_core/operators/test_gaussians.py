"""Gaussians of low rank plus diagonal against torch's own, whatever they share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.distributions import LowRankMultivariateNormal

from linearizer_core.errors import InputValueError
from linearizer_core.operators import AffineGaussians

DIM, COUNT, ROWS = 7, 3, 40


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussians(rank: int = 2, spread: str = "diagonal", shared: str = "none", count: int = COUNT) -> AffineGaussians:
    """In float64, with values that no start has."""
    made = AffineGaussians(DIM, count, rank, spread=spread, shared=shared).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=seeded(1), dtype=torch.float64))
        made.proportions.copy_(torch.tensor([0.5, 0.3, 0.2])[:count] if count > 1 else torch.ones(1))
    return made


def reference(made: AffineGaussians, k: int) -> LowRankMultivariateNormal:
    factors = made.factors[k if made.shared != "all" else 0]
    log_spread = made.log_spread[k if made.shared == "none" else 0]
    return LowRankMultivariateNormal(made.offsets[k], factors, (2 * log_spread).exp().expand(DIM).contiguous())


def test_densities_are_those_of_torchs_low_rank_normal() -> None:
    z = torch.randn(ROWS, DIM, generator=seeded(2), dtype=torch.float64)
    which = torch.arange(ROWS) % COUNT
    for spread in ("scale", "diagonal"):
        for shared in ("none", "spread", "all"):
            made = gaussians(spread=spread, shared=shared)
            expected = torch.stack([reference(made, k).log_prob(z) for k in range(COUNT)], 1)
            torch.testing.assert_close(made.log_probs(z), expected)
            torch.testing.assert_close(made.log_prob(z, which), expected[torch.arange(ROWS), which])
            joint = expected + made.proportions.log()
            torch.testing.assert_close(made.mixture(z), torch.logsumexp(joint, 1))
            torch.testing.assert_close(made.posterior(z), torch.softmax(joint, 1))
            for k in range(COUNT):
                torch.testing.assert_close(made.covariance(k), reference(made, k).covariance_matrix)


def test_rank_zero_is_a_gaussian_of_the_spread_alone() -> None:
    z = torch.randn(ROWS, DIM, generator=seeded(2), dtype=torch.float64)
    made = gaussians(rank=0, spread="scale", shared="all")
    scale = made.log_spread.detach().exp().item()
    for k in range(COUNT):
        normal = torch.distributions.Normal(made.offsets[k], scale)
        torch.testing.assert_close(made.log_probs(z)[:, k], normal.log_prob(z).sum(1))
        torch.testing.assert_close(made.log_prob(z, torch.full((ROWS,), k)), normal.log_prob(z).sum(1))


def test_one_gaussian_learns_the_covariance_of_what_it_is_shown() -> None:
    """The maximum-likelihood factor analyser of a full-rank spread and enough factors is the sample covariance."""
    mixing = torch.randn(DIM, DIM, generator=seeded(3), dtype=torch.float64)
    z = torch.randn(4000, DIM, generator=seeded(4), dtype=torch.float64) @ mixing + 2
    made = AffineGaussians(DIM, 1, DIM).double()
    made.initialise(z, torch.zeros(len(z), dtype=torch.int64))
    optimiser = torch.optim.LBFGS(made.parameters(), max_iter=300, line_search_fn="strong_wolfe")
    which = torch.zeros(len(z), dtype=torch.int64)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = -made.log_prob(z, which).mean()
        value.backward()
        return value

    optimiser.step(loss)
    sample = torch.cov(z.T, correction=0)
    assert float((made.covariance(0) - sample).norm() / sample.norm()) < 0.02
    torch.testing.assert_close(made.offsets[0].detach(), z.mean(0), atol=0.02, rtol=0.02)


def test_moments_are_those_of_the_mixture() -> None:
    made = gaussians()
    mean, total, within = made.moments()
    picks = torch.multinomial(made.proportions, 200_000, replacement=True, generator=seeded(5))
    drawn = torch.stack([reference(made, k).mean for k in range(COUNT)])[picks].detach()
    noise = torch.randn(len(picks), DIM, generator=seeded(6), dtype=torch.float64)
    for k in range(COUNT):
        drawn[picks == k] += noise[picks == k] @ torch.linalg.cholesky(made.covariance(k)).T
    assert float((drawn.mean(0) - mean).norm() / mean.norm()) < 0.02
    assert float((torch.cov(drawn.T) - total).norm() / total.norm()) < 0.03
    expected = sum(weight * made.covariance(k) for k, weight in enumerate(made.proportions))
    torch.testing.assert_close(within, expected)


def test_groups_without_images_start_from_the_mean_of_all() -> None:
    made = AffineGaussians(2, 3, 1)
    z = torch.tensor([[0.0, 0.0], [2.0, 2.0], [4.0, 4.0]])
    made.initialise(z, torch.tensor([0, 0, 2]))
    torch.testing.assert_close(made.offsets.detach(), torch.tensor([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]]))


def test_a_count_or_a_rank_that_cannot_be_is_refused() -> None:
    with pytest.raises(InputValueError, match="count must be at least 1, got 0"):
        AffineGaussians(4, 0, 1)
    for rank in (-1, 5):
        with pytest.raises(InputValueError, match="between 0 and the dimension 4"):
            AffineGaussians(4, 2, rank)


def test_latents_of_another_shape_are_refused() -> None:
    gaussians = AffineGaussians(4, 2, 1)
    for z in (torch.zeros(3, 1), torch.zeros(3, 5), torch.zeros(4)):
        for ask in (gaussians.log_probs, gaussians.mixture, gaussians.posterior):
            with pytest.raises(InputValueError, match=r"latents must be \(batch, 4\), got"):
                ask(z)
    with pytest.raises(InputValueError, match=r"each of 3 latents needs a group, got \(1,\)"):
        gaussians.log_prob(torch.zeros(3, 4), torch.tensor([0]))
    with pytest.raises(InputValueError, match="at least one latent, got none"):
        gaussians.initialise(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize("options", [{"spread": "full"}, {"shared": "some"}])
def test_words_that_nobody_knows_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputValueError, match="spread and shared must be among scale, diagonal and none, spread, all"):
        AffineGaussians(4, 2, 1, **options)
