"""Folders of image files and CelebA's, decoded at once or while they are used."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from linearizer_core.experiment.configuration import DataConfig
from linearizer_core.experiment.data import DataError, ImageData, StreamedImages, TensorImages, images, load, locate
from linearizer_core.experiment.data.pictures import decode, resized

SPLITS = ["train", "validation", "test"]
ATTRIBUTES = ["Bald", "Male", "Smiling", "Young"]


def save(path: Path, pixels: Any, mode: str | None = None, **options: Any) -> Path:
    """A file of uint8 pixels, of the format that the path names, or that ``options`` do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(pixels, dtype=np.uint8))
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


def flat(path: Path, value: int, shape: tuple[int, ...] = (4, 4)) -> Path:
    """A file all of whose pixels have one value."""
    return save(path, np.full(shape, value))


def shuffle(count: int) -> list[int]:
    order: list[int] = torch.randperm(count, generator=torch.Generator().manual_seed(20250101)).tolist()
    return order


def quanta(part: torch.Tensor) -> torch.Tensor:
    return ((part.double() + 1) * 127.5).round().long()


def values(data: ImageData) -> list[list[int]]:
    """The first pixel of each image of each split, 0 … 255."""
    parts = [data.train.head(len(data.train)), data.validation, data.test]
    return [quanta(part)[:, 0, 0, 0].tolist() for part in parts]


def folder(root: Path, size: int = 0, count: int = 0) -> DataConfig:
    return DataConfig(name="folder", root=str(root), size=size, images=count)


def test_a_folder_is_split_by_the_shuffle_of_its_sorted_names(tmp_path: Path) -> None:
    names = ["z.png", "a/b.png", "a/c/d.bmp", "a.PNG", "b.webp", *(f"m{i:02}.png" for i in range(15))]
    for i, name in enumerate(sorted(names)):
        save(tmp_path / name, np.full((4, 4), 10 * i), **({"lossless": True} if name.endswith("webp") else {}))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image")
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / ".thumbnails" / "x.png").write_text("no image")
    data, order = load(folder(tmp_path, size=4)), shuffle(20)
    assert values(data) == [[10 * i for i in part] for part in (order[4:], order[:2], order[2:4])]
    assert data.classes == 0
    assert all(not getattr(data, f"{name}_labels").any() for name in SPLITS)
    assert len(data.train_labels) == 16
    assert locate(folder(tmp_path)) == [tmp_path]
    few = load(folder(tmp_path, size=4, count=3))
    assert values(few) == [[10 * i for i in order[4:7]], *values(data)[1:]]
    assert len({data.checksum, few.checksum, load(folder(tmp_path)).checksum}) == 3


def test_folders_in_a_folder_are_classes(tmp_path: Path) -> None:
    for i in range(20):
        flat(tmp_path / ["dog", "cat", "emu"][i % 3] / ["", "young"][i % 2] / f"{i:02}.png", 10 * (i % 3))
    data = load(folder(tmp_path, size=4))
    assert data.classes == 3
    for name, part in zip(SPLITS, values(data), strict=True):
        labels = [{10: 0, 0: 1, 20: 2}[value] for value in part]
        assert getattr(data, f"{name}_labels").tolist() == labels


@pytest.mark.parametrize("beside", [True, False])
def test_folders_are_no_classes_beside_images_or_alone(beside: bool, tmp_path: Path) -> None:
    for i in range(10):
        flat(tmp_path / ["a", "b" if beside else "a"][i % 2] / f"{i}.png", i)
    if beside:
        flat(tmp_path / "c.png", 9)
    assert load(folder(tmp_path)).classes == 0


def test_grey_files_have_one_channel_unless_one_is_coloured(tmp_path: Path) -> None:
    for i in range(9):
        flat(tmp_path / f"{i}.png", 10 * i)
    save(tmp_path / "9.png", np.full((4, 4), 255), mode="1")
    data = load(folder(tmp_path, size=4))
    assert data.event == (1, 4, 4)
    assert sorted(itertools.chain(*values(data))) == [*range(0, 90, 10), 255]
    flat(tmp_path / "coloured" / "9.png", 50, (4, 4, 3))
    for i in range(9):
        (tmp_path / "coloured" / f"{i}.png").symlink_to(tmp_path / f"{i}.png")
    data = load(folder(tmp_path / "coloured"))
    assert data.event == (3, 64, 64)
    assert sorted(itertools.chain(*values(data))) == sorted([*range(0, 90, 10), 50])


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no images \(.avif, .bmp, .*\) found in .*LINEARIZER_DATA"):
        load(folder(tmp_path))
    for i in range(9):
        flat(tmp_path / f"{i}.png", i)
    with pytest.raises(DataError, match=f"images in {tmp_path}: only 9; at least 10"):
        load(folder(tmp_path))


