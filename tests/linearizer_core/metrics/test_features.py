"""The feature classifier: deterministic, accurate, cached, and trained by one process alone."""

from __future__ import annotations

import dataclasses
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from linearizer_core.experiment import classifier as classifiers
from linearizer_core.experiment.classifier import FeaturesError, cached_classifier, classifier_of
from linearizer_core.experiment.data import ImageData, TensorImages
from linearizer_core.metrics import features
from linearizer_core.metrics.features import FEATURES, RECIPE, Classifier, checksum


class Recorded(TensorImages):
    """Images that keep the indices that they were asked for."""

    def __init__(self, quanta: Tensor, levels: int) -> None:
        super().__init__(quanta, levels)
        self.asked: list[Tensor] = []

    def batch(self, index: Tensor) -> Tensor:
        self.asked.append(index)
        return super().batch(index)


def first(data: ImageData, count: int) -> ImageData:
    """The digits with their first ``count`` training images alone."""
    quanta = ((data.train.head(count) + 1) * 8).round().to(torch.uint8)
    return dataclasses.replace(data, train=Recorded(quanta, 17), train_labels=data.train_labels[:count])


@pytest.fixture
def few(digits: ImageData) -> ImageData:
    """64 training images: a classifier is trained on them in under a second."""
    return first(digits, 64)


def cache_file(data: ImageData, cache: Path) -> Path:
    return cache / f"{RECIPE}-{data.name}-{data.checksum[:16]}.safetensors"


def test_classifier_is_accurate_on_the_test_split(classifier: Classifier, digits: ImageData) -> None:
    assert classifier.accuracy(digits.test, digits.test_labels) >= 0.95
    assert classifier.accuracy(digits.test, (digits.test_labels + 1) % 10) < 0.05


def test_accuracy_counts_each_image_once_whatever_the_batch() -> None:
    """Labels that are what it says for 7 of 10 images."""
    torch.manual_seed(0)
    model = Classifier((1, 8, 8), 4)
    images = torch.randn(10, 1, 8, 8)
    labels = model(images).argmax(1)
    labels[[0, 4, 9]] += 1
    for batch in (1, 3, 10, 1024):
        assert model.accuracy(images, labels, batch) == pytest.approx(0.7, rel=1e-12)


def test_training_is_the_same_every_time(few: ImageData, other_process: dict[str, str]) -> None:
    torch.manual_seed(123)  # the global generator must not matter
    state = torch.random.get_rng_state()
    threads = torch.get_num_threads()
    trained = checksum(classifier_of(few))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads
    torch.rand(5)
    assert checksum(classifier_of(few)) == trained
    assert other_process["classifier"] == trained


def test_training_depends_on_the_images(few: ImageData) -> None:
    other = dataclasses.replace(few, train=TensorImages(few.train.quanta.flip(3), 17))
    assert checksum(classifier_of(other)) != checksum(classifier_of(few))


def test_a_small_set_has_25_epochs_of_64(digits: ImageData) -> None:
    data = first(digits, 130)
    classifier_of(data)
    assert [len(index) for index in data.train.asked] == [64] * 50
    for epoch in range(25):
        assert len(torch.cat(data.train.asked[2 * epoch : 2 * epoch + 2]).unique()) == 128


