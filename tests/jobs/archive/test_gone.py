"""A video is gone only if its folder was listed in this run and has no such entry."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobs.archive.folders import FolderProblem, Folders
from jobs.archive.gone import can_be_opened, find_gone
from jobs.archive.listing import find_videos
from jobs.archive.video import video_name, video_path
from tagger.errors import InputError
from tests.jobs.s3_server import Bucket
from tests.rights import without_rights


def make(root: Path, *names: str) -> list[str]:
    """Makes files in ``root`` and returns their names in a result."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return [video_name(str(root / name)) for name in names]


def gone_after(names: list[str], *inputs: Path | str) -> list[str]:
    folders = Folders()
    find_videos([str(text) for text in inputs], folders=folders)
    return find_gone(names, folders)


def test_a_deleted_video_is_gone(tmp_path: Path) -> None:
    names = make(tmp_path, "a.mp4", "b.mp4", "old/c.mp4", "old/d.mp4")
    (tmp_path / "b.mp4").unlink()
    (tmp_path / "old/c.mp4").unlink()
    assert gone_after(names, tmp_path) == names[1:3]


def test_videos_of_a_folder_that_is_not_there_are_not_gone_because_it_may_be_a_mount_point(tmp_path: Path) -> None:
    names = make(tmp_path, "disk1/a.mp4", "disk1/deep/b.mp4", "disk2/c.mp4", "d.mp4")
    shutil.rmtree(tmp_path / "disk1")
    assert gone_after(names, tmp_path) == []
    deep = str(tmp_path / ("deep/" * 600) / "a.mp4")
    assert gone_after([deep], tmp_path) == []


@pytest.mark.parametrize("marker", [".DS_Store", "NOT_MOUNTED", "lost+found/x", "readme.txt"])
def test_videos_of_a_mount_point_with_other_files_are_not_gone(marker: str, tmp_path: Path) -> None:
    names = make(tmp_path, "disk/a.mp4", "disk/deep/b.mp4", "other.mp4")
    shutil.rmtree(tmp_path / "disk")
    make(tmp_path, f"disk/{marker}")
    assert gone_after(names, tmp_path) == []


