"""Injectivity of ReLU(W x) against exact enumeration of all sign patterns in integers, and known results."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from linearizer_core.flows.spanning import relu_injective, unspanned_point


def tensor(rows: object) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ngon(count: int) -> Tensor:
    """Unit vectors at equal angles."""
    angles = 2 * torch.pi * torch.arange(count, dtype=torch.float64) / count
    return torch.stack([angles.cos(), angles.sin()], 1)


def active_rank(weight: Tensor, x: Tensor) -> int:
    return int(torch.linalg.matrix_rank(weight[weight @ x >= 0]))


def every_active_set_spans(weight: np.ndarray) -> bool:
    """The definition, at a point inside every cell of the arrangement of planes ⟨w_i, x⟩ = 0; exact in integers.

    Points off the planes suffice: a small step from x leaves negative rows negative, so its active rows span less yet.
    If the rows span, each cell is a cone with n independent extreme rays, each orthogonal to n - 1 independent rows;
    the sum of n such rays is inside the cell.
    """
    n = weight.shape[1]
    if np.linalg.matrix_rank(weight) < n:
        return False
    rays: set[tuple[int, ...]] = set()
    for subset in combinations(weight, n - 1):
        minors = np.array([np.delete(np.reshape(subset, (n - 1, n)), i, 1) for i in range(n)])
        cofactors = [round((-1) ** i * np.linalg.det(minor)) for i, minor in enumerate(minors)]
        ray = np.array(cofactors) // max(np.gcd.reduce(cofactors), 1)
        if ray.any():
            rays |= {tuple(ray), tuple(-ray)}
    points = np.array([np.sum(chosen, 0) for chosen in combinations(sorted(rays), n)])
    patterns = np.unique(points @ weight.T >= 0, axis=0)
    return all(np.linalg.matrix_rank(weight[active]) == n for active in patterns)


def check_witness(weight: Tensor, x: Tensor) -> None:
    """The active rows at x do not span, and two inputs near x have one image."""
    n = weight.shape[1]
    assert active_rank(weight, x) < n
    inactive = weight[weight @ x < 0]
    _, _, vh = torch.linalg.svd(torch.cat([weight[weight @ x >= 0], torch.zeros(n, n, dtype=torch.float64)]))
    direction = vh[-1]
    step = 0.5 * float(((inactive @ x) / (inactive @ direction)).abs().min()) if len(inactive) else 1.0
    other = x + min(step, 1.0) * direction
    assert float((x - other).norm()) > 1e-4
    torch.testing.assert_close((weight @ x).relu(), (weight @ other).relu(), rtol=0, atol=1e-13)


def matrices(n: int, most: int, size: int = 2) -> st.SearchStrategy[list[list[int]]]:
    row = st.lists(st.integers(-size, size), min_size=n, max_size=n)
    return st.lists(row, min_size=1, max_size=most)


def agree(rows: list[list[int]]) -> None:
    weight = tensor(rows)
    x = unspanned_point(weight)
    assert (x is None) == every_active_set_spans(np.array(rows))
    assert relu_injective(weight) == (x is None)
    if x is not None:
        check_witness(weight, x)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(matrices(1, 4))
def test_against_enumeration_on_the_line(rows: list[list[int]]) -> None:
    agree(rows)


@settings(deadline=None, max_examples=80, derandomize=True)
@given(matrices(2, 8, size=3))
def test_against_enumeration_in_the_plane(rows: list[list[int]]) -> None:
    agree(rows)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(matrices(3, 7))
def test_against_enumeration_in_space(rows: list[list[int]]) -> None:
    agree(rows)


@pytest.mark.parametrize("seed", range(12))
def test_against_enumeration_in_space_where_many_are_injective(seed: int) -> None:
    """Rows in pairs that are opposite or nearly so, one in three moved, repeated or scaled."""
    generator = np.random.default_rng(seed)
    half = generator.integers(-2, 3, (4, 3))
    rows = np.concatenate([half, -2 * half])
    rows[generator.integers(8, size=2)] += generator.integers(-1, 2, (2, 3))
    agree(rows.tolist())


# Injective although no two rows are opposite; each was checked by the enumeration as well.
UNPAIRED = {
    "plane": [[2, 0], [1, 2], [-2, 1], [-2, -1], [1, -2]],
    "space": [[2, 0, -3], [1, 2, -2], [-3, 0, 3], [-2, -2, 1], [1, 2, 3], [-2, -2, -3], [3, 0, 2], [3, 2, 3]],
}  # fmt: skip


@pytest.mark.parametrize("name", UNPAIRED)
def test_injective_without_opposite_rows(name: str) -> None:
    rows = tensor(UNPAIRED[name])
    unit = rows / rows.norm(dim=1, keepdim=True)
    assert float((unit @ unit.T).min()) > -0.999
    assert every_active_set_spans(np.array(UNPAIRED[name]))
    assert relu_injective(rows)


@pytest.mark.parametrize("count", range(1, 12))
def test_regular_polygons(count: int) -> None:
    """Each closed half-plane holds two independent vectors from the square on; a triangle's can hold one."""
    assert relu_injective(ngon(count)) == (count >= 4)


