"""Records and data sets that are read from a bucket, over HTTP, and what goes wrong on the way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import linsweep as ls
from analysis.record.artifacts import sample_grids
from analysis.record.copies import origin_of
from linearizer_core.bucket import Bucket, BucketError, address, is_address, local_path
from linearizer_core.experiment.configuration import DataConfig
from linearizer_core.experiment.data import DataError, load
from linearizer_core.experiment.data.fetched import fetched
from sweeps.record.lookup import all_sweeps
from tests.buckets import S3, Fault, Request, s3_server

Cli = Callable[..., int]
RECORDED = Path(__file__).parents[1] / "records" / "b428e36" / "runs"
STORAGE = "s3://records/of a team/runs"


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_server() as server:
        server.new_bucket("records")
        server.copy(RECORDED, STORAGE.replace(" ", "%20"))
        yield server


@pytest.fixture
def s3(server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The server, without faults, with a cache of its own and a storage folder ``runs`` of the same records."""
    shutil.copytree(RECORDED, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("LINSWEEP_CACHE", str(tmp_path / "cache"))
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.fault = lambda request: None
    server.requests.clear()
    return server


def fails(fault: Fault, *numbers: int) -> Callable[[Request], Fault | None]:
    """The fault at requests of these numbers, and at all if there is none."""
    return lambda request: fault if not numbers or request.number in numbers else None


def test_what_is_an_address_and_what_a_path() -> None:
    assert address(Path("s3://bucket/runs")) == "s3://bucket/runs"  # Path leaves one slash
    assert not is_address("./s3:/runs")
    assert local_path("file://localhost/srv/runs") == "/srv/runs"
    for text in ("s3://", "s3://key:secret@bucket/runs", "gs://bucket/../other", "az://bucket/a//b", "s3://b/x?y=1"):
        with pytest.raises(ValueError, match=r"bucket|credentials"):
            address(text)
    with pytest.raises(ValueError, match="in the environment") as refused:
        address("s3://key:secret@bucket/runs")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "arguments",
    [["status", "before"], ["status", "cut"], ["compare", "before/t000-s0", "cut/t001-s1"], ["logs", "cut/t001-s1"]],
)
def test_commands_print_the_same_as_of_a_folder(
    run_cli: Cli, s3: S3, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run_cli(*arguments) == 0
    expected = capsys.readouterr()
    assert run_cli(*arguments, "--storage", STORAGE) == 0
    printed = capsys.readouterr()
    there = printed.out.replace(f" --storage '{STORAGE}'", "").replace(STORAGE, "runs")
    assert [line.rstrip() for line in there.splitlines()] == [line.rstrip() for line in expected.out.splitlines()]
    assert printed.err == expected.err


def test_a_list_and_a_sweep_by_its_whole_address(run_cli: Cli, s3: S3, capsys: pytest.CaptureFixture[str]) -> None:
    assert [each.sweep.name for each in ls.list(STORAGE).sweeps] == ["cut", "before"]
    assert ls.status(f"{STORAGE}/before").state == "finished"
    record = ls.load(f"{STORAGE}/before")
    assert len(record.runs) == len(ls.load("runs/before").runs)
    assert ls.load(STORAGE).names == ls.load("runs").names
    assert run_cli("list", "--storage", STORAGE, "--json") == 0
    assert json.loads(capsys.readouterr().out)["storage"] == STORAGE
    assert run_cli("status", "befor", "--storage", STORAGE) == 2
    assert "did you mean before?" in capsys.readouterr().err


def test_tables_and_pictures_are_equal_to_the_byte(s3: S3) -> None:
    def files(made: list[Path]) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in made if path.suffix not in (".pdf", ".png", ".svg")}

    there, here = ls.table("before", storage=STORAGE), ls.table("before")
    assert files(list(there.files)) == files(list(here.files))
    assert origin_of(there.files[0].parents[2]) == STORAGE
    pictures = [sample_grids(ls.load(f"{storage}/before"), "before", "t000-s0") for storage in (STORAGE, "runs")]
    assert {name: path.read_bytes() for name, path in pictures[0].items()} == {
        name: path.read_bytes() for name, path in pictures[1].items()
    }
    assert pictures[0]
    # Weights are not for a report.
    assert not list(there.files[0].parents[1].glob("artifacts/*/checkpoint"))


def test_what_has_not_changed_is_fetched_once(s3: S3) -> None:
    ls.status("cut", storage=STORAGE)
    first = s3.requests["GET"]
    s3.requests.clear()
    ls.status("cut", storage=STORAGE)
    assert s3.requests["GET"] == 3 < first  # is it there, how it is kept, and what is there
    journal = (RECORDED / "cut/journal/t001-s1.jsonl").read_bytes()
    uri = f"{STORAGE.replace(' ', '%20')}/cut/journal/t001-s1.jsonl"
    s3.put(uri, journal.splitlines(keepends=True)[0])
    assert len(list(ls.logs("cut/t001-s1", storage=STORAGE))) == 1
    s3.put(uri, journal)
    assert len(list(ls.logs("cut/t001-s1", storage=STORAGE))) == 3