def test_the_centred_square_is_kept(tmp_path: Path) -> None:
    wide = np.full((6, 10, 3), 255)
    wide[:, 2:8] = [10, 20, 30]
    for name, pixels in (("wide", wide), ("tall", wide.transpose(1, 0, 2))):
        found = decode(save(tmp_path / f"{name}.png", pixels), size=6, channels=3)
        assert found.dtype == torch.uint8
        assert torch.equal(found, torch.tensor([10, 20, 30]).byte().view(3, 1, 1).expand(3, 6, 6))
    inner = np.full((9, 12), 255)
    inner[3:7, 4:8] = 40
    inner[2:7, 3:8] = np.where(inner[2:7, 3:8] == 40, 40, 255)
    # Of an odd margin the smaller half is above and to the left.
    assert decode(save(tmp_path / "i.png", inner[1:]), size=4, channels=1, crop=4).eq(40).all()


def test_a_step_is_resized_by_the_triangle_filter(tmp_path: Path) -> None:
    step = np.zeros((8, 8), dtype=np.uint8)
    step[:, 4:] = 240
    # At half the size a pixel weighs four neighbours 1 : 3 : 3 : 1.
    expected = torch.tensor([0, 30, 210, 240]).byte()
    assert torch.equal(decode(save(tmp_path / "s.png", step), 4, 1)[0], expected.expand(4, 4))
    assert torch.equal(resized(torch.from_numpy(step)[None, None], 4)[0, 0], expected.expand(4, 4))
    assert torch.equal(resized(torch.from_numpy(step.T.copy())[None, None], 4)[0, 0], expected[:, None].expand(4, 4))


@pytest.mark.parametrize("shape", [(3, 9, 9), (3, 8, 13), (1, 13, 8)])
@pytest.mark.parametrize("size", [3, 8, 20])
def test_tensors_are_resized_as_files_are(shape: tuple[int, int, int], size: int, tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (5, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    together = resized(pixels, size)
    for i, image in enumerate(pixels):
        path = save(tmp_path / f"{i}.png", image.permute(1, 2, 0).squeeze(2).numpy())
        assert torch.equal(together[i], decode(path, size, shape[0]))


def test_an_image_is_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4))
    pixels[:, :2] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # stored so that a quarter turn clockwise shows it: its left is what is up
    found = decode(save(tmp_path / "x.png", pixels, exif=exif), size=4, channels=1)[0]
    assert found[:2].eq(255).all()
    assert found[2:].eq(0).all()


def test_what_is_transparent_is_black(tmp_path: Path) -> None:
    pixels = np.full((4, 4, 4), 200)
    pixels[:2, :, 3], pixels[2:, :, 3] = 0, 255
    palette = Image.fromarray(np.repeat([[0], [0], [1], [1]], 4, axis=1).astype(np.uint8), mode=None).convert("P")
    palette.putpalette([200, 200, 200] * 2)
    palette.save(tmp_path / "p.png", transparency=b"\0\xff")
    for path in (save(tmp_path / "a.png", pixels), tmp_path / "p.png"):
        found = decode(path, size=4, channels=3)
        assert found[:, :2].eq(0).all()
        assert found[:, 2:].eq(200).all()


def test_more_than_8_bits_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((4, 4), 1000, dtype=np.uint16)).save(path)
    with pytest.raises(DataError, match=f"{path} has more than 8 bits per channel"):
        decode(path, 4, 1)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """33 random images of several shapes and formats in two classes."""
    random = np.random.default_rng(3)
    for i in range(33):
        shape = (*random.integers(5, 40, 2), 3) if i % 4 else tuple(random.integers(5, 40, 2))
        save(tmp_path / "ab"[i % 2] / f"{i:02}.{['jpg', 'png'][i % 3 == 0]}", random.integers(0, 256, shape))
    return tmp_path


