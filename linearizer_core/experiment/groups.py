"""The operator that each training image belongs to: by its label, or by its cluster."""

from __future__ import annotations

import torch
from torch import Tensor

from linearizer_core.experiment.data import ImageData
from linearizer_core.experiment.data.images import Images

FITTED = 20_000
"""Maximum number of training images to which axes and clusters are fitted."""

AXES = 50
"""Number of leading principal axes along which distances between images are measured."""

BATCH = 4096


def clusters(images: Images, count: int) -> Tensor:
    """The cluster of each training image, ``(images,)`` int64 in 0 … ``count`` - 1, the same for every seed.

    k-means (Lloyd, 1982; the best of three starts by k-means++) along the leading principal axes of the images.
    """
    from sklearn.cluster import KMeans  # takes longer to import than everything else that a trial needs

    fitted = images.head(FITTED).flatten(1).double().cpu()
    mean = fitted.mean(0)
    centred = fitted - mean
    _, axes = torch.linalg.eigh(centred.T @ centred)
    leading = axes.flip(1)[:, :AXES]
    model = KMeans(count, n_init=3, random_state=0).fit((centred @ leading).numpy())
    parts = torch.arange(len(images)).split(BATCH)
    found = [
        torch.from_numpy(model.predict(((images.batch(part).flatten(1).double().cpu() - mean) @ leading).numpy()))
        for part in parts
    ]
    return torch.cat(found).long()


def groups(by: str, count: int, data: ImageData) -> Tensor:
    """The operator of each training image, ``(images,)``: 0 for ``one``, otherwise its ``label`` or ``cluster``."""
    if by == "label":
        return data.train_labels
    if by == "cluster":
        return clusters(data.train, count)
    return torch.zeros(len(data.train), dtype=torch.int64)
