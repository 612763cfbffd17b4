"""TensorFloat-32 stays out of what is measured, and the user's setting comes back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from linearizer_core.experiment.precision import whole_float32


def flags() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture(params=[(True, True), (False, True), (True, False), (False, False)])
def chosen(request: pytest.FixtureRequest) -> Iterator[tuple[bool, bool]]:
    before = flags()
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = request.param
    yield request.param
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_within_it_neither_flag_is_set_and_after_it_both_are_as_before(chosen: tuple[bool, bool]) -> None:
    with whole_float32():
        assert flags() == (False, False)
    assert flags() == chosen
    with pytest.raises(ArithmeticError), whole_float32():
        raise ArithmeticError
    assert flags() == chosen
