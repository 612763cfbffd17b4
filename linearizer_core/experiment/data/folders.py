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
"""Side of the centred square of CelebA's 178×218 that is kept: the face without most of the background."""


@dataclass(frozen=True)
class Listing:
    """Image files ``names`` in ``folder`` with ``labels`` ``(count,)`` int64, to be decoded to ``channels``.

    ``crop`` is the side of the centred square that is kept, 0 for the largest. ``notes`` say what was left out,
    and why.
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


def celeba(root: Path, which: int = 0) -> Listing:
    """CelebA, aligned (Liu et al., 2015), with its official partition; the label is 2 Male + Smiling.

    Each split is in the order of a shuffle, the fixed one for ``which`` 0. Raises ``DataError`` naming files that are
    missing or wrong.
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
        indices.append(index[shuffled(len(index), which)])
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
    remedy = "let data.root or LINEARIZER_DATA name a folder of images"
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "is not there"
        raise DataError(f"folder: found no image: {folder} {what}: {remedy}")
    found = scan(folder)
    if not found.images:
        there = "".join(f"; {note}" for note in found.notes())
        raise DataError(f"folder: found no image ({', '.join(sorted(SUFFIXES))}) in {folder}: {remedy}{there}")
    return folder


def folder(root: Path, which: int = 0) -> Listing:
    """All images in a folder and those below it, 80 / 10 / 10 % by the fixed shuffle of their sorted names.

    The folders directly in it are the classes, by name, where every image is in one of several; a folder that alone
    holds everything, in folders, is the way to them. Folders ``train`` and ``val`` or ``test`` are splits instead,
    around the classes or in each of them, which are kept; a split that is missing is a tenth of ``train``. Grey if all
    of the files are, else red, green, blue. Raises ``DataError`` if there are fewer than 10 images, where splits and
    other folders of images lie side by side, and for files that are no images.
    """
    found = scan(find_folder(root))
    names, notes = found.images, found.notes()
    here = layout(names)
    notes += here.notes
    if here.beside:
        raise DataError(
            f"folder: {root} has the splits {', '.join(here.named)} and, beside them, {len(here.beside)} images "
            f"such as {names[here.beside[0]]}: move these into a split, or take them away"
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
    """The classes in their order, none if not every image is in one of several, and the reason for that."""
    kinds = sorted({part[0] for part in parts if len(part) > 1})
    loose = [name for name, part in zip(names, parts, strict=True) if len(part) == 1]
    if len(kinds) > 1 and loose:
        where = ", ".join(kinds[:5]) + (" …" if len(kinds) > 5 else "")
        return [], [f"no labels: {counted(loose)} not in one of the folders {where}"]
    if len(kinds) == 1 and not loose:
        return [], [f"no labels: every image is in {kinds[0]}, the only folder; classes are several folders"]
    return ([] if loose else kinds), []


def _kept(root: Path, where: list[str], which: int) -> tuple[Splits, list[str]]:
    """The splits that the folders have, each in the order of the fixed shuffle."""
    index = {
        kind: torch.tensor([i for i, split in enumerate(where) if split == kind], dtype=torch.int64)
        for kind in SPLIT_FOLDERS
    }
    index = {kind: each[shuffled(len(each), which)] for kind, each in index.items()}
    counts = ", ".join(f"{len(each)} {kind}" for kind, each in index.items() if len(each))
    notes = [f"splits as the folders have them: {counts}"]
    for kind in ("validation", "test"):
        if not len(index[kind]):
            tenth = len(index["train"]) // 10
            if not tenth:
                raise DataError(f"folder: {root} has no {kind} split and too few images in train to take a tenth of")
            index[kind], index["train"] = index["train"][:tenth], index["train"][tenth:]
            notes.append(f"no folder of the {kind} split: {tenth} images of train, by the fixed shuffle")
    return Splits(index["train"], index["validation"], index["test"]).bounded(), notes
