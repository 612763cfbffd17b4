"""Precision, recall, density and coverage by hand, by brute force, by scikit-learn and in expectation."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from linearizer_core.metrics import neighbours
from linearizer_core.metrics.neighbours import Neighbourhood, neighbour_radii, neighbourhood


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def line(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_by_hand_on_a_line() -> None:
    """Reals 0, 1, 3 reach [-1, 1], [0, 2], [1, 5]; fakes 0.5, 1, 9 reach [0, 1], [0.5, 1.5], [1, 17].

    The fakes are in 2, 3 and 0 real balls; the reals 0, 1 and 3 are in 1, 3 and 1 fake balls.
    """
    scores = neighbourhood(line(0, 1, 3), line(0.5, 1, 9), k=1)
    assert scores == Neighbourhood(precision=2 / 3, recall=1.0, density=5 / 3, coverage=1.0)
    scores = neighbourhood(line(0.5, 1, 9), line(0, 1, 3), k=1)
    assert scores == Neighbourhood(precision=1.0, recall=2 / 3, density=5 / 3, coverage=1.0)


@pytest.mark.parametrize(("reals", "fakes", "k", "shift"), [(60, 60, 5, 0.5), (40, 90, 3, 1.0), (70, 25, 1, 0.0)])
def test_by_brute_force(reals: int, fakes: int, k: int, shift: float) -> None:
    real, fake = normal(reals, 4), 0.8 * normal(fakes, 4, seed=1) + shift
    distances = cdist(real, fake)
    real_radii = np.sort(cdist(real, real), axis=1)[:, k]
    fake_radii = np.sort(cdist(fake, fake), axis=1)[:, k]
    in_real = distances <= real_radii[:, None]
    expected = (
        in_real.any(0).mean(),
        (distances <= fake_radii).any(1).mean(),
        in_real.sum() / (k * fakes),
        in_real.any(1).mean(),
    )
    assert astuple(neighbourhood(real, fake, k)) == pytest.approx(expected, rel=1e-12)
    assert len(set(expected)) > 1


def test_by_scikit_learn() -> None:
    """A fake covers a real that is no farther than the real's k-th neighbour, and so on for the other three."""
    k, real, fake = 4, normal(80, 6), normal(50, 6, seed=1) * 1.2
    radii, nearest = {}, {}
    for name, points, others in (("real", real, fake), ("fake", fake, real)):
        search = NearestNeighbors(n_neighbors=k).fit(points.numpy())
        radii[name] = search.kneighbors()[0][:, -1]
        nearest[name] = search.kneighbors(others.numpy(), len(points))
    found, index = nearest["real"]  # of each fake: all reals by distance
    inside = found <= radii["real"][index]
    precision, density = inside.any(1).mean(), inside.sum() / (k * len(fake))
    coverage = len(np.unique(index[inside])) / len(real)
    found, index = nearest["fake"]
    recall = (found <= radii["fake"][index]).any(1).mean()
    expected = precision, recall, density, coverage
    assert astuple(neighbourhood(real, fake, k)) == pytest.approx(expected, rel=1e-12)


def test_equal_sets() -> None:
    """Each ball then holds its centre and its k neighbours."""
    a = normal(50, 3)
    shuffled = a[torch.randperm(50, generator=torch.Generator().manual_seed(0))]
    for fake in (a, shuffled):
        assert neighbourhood(a, fake, k=4) == Neighbourhood(1.0, 1.0, 5 / 4, 1.0)


def test_far_sets() -> None:
    assert neighbourhood(normal(30, 3), normal(20, 3, seed=1) + 1000) == Neighbourhood(0.0, 0.0, 0.0, 0.0)


def test_fakes_that_are_one_real_point() -> None:
    """Precise and without diversity: balls of radius 0 recall the one point, which as many reals' balls hold."""
    real = normal(40, 3)
    holding = int((np.sort(cdist(real, real), axis=1)[:, 5] >= cdist(real, real)[:, 7]).sum())
    scores = neighbourhood(real, real[7].expand(30, -1))
    assert scores == Neighbourhood(1.0, 1 / 40, holding / 5, holding / 40)
    assert scores.coverage < 0.5


