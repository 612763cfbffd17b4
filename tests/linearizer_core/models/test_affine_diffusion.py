"""The diffusion of affine operators against the closed form of Gaussians and the Euler limit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.integrate import solve_ivp

from linearizer_core import flows
from linearizer_core.errors import InputValueError
from linearizer_core.metrics import psnr
from linearizer_core.models import AffineDiffusion, AffineOperators
from linearizer_core.models.affine_diffusion import gain
from linearizer_core.models.base import draw_labels
from linearizer_core.operators import AffineGaussians
from linearizer_core.solvers import SOLVERS

EVENT, DIM, COUNT = (1, 3, 4), 12, 3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model(rank: int = 4, g: str = "coupling") -> AffineDiffusion:
    """In float64, with random weights and Gaussians."""
    torch.manual_seed(0)
    flow = flows.coupling(EVENT, depth=2, width=8) if g == "coupling" else flows.identity(EVENT)
    made = AffineDiffusion(flow, AffineGaussians(DIM, COUNT, rank), EVENT).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=seeded(1), dtype=torch.float64))
    spread = torch.randn(DIM, DIM, generator=seeded(2), dtype=torch.float64)
    made.pullback.copy_(spread @ spread.T)
    return made


def noise(made: AffineDiffusion, count: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    return made.noise(count, seeded(3)), torch.arange(count) % COUNT


def test_operators_of_full_rank_are_the_symmetric_roots() -> None:
    made = model()
    operators = made.operators()
    for k in range(COUNT):
        root = operators.one(k).linear.to_dense()
        torch.testing.assert_close(root @ root, made.gaussians.covariance(k))
        torch.testing.assert_close(root, root.T)
        torch.testing.assert_close(operators.one(k).offset, made.gaussians.offsets[k].detach())


def test_leading_directions_are_those_that_move_images_most() -> None:
    """With M^½ A = U S Vᵀ the r leading columns of V keep the most of E‖M^½ A z0‖² (Eckart & Young, 1936)."""
    made = model()
    values, vectors = torch.linalg.eigh(made.pullback)
    half = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    for rank in (1, 3, DIM):
        operators = made.operators(rank)
        for k in range(COUNT):
            root = made.operators().one(k).linear.to_dense()
            _, s, vh = torch.linalg.svd(half @ root)
            law = operators.one(k).linear.to_dense()
            torch.testing.assert_close(law @ law, root @ vh[:rank].T @ vh[:rank] @ root)
            moved = torch.trace(half @ law @ law @ half)
            torch.testing.assert_close(moved, s[:rank].square().sum())


def test_leading_directions_by_covariance_are_its_eigenvectors() -> None:
    made = model()
    operators = made.operators(2, "covariance")
    for k in range(COUNT):
        values, vectors = torch.linalg.eigh(made.gaussians.covariance(k))
        law = operators.one(k).linear.to_dense()
        torch.testing.assert_close(law @ law, (vectors[:, -2:] * values[-2:]) @ vectors[:, -2:].T)


def test_samples_have_the_mean_and_the_covariance_of_their_gaussian() -> None:
    made = model(g="identity")
    count = 60_000
    x0 = made.noise(count, seeded(4))
    for k in (0, 2):
        images = made.sample(x0, torch.full((count,), k), made.operators()).flatten(1)
        expected = made.gaussians.covariance(k)
        assert float((torch.cov(images.T) - expected).norm() / expected.norm()) < 0.03
        torch.testing.assert_close(images.mean(0), made.gaussians.offsets[k].detach(), atol=0.05, rtol=0.0)


def test_the_velocity_is_the_conditional_mean_of_the_straight_path() -> None:
    """E[z1 - z0 | z_t] by least squares over many pairs, whose normal equations know nothing of the closed form."""
    variance, t = torch.tensor([0.2, 1.0, 5.0], dtype=torch.float64), 0.6
    z0 = torch.randn(400_000, 3, generator=seeded(5), dtype=torch.float64)
    z1 = torch.randn(400_000, 3, generator=seeded(6), dtype=torch.float64) * variance.sqrt()
    between = (1 - t) * z0 + t * z1
    fitted = (between * (z1 - z0)).mean(0) / between.square().mean(0)
    torch.testing.assert_close(gain(t, variance), fitted, atol=0.02, rtol=0.0)


def test_the_flow_of_the_velocity_ends_at_the_root_of_the_covariance() -> None:
    """By SciPy's adaptive integrator in z itself, with the offset and the matrix of the published closed form."""
    made = model()
    covariance, offset = made.gaussians.covariance(1).numpy(), made.gaussians.offsets[1].detach().numpy()
    eye = torch.eye(DIM, dtype=torch.float64).numpy()
    start = torch.randn(DIM, generator=seeded(7), dtype=torch.float64)

    def velocity(t, z):  # type: ignore[no-untyped-def]
        spread = (1 - t) ** 2 * eye + t**2 * covariance
        return (
            offset
            + (t * covariance - (1 - t) * eye)
            @ torch.linalg.solve(torch.from_numpy(spread), torch.from_numpy(z - t * offset)).numpy()
        )

    solved = solve_ivp(velocity, (0.0, 1.0), start.numpy(), method="DOP853", rtol=1e-10, atol=1e-12)
    found = made.operators().one(1).apply(start[None])[0]
    torch.testing.assert_close(found, torch.from_numpy(solved.y[:, -1]), atol=1e-7, rtol=0.0)


