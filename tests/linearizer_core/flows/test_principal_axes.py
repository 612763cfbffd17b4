"""Principal axes against NumPy's eigenvectors, and flows on leading coordinates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from linearizer_core.experiment.configuration import EvaluateConfig, FlowConfig, ModelConfig, OperatorConfig
from linearizer_core.experiment.families.diffusion import build_diffusion
from linearizer_core.experiment.networks import build_flow
from linearizer_core.flows import Invertible, LUMixing
from linearizer_core.flows.principal_axes import Leading, LeadingAxes, PrincipalAxes
from linearizer_core.solvers import RK4

DIM = 6


@pytest.fixture
def data() -> Tensor:
    """Correlated rows with well separated variances, not centred."""
    generator = torch.Generator().manual_seed(4)
    frame, _ = torch.linalg.qr(torch.randn(DIM, DIM, generator=generator, dtype=torch.float64))
    scales = torch.tensor([3.0, 2.0, 1.2, 0.7, 0.3, 0.1], dtype=torch.float64)
    return torch.randn(400, DIM, generator=generator, dtype=torch.float64) * scales @ frame.T + 0.7


def test_axes_are_the_covariances_eigenvectors(data: Tensor) -> None:
    axes = PrincipalAxes(DIM).double()
    coordinates = axes.initialise(data)
    values, vectors = np.linalg.eigh(np.cov(data.numpy().T, bias=True))
    np.testing.assert_allclose(axes.mean.numpy(), data.numpy().mean(0), atol=1e-12)
    np.testing.assert_allclose(np.abs(vectors[:, ::-1].T @ axes.axes.numpy()), np.eye(DIM), atol=1e-9)
    np.testing.assert_allclose(np.cov(coordinates.numpy().T, bias=True), np.diag(values[::-1]), atol=1e-10)
    assert bool((axes.axes.gather(0, axes.axes.abs().argmax(0, keepdim=True)) > 0).all())


def test_axes_are_invertible_and_keep_volume(
    data: Tensor, check_invertible: Callable[[Invertible, Tensor, Tensor], None]
) -> None:
    axes = PrincipalAxes(DIM).double()
    axes.initialise(data)
    check_invertible(axes, data[:3], torch.zeros(3, dtype=torch.float64))


def test_axes_are_fitted_once_saved_and_not_trained(data: Tensor) -> None:
    axes = PrincipalAxes(DIM).double()
    axes.initialise(data)
    before = axes.axes.clone()
    axes.initialise(data.flip(1))
    assert torch.equal(axes.axes, before)
    loaded = PrincipalAxes(DIM).double()
    loaded.load_state_dict(axes.state_dict())
    assert torch.equal(loaded.initialise(data), axes(data)[0])
    assert not list(axes.parameters())


def test_leading_coordinates_are_mapped_and_the_others_pass(
    data: Tensor, randomise: Callable[..., nn.Module], check_invertible: Callable[[Invertible, Tensor, Tensor], None]
) -> None:
    torch.manual_seed(0)
    inner = LUMixing(4).double()
    randomise(inner)
    leading = Leading(inner, 4)
    y, log_det = leading(data)
    assert torch.equal(y[:, 4:], data[:, 4:])
    assert torch.equal(y[:, :4], inner(data[:, :4])[0])
    assert torch.equal(log_det, inner(data[:, :4])[1])
    check_invertible(leading, data[:3], torch.zeros(3, dtype=torch.float64))
    with pytest.raises(ValueError, match="at least one coordinate, got 0"):
        Leading(inner, 0)


@pytest.mark.parametrize("coordinates", [5, 16, 99])
def test_an_untrained_flow_in_the_principal_frame_whitens(coordinates: int) -> None:
    """Of a Gaussian set of images it then is the map to N(0, I): the linear g that no other one beats."""
    generator = torch.Generator().manual_seed(2)
    mixing = torch.randn(16, 16, generator=generator, dtype=torch.float64)
    images = (torch.randn(5000, 16, generator=generator, dtype=torch.float64) @ mixing + 0.3).view(-1, 1, 4, 4)
    torch.manual_seed(0)
    config = FlowConfig(frame="principal", coordinates=coordinates, mixing="permutation", depth=2, width=8)
    g = build_flow(config, (1, 4, 4)).double()
    z = g.initialise(images)
    np.testing.assert_allclose(z.mean(0).numpy(), 0, atol=1e-9)
    np.testing.assert_allclose(np.cov(z.numpy().T), np.eye(16), atol=2e-3)
    expected = -0.5 * np.linalg.slogdet(np.cov(images.flatten(1).numpy().T))[1]
    np.testing.assert_allclose(g(images[:2])[1].detach().numpy(), expected, atol=2e-2)
    torch.testing.assert_close(g.inverse(z[:5])[0], images[:5], rtol=0, atol=1e-9)


def test_couplings_act_on_the_leading_coordinates_only(randomise: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    g = build_flow(FlowConfig(frame="principal", coordinates=4, depth=2, width=8), (1, 4, 4)).double()
    images = torch.randn(50, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain = g.initialise(images).detach()
    randomise(g)
    for module in g.modules():
        if isinstance(module, PrincipalAxes):
            linear = (images.flatten(1) - module.mean) @ module.axes
    moved = g(images)[0].detach()
    assert float((moved[:, :4] - plain[:, :4]).abs().max()) > 0.05
    ratio = moved[:, 4:] - moved[:, 4:].mean(0)
    centred = linear[:, 4:] - linear[:, 4:].mean(0)
    np.testing.assert_allclose(
        (ratio / centred).numpy(), np.broadcast_to((ratio / centred)[0].numpy(), (50, 12)), rtol=1e-6
    )


def test_a_diagonal_operator_keeps_all_that_the_couplings_mix() -> None:
    """Untrained, the sampler has the leading components' variances whatever the mixing, and hardly any others."""
    generator = torch.Generator().manual_seed(3)
    scales = torch.tensor([16.0, 15.0, 14.0, 13.0] + [2.0] * 12, dtype=torch.float64)
    images = (torch.randn(6000, 16, generator=generator, dtype=torch.float64) * scales).view(-1, 1, 4, 4)
    flow = FlowConfig(frame="principal", coordinates=12, mixing="lu", depth=2, width=8)
    model = build_diffusion(
        ModelConfig(flow=flow, operator=OperatorConfig(kind="time_diagonal", rank=4)), EvaluateConfig(), (1, 4, 4), 0
    ).double()
    latents = model.g_x.initialise(images)
    model.operator.initialise(latents)
    generate = model.generator(model.collapse(100, RK4))
    with torch.no_grad():
        samples = generate(torch.randn(20000, 1, 4, 4, generator=generator, dtype=torch.float64)).flatten(1)
    variances = samples.var(0)
    np.testing.assert_allclose(variances[:4].numpy(), scales[:4].square().numpy(), rtol=0.08)
    assert float(variances[4:].max()) < 0.2