@pytest.mark.parametrize("dim", [1, 2, 3, 4])
def test_against_random_directions(dim: int) -> None:
    directions = normal(4000, dim, seed=9)
    found = 0
    for seed in range(12):
        weight = normal(3 * dim if dim > 1 else 2, dim, seed=seed)
        patterns = (directions @ weight.T >= 0).unique(dim=0)
        violated = any(int(torch.linalg.matrix_rank(weight[active])) < dim for active in patterns)
        x = unspanned_point(weight)
        if x is not None:
            check_witness(weight, x)
        # A violating cell can be too thin to be hit, and none may be hit where there is none.
        assert not (violated and x is None)
        found += violated
    assert found >= 3


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 60])
def test_identity_and_its_negative(dim: int) -> None:
    identity = torch.eye(dim, dtype=torch.float64)
    weight = torch.cat([identity, -identity])
    assert relu_injective(weight)
    assert relu_injective(weight.float())
    assert not relu_injective(identity)


@pytest.mark.parametrize("dim", [2, 3, 4])
def test_a_simplex_is_not_enough(dim: int) -> None:
    """Its vectors span positively, so every x sees an active row, but one vertex alone at the least."""
    weight = torch.cat([torch.eye(dim, dtype=torch.float64), -torch.ones(1, dim, dtype=torch.float64)])
    x = unspanned_point(weight)
    assert x is not None
    check_witness(weight, x)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(1, 4), st.integers(0, 1000), st.booleans())
def test_expansivity_two_is_necessary(dim: int, seed: int, integers: bool) -> None:
    weight = normal(2 * dim - 1, dim, seed=seed)
    if integers:
        weight = (2 * weight).round()
    x = unspanned_point(weight)
    assert x is not None
    check_witness(weight, x)


@pytest.mark.parametrize("dim", [2, 3, 4])
def test_at_expansivity_two_only_pairs_are_injective(dim: int) -> None:
    assert not relu_injective(normal(2 * dim, dim))
    b, d = normal(dim, dim, seed=1), normal(dim, seed=2).exp()
    minimal = torch.cat([b, -d[:, None] * b])
    assert relu_injective(minimal)
    for i in range(2 * dim):
        fewer = torch.cat([minimal[:i], minimal[i + 1 :]])
        x = unspanned_point(fewer)
        assert x is not None
        check_witness(fewer, x)
        # With other rows in its place it is still not enough, and with its own negative multiple it is.
        assert not relu_injective(torch.cat([fewer, fewer[:1]]))
        assert not relu_injective(torch.cat([fewer, torch.zeros(1, dim, dtype=torch.float64)]))
        assert relu_injective(torch.cat([fewer, 3 * minimal[i : i + 1]]))


