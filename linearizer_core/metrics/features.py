"""A small classifier, trained the same way every time, whose features the Fréchet distance is taken in.

A score in its features is not FID: it is called ``classifier_fd`` and is comparable only between models of one data
set, under one classifier (named by its checksum), beside its floor, real against real.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from linearizer_core.data import ImageData

RECIPE = "classifier-1"
"""Named in the cache's file name: to be changed with anything below that changes the trained weights."""

EPOCHS = 25
BATCH = 64
FEATURES = 64


class Classifier(nn.Module):
    """Two convolutions and a hidden layer; ``features`` is the hidden layer, ``(batch, 64)``."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(4), nn.Flatten(),
            nn.Linear(64 * 16, FEATURES), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(FEATURES, classes)

    def features(self, images: Tensor, batch: int = 1024) -> Tensor:
        """Features of images ``(count, channels, height, width)`` in [-1, 1], computed in batches."""
        with torch.no_grad():
            return torch.cat([self.body(part) for part in images.split(batch)])

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))

    @torch.no_grad()
    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """The fraction of images that it classifies as labelled."""
        return float((self(images).argmax(1) == labels).float().mean())


def train_classifier(data: ImageData) -> Classifier:
    """The classifier of a data set, from a fixed seed, on one CPU thread so that the sums come out the same."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1234)
            model = Classifier(data.event[0], data.classes)
        order = torch.Generator().manual_seed(1234)
        optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
        steps = EPOCHS * (len(data.train) // BATCH)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(EPOCHS):
            for index in torch.randperm(len(data.train), generator=order).split(BATCH):
                if len(index) < BATCH:
                    continue
                loss = cross_entropy(model(data.train[index]), data.train_labels[index])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
    finally:
        torch.set_num_threads(threads)
    return model.eval().requires_grad_(False)


def cached_classifier(data: ImageData, cache: Path) -> Classifier:
    """The data set's classifier from ``cache``, trained and stored there first if it is not."""
    path = cache / f"{RECIPE}-{data.name}-{data.checksum[:16]}.safetensors"
    model = Classifier(data.event[0], data.classes)
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        trained = train_classifier(data)
        # Written under a name of its own and moved: a reader sees the whole file or none.
        temporary = cache / f".{path.name}.{os.getpid()}.part"
        save_file(trained.state_dict(), temporary)
        temporary.replace(path)
    model.load_state_dict(load_file(path))
    return model.eval().requires_grad_(False)


def checksum(model: nn.Module) -> str:
    """The SHA-256 of a model's weights, which names the feature space that a score was taken in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