def test_streamed_images_are_those_in_memory(photographs: Path) -> None:
    whole, streamed = load(folder(photographs, 16)), load(folder(photographs, 16), in_memory=27 * 3 * 16 * 16 - 1)
    assert isinstance(whole.train, TensorImages)
    assert isinstance(streamed.train, StreamedImages)
    assert isinstance(load(folder(photographs, 16), in_memory=27 * 3 * 16 * 16).train, TensorImages)
    assert len(streamed.train) == len(whole.train) == 27
    assert streamed.event == whole.event == (3, 16, 16)
    order = torch.tensor(shuffle(27))
    found, expected = (list(data.train.batches(order, 4)) for data in (streamed, whole))
    assert len(found) == len(expected) == 6
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert torch.equal(torch.cat(found), whole.train.batch(order[:24]))
    assert torch.equal(streamed.train.batch(order), whole.train.batch(order))
    assert torch.equal(streamed.train.head(5), whole.train.head(5))
    assert len(streamed.train.head(99)) == 27
    assert torch.equal(streamed.train.to("cpu").head(5), whole.train.head(5))
    assert list(streamed.train.batches(order, 28)) == []
    for name in ("validation", "test", "validation_labels", "test_labels", "train_labels"):
        assert torch.equal(getattr(streamed, name), getattr(whole, name))
    assert streamed.classes == whole.classes == 2


def test_checksum_of_streamed_images(photographs: Path) -> None:
    def checksum(size: int = 16, count: int = 0) -> str:
        for other in (2, 3):  # in place of what was kept
            load(folder(photographs, other))
        return load(folder(photographs, size, count), in_memory=0).checksum

    first = checksum()
    assert checksum() == first
    sums = {first, checksum(size=8), checksum(count=5)}
    (photographs / "a" / "02.jpg").rename(photographs / "b" / "02.jpg")
    sums.add(checksum())
    path = next(photographs.glob("a/04.*"))
    path.write_bytes(path.read_bytes() + b"\0")
    sums.add(checksum())
    assert len(sums) == 5