def test_a_video_of_a_list_is_gone_only_through_the_listing_of_its_folder(tmp_path: Path) -> None:
    names = make(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    (tmp_path / "list.txt").write_text("\n".join(names[:2]))
    Path(names[1]).unlink()
    assert gone_after(names, f"@{tmp_path}/list.txt") == []
    assert gone_after(names, f"@{tmp_path}/list.txt", tmp_path) == [names[1]]


def test_a_video_that_is_there_but_not_listed_is_not_gone(tmp_path: Path) -> None:
    names = make(tmp_path, "a.mp4", "b.unusual", ".hidden.mp4")
    assert gone_after(names, tmp_path) == []


def test_a_video_outside_of_the_inputs_is_not_gone(tmp_path: Path) -> None:
    names = make(tmp_path, "one/a.mp4", "two/b.mp4", "two/c.mp4")
    (tmp_path / "two/b.mp4").unlink()
    assert gone_after(names, tmp_path / "one") == []
    assert gone_after(names, tmp_path / "one/a.mp4") == []


def test_a_dangling_link_is_not_gone(tmp_path: Path) -> None:
    (name,) = make(tmp_path, "disk/a.mp4")
    make(tmp_path, "videos/other.mp4")
    link = tmp_path / "videos/a.mp4"
    link.symlink_to(tmp_path / "disk/a.mp4")
    Path(name).unlink()
    assert gone_after([str(link)], tmp_path / "videos") == []
    link.unlink()
    link.symlink_to(tmp_path / "disk", target_is_directory=True)
    (tmp_path / "disk").rmdir()
    assert gone_after([str(link / "a.mp4")], tmp_path / "videos") == []


def test_videos_of_an_empty_folder_are_not_gone_because_it_may_be_a_mount_point(tmp_path: Path) -> None:
    names = make(tmp_path, "disk/a.mp4", "disk/deep/b.mp4", "other.mp4")
    for name in names[:2]:
        Path(name).unlink()
    (tmp_path / "disk/deep").rmdir()
    assert gone_after(names, tmp_path) == []


def test_a_line_of_a_list_whose_file_is_missing_is_not_gone(tmp_path: Path) -> None:
    names = make(tmp_path, "a.mp4", "b.mp4")
    list_file = tmp_path / "list.txt"
    list_file.write_text("\n".join(names))
    Path(names[1]).unlink()
    assert gone_after(names, f"@{list_file}") == []


def test_videos_of_a_folder_without_permission_are_not_gone() -> None:
    # The folder of tmp_path is closed to other users.
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        names = make(root, "closed/a.mp4", "b.mp4")
        root.chmod(0o755)
        (root / "closed").chmod(0)
        try:
            folders = Folders()
            with without_rights():
                found = find_videos([folder], folders=folders)
                gone = find_gone(names, folders)
        finally:
            (root / "closed").chmod(0o700)
    assert [video.path for video in found] == names[1:]
    assert folders.problems == [FolderProblem(str(root / "closed"), "permission denied")]
    assert gone == []


def refuse(folder: Path, error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the listing of one folder fail."""
    scandir = os.scandir

    def scan(path: str) -> object:
        if path == str(folder):
            raise error
        return scandir(path)

    monkeypatch.setattr("jobs.archive.local.os.scandir", scan)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied"), "permission denied"),
        (OSError(116, "Stale file handle"), "stale file handle"),
        (OSError(5, "Input/output error"), "input/output error"),
    ],
)
def test_a_folder_that_cannot_be_listed_is_recorded_and_the_others_are_listed(
    error: OSError, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = make(tmp_path, "closed/deep/a.mp4", "b.mp4")
    refuse(tmp_path / "closed", error, monkeypatch)
    folders = Folders()
    assert [video.path for video in find_videos([str(tmp_path)], folders=folders)] == names[1:]
    assert folders.problems == [FolderProblem(str(tmp_path / "closed"), words)]
    Path(names[0]).unlink()
    assert find_gone(names, folders) == []


def test_an_entry_whose_kind_cannot_be_found_out_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = make(tmp_path, "a.mp4", "b.mp4")
    scandir = os.scandir

    class Entry:
        name, path = "b.mp4", names[1]

        def is_dir(self, *, follow_symlinks: bool) -> bool:
            raise OSError(5, "Input/output error")

    @contextmanager
    def scan(path: str) -> Iterator[list[object]]:
        with scandir(path) as entries:
            yield [entry if entry.name == "a.mp4" else Entry() for entry in entries]

    monkeypatch.setattr("jobs.archive.local.os.scandir", scan)
    folders = Folders()
    assert [video.path for video in find_videos([str(tmp_path)], folders=folders)] == names[:1]
    assert folders.problems == [FolderProblem(names[1], "input/output error")]
    assert find_gone(names, folders) == []


def test_without_a_record_a_folder_that_cannot_be_listed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "closed/a.mp4", "b.mp4")
    refuse(tmp_path / "closed", PermissionError(13, "Permission denied"), monkeypatch)
    with pytest.raises(InputError, match="closed cannot be listed: permission denied"):
        find_videos([str(tmp_path)])
    (tmp_path / "b.mp4").unlink()
    with pytest.raises(InputError, match="closed cannot be listed: permission denied"):
        find_videos([str(tmp_path)], folders=Folders())
    make(tmp_path, "open/c.mp4")
    assert [Path(video.path).name for video in find_videos([f"{tmp_path}/*"], folders=Folders())] == ["c.mp4"]


def test_a_glob_names_the_folders_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = make(tmp_path, "closed/one/a.mp4", "open/one/b.mp4", "open/.hidden/c.mp4", "open/two/d.txt")
    refuse(tmp_path / "closed", PermissionError(13, "Permission denied"), monkeypatch)
    folders = Folders()
    assert [video.path for video in find_videos([f"{tmp_path}/*/*/*"], folders=folders)] == [names[1]]
    assert folders.problems == [FolderProblem(str(tmp_path / "closed"), "permission denied")]


def test_an_error_while_a_file_is_looked_for_proves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = make(tmp_path, "a.mp4", "b.mp4")
    Path(names[1]).unlink()

    def fail(path: str) -> None:
        raise OSError(116, "Stale file handle")

    folders = Folders()
    find_videos([str(tmp_path)], folders=folders)
    assert find_gone(names, folders) == [names[1]]
    monkeypatch.setattr("jobs.archive.gone.os.lstat", fail)
    assert find_gone(names, folders) == []


def test_a_name_that_is_not_text_is_found_under_its_path(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")
    make(tmp_path, "a.mp4")
    assert video_path(video_name(path)) == path
    assert gone_after([video_name(path)], tmp_path) == [video_name(path)]
    Path(path).write_bytes(b"x")
    assert gone_after([video_name(path)], tmp_path) == []


class TestBucket:
    def test_a_deleted_object_beside_others_is_gone(self, bucket: Bucket, tmp_path: Path) -> None:
        keys = ("a.mp4", "deep/b.mp4", "deep/c.mp4", "gone/d.mp4", "e.bin")
        for key in keys:
            bucket.put(key)
        names = [f"{bucket.address}/{key}" for key in keys]
        for key in ("deep/b.mp4", "gone/d.mp4"):
            bucket.delete(key)
        assert gone_after(names, bucket.address) == [names[1]]
        assert gone_after(names, f"{bucket.address}/deep") == [names[1]]
        make(tmp_path, "here.mp4")
        assert gone_after(names, tmp_path) == []

    def test_an_answer_that_is_an_error_proves_nothing(self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        for key in ("a.mp4", "b.mp4"):
            bucket.put(key)
        folders = Folders()
        find_videos([bucket.address], folders=folders)
        bucket.delete("b.mp4")
        name = f"{bucket.address}/b.mp4"
        assert find_gone([name], folders) == [name]

        def fail(address: str) -> None:
            raise PermissionError(13, "Access denied")

        monkeypatch.setattr("jobs.archive.gone.locate", fail)
        assert find_gone([name], folders) == []


def test_a_file_whose_storage_answers_can_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = make(tmp_path, "a.mp4")
    assert can_be_opened(path)
    assert not can_be_opened(f"{path}.gone")

    def fail(*_: object) -> None:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr("jobs.archive.gone.os.open", fail)
    assert not can_be_opened(path)
