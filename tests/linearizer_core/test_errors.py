"""One root: whoever catches LinsweepError catches whatever a user can put right."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import linearizer_core as lc
import linearizer_core.errors
from analysis.record.sweep_info import RecordError
from linearizer_core.errors import LinsweepError
from linearizer_core.experiment.checkpoint import CheckpointError
from linearizer_core.experiment.data.errors import DataError
from linearizer_core.experiment.recipes import recipe
from linearizer_core.experiment.training import TrainingDiverged
from linearizer_core.metrics.perceptual import distance
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


def test_an_argument_that_is_wrong_is_a_users_error_in_every_room_of_the_library() -> None:
    """Caught by the one root, as the command line catches it; still a ValueError for who catches that."""
    calls: list[Callable[[], object]] = [
        lambda: lc.flows.coupling((1, 3, 3), depth=1, width=8, network="conv"),
        lambda: lc.flows.coupling((1, 4, 4), depth=0, width=8),
        lambda: lc.operators.low_rank(4, 5),
        lambda: lc.operators.TimeLowRank(4, 0),
        lambda: lc.operators.P4(0),
        lambda: lc.operators.DenseOperator(torch.zeros(2, 2)).solve(torch.ones(1, 2)),
        lambda: lc.operators.DenseOperator(torch.ones(2, 3)).trace(),
        lambda: lc.operators.DenseOperator(torch.ones(2, 3)).add(lc.operators.DenseOperator(torch.ones(3, 2))),
        lambda: lc.operators.ConvolutionalOperator.from_kernel(torch.ones(3, 3), 4, 4),
        lambda: distance("nobody's"),
        lambda: recipe("diffusion", "nobody's", "digits"),
    ]
    for call in calls:
        with pytest.raises(LinsweepError) as caught:
            call()
        assert isinstance(caught.value, ValueError)
    rooms = (Path(lc.__file__).parent / name for name in ("flows", "operators", "metrics"))
    bare = [path for room in rooms for path in room.glob("*.py") if "raise ValueError(" in path.read_text()]
    assert not bare


def test_the_example_in_the_docstring_runs() -> None:
    assert doctest.testmod(linearizer_core.errors).attempted > 0
    assert doctest.testmod(linearizer_core.errors).failed == 0
