"""Circular convolutions against conv2d, and against the dense matrix of their rolled taps by torch.linalg."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import conv2d, pad

from linearizer_core.errors import InputValueError
from linearizer_core.operators.base import DenseOperator, LinearOperator
from linearizer_core.operators.convolutional import ConvolutionalOperator
from linearizer_core.operators.factored import Factors, LowRankOperator
from linearizer_core.operators.learned import LearnedKernels
from linearizer_core.operators.module import FixedOperator

Sizes = tuple[int, int, int, int, int, int]
close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
from_kernel = ConvolutionalOperator.from_kernel

SIZES: list[Sizes] = [  # out_channels, in_channels, kernel's rows and columns, height, width
    (2, 2, 3, 3, 4, 6),
    (2, 2, 3, 2, 5, 3),
    (3, 3, 2, 4, 4, 5),
    (2, 2, 1, 3, 1, 6),
    (2, 2, 3, 1, 7, 1),
    (1, 1, 2, 2, 2, 2),
    (3, 3, 1, 1, 1, 1),
    (1, 1, 5, 6, 3, 4),
    (3, 2, 3, 3, 4, 3),
    (1, 3, 2, 3, 3, 4),
]
SQUARE = [sizes for sizes in SIZES if sizes[0] == sizes[1]]
sizes = st.tuples(*[st.integers(1, 3)] * 4, *[st.integers(1, 6)] * 2)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def eye(dim: int) -> Tensor:
    return torch.eye(dim, dtype=torch.float64)


def matrix_of(kernel: Tensor, height: int, width: int) -> Tensor:
    """The dense matrix: each tap moves the image by its distance from the centre, in pixels and not frequencies."""
    images = eye(kernel.shape[1] * height * width).view(-1, kernel.shape[1], height, width)
    result = torch.zeros(len(images), kernel.shape[0], height, width, dtype=torch.float64)
    rows, columns = kernel.shape[2:]
    for i in range(rows):
        for j in range(columns):
            moved = images.roll(((rows - 1) // 2 - i, (columns - 1) // 2 - j), (2, 3))
            result += torch.einsum("oc,bchw->bohw", kernel[:, :, i, j], moved)
    return result.flatten(1).T


def build(sizes: Sizes, seed: int = 0) -> tuple[ConvolutionalOperator, Tensor]:
    kernel, image = normal(*sizes[:4], seed=seed), sizes[4:]
    return from_kernel(kernel, *image), matrix_of(kernel, *image)


def deficient() -> tuple[ConvolutionalOperator, Tensor]:
    """Differences of a field of rank two out of three channels: constants and one channel direction are annihilated."""
    mixing = normal(3, 2, seed=1) @ normal(2, 3, seed=2)
    kernel = torch.einsum("oc,hw->ochw", mixing, torch.tensor([[0.0, 1.0, -1.0]], dtype=torch.float64))
    return from_kernel(kernel, 3, 4), matrix_of(kernel, 3, 4)


def symmetric(height: int, width: int) -> tuple[ConvolutionalOperator, Tensor]:
    """A kernel with k[o, c, i, j] = k[c, o, -i, -j]: half from each side."""
    kernel = normal(2, 2, 3, 3, seed=3)
    kernel = kernel + kernel.transpose(0, 1).flip(2, 3)
    return from_kernel(kernel, height, width), matrix_of(kernel, height, width)


def same(operator: LinearOperator, matrix: Tensor) -> None:
    """The operator is still a convolution, is exactly what ``matrix`` is, and is applied as such."""
    assert isinstance(operator, ConvolutionalOperator)
    assert operator.shape == matrix.shape
    close(operator.to_dense(), matrix)
    z = normal(3, matrix.shape[1], seed=9)
    close(operator.apply(z), z @ matrix.T)


@pytest.mark.parametrize("sizes", SIZES)
def test_it_is_conv2d_with_circular_padding(sizes: Sizes) -> None:
    out_channels, in_channels, rows, columns, height, width = sizes
    kernel = normal(*sizes[:4])
    operator = from_kernel(kernel, height, width)
    assert operator.shape == (out_channels * height * width, in_channels * height * width)
    assert operator.like.dtype == torch.float64
    same(operator, matrix_of(kernel, height, width))
    if rows <= height and columns <= width:
        images = normal(4, in_channels, height, width, seed=1)
        around = ((columns - 1) // 2, columns // 2, (rows - 1) // 2, rows // 2)
        expected = conv2d(pad(images, around, mode="circular"), kernel)
        close(operator.apply(images.flatten(1)), expected.flatten(1))
        layer = torch.nn.Conv2d(
            in_channels, out_channels, (rows, columns), padding="same", padding_mode="circular", bias=False
        )
        layer.weight = torch.nn.Parameter(kernel)
        close(operator.apply(images.flatten(1)), layer(images).flatten(1))


@pytest.mark.parametrize("sizes", SIZES)
def test_adjoint_sum_and_product(sizes: Sizes) -> None:
    a, a_matrix = build(sizes)
    b, b_matrix = build(sizes, seed=1)
    same(a.adjoint(), a_matrix.T)
    same(a.add(b), a_matrix + b_matrix)
    same(a.scale(-0.3), -0.3 * a_matrix)
    same(a @ b.adjoint(), a_matrix @ b_matrix.T)
    same(b.adjoint() @ a, b_matrix.T @ a_matrix)


@pytest.mark.parametrize("sizes", SQUARE)
def test_functions_of_a_square_one(sizes: Sizes) -> None:
    a, matrix = build(sizes)
    same(a.shift(0.7), matrix + 0.7 * eye(len(matrix)))
    for n in (0, 1, 5):
        same(a.power(n), torch.linalg.matrix_power(matrix, n))
    regular, inverse = a.shift(9.0), torch.linalg.inv(matrix + 9 * eye(len(matrix)))
    same(regular.power(-2), inverse @ inverse)
    same(a.exp(0.3), torch.linalg.matrix_exp(0.3 * matrix))
    same(a.exp(0.2) @ a.exp(-0.5), torch.linalg.matrix_exp(-0.3 * matrix))
    close(a.trace(), matrix.trace())
    close(a.logdet(), torch.linalg.slogdet(matrix).logabsdet)
    y = normal(3, len(matrix), seed=5)
    close(regular.solve(y), y @ inverse.T)


@pytest.mark.parametrize("case", [*SIZES, "deficient", "zero"])
def test_pseudo_inverse_and_projections(case: Sizes | str) -> None:
    if case == "zero":
        a, matrix = from_kernel(torch.zeros(2, 2, 1, 1, dtype=torch.float64), 2, 3), torch.zeros(12, 12).double()
    else:
        a, matrix = deficient() if isinstance(case, str) else build(case)
    plus = torch.linalg.pinv(matrix, rcond=1e-12)
    same(a.pinv(), plus)
    p = a.pinv()
    same(a @ p @ a, matrix)  # the Penrose identities
    same(p @ a @ p, plus)
    same((a @ p).adjoint(), (a @ p).to_dense())
    same((p @ a).adjoint(), (p @ a).to_dense())
    same(a.row_projection(), plus @ matrix)
    same(a.range_projection(), matrix @ plus)
    null = a.null_projection() if a.shape[0] == a.shape[1] else None
    if null is not None:
        same(null, eye(len(matrix)) - plus @ matrix)
    y = normal(2, a.shape[0], seed=6)
    close(a.lstsq(y), y @ plus.T)


def test_singular_ones_are_known_as_such() -> None:
    a, matrix = deficient()
    # The difference's zero is at the frequencies without a horizontal wave, 3 of 12; elsewhere the rank is 2 of 3.
    assert a.rank() == torch.linalg.matrix_rank(matrix) == 18
    assert a.condition() > 1e15
    with pytest.raises(ValueError, match=r"singular \(rank 18 of 36\); use lstsq"):
        a.solve(normal(1, 36))
    with pytest.raises(ValueError, match="no negative power"):
        a.power(-1)
    regular, matrix = build((2, 2, 3, 3, 4, 6))
    assert regular.rank() == 48
    assert regular.condition() == pytest.approx(float(torch.linalg.cond(matrix)), rel=1e-9)


@pytest.mark.parametrize("sizes", SIZES)
def test_the_threshold_is_relative_to_the_largest_of_all_frequencies(sizes: Sizes) -> None:
    a, matrix = build(sizes)
    values = torch.linalg.svdvals(matrix)
    rcond = float((values[0] + values[-1]) / 2 / values[0])
    same(a.pinv(rcond), torch.linalg.pinv(matrix, rcond=rcond))
    same(a.row_projection(rcond), torch.linalg.pinv(matrix, rcond=rcond) @ matrix)
    assert a.rank(rcond) == int((values > rcond * values[0]).sum())


def test_a_tie_at_the_threshold_keeps_or_drops_both_of_a_pair() -> None:
    """A pair's two frequencies have the same singular values only up to rounding."""
    a = from_kernel(normal(2, 2, 3, 3), 8, 8)
    values = a.singular_values()
    for value in values[::5]:
        projection = a.row_projection(float(value / values[0]))
        close((projection @ projection).to_dense(), projection.to_dense())
        close(projection.trace(), projection.trace().round())