def test_in_expectation_for_fakes_drawn_as_the_reals() -> None:
    """Density 1; coverage 1 - (N - 1)…(N - k) / ((M + N - 1)…(M + N - k)) (Naeem et al., 2020, lemma 2)."""
    reals, fakes, k = 30, 20, 3
    scores = [neighbourhood(normal(reals, 2, seed=2 * i), normal(fakes, 2, seed=2 * i + 1), k) for i in range(300)]
    missed = np.prod([(reals - i) / (fakes + reals - i) for i in range(1, k + 1)])
    for name, expected in (("density", 1.0), ("coverage", 1 - missed)):
        values = [getattr(score, name) for score in scores]
        error = np.std(values) / np.sqrt(len(values))
        assert error < 0.02
        assert abs(np.mean(values) - expected) < 3 * error


@pytest.mark.parametrize("size", [1.0, 2.0**-900, 2.0**400])
def test_radii_can_be_taken_once(size: float) -> None:
    """With those of the real set given, scores are the same and it is compared with the fakes alone."""
    real = normal(33, 4) * size
    radii = neighbour_radii(real, k=2)
    points = (real / size).numpy()
    expected = NearestNeighbors(n_neighbors=3).fit(points).kneighbors(points)[0][:, 2]  # the first is the point itself
    assert (radii / size).numpy() == pytest.approx(expected, rel=1e-12)
    for seed in (1, 2):
        fake = normal(21, 4, seed=seed) * size
        assert neighbourhood(real, fake, k=2, real_radii=radii) == neighbourhood(real, fake, k=2)
    nothing = neighbourhood(real, real.flip(0), k=2, real_radii=torch.zeros(33, dtype=torch.float64))
    assert (nothing.precision, nothing.density) == (1.0, 1 / 2)  # only the points themselves are in balls of radius 0
    with pytest.raises(ValueError, match=r"real_radii must have shape \(33,\), got \(3,\)"):
        neighbourhood(real, fake, k=2, real_radii=radii[:3])


@pytest.mark.parametrize("entries", [1, 70, 1000])
def test_blocks_of_any_size_give_the_same(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = normal(33, 4), normal(21, 4, seed=1)
    whole = neighbourhood(real, fake, k=2)
    monkeypatch.setattr(neighbours, "ENTRIES", entries)
    held = []
    measure = torch.cdist

    def recorded(a: Tensor, b: Tensor, compute_mode: str) -> Tensor:
        held.append(len(a) * len(b))
        return measure(a, b, compute_mode=compute_mode)

    monkeypatch.setattr(torch, "cdist", recorded)
    assert neighbourhood(real, fake, k=2) == whole
    assert max(held) <= max(entries, 33)


def test_features_far_from_the_origin_lose_nothing() -> None:
    """Float32 coordinates that are multiples of 1/256 are the same points when 4096 is added to them."""
    real, fake = ((normal(40, 5, seed=seed) * 256).round().float() / 256 for seed in (1, 2))
    scores = neighbourhood(real, fake, k=1)
    assert neighbourhood(real + 4096, fake + 4096, k=1) == scores
    assert len(set(astuple(scores))) > 1


def test_images_are_flattened() -> None:
    real, fake = normal(12, 1, 2, 3), normal(14, 1, 2, 3, seed=1)
    assert neighbourhood(real, fake, k=2) == neighbourhood(real.flatten(1), fake.flatten(1), k=2)


@pytest.mark.parametrize(("reals", "fakes", "k"), [(5, 9, 5), (9, 5, 5), (9, 9, 0)])
def test_sets_without_k_neighbours_are_refused(reals: int, fakes: int, k: int) -> None:
    with pytest.raises(ValueError, match=f"got {k} of {reals}, {fakes}"):
        neighbourhood(normal(reals, 2), normal(fakes, 2), k)