def broken(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replaced(path: Path) -> None:
    path.write_text("no image")


@pytest.mark.parametrize("damage", [broken, replaced, Path.unlink])
def test_an_unreadable_file_is_named(damage: Callable[[Path], None], tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    paths = [save(tmp_path / f"{i:02}.jpg", random.integers(0, 256, (20, 20, 3))) for i in range(30)]
    damage(paths[17])
    stream = StreamedImages(paths, 8, ahead=2)
    found = []
    with pytest.raises(DataError, match=f"{paths[17]} cannot be read as an image: .*; repair or remove it"):
        found.extend(stream.batches(torch.arange(30), 5))
    assert len(found) == 3
    with pytest.raises(DataError, match=str(paths[17])):
        stream.batch(torch.tensor([3, 17]))
    assert len(stream.batch(torch.tensor([3, 16]))) == 2
    if paths[17].exists():
        for in_memory in (0, 10**9):
            with pytest.raises(DataError, match=str(paths[17])):
                load(folder(tmp_path), in_memory=in_memory).train.batch(torch.arange(24))


def test_a_stream_keeps_within_its_memory_and_stops_when_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [flat(tmp_path / f"{i:03}.png", i) for i in range(120)]
    decoded: list[Path] = []

    def counted(path: Path, *arguments: Any) -> torch.Tensor:
        decoded.append(path)
        return decode(path, *arguments)

    monkeypatch.setattr(images, "decode", counted)
    threads = threading.active_count()
    batches = StreamedImages(paths, 4, channels=1, threads=2, ahead=3).batches(torch.arange(120), 10)
    for i in range(4):
        assert quanta(next(batches))[:, 0, 0, 0].tolist() == list(range(10 * i, 10 * i + 10))
        ahead, deadline = 10 * (i + 4), time.monotonic() + 60
        while len(decoded) < ahead and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.05)  # for what should not be decoded yet
        assert len(decoded) == ahead
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == threads
    assert len(decoded) == 70


def face(inside: int, outside: int) -> np.ndarray:
    """CelebA's size, with another value outside its centred square of 148."""
    pixels = np.full((218, 178, 3), outside)
    pixels[35:183, 15:163] = inside
    return pixels


@pytest.fixture
def celeba(tmp_path: Path) -> Path:
    """A small CelebA of 24 flat images, 12 to train on and 6 each for validation and the test."""
    folder = tmp_path / "celeba"
    rows = []
    for i in range(24):
        save(folder / "img_align_celeba" / f"{i + 1:06}.jpg", face(10 * i, 255), format="PNG")
        signs = [1 - 2 * (i >> 2 & 1), 2 * (i & 1) - 1, 2 * (i >> 1 & 1) - 1, 1]
        rows.append(f"{i + 1:06}.jpg " + " ".join(f"{sign:2d}" for sign in signs))
    (folder / "list_attr_celeba.txt").write_text("\n".join(["24", " ".join(ATTRIBUTES) + " ", *rows]) + "\n")
    parts = [0] * 12 + [1] * 6 + [2] * 6
    lines = (f"{i + 1:06}.jpg {part}" for i, part in enumerate(parts))
    (folder / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def faces(root: Path, size: int = 0) -> DataConfig:
    return DataConfig(name="celeba", root=str(root), size=size)


@pytest.mark.parametrize("in_memory", [0, 2**31])
def test_celeba_has_the_official_partition_and_four_classes(celeba: Path, in_memory: int) -> None:
    data = load(faces(celeba), in_memory=in_memory)
    assert isinstance(data.train, TensorImages if in_memory else StreamedImages)
    assert data.event == (3, 64, 64)
    assert data.classes == 4
    expected = [shuffle(12), [12 + i for i in shuffle(6)], [18 + i for i in shuffle(6)]]
    parts = [data.train.head(12), data.validation, data.test]
    for name, part, numbers in zip(SPLITS, parts, expected, strict=True):
        # The square is flat to its edge: nothing of what is around it is left.
        assert torch.equal(quanta(part), 10 * torch.tensor(numbers).view(-1, 1, 1, 1).expand(-1, 3, 64, 64))
        assert getattr(data, f"{name}_labels").tolist() == [2 * (i & 1) + (i >> 1 & 1) for i in numbers]


def test_celeba_at_its_crops_size_is_the_crop(celeba: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (218, 178, 3), dtype=np.uint8)
    number = 13 + shuffle(6)[0]
    save(celeba / "celeba" / "img_align_celeba" / f"{number:06}.jpg", pixels, format="PNG")
    found = quanta(load(faces(celeba, 148)).validation)[0]
    assert np.array_equal(found.permute(1, 2, 0).numpy(), pixels[35:183, 15:163])


@pytest.mark.parametrize("name", ["img_align_celeba", "list_eval_partition.txt", "list_attr_celeba.txt"])
def test_what_celeba_lacks_is_named(celeba: Path, name: str) -> None:
    (celeba / "celeba" / name).rename(celeba / name)
    with pytest.raises(DataError, match=f"{name} not found in {celeba / 'celeba'}; put the files there"):
        load(faces(celeba))


def test_a_missing_face_is_named(celeba: Path) -> None:
    (celeba / "celeba" / "img_align_celeba" / "000007.jpg").unlink()
    with pytest.raises(
        DataError, match=r"img_align_celeba lacks 1 of the images in .*partition.txt, such as 000007.jpg"
    ):
        load(faces(celeba))


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("list_eval_partition.txt", "000007.jpg 0\n", "000007.jpg\n", "each line must be a name and 1 whole numbers"),
        (
            "list_eval_partition.txt",
            "000007.jpg 0\n",
            "000007.jpg x\n",
            "each line must be a name and 1 whole numbers",
        ),
        ("list_eval_partition.txt", " 1\n", " 0\n", "has no image of part 1"),
        ("list_attr_celeba.txt", "Male", "Hat", "the second line must name the attributes Male and Smiling"),
        ("list_attr_celeba.txt", " Young", "", "each line must be a name and 3 whole numbers"),
        ("list_attr_celeba.txt", "000024.jpg", "000025.jpg", "lacks 1 of the images .* such as 000024.jpg"),
    ],
)
def test_malformed_lists_of_celeba_are_named(celeba: Path, name: str, old: str, new: str, message: str) -> None:
    path = celeba / "celeba" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=f"{name}.*{message}" if "lacks" not in message else f"{name} {message}"):
        load(faces(celeba))
