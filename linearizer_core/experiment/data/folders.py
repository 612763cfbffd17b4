"""Data sets that are image files: CelebA, and any folder of images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from linearizer_core.experiment.data.errors import DataError
from linearizer_core.experiment.data.order import Splits, shuffled, split_tenths
from linearizer_core.experiment.data.pictures import is_grey

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}

CELEBA_CROP = 148
"""Side of the centred square of CelebA's 178×218 that is kept: the face without most of the background."""


@dataclass(frozen=True)
class Listing:
    """Image files ``names`` in ``folder`` with ``labels`` ``(count,)`` int64, to be decoded to ``channels``.

    ``crop`` is the side of the centred square that is kept, 0 for the largest.
    """

    folder: Path
    names: list[str]
    labels: Tensor
    classes: int
    splits: Splits
    channels: int
    crop: int = 0


def find_celeba(root: Path) -> list[Path]:
    """CelebA's folder of images, its partition and its attributes; raises ``DataError`` naming what is missing."""
    folder = root / "celeba"
    paths = [folder / name for name in ("img_align_celeba", "list_eval_partition.txt", "list_attr_celeba.txt")]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise DataError(
            f"celeba: found no {', '.join(missing)} in {folder}: put the files there (img_align_celeba.zip unpacked), "
            f"let data.download fetch them, or let data.root or LINEARIZER_DATA name the folder above"
        )
    return paths


def celeba(root: Path) -> Listing:
    """CelebA, aligned (Liu et al., 2015), with its official partition; the label is 2 Male + Smiling.

    Each split is in the order of the fixed shuffle. Raises ``DataError`` naming files that are missing or wrong.
    """
    folder, partition_file, attributes_file = find_celeba(root)
    partition = {name: values[0] for name, values in _table(partition_file, partition_file.read_text().splitlines(), 1)}
    # The attributes' file starts with the number of images and a line of the attributes' names.
    _, header, *lines = [*attributes_file.read_text().splitlines(), "", ""]
    columns = header.split()
    if not {"Male", "Smiling"} <= set(columns):
        raise DataError(f"celeba: {attributes_file} does not name Male and Smiling in its second line")
    male, smiling = columns.index("Male"), columns.index("Smiling")
    attributes = {
        name: 2 * (values[male] > 0) + (values[smiling] > 0)
        for name, values in _table(attributes_file, lines, len(columns))
    }
    names = sorted(partition)
    for present, where in (({path.name for path in folder.iterdir()}, folder), (set(attributes), attributes_file)):
        absent = [name for name in names if name not in present]
        if absent:
            raise DataError(
                f"celeba: {where} lacks {len(absent)} of the images in {partition_file}, such as {absent[0]}"
            )
    parts = torch.tensor([partition[name] for name in names])
    indices = []
    for part in range(3):
        index = (parts == part).nonzero()[:, 0]
        if not len(index):
            raise DataError(f"celeba: {partition_file} has no image of part {part}")
        indices.append(index[shuffled(len(index))])
    labels = torch.tensor([attributes[name] for name in names])
    return Listing(folder, names, labels, 4, Splits(*indices).bounded(), 3, CELEBA_CROP)


def _table(path: Path, lines: list[str], columns: int) -> Iterator[tuple[str, list[int]]]:
    """Names and the whole numbers after them."""
    for line in filter(str.strip, lines):
        name, *words = line.split()
        try:
            values = [int(word) for word in words]
        except ValueError:
            values = []
        if len(values) != columns:
            raise DataError(f"celeba: {path} has a line that is not a name and {columns} whole numbers: {line[:60]!r}")
        yield name, values


def find_folder(folder: Path) -> Path:
    """A folder with images in it; raises ``DataError`` where there is none."""
    if not any(_images(folder)):
        raise DataError(
            f"folder: found no image ({', '.join(sorted(SUFFIXES))}) in {folder}: let data.root or LINEARIZER_DATA "
            f"name a folder of images"
        )
    return folder


def folder(root: Path) -> Listing:
    """All images in a folder and those below it, 80 / 10 / 10 % by the fixed shuffle of their sorted names.

    The folders directly in it are the classes, by name, where every image is in one of several. Grey if all of the
    files are, else red, green, blue. Raises ``DataError`` where there are fewer than 10 images.
    """
    names = sorted(_images(find_folder(root)))
    splits = split_tenths(len(names), f"folder: images in {root}")
    tops = [name.split("/")[0] if "/" in name else "" for name in names]
    kinds = sorted(set(tops))
    if "" in kinds or len(kinds) < 2:
        kinds = []
    place = {kind: i for i, kind in enumerate(kinds)}
    labels = torch.tensor([place.get(top, 0) for top in tops])
    channels = 1 if all(is_grey(root / name) for name in names) else 3
    return Listing(root, names, labels, len(kinds), splits, channels)


def _images(root: Path) -> Iterator[str]:
    """Names relative to ``root`` of its images, with / between folders; hidden files and folders are left out."""
    for where, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield (Path(where) / name).relative_to(root).as_posix()