@pytest.mark.parametrize("case", [*SIZES, "deficient"])
def test_singular_values_and_vectors(case: Sizes | str) -> None:
    a, matrix = deficient() if isinstance(case, str) else build(case)
    values = torch.linalg.svdvals(matrix)
    close(a.singular_values(), values)  # each as many times as the matrix has it
    for k in sorted({1, min(2, len(values)), (len(values) + 1) // 2, len(values)}):
        found = a.svd(k)
        assert found.u.dtype == found.v.dtype == torch.float64
        assert (found.u.shape, found.v.shape) == ((len(matrix), k), (matrix.shape[1], k))
        close(found.s, values[:k])
        close(found.u.T @ found.u, eye(k))
        close(found.v.T @ found.v, eye(k))
        close(matrix @ found.v, found.u * found.s)
        close(matrix.T @ found.u, found.v * found.s)
    found = a.svd()
    close((found.u * found.s) @ found.v.T, matrix)


@pytest.mark.parametrize("sizes", SQUARE)
def test_eigenpairs(sizes: Sizes) -> None:
    a, matrix = build(sizes)
    expected = torch.linalg.eigvals(matrix)
    found = a.eig()
    vectors = found.vectors.to(torch.complex128)
    close(matrix.to(vectors.dtype) @ vectors, vectors * found.values)
    close(vectors.norm(dim=0), torch.ones(len(matrix), dtype=torch.float64))
    assert torch.linalg.svdvals(vectors)[-1] > 1e-3
    close(found.values.abs(), expected.abs().sort(descending=True).values)
    # The same multiset: power sums of the eigenvalues agree.
    for n in (1, 2, 3):
        close(found.values.to(expected.dtype).pow(n).sum(), expected.pow(n).sum(), rtol=1e-9, atol=1e-7)
    k = max(1, len(matrix) // 2)
    close(a.eig(k).values.abs(), found.values.abs()[:k])
    assert a.eig(k).vectors.shape == (len(matrix), k)


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 3), (1, 4), (3, 1)])
def test_eigenvectors_of_a_symmetric_one_are_real_and_orthonormal(height: int, width: int) -> None:
    a, matrix = symmetric(height, width)
    close(matrix, matrix.T)
    found = a.eig()
    assert found.values.dtype == found.vectors.dtype == torch.float64
    close(found.vectors.T @ found.vectors, eye(len(matrix)))
    close((found.vectors * found.values) @ found.vectors.T, matrix)
    close(found.values.sort().values, torch.linalg.eigvalsh(matrix))
    close((a @ a).eig(3).values, found.values[:3].square())  # symmetric but for the product's rounding


