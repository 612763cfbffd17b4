"""Display names in a spec: what they may be of, and what they may say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps.spec.load import load
from sweeps.spec.model import Sweep
from sweeps.spec.validation import InputError


def test_leaves_metrics_and_keys_can_be_labelled(sweep: Callable[..., Sweep]) -> None:
    labels = {"model.flow.depth": "layers", "classifier_fd": "FD", "cost/params": "size"}
    assert sweep({"labels": labels}).resolved["labels"] == labels


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            {"model.flow.dept": "layers"},
            r"labels\.model\.flow\.dept: is neither a key nor a metric of this sweep; did you ",
        ),
        (
            {"classifier_fdd": "FD"},
            r"labels\.classifier_fdd: is neither a key nor a metric of this sweep; did you mean ",
        ),
        ({"train.lr": "  "}, r"labels\.train\.lr: must be one line of 1 to 60 printable characters, got '  '"),
        ({"train.lr": "a\nb"}, r"labels\.train\.lr: must be one line"),
        ({"train.lr": "x" * 61}, r"labels\.train\.lr: must be one line"),
        ({"model.flow.depth": "rank"}, r"labels\.model\.flow\.depth: 'rank' would stand for both "),
    ],
)
def test_labels_that_nothing_could_show_are_refused(
    spec_file: Callable[..., Path], labels: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load(str(spec_file({"labels": labels})))
