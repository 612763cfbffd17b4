"""What can lie in a folder or an archive: it is used, or it is named in what was left out, with counts."""

from __future__ import annotations

import errno
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from linearizer_core.experiment.configuration import DataConfig
from linearizer_core.experiment.data import DataError, ImageData, load


def picture(path: Path, value: int = 0, mode: str = "L", size: tuple[int, int] = (4, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).convert(mode).save(path)
    return path


def read(root: Path) -> ImageData:
    return load(DataConfig(name="folder", root=str(root), size=4))


def fill(folder: Path, count: int, suffix: str = ".png", value: int = 0) -> None:
    for i in range(count):
        picture(folder / f"{i:03}{suffix}", value)


def sizes(data: ImageData) -> tuple[int, int, int]:
    return len(data.train), len(data.validation), len(data.test)


def test_class_folders_that_are_links_are_followed(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        fill(tmp_path / "store" / name, 10)
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / name).symlink_to(tmp_path / "store" / name)
    data = read(tmp_path / "set")
    assert (sizes(data), data.classes, data.notes) == ((16, 2, 2), 2, ())


def test_links_in_a_circle_are_left_out_and_named(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        fill(tmp_path / name, 10)
    (tmp_path / "cat" / "up").symlink_to(tmp_path)
    (tmp_path / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    data = read(tmp_path)
    assert sum(sizes(data)) == 20
    assert "left out: cat/up (a link back to a folder that contains it)" in data.notes
    assert "left out: dog/gone.png (a broken link)" in data.notes


def test_a_folder_that_is_there_under_two_names_is_taken_once(tmp_path: Path) -> None:
    fill(tmp_path / "set" / "b", 12)
    fill(tmp_path / "store" / "deep", 3)
    (tmp_path / "set" / "a").symlink_to(tmp_path / "set" / "b")  # comes first by its name, and is the link
    for name in ("c", "d"):
        (tmp_path / "set" / name).symlink_to(tmp_path / "store")
    data = read(tmp_path / "set")
    assert (sum(sizes(data)), data.classes) == (15, 2)
    assert data.notes == ("left out: 2 (already included under another name), e.g. a",)


def test_a_file_that_is_there_under_two_names_is_taken_once(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        fill(tmp_path / name, 10, value=len(name))
    (tmp_path / "cat" / "again.png").symlink_to(tmp_path / "dog" / "003.png")
    data = read(tmp_path)
    assert sum(sizes(data)) == 20
    assert data.notes == ("left out: cat/again.png (already included under another name)",)


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cat", "dog", "locked"):
        fill(tmp_path / name, 10)

    listed = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("locked"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)  # permissions do not hold for root
    data = read(tmp_path)
    assert (sum(sizes(data)), data.notes) == (20, ("left out: locked (a folder that cannot be read)",))


@pytest.mark.parametrize(
    "suffix", [".png", ".PNG", ".jpg", ".JPEG", ".bmp", ".gif", ".tif", ".TIFF", ".ppm", ".pgm", ".webp", ".tga"]
)
def test_formats_that_pillow_reads_are_read(suffix: str, tmp_path: Path) -> None:
    fill(tmp_path, 5, suffix, 200)
    fill(tmp_path / "more", 5, ".png", 200)
    data = read(tmp_path)
    assert sum(sizes(data)) == 10
    assert float((data.train.head(8) - (2 * 200 / 255 - 1)).abs().max()) < 0.02


@pytest.mark.parametrize("mode", ["1", "P", "RGBA", "LA", "CMYK", "RGB"])
def test_modes_are_converted(mode: str, tmp_path: Path) -> None:
    fill(tmp_path, 9, value=255)
    picture(tmp_path / f"other{'.jpg' if mode == 'CMYK' else '.png'}", 255, mode, (7, 5))
    data = read(tmp_path)
    assert data.event[0] == (1 if mode == "1" else 3)
    assert float(data.train.head(8).min()) > 0.95


def test_what_is_no_image_is_counted_and_named(tmp_path: Path) -> None:
    fill(tmp_path / "cat", 10)
    fill(tmp_path / "dog", 10)
    picture(tmp_path / "__MACOSX" / "cat" / "x.png")
    picture(tmp_path / "cat" / ".hidden.png")
    for name in ("labels.csv", "cat/a.heic", "dog/notes.txt"):
        (tmp_path / name).write_text("x")
    data = read(tmp_path)
    assert (sizes(data), data.classes) == ((16, 2, 2), 2)
    assert data.notes == (
        "left out: 3 (not an image), e.g. cat/a.heic",
        "left out: 2 (hidden, or created by the operating system), e.g. __MACOSX",
    )


def test_a_stray_image_beside_the_classes_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "cat", 10)
    fill(tmp_path / "dog", 10)
    picture(tmp_path / "overview.png")
    data = read(tmp_path)
    assert data.classes == 0
    assert data.notes == ("no labels: overview.png not in one of the folders cat, dog",)


@pytest.mark.parametrize("validation", ["val", "valid", "Validation", "dev"])
def test_folders_that_are_splits_are_kept(validation: str, tmp_path: Path) -> None:
    for name, value in (("train", 10), (validation, 20), ("test", 30)):
        for kind in ("cat", "dog"):
            fill(tmp_path / name / kind, 3, value=value)
    data = read(tmp_path)
    assert (sizes(data), data.classes) == ((6, 6, 6), 2)
    for part, value in ((data.train.head(6), 10), (data.validation, 20), (data.test, 30)):
        np.testing.assert_allclose(part.numpy(), 2 * value / 255 - 1, atol=1e-6)
    assert sorted(data.validation_labels.tolist()) == [0, 0, 0, 1, 1, 1]
    assert data.notes == ("splits are given by the folders: 6 train, 6 validation, 6 test",)


def test_a_split_without_a_folder_is_a_tenth_of_train(tmp_path: Path) -> None:
    for name, count in (("train", 20), ("val", 3)):
        for kind in ("cat", "dog"):
            fill(tmp_path / name / kind, count, value=count)
    data = read(tmp_path)
    assert (sizes(data), data.classes) == ((36, 6, 4), 2)
    np.testing.assert_allclose(data.test.numpy(), 2 * 20 / 255 - 1, atol=1e-6)
    assert data.notes[1] == "no folder for the test split; 4 images of train are used, by the fixed shuffle"


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        # The set lies in a folder, as unpacking leaves it.
        (["data/train/cat", "data/train/dog", "data/test/cat", "data/test/dog"], 2),
        (["a/b/c/train/cat", "a/b/c/train/dog", "a/b/c/test/cat", "a/b/c/test/dog"], 2),
        (["images/train", "images/test"], 0),
        # Each class has splits of its own.
        (["cat/train", "dog/train", "cat/test", "dog/test"], 2),
        (["bottle/train/good", "bottle/train/chipped", "bottle/test/good", "bottle/test/chipped"], 2),
        # The words are part of the names.
        (["seg_train/seg_train/sea", "seg_train/seg_train/ice", "seg_test/seg_test/sea", "seg_test/seg_test/ice"], 2),
        (["trainSet/cat", "trainSet/dog", "testSet/cat", "testSet/dog"], 2),
        (["train2017", "test2017"], 0),
        (["trainA", "trainB", "testA", "testB"], 0),
    ],
)
def test_splits_are_kept_wherever_they_are(folders: list[str], classes: int, tmp_path: Path) -> None:
    for name in folders:
        fill(tmp_path / name, 10, value=10 if "train" in name else 30)
    data = read(tmp_path)
    trained, tested = (10 * sum(word in name for name in folders) for word in ("train", "test"))
    assert (sizes(data), data.classes) == ((trained - trained // 10, trained // 10, tested), classes)
    np.testing.assert_allclose(data.train.head(1).numpy(), 2 * 10 / 255 - 1, atol=1e-6)
    np.testing.assert_allclose(data.test.numpy(), 2 * 30 / 255 - 1, atol=1e-6)
    assert any(
        note.startswith(f"splits are given by the folders: {trained} train, {tested} test") for note in data.notes
    )
    if "trainA" in folders:
        assert "trainA and trainB are both used for the train split" in data.notes


@pytest.mark.parametrize(
    "folders", [["train", "bus", "test_tube"], ["train/x", "train/y", "bus"], ["dev_board", "train_ticket", "cat"]]
)
def test_classes_that_sound_like_splits_are_classes(folders: list[str], tmp_path: Path) -> None:
    for name in folders:
        fill(tmp_path / name, 5)
    data = read(tmp_path)
    assert data.classes == len({name.partition("/")[0] for name in folders})
    assert not any(note.startswith("splits") for note in data.notes)


def test_classes_in_one_folder_are_classes(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "cat", 10)
    fill(tmp_path / "train" / "dog", 10)
    data = read(tmp_path)
    assert (sizes(data), data.classes) == ((16, 2, 2), 2)
    assert data.notes == ("all images are in train, which is used as the data set's folder",)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    fill(tmp_path, 10)
    os.mkfifo(tmp_path / "pipe.png")
    assert read(tmp_path).notes == ("left out: pipe.png (not an image)",)


def test_what_is_there_instead_of_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "images.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"no images .* found .*; left out: images.zip \(not an image\)"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"no images found: .*images.zip is a file; set data.root"):
        read(tmp_path / "images.zip")
    with pytest.raises(DataError, match=r"no images found: .*gone does not exist; set data.root"):
        read(tmp_path / "gone")
    with pytest.raises(DataError, match="not a valid path: it contains a NUL character"):
        load(DataConfig(name="folder", root="a\0b"))


def test_splits_beside_other_images_are_refused(tmp_path: Path) -> None:
    for name in ("train/cat", "val/cat", "bird"):
        fill(tmp_path / name, 10)
    with pytest.raises(DataError, match=r"has the splits train, val and 10 images outside them, such as bird/000.png"):
        read(tmp_path)


def test_animated_images_give_their_first_frame(tmp_path: Path) -> None:
    fill(tmp_path, 9, value=255)
    frames = [Image.new("L", (4, 4), value) for value in (255, 0, 80)]
    frames[0].save(tmp_path / "moves.gif", save_all=True, append_images=frames[1:])
    data = read(tmp_path)
    assert float(data.train.head(8).min()) > 0.95
    assert data.notes == ("only the first frame of animated images is used: moves.gif",)


def test_damaged_images_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    fill(tmp_path, 12)
    (tmp_path / "003.png").write_bytes(b"")
    (tmp_path / "007.png").write_text("no image")
    with pytest.raises(DataError, match=r"003.png cannot be read as an image: .*\(2 files cannot be read\)"):
        read(tmp_path)


def test_deep_images_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    fill(tmp_path, 12)
    for name in ("004.png", "005.png"):
        Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(tmp_path / name)
    with pytest.raises(DataError, match=r"004.png has more than 8 bits per channel \(2 files do\); convert it to 8"):
        read(tmp_path)


def archive(path: Path) -> ImageData:
    return load(DataConfig(name="npz", root=str(path)))


def test_arrays_that_are_not_read_are_named(tmp_path: Path) -> None:
    images = np.zeros((20, 4, 4), np.uint8)
    np.savez(tmp_path / "x.npz", images=images, labels=np.arange(20) % 2, test_images=images, y=np.arange(20))
    data = load(DataConfig(name="npz", root=str(tmp_path / "x.npz")))
    assert data.notes == ("left out: the arrays test_images, y; only images and labels are read",)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (1 + np.arange(20) % 4, "labels go up to 4, but no image has 0: 5 classes, 1 of them empty"),
        (
            np.where(np.arange(20) % 2, 9, 0),
            "labels go up to 9, but no image has 1, 2, 3, 4, 5, …: 10 classes, 8 of them",
        ),
    ],
)
def test_labels_that_no_image_has_are_said(labels: np.ndarray, said: str, tmp_path: Path) -> None:  # type: ignore[type-arg]
    np.savez(tmp_path / "x.npz", images=np.zeros((20, 4, 4), np.uint8), labels=labels)
    (note,) = load(DataConfig(name="npz", root=str(tmp_path / "x.npz"))).notes
    assert note.startswith(said)


def test_a_file_that_was_replaced_meanwhile_is_read_again(tmp_path: Path) -> None:
    config = DataConfig(name="npz", root=str(tmp_path / "x.npz"))
    checksums = []
    for value in (0, 9):
        np.savez(config.root, images=np.full((20, 4, 4), value, np.uint8))
        os.utime(config.root, ns=(value, value))
        checksums.append(load(config).checksum)
    assert checksums[0] != checksums[1]


def test_labels_that_are_all_equal_are_no_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=np.zeros((20, 4, 4), np.uint8), labels=np.full(20, 3))
    data = archive(path)
    assert data.classes == 0
    assert not data.train_labels.any()
    assert data.notes == ("labels are all 3; they are ignored, since they distinguish nothing",)


