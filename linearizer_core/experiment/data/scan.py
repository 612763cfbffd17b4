"""The contents of a folder of images: the files to use, and what was left out, by kind and with counts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from linearizer_core.experiment.data.errors import DataError
from linearizer_core.experiment.data.pictures import DEEP_MODES, unreadable

SUFFIXES = {
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
    ".pnm", ".tga", ".jp2", ".avif",
}  # fmt: skip
"""Suffixes of files that are read as images, in upper or lower case."""

SYSTEM = {"__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir"}
"""Names of files and folders that operating systems leave behind."""


@dataclass
class Scan:
    """Names of images relative to a folder, with / between folders, and names of everything else, by kind."""

    images: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    loops: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """One sentence for each kind of left-out file, with the count and an example."""
        kinds = {
            "not an image": self.others,
            "hidden, or created by the operating system": self.hidden,
            "a link back to a folder that contains it": self.loops,
            "a broken link": self.broken,
            "already included under another name": self.repeated,
            "a folder that cannot be read": self.unreadable,
        }
        return [
            f"left out: {names[0]} ({what})" if len(names) == 1 else f"left out: {len(names)} ({what}), e.g. {names[0]}"
            for what, names in kinds.items()
            if names
        ]


def counted(names: Sequence[str]) -> str:
    """The number of names, and the first."""
    return names[0] if len(names) == 1 else f"{len(names)} images, such as {names[0]},"


def scan(root: Path) -> Scan:
    """Everything in a folder and its subfolders; links are followed, but nothing is included twice."""
    found = Scan()
    real: set[str] = set()
    links: dict[str, str] = {}
    for where, folders, files in _walk(root, found):
        base, at = Path(where).relative_to(root), os.path.realpath(where)
        for name in [name for name in folders + files if name.startswith(".") or name in SYSTEM]:
            found.hidden.append((base / name).as_posix())
        for name in files:
            if name.startswith(".") or name in SYSTEM:
                continue
            path, shown = Path(where) / name, (base / name).as_posix()
            link = path.is_symlink()
            if link and not path.exists():
                found.broken.append(shown)
            elif path.suffix.lower() not in SUFFIXES or not path.is_file():  # reading a pipe would wait for ever
                found.others.append(shown)
            elif link:
                links[shown] = os.path.realpath(path)
            else:
                real.add(str(Path(at) / name))
                found.images.append(shown)
    for shown, target in sorted(links.items()):
        (found.repeated if target in real else found.images).append(shown)
        real.add(target)
    for names in vars(found).values():
        names.sort()
    return found


def _walk(root: Path, found: Scan) -> Iterator[tuple[str, list[str], list[str]]]:
    """``os.walk`` that follows links but enters each folder once, at its real place rather than through a link."""

    def refused(error: OSError) -> None:
        found.unreadable.append(_shown(str(error.filename), root))

    seen: set[str] = set()
    tops = [str(root)]
    while tops:
        top = tops.pop(0)
        target = os.path.realpath(top)
        if target in seen:
            around = {os.path.realpath(folder) for folder in Path(top).parents if folder.is_relative_to(root)}
            (found.loops if target in around else found.repeated).append(_shown(top, root))
            continue
        seen.add(target)
        links = []
        for where, folders, files in os.walk(top, onerror=refused):
            yield where, list(folders), files
            entered = []
            for name in folders:
                path = str(Path(where) / name)
                if name.startswith(".") or name in SYSTEM:
                    continue
                if Path(path).is_symlink():
                    links.append(path)
                elif os.path.realpath(path) in seen:
                    found.repeated.append(_shown(path, root))
                else:
                    seen.add(os.path.realpath(path))
                    entered.append(name)
            folders[:] = entered
        tops += sorted(links)


def _shown(path: str, root: Path) -> str:
    return Path(path).relative_to(root).as_posix()


@dataclass(frozen=True)
class Headers:
    """What the files' headers tell: whether all images are grey, and notes on how some are used."""

    grey: bool
    notes: list[str]


def headers(root: Path, names: Sequence[str], threads: int = 4) -> Headers:
    """Read the header of every image; raises ``DataError`` counting and naming those that cannot be used."""
    with ThreadPoolExecutor(threads) as pool:
        looked = list(pool.map(lambda name: _look(root / name), names))
    failed = [look for look in looked if isinstance(look, DataError)]
    if failed:
        others = f" ({len(failed)} files cannot be read)" if len(failed) > 1 else ""
        raise DataError(f"{failed[0]}{others}")
    modes = {name: look for name, look in zip(names, looked, strict=True) if not isinstance(look, DataError)}
    deep = [name for name, (mode, _) in modes.items() if mode in DEEP_MODES]
    if deep:
        count = f" ({len(deep)} files do)" if len(deep) > 1 else ""
        raise DataError(f"{root / deep[0]} has more than 8 bits per channel{count}; convert it to 8")
    animated = [name for name, (_, frames) in modes.items() if frames > 1]
    notes = [f"only the first frame of animated images is used: {counted(animated).rstrip(',')}"] if animated else []
    return Headers(all(mode in ("1", "L") for mode, _ in modes.values()), notes)


def _look(path: Path) -> tuple[str, int] | DataError:
    """An image's mode and number of frames, or the error on opening it."""
    from PIL import Image

    try:
        try:
            with Image.open(path) as image:
                return image.mode, int(getattr(image, "n_frames", 1))
        except Exception as error:  # Pillow raises many types of error on broken files
            raise unreadable(path, error) from error
    except DataError as error:
        return error
