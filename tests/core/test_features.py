"""The feature classifier: deterministic, accurate, cached."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from linearizer_core.data import ImageData
from linearizer_core.metrics.features import (
    FEATURES,
    RECIPE,
    Classifier,
    cached_classifier,
    checksum,
    train_classifier,
)


@pytest.fixture
def few(digits: ImageData) -> ImageData:
    """64 training images: a classifier is trained on them in under a second."""
    return dataclasses.replace(digits, train=digits.train[:64], train_labels=digits.train_labels[:64])


def test_classifier_is_accurate_on_the_test_split(classifier: Classifier, digits: ImageData) -> None:
    assert classifier.accuracy(digits.test, digits.test_labels) >= 0.95
    assert classifier.accuracy(digits.test, (digits.test_labels + 1) % 10) < 0.05


def test_training_is_the_same_every_time(few: ImageData, other_process: dict[str, str]) -> None:
    torch.manual_seed(123)  # the global generator must not matter
    state = torch.random.get_rng_state()
    threads = torch.get_num_threads()
    first = checksum(train_classifier(few))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads
    torch.rand(5)
    assert checksum(train_classifier(few)) == first
    assert other_process["classifier"] == first


def test_training_depends_on_the_images(few: ImageData) -> None:
    other = dataclasses.replace(few, train=few.train.flip(3))
    assert checksum(train_classifier(other)) != checksum(train_classifier(few))


def test_cache_holds_one_whole_file_and_is_reused(
    classifier: Classifier, digits: ImageData, classifier_cache: Path
) -> None:
    (path,) = classifier_cache.iterdir()
    assert path.name == f"{RECIPE}-digits-{digits.checksum[:16]}.safetensors"
    assert load_file(path).keys() == classifier.state_dict().keys()
    os.utime(path, ns=(1, 1))
    again = cached_classifier(digits, classifier_cache)
    assert path.stat().st_mtime_ns == 1
    assert checksum(again) == checksum(classifier)
    assert not any(parameter.requires_grad for parameter in again.parameters())
    assert not again.training


def test_what_is_in_the_cache_is_what_is_used(digits: ImageData, classifier_cache: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    planted = Classifier(1, 10)
    save_file(planted.state_dict(), tmp_path / f"{RECIPE}-digits-{digits.checksum[:16]}.safetensors")
    assert checksum(cached_classifier(digits, tmp_path)) == checksum(planted)


def test_a_new_cache_is_made_where_there_is_none(few: ImageData, tmp_path: Path) -> None:
    small = dataclasses.replace(few, checksum="ab" * 32)
    cached = cached_classifier(small, tmp_path / "a" / "cache")
    (path,) = (tmp_path / "a" / "cache").iterdir()
    assert path.name.endswith(f"{'ab' * 8}.safetensors")
    assert checksum(cached) == checksum(train_classifier(few))


def test_features_are_the_hidden_layer_whatever_the_batch(classifier: Classifier, digits: ImageData) -> None:
    images = digits.validation[:50]
    features = classifier.features(images)
    assert features.shape == (50, FEATURES)
    assert (features >= 0).all()
    assert not features.requires_grad
    torch.testing.assert_close(classifier.features(images, batch=7), features)
    torch.testing.assert_close(classifier.head(features), classifier(images))


def test_checksum_names_the_weights() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    first = checksum(model)
    assert checksum(model) == first
    with torch.no_grad():
        model.weight[0, 0] += 1e-6
    assert checksum(model) != first


@pytest.mark.parametrize("event", [(3, 16, 16), (1, 28, 28)])
def test_classifier_takes_other_image_sizes(event: tuple[int, int, int]) -> None:
    assert Classifier(event[0], 5)(torch.zeros(2, *event)).shape == (2, 5)