def _member(name: str, content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as made:
            made.writestr(name, content)

    return write


def _header(text: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def _pickled(path: Path) -> None:
    np.savez(path, images=np.array([{"a": 1}] * 20, dtype=object))


def _nan(path: Path) -> None:
    np.savez(path, images=np.full((20, 4, 4), np.nan))


def _lengths(path: Path) -> None:
    np.savez(path, images=np.zeros((20, 4, 4), np.uint8), labels=np.arange(19))


@pytest.mark.parametrize(
    ("write", "member"),
    [
        (_member("images", b"some text"), "images"),
        (_member("images.npy", b"some text"), "images"),
        (_member("images.npy", _header(b"{'descr': '|u1', 'fortran_order': (((, 'shape': (20,4,4)}")), "images"),
        (_member("images.npy", _header(b"{'descr': 7, 'fortran_order': False, 'shape': (20, 4, 4)}\n")), "images"),
        (_member("images.npy", _header(b"\xff\xfe garbled \x00")), "images"),
        (_member("images.npy", _header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (10**15,)}")), "images"),
        (_member("images.npy", b""), "images"),
        (_pickled, "images"),
        (_nan, "images"),
        (_lengths, "labels"),
        (lambda path: path.write_text("no archive"), ""),
        (lambda path: path.write_bytes(b"PK\x03\x04 no archive"), ""),
        (lambda path: path.write_bytes(b""), ""),
    ],
)
def test_an_archive_that_is_none_is_refused_by_file_and_member(
    write: Callable[[Path], object], member: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.npz"
    write(path)
    with pytest.raises(DataError) as error:
        archive(path)
    assert str(path) in str(error.value)
    assert f"{member} of {path}" in str(error.value) or not member
