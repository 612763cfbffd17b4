"""The meaning of a set's folders: the path down to the set, its splits, and the classes within them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
"""Folder names that mean a split, in upper or lower case."""

Parts = list[list[str]]
"""For each image, its folders followed by its name."""


@dataclass(frozen=True)
class Layout:
    """``parts`` are the paths below the splits, ``splits`` the split of each image, None if the folders define none.

    ``named`` are the folders that name the splits, ``beside`` the positions of images outside all of them.
    """

    parts: Parts
    splits: list[str] | None
    named: list[str]
    beside: list[int]
    notes: list[str]


def layout(names: Sequence[str]) -> Layout:
    """Work out the meaning of the folders of images, given names with / between folders.

    A folder that holds everything, in folders, is descended into first. The remaining folders are splits if their names
    mean splits and there is train and at least one other: the outermost folders, or those inside every class. Names
    that only contain such a word, such as ``seg_train``, are splits if every image is in one.
    """
    parts, way = _descended([name.split("/") for name in names])
    notes = [f"all images are in {'/'.join(way)}, which is used as the data set's folder"] if way else []
    exact = {top: kind for top in {part[0] for part in parts if len(part) > 1} if (kind := _kind(top, whole=True))}
    if _are_splits(exact.values()):
        beside = [place for place, part in enumerate(parts) if part[0] not in exact or len(part) == 1]
        splits = [exact.get(part[0], "train") for part in parts]
        return Layout(_within(parts, splits), splits, sorted(exact), beside, notes)
    for depth in (0, 1):
        deep = all(len(part) > depth + 1 for part in parts)
        kinds = {part[depth]: _kind(part[depth], whole=depth == 1) for part in parts} if deep else {}
        if _are_splits(kinds.values()):
            splits = [kind for part in parts if (kind := kinds[part[depth]])]
            inner = [[*part[:depth], *part[depth + 1 :]] for part in parts]
            below = _within(parts, splits) if depth == 0 else inner
            for kind in SPLIT_FOLDERS:
                several = sorted(name for name, found in kinds.items() if found == kind)
                if len(several) > 1:
                    notes.append(f"{' and '.join(several)} are both used for the {kind} split")
            return Layout(below, splits, sorted(kinds), [], notes)
    return Layout(parts, None, [], [], notes)


def _descended(parts: Parts) -> tuple[Parts, list[str]]:
    """The paths below the folders that hold everything, as long as these contain folders."""
    way: list[str] = []
    while (
        parts
        and all(len(part) > 1 and part[0] == parts[0][0] for part in parts)
        and any(len(part) > 2 for part in parts)
    ):
        way.append(parts[0][0])
        parts = [part[1:] for part in parts]
    return parts, way


def _within(parts: Parts, splits: Sequence[str]) -> Parts:
    """The paths below the outermost folders, and below folders that hold all of a split, in folders."""
    below: dict[int, list[str]] = {}
    for split in dict.fromkeys(splits):
        places = [place for place, each in enumerate(splits) if each == split]
        inner, _ = _descended([parts[place][1:] for place in places])
        below |= dict(zip(places, inner, strict=True))
    return [below[place] for place in range(len(parts))]


def _kind(name: str, *, whole: bool) -> str | None:
    """The split that a folder's name means or, with ``whole=False``, contains a word for, such as ``seg_train``."""
    words = [name] if whole else re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    found = {kind for word in words for kind, known in SPLIT_FOLDERS.items() if word.lower() in known}
    return found.pop() if len(found) == 1 else None


def _are_splits(kinds: object) -> bool:
    """Whether every folder is a split, and there is train and at least one other."""
    found = list(kinds)  # type: ignore[call-overload]
    return None not in found and "train" in found and len(set(found)) > 1