def test_the_collapse_is_what_stepping_does_for_every_solver_and_rank() -> None:
    made = model()
    x0, which = noise(made)
    for rank in (3, DIM):
        operators = made.operators(rank)
        for name, solver in SOLVERS.items():
            for steps in (1, 2, 5):
                stepped = made.sample_stepping(x0, which, operators, steps, solver)
                collapsed = made.sample(x0, which, made.collapse(operators, steps, solver))
                assert psnr(stepped, collapsed) > 200, (rank, name, steps)


def test_eulers_collapse_tends_to_the_root_with_the_first_power_of_the_step() -> None:
    made = model()
    operators = made.operators()
    errors = []
    for steps in (10, 100, 1000):
        collapsed = made.collapse(operators, steps, SOLVERS["euler"])
        errors.append(float((collapsed.scales - operators.scales).norm() / operators.scales.norm()))
    assert 8 < errors[0] / errors[1] < 12.5
    assert 9 < errors[1] / errors[2] < 11
    assert errors[2] < 0.005


def test_temperature_scales_the_noise_and_not_the_mean() -> None:
    made = model(g="identity")
    x0, which = noise(made)
    operators = made.operators()
    offsets = made.gaussians.offsets[which].detach()
    cool, warm = (made.sample(x0, which, operators, t).flatten(1) - offsets for t in (0.5, 1.5))
    torch.testing.assert_close(3 * cool, warm)


def test_likelihood_and_posterior_obey_the_change_of_variables_and_bayes_rule() -> None:
    made = model()
    images = torch.randn(6, *EVENT, generator=seeded(8), dtype=torch.float64)
    flat = torch.stack(
        [torch.autograd.functional.jacobian(lambda x: made.g(x[None])[0][0], x).view(DIM, DIM) for x in images]
    )
    log_det = torch.linalg.slogdet(flat).logabsdet
    z = made.g(images)[0]
    each = torch.stack(
        [
            torch.distributions.MultivariateNormal(made.gaussians.offsets[k], made.gaussians.covariance(k)).log_prob(z)
            for k in range(COUNT)
        ],
        1,
    )
    which = torch.arange(6) % COUNT
    torch.testing.assert_close(made.log_likelihood(images, which), each[torch.arange(6), which] + log_det)
    joint = each + made.gaussians.proportions.log()
    torch.testing.assert_close(made.log_likelihood(images), torch.logsumexp(joint, 1) + log_det)
    torch.testing.assert_close(made.posterior(images), torch.softmax(joint, 1))


def test_edits_go_there_and_back() -> None:
    made = model()
    images = torch.randn(6, *EVENT, generator=seeded(9), dtype=torch.float64)
    source, target = torch.arange(6) % COUNT, (torch.arange(6) + 1) % COUNT
    operators = made.operators()
    edited = made.edit(images, source, target, operators)
    torch.testing.assert_close(made.edit(edited, target, source, operators), images)
    one = operators.one(2).apply(operators.one(1).pinv().apply(made.g(images[1:2])[0]))
    torch.testing.assert_close(made.g(edited[1:2])[0], one)


