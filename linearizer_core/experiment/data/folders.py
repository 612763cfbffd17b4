"""Data sets that are image files: CelebA, and any folder of images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from linearizer_core.experiment.data.errors import DataError
from linearizer_core.experiment.data.layout import SPLIT_FOLDERS, layout
from linearizer_core.experiment.data.order import Splits, shuffled, split_tenths
from linearizer_core.experiment.data.scan import SUFFIXES, counted, headers, scan

CELEBA_CROP = 148
"""Side of the centred square kept of CelebA's 178×218 images: the face without most of the background."""


@dataclass(frozen=True)
class Listing:
    """Image files ``names`` in ``folder`` with ``labels`` ``(count,)`` int64, to be decoded to ``channels``.

    ``crop`` is the side of the centred square that is kept, 0 for the largest. ``notes`` say what was left out and
    why.
    """

    folder: Path
    names: list[str]
    labels: Tensor
    classes: int
    splits: Splits
    channels: int
    crop: int = 0
    notes: tuple[str, ...] = ()


def find_celeba(root: Path) -> list[Path]:
    """CelebA's image folder, partition file and attribute file; raises ``DataError`` naming what is missing."""
    folder = root / "celeba"
    paths = [folder / name for name in ("img_align_celeba", "list_eval_partition.txt", "list_attr_celeba.txt")]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise DataError(
            f"celeba: {', '.join(missing)} not found in {folder}; put the files there (img_align_celeba.zip unpacked), "
            f"set data.download to fetch them, or set data.root or LINEARIZER_DATA to the folder above"
        )
    return paths


def celeba(root: Path, which: int = 0) -> Listing:
    """CelebA, aligned (Liu et al., 2015), with its official partition; the label is 2 Male + Smiling.

    Each split is shuffled; ``which`` is the number of the shuffle, 0 for the fixed one. Raises ``DataError`` naming
    files that are missing or wrong.
    """
    folder, partition_file, attributes_file = find_celeba(root)
    partition = {name: values[0] for name, values in _table(partition_file, partition_file.read_text().splitlines(), 1)}
    # The attribute file starts with the number of images and a line of attribute names.
    _, header, *lines = [*attributes_file.read_text().splitlines(), "", ""]
    columns = header.split()
    if not {"Male", "Smiling"} <= set(columns):
        raise DataError(f"celeba: {attributes_file}: the second line must name the attributes Male and Smiling")
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
        indices.append(index[shuffled(len(index), which)])
    labels = torch.tensor([attributes[name] for name in names])
    return Listing(folder, names, labels, 4, Splits(*indices).bounded(), 3, CELEBA_CROP)


def _table(path: Path, lines: list[str], columns: int) -> Iterator[tuple[str, list[int]]]:
    """Each line's name and the whole numbers after it."""
    for line in filter(str.strip, lines):
        name, *words = line.split()
        try:
            values = [int(word) for word in words]
        except ValueError:
            values = []
        if len(values) != columns:
            raise DataError(f"celeba: {path}: each line must be a name and {columns} whole numbers, got {line[:60]!r}")
        yield name, values


def find_folder(folder: Path) -> Path:
    """A folder with images in it; raises ``DataError`` if it has none."""
    remedy = "set data.root or LINEARIZER_DATA to a folder of images"
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"folder: no images found: {folder} {what}; {remedy}")
    found = scan(folder)
    if not found.images:
        there = "".join(f"; {note}" for note in found.notes())
        raise DataError(f"folder: no images ({', '.join(sorted(SUFFIXES))}) found in {folder}; {remedy}{there}")
    return folder


def folder(root: Path, which: int = 0) -> Listing:
    """All images in a folder and its subfolders, split 80 / 10 / 10 % by the fixed shuffle of their sorted names.

    If every image is in one of several top-level folders, these folders are the classes, ordered by name. A folder that
    holds everything, in folders, is descended into first. Folders ``train`` and ``val`` or ``test``, around the classes
    or inside each of them, are kept as splits; a missing split becomes a tenth of ``train``. Images are grey if all
    files are, otherwise red, green, blue. Raises ``DataError`` if there are fewer than 10 images, if splits and other
    folders of images are side by side, and for files that are not images.
    """
    found = scan(find_folder(root))
    names, notes = found.images, found.notes()
    here = layout(names)
    notes += here.notes
    if here.beside:
        raise DataError(
            f"folder: {root} has the splits {', '.join(here.named)} and {len(here.beside)} images outside them, "
            f"such as {names[here.beside[0]]}; move these into a split, or remove them"
        )
    if here.splits is not None:
        splits, said = _kept(root, here.splits, which)
        notes += said
    else:
        splits = split_tenths(len(names), f"folder: images in {root}", which)
    parts = here.parts
    kinds, said = _classes(names, parts)
    place = {kind: i for i, kind in enumerate(kinds)}
    labels = torch.tensor([place.get(part[0], 0) for part in parts])
    seen = headers(root, names)
    return Listing(root, names, labels, len(kinds), splits, 1 if seen.grey else 3, notes=(*notes, *said, *seen.notes))


def _classes(names: list[str], parts: list[list[str]]) -> tuple[list[str], list[str]]:
    """The ordered classes, none unless every image is in one of several, and a note on the reason."""
    kinds = sorted({part[0] for part in parts if len(part) > 1})
    loose = [name for name, part in zip(names, parts, strict=True) if len(part) == 1]
    if len(kinds) > 1 and loose:
        where = ", ".join(kinds[:5]) + (" …" if len(kinds) > 5 else "")
        return [], [f"no labels: {counted(loose)} not in one of the folders {where}"]
    if len(kinds) == 1 and not loose:
        return [], [f"no labels: every image is in {kinds[0]}, the only folder; classes need several folders"]
    return ([] if loose else kinds), []


def _kept(root: Path, where: list[str], which: int) -> tuple[Splits, list[str]]:
    """The splits given by the folders, each in the order of the fixed shuffle."""
    index = {
        kind: torch.tensor([i for i, split in enumerate(where) if split == kind], dtype=torch.int64)
        for kind in SPLIT_FOLDERS
    }
    index = {kind: each[shuffled(len(each), which)] for kind, each in index.items()}
    counts = ", ".join(f"{len(each)} {kind}" for kind, each in index.items() if len(each))
    notes = [f"splits are given by the folders: {counts}"]
    for kind in ("validation", "test"):
        if not len(index[kind]):
            tenth = len(index["train"]) // 10
            if not tenth:
                raise DataError(
                    f"folder: {root} has no {kind} split, and too few images in train to take a tenth of them"
                )
            index[kind], index["train"] = index["train"][:tenth], index["train"][tenth:]
            notes.append(f"no folder for the {kind} split; {tenth} images of train are used, by the fixed shuffle")
    return Splits(index["train"], index["validation"], index["test"]).bounded(), notes
