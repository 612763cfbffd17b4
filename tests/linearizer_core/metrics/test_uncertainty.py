"""What chance moves a distance by, and what endlessly many would give: against draws from known Gaussians."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from linearizer_core.errors import InputValueError
from linearizer_core.metrics.quality import frechet_distance
from linearizer_core.metrics.uncertainty import bootstrap_deviation, extrapolated

DIM, SCALE, SHIFT = 16, 1.5, 0.4
TRUTH = DIM * (SHIFT**2 + (SCALE - 1) ** 2)
"""The Fréchet distance of N(0, I) and N(shift, scale² I)."""


def drawn(count: int, seed: int, same: bool = False) -> tuple[Tensor, Tensor]:
    a, b = torch.randn(2, count, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return a, b if same else SHIFT + SCALE * b


@pytest.mark.parametrize("same", [False, True])
def test_the_bootstrap_has_the_deviation_of_repeated_draws(same: bool) -> None:
    # Of the same distribution, where the plain bootstrap finds 1.8 times the deviation that there is.
    values = torch.tensor([frechet_distance(*drawn(300, seed, same)) for seed in range(200)])
    found = torch.tensor([bootstrap_deviation(frechet_distance, *drawn(300, seed, same)) for seed in range(12)])
    assert float(found.mean()) == pytest.approx(float(values.std()), rel=0.4 if same else 0.2)


@pytest.mark.parametrize(("same", "truth"), [(False, TRUTH), (True, 0.0)])
def test_the_line_takes_the_bias_of_few_samples_away(same: bool, truth: float) -> None:
    sets = [drawn(300, seed, same) for seed in range(60)]
    plain = torch.tensor([frechet_distance(a, b) for a, b in sets])
    found = torch.tensor([extrapolated(frechet_distance, a, b) for a, b in sets])
    error = float(found.std()) / len(sets) ** 0.5
    bias = float(plain.mean()) - truth
    assert bias > 5 * float(plain.std()) / len(sets) ** 0.5
    assert abs(float(found.mean()) - truth) < max(4 * error, 0.1 * bias)


def test_the_same_sets_have_the_same_numbers_and_too_few_are_refused() -> None:
    a, b = drawn(40, 0)
    assert bootstrap_deviation(frechet_distance, a, b) == bootstrap_deviation(frechet_distance, a, b)
    assert extrapolated(frechet_distance, a, b) == extrapolated(frechet_distance, a, b)
    # A distance without bias is left as it is, whatever the size of the sets.
    assert extrapolated(lambda x, y: 3.0, a, b) == pytest.approx(3.0)
    assert extrapolated(lambda x, y: 2.0 + 5.0 / len(x), *drawn(4000, 1)) == pytest.approx(2.0, abs=1e-3)
    with pytest.raises(InputValueError, match="at least 8"):
        extrapolated(frechet_distance, a[:7], b)
    for rows, resamples in ((a[:0], 50), (a, 1)):
        with pytest.raises(InputValueError, match="two resamples"):
            bootstrap_deviation(frechet_distance, rows, b, resamples)
