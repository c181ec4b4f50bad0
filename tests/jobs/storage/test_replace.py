"""Promises about files that are replaced together, and about second names of files."""

import errno
import os
from pathlib import Path

import pytest
from pyarrow import fs

from jobs.storage.location import Location, locate
from jobs.storage.replace import give_second_name, is_same_file, replace_together
from tests.jobs.s3_server import Bucket


@pytest.fixture(params=["a local disk", "a bucket", "fsspec"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """An empty folder on each kind of storage."""
    if request.param == "a local disk":
        return locate(tmp_path)
    if request.param == "a bucket":
        return locate(request.getfixturevalue("bucket").address).child("folder")
    location = locate(f"memory://{tmp_path}")
    location.create_folder()
    return location


@pytest.fixture
def pair(folder: Location) -> tuple[Location, Location]:
    """Two files with the texts ``old 1`` and ``old 2``."""
    files = folder.child("first [1] 50%+ü.parquet"), folder.child("second.parquet")
    if isinstance(folder.filesystem, fs.PyFileSystem):
        files = folder.child("first.parquet"), files[1]
    for number, file in enumerate(files, start=1):
        file.write_text(f"old {number}")
    return files


def texts(pair: tuple[Location, Location]) -> list[str]:
    return [file.read_text() for file in pair]


def write(paths: list[Path]) -> None:
    for number, path in enumerate(paths, start=1):
        path.write_text(f"new {number}")


class TestReplaceTogether:
    def test_both_files_are_replaced_in_order_and_the_lock_is_checked_before_each(
        self, pair: tuple[Location, Location], folder: Location
    ) -> None:
        seen: list[list[str]] = []
        with replace_together(pair, lambda: seen.append(texts(pair))) as paths:
            write(paths)
        assert seen == [["old 1", "old 2"], ["new 1", "old 2"]]
        assert texts(pair) == ["new 1", "new 2"]
        assert folder.names() == sorted(file.name for file in pair), "nothing else is left"

    @pytest.mark.parametrize("at", [1, 2])
    def test_a_lost_lock_stops_before_the_next_file_and_leaves_no_hidden_file(
        self, pair: tuple[Location, Location], folder: Location, at: int
    ) -> None:
        checks = iter(range(1, 3))

        def check() -> None:
            if next(checks) == at:
                raise ValueError("the lock is lost")

        with pytest.raises(ValueError, match="the lock is lost"), replace_together(pair, check) as paths:
            write(paths)
        assert texts(pair) == ["new 1" if at == 2 else "old 1", "old 2"]
        assert folder.names() == sorted(file.name for file in pair)

    def test_an_interrupted_write_leaves_the_earlier_files(
        self, pair: tuple[Location, Location], folder: Location
    ) -> None:
        with pytest.raises(KeyboardInterrupt), replace_together(pair, lambda: None) as paths:
            paths[0].write_text("half")
            raise KeyboardInterrupt
        assert texts(pair) == ["old 1", "old 2"]
        assert folder.names() == sorted(file.name for file in pair)

    def test_on_a_disk_what_a_paused_job_writes_late_is_in_no_file(self, tmp_path: Path) -> None:
        file = locate(tmp_path / "tags")
        with (tmp_path / ".tags.tmp").open("w") as paused:
            with replace_together((file,), lambda: None) as (path,):
                path.write_text("new")
                paused.write("late and longer")
                paused.flush()
            assert file.read_text() == "new"

    def test_on_a_disk_both_are_synced_before_the_first_is_renamed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        steps: list[str] = []
        sync, rename = os.fsync, Path.replace

        def record_sync(descriptor: int) -> None:
            steps.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
            sync(descriptor)

        def record_rename(path: Path, target: Path) -> Path:
            steps.append(f"rename {Path(target).name}")
            return rename(path, target)

        monkeypatch.setattr(os, "fsync", record_sync)
        monkeypatch.setattr(Path, "replace", record_rename)
        files = locate(tmp_path / "videos"), locate(tmp_path / "tags")
        with replace_together(files, lambda: steps.append("check")) as paths:
            write(paths)
        folder = f"sync {tmp_path.name}"
        assert steps == [
            *["sync .videos.tmp", "sync .tags.tmp"],
            *["check", "rename videos", folder],
            *["check", "rename tags", folder],
        ]

    def test_in_a_bucket_both_are_uploaded_before_the_service_copies_the_first(self, bucket: Bucket) -> None:
        files = locate(f"{bucket.address}/videos"), locate(f"{bucket.address}/tags")
        before = len(bucket.server.requests)
        with replace_together(files, lambda: None) as paths:
            write(paths)
        found = [request.replace(f"/{bucket.name}/", "") for request in bucket.server.requests[before:]]
        steps = ["PUT .videos.tmp", "PUT .tags.tmp", "PUT videos", "DELETE .videos.tmp", "PUT tags", "DELETE .tags.tmp"]
        assert [request for request in found if request in steps] == steps
        assert [bucket.get(key) for key in ("videos", "tags")] == [b"new 1", b"new 2"]

    def test_an_object_that_the_service_cannot_copy_is_uploaded_again(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(file: Location, target: Location) -> None:
            raise OSError(errno.EIO, "The specified copy source is larger than the maximum allowable size", str(file))

        monkeypatch.setattr(Location, "copy_in_bucket", refuse)
        files = locate(f"{bucket.address}/videos"), locate(f"{bucket.address}/tags")
        with replace_together(files, lambda: None) as paths:
            write(paths)
        assert [key for key in bucket.list() if key] == ["tags", "videos"]
        assert [bucket.get(key) for key in ("videos", "tags")] == [b"new 1", b"new 2"]


class TestASecondName:
    def test_it_has_the_same_content_and_stays_when_the_first_is_deleted(self, pair: tuple[Location, Location]) -> None:
        first, second = pair
        for _ in range(2):
            give_second_name(first, second)
            assert texts(pair) == ["old 1", "old 1"]
            assert first.parent.names() == sorted((first.name, second.name))
        first.delete()
        assert second.read_text() == "old 1"

    def test_on_a_disk_both_names_are_one_file(self, tmp_path: Path) -> None:
        first, second = locate(tmp_path / "first"), locate(tmp_path / "second")
        first.write_text("x")
        give_second_name(first, second)
        assert is_same_file(first, second)
        second.write_text("x")
        assert not is_same_file(first, second)

    def test_without_hard_links_it_is_a_copy(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(path: Path, target: Path) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))

        monkeypatch.setattr(Path, "hardlink_to", refuse)
        first, second = locate(tmp_path / "first"), locate(tmp_path / "second")
        first.write_text("x")
        give_second_name(first, second)
        assert second.read_text() == "x"
        assert not is_same_file(first, second)
        assert first.parent.names() == ["first", "second"]

    def test_on_another_kind_of_storage_it_is_a_copy(self, folder: Location, tmp_path: Path) -> None:
        local = locate(tmp_path / "local.parquet")
        local.write_text("x")
        there, back = folder.child("there.parquet"), locate(tmp_path / "back.parquet")
        give_second_name(local, there)
        give_second_name(there, back)
        assert there.read_text() == back.read_text() == "x"

    def test_a_missing_file_is_an_error(self, folder: Location) -> None:
        with pytest.raises(FileNotFoundError):
            give_second_name(folder.child("missing"), folder.child("name"))
        assert folder.names() == []
