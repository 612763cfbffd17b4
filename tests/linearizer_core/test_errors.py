"""One root: whoever catches LinsweepError catches whatever a user can put right."""

from __future__ import annotations

import doctest

import pytest

import linearizer_core.errors
from analysis.record.sweep_info import RecordError
from linearizer_core.errors import LinsweepError
from linearizer_core.experiment.checkpoint import CheckpointError
from linearizer_core.experiment.data.errors import DataError
from linearizer_core.experiment.training import TrainingDiverged
from sweeps.search.schedule import ReplayError
from sweeps.spec.validation import InputError
from sweeps.tracking.sync import Refused


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (InputError, ValueError),
        (DataError, ValueError),
        (RecordError, ValueError),
        (CheckpointError, ValueError),
        (TrainingDiverged, ArithmeticError),
        (ReplayError, RuntimeError),
        (Refused, RuntimeError),
    ],
)
def test_what_a_user_can_put_right_has_one_root(error: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(error, LinsweepError)
    assert issubclass(error, builtin)


def test_the_example_in_the_docstring_runs() -> None:
    assert doctest.testmod(linearizer_core.errors).attempted > 0
    assert doctest.testmod(linearizer_core.errors).failed == 0