def test_real_eigenvalues_without_symmetry_have_real_vectors() -> None:
    kernel = torch.tensor([[1.0, 1.0], [0.0, -2.0]], dtype=torch.float64)[:, :, None, None]
    a, matrix = from_kernel(kernel, 3, 4), matrix_of(kernel, 3, 4)
    found = a.eig()
    assert found.values.tolist() == [-2.0] * 12 + [1.0] * 12
    assert found.vectors.dtype == torch.float64
    close(matrix @ found.vectors, found.vectors * found.values)
    assert torch.linalg.svdvals(found.vectors)[-1] > 0.1


def test_real_eigenvalues_are_known_in_spite_of_rounding() -> None:
    """A symmetric convolution in another basis: its eigenvalues are real, its matrices at the frequencies are not."""
    a, matrix = symmetric(4, 5)
    basis, basis_matrix = build((2, 2, 3, 3, 4, 5), seed=6)
    basis, basis_matrix = basis.shift(15.0), basis_matrix + 15 * eye(len(matrix))
    similar = basis.pinv() @ a @ basis
    found = similar.eig()
    assert found.vectors.dtype == torch.float64
    close(found.values.sort().values, torch.linalg.eigvalsh(matrix))
    close(similar.apply(found.vectors.T).T, found.vectors * found.values)
    assert torch.linalg.svdvals(found.vectors)[-1] > 0.1
    assert (found.vectors.T @ found.vectors - eye(len(matrix))).abs().max() > 0.1


def test_eigenvectors_of_repeated_eigenvalues_are_orthonormal() -> None:
    """A projection has only two eigenvalues, and is symmetric up to rounding."""
    a, _ = deficient()
    projection = a.pinv() @ a
    found = projection.eig()
    close(found.values, torch.tensor([1.0] * 18 + [0.0] * 18, dtype=torch.float64))
    close(found.vectors.T @ found.vectors, eye(36))
    close((found.vectors * found.values) @ found.vectors.T, projection.to_dense())