def test_leading_axes_are_the_principal_components_under_one_scale(data: Tensor) -> None:
    """Against scikit-learn: coordinates up to their sign, and what is left out as the error of going there and back."""
    frame = LeadingAxes((1, 2, 3), 3).double()
    images = data.view(-1, 1, 2, 3)
    found = frame.initialise(images)
    reference = PCA(3).fit(data.numpy())
    deviation = reference.explained_variance_[0] ** 0.5 * (399 / 400) ** 0.5  # which are unbiased
    expected = torch.from_numpy(reference.transform(data.numpy())) / (deviation / 2)
    torch.testing.assert_close(found.abs(), expected.abs(), rtol=1e-8, atol=1e-8)
    assert float(found[:, 0].std(correction=0)) == pytest.approx(2.0)
    again = frame.decode(frame.encode(images)).flatten(1)
    left_out = np.linalg.eigvalsh(np.cov(data.numpy().T, bias=True))[:3].sum()
    assert float((again - data).square().sum(1).mean()) == pytest.approx(left_out)
    torch.testing.assert_close(frame.decode(torch.zeros(1, 3).double()).flatten(), data.mean(0))


def test_leading_axes_of_equal_images_have_a_scale() -> None:
    frame = LeadingAxes((1, 2, 2), 2)
    images = torch.full((5, 1, 2, 2), 0.3)
    assert torch.isfinite(frame.initialise(images)).all()
    torch.testing.assert_close(frame.decode(frame.encode(images)), images)