def test_a_blend_is_between_two_operators_and_beyond() -> None:
    made = model()
    operators = made.operators()
    z = torch.randn(4, DIM, generator=seeded(10), dtype=torch.float64)
    first, second = operators.one(0).apply(z), operators.one(1).apply(z)
    for weight in (0.0, 0.3, 1.0, 1.7):
        torch.testing.assert_close(made.blend(operators, 0, 1, weight).apply(z), torch.lerp(first, second, weight))


def test_denoising_a_gaussian_gives_the_posterior_mean() -> None:
    """Of one Gaussian that the images have with the noise in it, x + σ² ∇ log p(x) is E[clean | x]."""
    made = AffineDiffusion(flows.identity(EVENT), AffineGaussians(DIM, 1, 4), EVENT).double()
    covariance, deviation = made.gaussians.covariance(0), 0.2
    x = torch.randn(5, *EVENT, generator=seeded(11), dtype=torch.float64)
    clean = covariance - deviation**2 * torch.eye(DIM, dtype=torch.float64)
    expected = x.flatten(1) @ torch.linalg.solve(covariance, clean)
    torch.testing.assert_close(made.denoise(x, deviation).flatten(1), expected)


def test_a_rank_that_cannot_be_is_refused() -> None:
    for rank in (0, DIM + 1):
        with pytest.raises(InputValueError, match=f"between 1 and the dimension {DIM}"):
            model().operators(rank)


def test_labels_come_as_often_as_their_proportions_say_and_in_random_order() -> None:
    """Whole numbers exactly; of the remainders in the mean: 7 of (0.5, 0.3, 0.2) are 3.5, 2.1 and 1.4."""
    proportions = torch.tensor([0.5, 0.3, 0.2, 0.0])
    assert draw_labels(proportions, 100, seeded()).bincount(minlength=4).tolist() == [50, 30, 20, 0]
    assert draw_labels(proportions, 100, seeded(1)).tolist() != draw_labels(proportions, 100, seeded(2)).tolist()
    counts = torch.stack([draw_labels(proportions, 7, seeded(seed)).bincount(minlength=4) for seed in range(2000)])
    assert counts.sum(1).eq(7).all()
    assert counts.min(0).values.tolist() == [3, 2, 1, 0]
    assert counts.max(0).values.tolist() == [4, 3, 2, 0]
    torch.testing.assert_close(
        counts.double().mean(0), torch.tensor([3.5, 2.1, 1.4, 0.0], dtype=torch.float64), atol=0.05, rtol=0.0
    )


def test_a_scale_of_zero_is_no_direction_to_come_back_by() -> None:
    frames = torch.eye(4)[None, :, :2].repeat(2, 1, 1)
    operators = AffineOperators(torch.ones(2, 4), frames, torch.tensor([[3.0, 0.0], [2.0, 1e-12]]))
    z, which = torch.randn(3, 4), torch.tensor([0, 0, 1])
    expected = torch.stack([operators.one(int(k)).pinv().apply(row[None])[0] for k, row in zip(which, z, strict=True)])
    torch.testing.assert_close(operators.pinv(z, which), expected)


@pytest.mark.parametrize("which", [[-1, 0, 1], [0, 1, 2], [0], [0.0, 1.0, 0.0], [[0, 1, 0]]])
def test_every_row_has_an_operator_that_there_is(which: list[Any]) -> None:
    frames = torch.eye(4)[None, :, :2].repeat(2, 1, 1)
    operators = AffineOperators(torch.ones(2, 4), frames, torch.ones(2, 2))
    for method in (operators.apply, operators.pinv):
        with pytest.raises(InputValueError, match=r"which must be one of 0 … 1 for each of 3 rows, got torch"):
            method(torch.randn(3, 4), torch.tensor(which))
    for k in (-1, 2):
        with pytest.raises(InputValueError, match=f"operator must be one of 0 … 1, got {k}"):
            operators.one(k)
