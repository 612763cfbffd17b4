"""Images sampled from a trial's checkpoint, written as a picture and as an archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from rich.console import RenderableType
from rich.text import Text

from analysis.record.copies import fetch_artifacts
from linearizer_core.experiment.artifacts import image_grid
from linearizer_core.experiment.checkpoint import CONFIG, load
from linearizer_core.experiment.samples import sample
from linearizer_core.files import whole
from linearizer_core.words import counted
from sweeps.notebook import html
from sweeps.record.paths import SweepPaths
from sweeps.spec.validation import InputError, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True, repr=False)
class Samples:
    """Images from a trial's model; ``images`` is ``(count, channels, height, width)`` in [-1, 1], float32.

    ``grid`` is the path of the picture and ``archive`` that of the .npz file, which has the images as bytes in
    ``images`` and as floats in ``values``.
    """

    trial: str
    seed: int
    images: NDArray[np.float32]
    grid: Path
    archive: Path

    def __repr__(self) -> str:
        return f"Samples({self.trial}: {counted(len(self.images), 'image')} at seed {self.seed}, {self.grid})"

    def _repr_html_(self) -> str:
        return html(render(self))

    def _repr_png_(self) -> bytes:
        """The picture, for a notebook."""
        return self.grid.read_bytes()


def write_samples(paths: SweepPaths, trial: str, count: int, seed: int, out: Path, device: str) -> Samples:
    """Sample images from a trial's model and write them to a folder.

    Raises ``InputError`` for a trial without a checkpoint, a count below 1 or a device that does not exist, and
    ``CheckpointError`` for a checkpoint that cannot be read.
    """
    name = f"{paths.root.absolute().name}/{trial}"
    checkpoint = paths.artifacts(trial) / "checkpoint"
    fetch_artifacts(paths.root, trial)
    if not (checkpoint / CONFIG).exists():
        raise InputError(name, [Problem("", "has no checkpoint; only trials that finished keep one")])
    if count < 1:
        raise InputError("-n", [Problem("", f"must be at least 1, got {count}")])
    if not 0 <= seed <= LARGEST_SEED:
        raise InputError("--seed", [Problem("", f"must be between 0 and {LARGEST_SEED}, got {seed}")])
    try:
        model, config = load(checkpoint, device, plugins=sorted(paths.plugins.glob("*/*.py")))
    except RuntimeError as error:  # torch's error for a device that does not exist
        raise InputError("--device", [Problem("", f"{device}: {' '.join(str(error).split())[:200]}")]) from None
    images = sample(model, config, count, seed)
    stem = out / f"{name.replace('/', '-')}-seed{seed}"
    grid, archive = (stem.with_name(f"{stem.name}{suffix}") for suffix in (".png", ".npz"))
    with whole(grid) as temporary:
        Image.fromarray(image_grid(images).numpy()).save(temporary, format="PNG")
    values = images.numpy()
    as_bytes = ((values + 1) * 127.5).round().astype(np.uint8)
    with whole(archive) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, images=as_bytes, values=values, seed=np.int64(seed))
    return Samples(name, seed, values, grid, archive)


def render(samples: Samples) -> RenderableType:
    """The files written, as they are printed."""
    count, *event = samples.images.shape
    size = "×".join(map(str, event))
    return Text(
        f"{counted(count, 'image')} of {size} from {samples.trial} at seed {samples.seed}:\n"
        f"  {samples.grid}\n  {samples.archive}"
    )