def test_images_and_mlflow_of_a_trial_there(s3: S3, store: Any) -> None:
    there, here = ls.sample("before/t000-s0", storage=STORAGE, count=4), ls.sample("before/t000-s0", count=4)
    assert np.array_equal(there.images, here.images)
    assert ls.sync("cut", storage=STORAGE, to=store.uri).events > 0
    assert ls.sync("cut", storage=STORAGE, to=store.uri).events == 0


def test_a_copy_of_a_folder_cannot_be_continued(run_cli: Cli, s3: S3, capsys: pytest.CaptureFixture[str]) -> None:
    refused = {
        "resume cut --debug": "can only be read",
        "stop cut/t001-s1": "can only be read",
        "stop cut": "is not running",
        "retry cut/t001-s1": "has not ended",
    }
    for command, said in refused.items():
        assert run_cli(*command.split(), "--storage", STORAGE) == 2, command
        assert said in " ".join(capsys.readouterr().err.split())


def test_a_copy_of_a_folder_is_deleted_with_every_object(
    run_cli: Cli, s3: S3, capsys: pytest.CaptureFixture[str]
) -> None:
    place = "s3://records/to-delete/runs"
    s3.copy(RECORDED, place)
    others = [entry.name for entry in Bucket(place).entries("before")]
    count = len(Bucket(place).entries("cut"))
    assert run_cli("delete", "cut", "--storage", place) == 2  # nobody is there to be asked
    assert len(Bucket(place).entries("cut")) == count
    assert run_cli("delete", "cut", "--storage", place, "--yes") == 0
    out = capsys.readouterr().out
    assert "journals, one per trial" in out
    assert f"removed {place}/cut: {count} files" in out
    assert [entry.name for entry in Bucket(place).entries()] == others
    assert all_sweeps(Path(place)) == ["before"]


@pytest.mark.parametrize("fault", ["busy", "cut", "half", "slow"])
def test_what_passes_is_tried_again(s3: S3, fault: Fault) -> None:
    s3.fault = fails(fault, 1, 4, 7)
    assert ls.status("before", storage=STORAGE).state == "finished"


@pytest.mark.parametrize(("fault", "said"), [("expired", "the credentials have expired"), ("gone", "does not answer")])
def test_what_does_not_pass_is_one_line(
    run_cli: Cli, s3: S3, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fault: Fault, said: str
) -> None:
    monkeypatch.setattr("linearizer_core.bucket.RETRY_SECONDS", 1)
    s3.fault = fails(fault)
    assert run_cli("status", "before", "--storage", STORAGE) == 2
    told = capsys.readouterr().err
    assert said in " ".join(told.split())
    assert "Traceback" not in told
    with pytest.raises(BucketError) as passing:
        ls.load(f"{STORAGE}/before")
    assert passing.value.passing


def test_a_bucket_that_is_not_there(s3: S3) -> None:
    with pytest.raises(ls.LinsweepError, match="there is no such bucket") as caught:
        ls.list("s3://nobodys/runs")
    assert not getattr(caught.value, "passing", True)
    assert "127.0.0.1" not in str(caught.value)


def test_one_of_two_creates(s3: S3) -> None:
    bucket = Bucket("s3://records/locks")
    assert bucket.create("one", b"first")
    assert not bucket.create("one", b"second")
    assert bucket.read("one") == b"first"
    bucket.remove(["one", "none"])
    assert bucket.entry("one") is None


def test_a_damaged_object_is_no_file(s3: S3, tmp_path: Path) -> None:
    bucket = Bucket("s3://records/weights")
    bucket.write("a", b"content")
    with pytest.raises(BucketError, match="is damaged"):
        bucket.fetch("a", tmp_path / "a", sha256="0" * 64)
    assert not list(tmp_path.glob("*a*"))


def test_data_in_a_bucket_are_those_of_a_folder(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linearizer_core.experiment.data.named.fetched", fetched.__wrapped__)
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    s3.put("s3://records/data/images.npz", (tmp_path / "images.npz").read_bytes())
    here = DataConfig(name="npz", root=str(tmp_path / "images.npz"))
    there = replace(here, root="s3://records/data/images.npz")
    assert load(there).checksum == load(here).checksum
    s3.requests.clear()
    assert load(there).checksum == load(here).checksum
    assert s3.requests["GET"] == 2  # what is below it, and what it is: the file itself is here

    from PIL import Image

    for number, image in enumerate(images):
        (tmp_path / "folder").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "folder" / f"{number:02d}.png")
    s3.copy(tmp_path / "folder", "s3://records/data/folder")
    here = DataConfig(name="folder", root=str(tmp_path / "folder"))
    assert load(replace(here, root="s3://records/data/folder")).checksum == load(here).checksum
    with pytest.raises(DataError, match="there is neither an object of this name nor any below it"):
        load(replace(here, root="s3://records/data/none"))
