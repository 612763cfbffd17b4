"""The feature classifier of a data set, trained once and kept in a file."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from linearizer_core.errors import InputValueError, LinsweepError
from linearizer_core.experiment.data import ImageData
from linearizer_core.files import remove_unfinished, write_whole
from linearizer_core.metrics.features import RECIPE, Classifier, checksum, train_classifier

DIGEST = "sha256"
"""Metadata key of the checksum in a file of weights."""


class FeaturesError(LinsweepError, ValueError):
    """A stored classifier cannot be used; the message names its file and what to do."""


def classifier_of(data: ImageData) -> Classifier:
    """Train the classifier of a data set's training images."""
    return train_classifier(data.train.batch, data.train_labels, data.event, data.classes)


def cached_classifier(data: ImageData, cache: Path) -> Classifier:
    """The data set's classifier from ``cache``; if there is no valid one, it is trained and stored there first.

    If several processes need it at once, one trains it and the others wait. Raises ``ValueError`` for a data set
    without labels, and ``FeaturesError`` for a stored classifier whose weights have changed.
    """
    if data.classes == 0:
        raise InputValueError(f"{data.name} has no labels, but the classifier for this metric needs them")
    path = cache / f"{RECIPE}-{data.name}-{data.checksum[:16]}.safetensors"
    stored = _stored(path, data)
    if stored is None:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f".{path.name}.lock"):
            stored = _stored(path, data)
            if stored is None:
                remove_unfinished(path)
                stored = classifier_of(data)
                # Older versions can read it as well, since they ignore the metadata.
                write_whole(path, save(stored.state_dict(), {DIGEST: checksum(stored)}))
    return stored


def _stored(path: Path, data: ImageData) -> Classifier | None:
    """The classifier in a file; ``None`` if there is none, or one of another architecture.

    Raises ``FeaturesError`` if its weights have changed since they were written: scores in other features would
    otherwise be compared with those of earlier trials.
    """
    model = Classifier(data.event, data.classes)
    try:
        with safe_open(path, "pt") as file:
            written = (file.metadata() or {}).get(DIGEST)
        model.load_state_dict(load_file(path))
    except (FileNotFoundError, SafetensorError, RuntimeError):
        return None
    if written is not None and checksum(model) != written:
        raise FeaturesError(
            f"{path}: damaged: the SHA-256 of its weights differs from the one written; remove it, and the classifier "
            "will be trained again"
        )
    return model.eval().requires_grad_(False)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file's lock. The file is not removed, since a lock on a removed file would exclude nobody."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