def test_eigenvalues_of_a_shift_are_the_roots_of_unity() -> None:
    kernel = torch.tensor([[[[0.0, 0.0, 1.0]]]], dtype=torch.float64)  # y_i = x_{i+1}
    found = from_kernel(kernel, 1, 6).eig()
    assert found.values.is_complex()
    angles = found.values.angle().sort().values * 6 / (2 * torch.pi)
    close(angles.round().remainder(6).sort().values, torch.arange(6, dtype=torch.float64))
    close(angles, angles.round())


def test_a_defective_one_has_no_eigenbasis() -> None:
    kernel = torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)[:, :, None, None]
    with pytest.raises(ValueError, match="not have 24 independent eigenvectors"):
        from_kernel(kernel, 3, 4).eig()


@settings(derandomize=True, deadline=None, max_examples=40)
@given(sizes, st.integers(0, 3))
def test_any_sizes(sizes: Sizes, seed: int) -> None:
    a, matrix = build(sizes, seed)
    same(a, matrix)
    same(a.adjoint(), matrix.T)
    close(a.singular_values(), torch.linalg.svdvals(matrix), rtol=1e-9, atol=1e-8)
    found = a.svd()
    close((found.u * found.s) @ found.v.T, matrix)
    close(found.v.T @ found.v, eye(len(found.s)))
    gram = a.adjoint() @ a
    same(gram, matrix.T @ matrix)
    close(gram.trace(), matrix.square().sum())
    same(gram.scale(0.01).exp(), torch.linalg.matrix_exp(0.01 * matrix.T @ matrix))
    vectors = gram.eig().vectors
    close(vectors.T @ vectors, eye(len(vectors)))


