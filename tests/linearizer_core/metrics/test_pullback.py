"""The mean pull-back metric against Jacobians that are known."""

from __future__ import annotations

import pytest
import torch

from linearizer_core.errors import InputValueError
from linearizer_core.metrics import pullback_metric


def test_of_a_linear_map_it_is_the_gram_matrix() -> None:
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(3, 5, generator=generator)
    found = pullback_metric(lambda z: z @ w, torch.randn(4000, 3, generator=generator), generator, passes=8)
    expected = (w @ w.T).double()
    assert float((found - expected).norm() / expected.norm()) < 0.03
    torch.testing.assert_close(found, found.T)


def test_it_is_the_mean_of_what_autograd_finds_at_each_latent() -> None:
    generator = torch.Generator().manual_seed(1)
    w = torch.randn(4, 4, generator=generator)
    latents = torch.randn(30, 4, generator=generator)

    def decode(z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(z @ w)

    jacobians = torch.stack([torch.autograd.functional.jacobian(decode, z) for z in latents])  # type: ignore[no-untyped-call]
    expected = torch.einsum("nij,nik->jk", jacobians, jacobians).double() / len(latents)
    found = pullback_metric(decode, latents, generator, passes=1000, batch=7)
    assert float((found - expected).norm() / expected.norm()) < 0.06


def test_nothing_to_take_a_mean_of_is_refused() -> None:
    generator = torch.Generator()
    with pytest.raises(InputValueError, match="got 0 and 8"):
        pullback_metric(lambda z: z, torch.zeros(0, 3), generator)
    with pytest.raises(InputValueError, match="got 1 and 0"):
        pullback_metric(lambda z: z, torch.zeros(1, 3), generator, passes=0)