def test_a_pair_that_bends_is_found_out() -> None:
    """Opposite rows 1e-3 apart leave a wedge where neither is active; 1e-9 apart they count as opposite."""
    for bend, injective in ((1e-3, False), (1e-9, True)):
        weight = tensor([[1, 0], [-1, bend], [0, 1], [0, -1]])
        assert relu_injective(weight) == injective
    x = unspanned_point(tensor([[1, 0], [-1, 1e-3], [0, 1], [0, -1]]))
    assert x is not None
    check_witness(tensor([[1, 0], [-1, 1e-3], [0, 1], [0, -1]]), x)


def test_by_hand() -> None:
    x = unspanned_point(tensor([[1], [2]]))
    assert x is not None
    assert float(x) < 0
    assert unspanned_point(tensor([[1], [-2], [0]])) is None
    # Both of the rows that are not in the plane of the others point upwards: only below it do they not see.
    x = unspanned_point(tensor([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [1, 1, 1], [0, 0, 1]]))
    assert x is not None
    assert float(x[2]) < 0
    assert float(x.sum()) < 0


def test_with_a_bias_the_condition_is_necessary_and_not_sufficient() -> None:
    weight, bias = normal(5, 3), normal(5, seed=1)
    x = unspanned_point(weight)
    assert x is not None
    inactive = weight @ x < 0
    far = 2 * float((bias.abs() / (weight @ x).abs())[inactive].max()) * x  # there no bias wakes an inactive row
    _, _, vh = torch.linalg.svd(weight[~inactive])
    images = [(weight @ (far + step * vh[-1]) + bias).relu() for step in (0, 1e-3)]
    torch.testing.assert_close(images[0], images[1], rtol=0, atol=1e-12)
    line = tensor([[1], [-1]])
    assert relu_injective(line)
    points = tensor([[0.0, 0.5]])
    assert not (line @ points - 1).relu().any()


@pytest.mark.parametrize("rows", [[[1, 2, 0], [-1, 2, 0], [0, -1, 0], [3, 1, 0]], [[0, 0, 0]]])
def test_rows_that_do_not_span_have_the_origin_as_witness(rows: list[list[int]]) -> None:
    x = unspanned_point(tensor(rows))
    assert x is not None
    assert x.tolist() == [0, 0, 0]
    check_witness(tensor(rows), x)


def test_no_rows() -> None:
    x = unspanned_point(torch.zeros(0, 2))
    assert x is not None
    assert x.tolist() == [0, 0]


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scales_of_rows_do_not_matter(scale: float) -> None:
    for count in (3, 5):
        weight = ngon(count)
        weight[1] *= scale
        assert relu_injective(weight) == (count == 5)


def test_takes_integers_and_weights_in_training() -> None:
    assert relu_injective(torch.tensor([[1], [-1]]))
    assert not relu_injective(torch.nn.Linear(2, 3).weight)


def test_the_search_is_limited() -> None:
    weight = normal(30, 6)
    with pytest.raises(ValueError, match="30 rows in 6 dimensions have 142506 subsets to search; the limit is 10000"):
        relu_injective(weight)
    with pytest.raises(ValueError, match="7 rows in 2 dimensions have 7 subsets to search; the limit is 6"):
        unspanned_point(ngon(7), limit=6)
    assert relu_injective(ngon(7), limit=7)
    assert relu_injective(torch.cat([ngon(7), torch.zeros(3, 2, dtype=torch.float64)]), limit=7)
    # Opposite pairs need no search, whatever is beside them, nor do rows that do not span.
    assert relu_injective(torch.cat([weight, -2 * weight, normal(30, 6, seed=1)]))
    assert not relu_injective(torch.cat([weight, torch.zeros(30, 1, dtype=torch.float64)], 1))


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2), (4, 0)])
def test_a_weight_must_be_a_matrix(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"the weight must be a matrix \(outputs, inputs\), got shape"):
        relu_injective(torch.zeros(shape))