@pytest.mark.parametrize("sizes", [(2, 3, 3, 3, 4, 5), (2, 2, 2, 3, 3, 4)])
def test_gradients_of_apply_are_those_of_conv2d(sizes: Sizes) -> None:
    _, in_channels, rows, columns, height, width = sizes
    kernel = normal(*sizes[:4]).requires_grad_()
    images = normal(4, in_channels, height, width, seed=1).requires_grad_()
    weights = normal(4, sizes[0], height, width, seed=2)
    around = ((columns - 1) // 2, columns // 2, (rows - 1) // 2, rows // 2)
    expected = torch.autograd.grad(
        (conv2d(pad(images, around, mode="circular"), kernel) * weights).sum(), [kernel, images]
    )
    y = from_kernel(kernel, height, width).apply(images.flatten(1))
    for found, known in zip(
        torch.autograd.grad((y * weights.flatten(1)).sum(), [kernel, images]), expected, strict=True
    ):
        close(found, known)


GRADIENTS: dict[str, Callable[[ConvolutionalOperator, Tensor], Tensor]] = {
    "pinv": lambda a, z: a.pinv().apply(z),
    "exp": lambda a, z: a.exp(0.3).apply(z),
    "solve": lambda a, z: a.solve(z),
    "power": lambda a, z: a.power(3).apply(z),
    "logdet": lambda a, _: a.logdet(),
    "trace": lambda a, _: a.trace(),
    "singular values": lambda a, _: a.singular_values(),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_of_functions(name: str) -> None:
    kernel, z = normal(2, 2, 2, 2).requires_grad_(), normal(2, 2 * 3 * 4, seed=1)
    assert torch.autograd.gradcheck(lambda k: GRADIENTS[name](from_kernel(k, 3, 4), z), kernel)


def test_with_other_operators() -> None:
    a, matrix = build((2, 2, 3, 3, 2, 6))
    u, v = normal(24, 2, seed=1), normal(24, 2, seed=2)
    product = a @ LowRankOperator(eye(2), Factors(u, v))
    assert isinstance(product, LowRankOperator)
    close(product.to_dense(), matrix @ u @ v.T)
    other, other_matrix = build((2, 2, 3, 3, 4, 3), seed=1)  # as many dimensions, but other images
    assert isinstance(a @ other, DenseOperator)
    close((a @ other).to_dense(), matrix @ other_matrix)
    assert isinstance(a.add(other), DenseOperator)
    close(a.add(other).to_dense(), matrix + other_matrix)


def test_large_images_need_no_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 3×64×64 the matrix would take 1.2 GB."""
    monkeypatch.delattr(LinearOperator, "to_dense")
    monkeypatch.delattr(LinearOperator, "_eye")
    monkeypatch.setattr(ConvolutionalOperator, "_eye", lambda _, dim: eye(dim), raising=False)
    kernel = torch.zeros(3, 3, 3, 3, dtype=torch.float64)
    kernel[:, :, 1, 1] = 2 * eye(3)
    a = from_kernel(kernel + 0.05 * normal(3, 3, 3, 3), 64, 64)
    z = normal(2, 3 * 64 * 64)
    close(a.pinv().apply(a.apply(z)), z)
    close(a.power(-1).power(-1).apply(z), a.apply(z))
    close(a.exp(0.5).exp(0.0).apply(z), z)
    close(a.solve((a @ a).apply(z)), a.apply(z))
    close(a.row_projection().apply(z), z)
    triples, pairs = a.svd(5), a.eig(5)
    close(a.apply(triples.v.T).T, triples.u * triples.s)
    close(a.adjoint().apply(triples.u.T).T, triples.v * triples.s)
    vectors = pairs.vectors
    for real, of in ((vectors.real, (vectors * pairs.values).real), (vectors.imag, (vectors * pairs.values).imag)):
        close(a.apply(real.T).T, of)
    close(a.logdet(), a.singular_values().log().sum())


def test_single_precision() -> None:
    kernel = normal(2, 2, 3, 3)
    a, matrix = from_kernel(kernel.float(), 4, 5), matrix_of(kernel, 4, 5)
    assert a.like.dtype == torch.float32
    torch.testing.assert_close(a.to_dense(), matrix.float(), rtol=0, atol=1e-5)
    torch.testing.assert_close(a.pinv().to_dense(), torch.linalg.pinv(matrix).float(), rtol=0, atol=1e-4)
    assert a.eig(3).vectors.dtype in (torch.float32, torch.complex64)
    assert (a @ a.adjoint()).eig().vectors.dtype == torch.float32


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"a kernel must be .* got \(2, 3, 3\) for 4×4"):
        from_kernel(normal(2, 3, 3), 4, 4)
    with pytest.raises(ValueError, match="for 0×4"):
        from_kernel(normal(2, 2, 3, 3), 0, 4)
    with pytest.raises(ValueError, match=r"a spectrum must be complex .* \(4, 3, 2, 2\) for width 6"):
        ConvolutionalOperator(torch.zeros(4, 3, 2, 2, dtype=torch.complex128), 6)
    with pytest.raises(ValueError, match=r"got torch\.float64"):
        ConvolutionalOperator(normal(4, 3, 2, 2), 4)
    with pytest.raises(ValueError, match=r"got torch\.complex128"):
        ConvolutionalOperator(torch.zeros(4, 3, 2, dtype=torch.complex128), 4)
    wide, _ = build((1, 2, 3, 3, 2, 3))
    uses: list[Callable[[], object]] = [
        lambda: wide.shift(1.0),
        wide.exp,
        wide.trace,
        wide.logdet,
        wide.eig,
        lambda: wide.power(2),
        lambda: wide.solve(normal(1, 6)),
    ]
    for use in uses:
        with pytest.raises(ValueError, match=r"only a square operator .* this one is \(6, 12\)"):
            use()
    with pytest.raises(ValueError, match="between 1 and 6"):
        wide.svd(7)
    with pytest.raises(ValueError, match="inner dimensions differ"):
        wide @ wide


def test_half_precision_is_refused_by_name_wherever_it_comes_from() -> None:
    """There are no complex numbers of it: what is promised to float32 is neither rounded silently nor left to torch."""
    kernel = torch.randn(2, 2, 3, 3)
    for dtype in (torch.bfloat16, torch.float16):
        name = str(dtype).removeprefix("torch.")
        a = from_kernel(kernel, 4, 4)
        fixed = FixedOperator(a).to(dtype)
        calls: list[Callable[[], object]] = [
            lambda dtype=dtype: from_kernel(kernel.to(dtype), 4, 4),
            lambda dtype=dtype, a=a: a.apply(torch.ones(1, 32, dtype=dtype)),
            lambda dtype=dtype, a=a: a.adjoint().apply(torch.ones(1, 32, dtype=dtype)),
            lambda dtype=dtype, a=a: a.shift(20.0).solve(torch.ones(1, 32, dtype=dtype)),
            lambda fixed=fixed: fixed(torch.ones(1, 32)),
            lambda fixed=fixed: fixed.operator().svd(),
            lambda dtype=dtype: LearnedKernels((2, 4, 4)).to(dtype)(torch.ones(1, 32, dtype=dtype)),
        ]
        for call in calls:
            with pytest.raises(InputValueError, match=rf"float32 or float64.*{name}"):
                call()
        again = fixed.float()
        torch.testing.assert_close(again(torch.ones(1, 32)), a.apply(torch.ones(1, 32)), rtol=0.05, atol=0.05)
