"""A small classifier, trained identically every time, whose features are used for Fréchet distances.

A score in its features is not FID. It is called ``classifier_fd``, and is only comparable between models of one data
set, under one classifier (identified by its checksum), next to its floor, real against real.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

RECIPE = "classifier-1"
"""Name of the training recipe in files of kept classifiers: change it with anything below that changes the weights."""

EPOCHS = 25
BATCH = 64
STEPS = 1500
"""Maximum number of steps; a set that would need more has batches of twice the size and as many epochs as then fit."""

FEATURES = 64


class Classifier(nn.Module):
    """Two convolutions and a hidden layer; ``features`` is the hidden layer, ``(batch, 64)``.

    ``event`` is the images' ``(channels, height, width)``. The last convolution is the expensive one and sees sides of
    at most 16: the first has stride 2 for larger images, from 32 pixels on there is another of stride 2 between them,
    and images of 64 pixels or more are first averaged down to between 32 and 64.
    """

    def __init__(self, event: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        side = min(event[1:])
        self.body = nn.Sequential(
            *([nn.AvgPool2d(side // 32)] if side >= 64 else []),
            nn.Conv2d(event[0], 32, 3, stride=2 if side >= 16 else 1, padding=1), nn.ReLU(),
            *([nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.ReLU()] if side >= 32 else []),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(4), nn.Flatten(),
            nn.Linear(64 * 16, FEATURES), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(FEATURES, classes)

    @torch.no_grad()
    def features(self, images: Tensor, batch: int = 1024) -> Tensor:
        """Features of images ``(count, channels, height, width)`` in [-1, 1], computed in batches."""
        return torch.cat([self.body(part) for part in images.split(batch)])

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))

    @torch.no_grad()
    def accuracy(self, images: Tensor, labels: Tensor, batch: int = 1024) -> float:
        """The fraction of images classified as labelled, computed in batches."""
        predicted = torch.cat([self(part).argmax(1) for part in images.split(batch)])
        return float((predicted == labels).double().mean())


def train_classifier(
    images: Callable[[Tensor], Tensor], labels: Tensor, event: tuple[int, int, int], classes: int
) -> Classifier:
    """Train the classifier of labelled images from a fixed seed, on one CPU thread so that sums are reproducible.

    ``images`` returns the images at indices ``(batch,)`` as ``(batch, *event)`` in [-1, 1]; for a tensor, pass its
    ``__getitem__``. ``labels`` ``(count,)`` are in 0 … ``classes`` - 1.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1234)
            model = Classifier(event, classes)
        optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
        batch, steps = _budget(len(labels))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for index in _batches(len(labels), batch, steps):
            loss = cross_entropy(model(images(index).cpu()), labels[index].cpu())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    finally:
        torch.set_num_threads(threads)
    return model.eval().requires_grad_(False)


def _budget(count: int) -> tuple[int, int]:
    """The batch size and the number of steps for ``count`` training images."""
    batch = min(BATCH, count)
    steps = EPOCHS * (count // batch)
    if steps <= STEPS:
        return batch, steps
    return 2 * BATCH, min(STEPS, EPOCHS * (count // (2 * BATCH)))


def _batches(count: int, batch: int, steps: int) -> Iterator[Tensor]:
    """``steps`` batches of indices, reshuffled whenever all have been used; an incomplete last batch is dropped."""
    order = torch.Generator().manual_seed(1234)
    each = count // batch
    for step in range(steps):
        if step % each == 0:
            shuffled = torch.randperm(count, generator=order).split(batch)
        yield shuffled[step % each]


def checksum(model: nn.Module) -> str:
    """The SHA-256 of a model's weights, which identifies the feature space of a score."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
