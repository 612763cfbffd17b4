"""Image files and arrays as square uint8 tensors of one size."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from linearizer_core.experiment.data.errors import DataError

DEEP_MODES = {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
"""Pillow's modes with more than 8 bits per channel, which it would clip."""


def decode(path: Path, size: int, channels: int, crop: int = 0) -> Tensor:
    """An image file as ``(channels, size, size)`` uint8, of 1 channel (grey) or 3 (red, green, blue).

    The upright image is cropped to its largest centred square, or to one of side ``crop`` if that is smaller, and
    resized with Pillow's antialiased bilinear filter. Transparency is shown on black. Raises ``DataError`` for a file
    that is not a complete image, or has more than 8 bits per channel.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            if opened.mode in DEEP_MODES:
                raise DataError(f"{path} has more than 8 bits per channel; convert it to 8")
            image: Image.Image = ImageOps.exif_transpose(opened)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
            image = image.convert("L" if channels == 1 else "RGB")
    except DataError:
        raise
    except Exception as error:  # Pillow raises many types of error on broken files
        raise unreadable(path, error) from error
    width, height = image.size
    side = min(width, height, crop or width)
    left, top = (width - side) // 2, (height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    pixels = np.array(image.resize((size, size), Image.Resampling.BILINEAR))
    return torch.from_numpy(pixels.reshape(size, size, channels)).permute(2, 0, 1)


def unreadable(path: Path, error: Exception) -> DataError:
    """The error for a file that is not a complete image."""
    return DataError(f"{path} cannot be read as an image: {error}; repair or remove it")


def decode_all(paths: Sequence[Path], size: int, channels: int, crop: int = 0, threads: int = 4) -> Tensor:
    """All files as one tensor ``(count, channels, size, size)`` uint8; raises like ``decode``."""
    quanta = torch.empty(len(paths), channels, size, size, dtype=torch.uint8)

    def fill(row: int) -> None:
        quanta[row] = decode(paths[row], size, channels, crop)

    pool = ThreadPoolExecutor(threads)
    try:
        for _ in pool.map(fill, range(len(paths))):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    return quanta


def resized(quanta: Tensor, size: int) -> Tensor:
    """The largest centred square of uint8 images ``(count, channels, h, w)`` of 256 levels, resized like ``decode``.

    Pillow's filter uses integer arithmetic, so the result is the same on every machine.
    """
    from PIL import Image

    count, channels, height, width = quanta.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    planes = quanta[:, :, top : top + side, left : left + side].reshape(-1, side, side).numpy()
    # The filter is separable: resize all rows of all images at once as one tall picture, then all columns.
    for _ in range(2):
        rows = Image.fromarray(np.ascontiguousarray(planes).reshape(-1, side))
        planes = np.asarray(rows.resize((size, rows.height), Image.Resampling.BILINEAR))
        planes = planes.reshape(count * channels, -1, size).swapaxes(1, 2)
    return torch.from_numpy(np.ascontiguousarray(planes)).view(count, channels, size, size)