def test_fewer_images_than_a_batch_are_one(digits: ImageData) -> None:
    data = first(digits, 10)
    classifier_of(data)
    assert [sorted(index.tolist()) for index in data.train.asked] == [list(range(10))] * 25


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(20, [4] * 10), (24, [8] * 6), (28, [8] * 6), (80, [8] * 10)],
)
def test_a_large_set_has_larger_batches_and_a_bounded_number_of_steps(
    digits: ImageData, count: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most 10 steps of 4, else of 8, and 2 epochs."""
    for name, value in (("EPOCHS", 2), ("BATCH", 4), ("STEPS", 10)):
        monkeypatch.setattr(features, name, value)
    data = first(digits, count)
    classifier_of(data)
    assert [len(index) for index in data.train.asked] == sizes
    once = torch.cat(data.train.asked[: min(len(sizes), count // sizes[0])])
    assert len(once.unique()) == len(once)


def test_cache_holds_one_whole_file_and_is_reused(
    classifier: Classifier, digits: ImageData, classifier_cache: Path
) -> None:
    path = cache_file(digits, classifier_cache)
    assert [entry for entry in classifier_cache.iterdir() if not entry.name.startswith(".")] == [path]
    assert not list(classifier_cache.glob(".*.part"))
    assert load_file(path).keys() == classifier.state_dict().keys()
    os.utime(path, ns=(1, 1))
    again = cached_classifier(digits, classifier_cache)
    assert path.stat().st_mtime_ns == 1
    assert checksum(again) == checksum(classifier)
    assert not any(parameter.requires_grad for parameter in again.parameters())
    assert not again.training


def test_what_is_in_the_cache_is_what_is_used(digits: ImageData, tmp_path: Path) -> None:
    torch.manual_seed(0)
    planted = Classifier((1, 8, 8), 10)
    save_file(planted.state_dict(), cache_file(digits, tmp_path))
    assert checksum(cached_classifier(digits, tmp_path)) == checksum(planted)


def test_a_new_cache_is_made_where_there_is_none(few: ImageData, tmp_path: Path) -> None:
    small = dataclasses.replace(few, checksum="ab" * 32)
    cached = cached_classifier(small, tmp_path / "a" / "cache")
    (path,) = (tmp_path / "a" / "cache").glob("*.safetensors")
    assert path.name.endswith(f"{'ab' * 8}.safetensors")
    assert checksum(cached) == checksum(classifier_of(few))
    assert not any(parameter.requires_grad for parameter in cached.parameters())


@pytest.mark.parametrize("damage", ["garbage", "empty", "truncated", "other classes", "other sides", "other names"])
def test_a_damaged_file_is_replaced(
    few: ImageData, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    sound = Classifier((1, 8, 8), 10)
    path = cache_file(few, tmp_path)
    save_file(sound.state_dict(), path)
    if damage == "other classes":
        save_file(Classifier((1, 8, 8), 9).state_dict(), path)
    elif damage == "other sides":
        save_file(Classifier((1, 32, 32), 10).state_dict(), path)
    elif damage == "other names":
        save_file({"weight": torch.zeros(3)}, path)
    else:
        whole = path.read_bytes()
        path.write_bytes({"garbage": b"no tensors", "empty": b"", "truncated": whole[:-1]}[damage])
    monkeypatch.setattr(classifiers, "classifier_of", lambda data: sound)
    assert checksum(cached_classifier(few, tmp_path)) == checksum(sound)
    assert {name: tensor.shape for name, tensor in load_file(path).items()} == {
        name: tensor.shape for name, tensor in sound.state_dict().items()
    }


def test_a_classifier_whose_weights_have_changed_is_not_used(
    few: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifiers, "classifier_of", lambda data: Classifier(data.event, data.classes))
    cached_classifier(few, tmp_path)
    path = cache_file(few, tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(FeaturesError, match=f"{path.name}: damaged: .*; remove it, and the classifier will be"):
        cached_classifier(few, tmp_path)
    path.unlink()
    cached_classifier(few, tmp_path)


def test_of_those_who_want_it_at_once_one_trains_it(
    few: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def train(data: ImageData) -> Classifier:
        trained.append(Classifier(data.event, data.classes))
        time.sleep(0.2)
        return trained[-1]

    monkeypatch.setattr(classifiers, "classifier_of", train)
    with ThreadPoolExecutor(4) as pool:
        sums = list(pool.map(lambda _: checksum(cached_classifier(few, tmp_path)), range(4)))
    assert len(trained) == 1
    assert sums == [checksum(trained[0])] * 4


def test_a_set_without_labels_has_no_classifier(few: ImageData, tmp_path: Path) -> None:
    unlabelled = dataclasses.replace(few, name="folder", classes=0)
    with pytest.raises(ValueError, match="folder has no labels"):
        cached_classifier(unlabelled, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_features_are_the_hidden_layer_whatever_the_batch(classifier: Classifier, digits: ImageData) -> None:
    images = digits.validation[:50]
    hidden = classifier.features(images)
    assert hidden.shape == (50, FEATURES)
    assert (hidden >= 0).all()
    assert not hidden.requires_grad
    torch.testing.assert_close(classifier.features(images, batch=7), hidden)
    torch.testing.assert_close(classifier.head(hidden), classifier(images))


def test_checksum_names_the_weights() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    before = checksum(model)
    assert checksum(model) == before
    with torch.no_grad():
        model.weight[0, 0] += 1e-6
    assert checksum(model) != before


@pytest.mark.parametrize(
    ("event", "seen"),
    [
        ((1, 8, 8), 8),
        ((3, 15, 15), 15),
        ((3, 16, 16), 8),
        ((1, 28, 28), 14),
        ((1, 32, 32), 8),
        ((3, 63, 63), 16),
        ((3, 64, 64), 8),
        ((3, 178, 178), 9),
    ],
)
def test_the_last_convolution_sees_small_images_of_any_set(event: tuple[int, int, int], seen: int) -> None:
    model = Classifier(event, 5)
    convolutions = [layer for layer in model.body if isinstance(layer, nn.Conv2d)]
    sides = []
    convolutions[-1].register_forward_pre_hook(lambda _, inputs: sides.append(inputs[0].shape[2:]))
    images = torch.randn(2, *event, requires_grad=True)
    out = model(images)
    assert out.shape == (2, 5)
    assert sides == [(seen, seen)]
    (gradient,) = torch.autograd.grad(out.sum(), images)
    side = event[1] - event[1] % max(1, event[1] // 32)
    assert (gradient[..., :side, :side] != 0).double().mean() > 0.9  # no pixel is passed over
