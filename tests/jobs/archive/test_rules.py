"""Which files of a folder are videos: by their extension, and not in folders of copies and deleted files."""

import os
from pathlib import Path

import pytest

from jobs.archive.folders import Folders
from jobs.archive.listing import find_videos
from jobs.archive.rules import Rules
from tests.jobs.s3_server import Bucket

SYSTEM = ("@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN", "$Recycle.Bin", "System Volume Information", "lost+found")


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def found(root: Path, *, exclude: tuple[str, ...] = (), include: tuple[str, ...] = ()) -> list[str]:
    videos = find_videos([str(root)], exclude=exclude, include=include)
    return [video.path.removeprefix(f"{root}/") for video in videos]


def test_copies_and_deleted_files_of_network_storage_and_systems_are_left_out(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", ".Trash-1000/files/b.mp4", "._a.mp4", *(f"{name}/b.mp4" for name in SYSTEM))
    assert found(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize(
    "extension",
    ["tod", "mts", "m2ts", "m2t", "m2p", "trp", "lrv", "insv", "dav", "264", "vob", "mxf", "dv", "ogv", "MP4", "Lrv"],
)
def test_files_of_camcorders_and_recorders_are_videos_in_any_case(extension: str, tmp_path: Path) -> None:
    make(tmp_path, f"a.{extension}")
    assert found(tmp_path) == [f"a.{extension}"]


def test_files_with_other_extensions_are_counted(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "b.jpg", "deep/c.JPG", "deep/noname", "deep/.hidden.jpg", "@eaDir/d.jpg")
    folders = Folders()
    find_videos([str(tmp_path)], folders=folders)
    assert folders.left_out == {".jpg": 2, "": 1}


def test_excluded_files_and_folders_are_left_out(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "a_proxy.mp4", "proxies/b.mp4", "deep/proxies/c.mp4", "deep/d.mp4")
    assert found(tmp_path, exclude=("proxies", "*_proxy.mp4")) == ["a.mp4", "deep/d.mp4"]
    assert found(tmp_path, exclude=(f"{tmp_path}/deep",)) == ["a.mp4", "a_proxy.mp4", "proxies/b.mp4"]


def test_included_files_and_folders_are_kept_although_they_are_hidden_or_excluded(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "@eaDir/b.mp4", ".hidden/c.mp4", "proxies/d.mp4", "proxies/e.txt")
    assert found(tmp_path, include=("@eaDir", ".hidden")) == [".hidden/c.mp4", "@eaDir/b.mp4", "a.mp4", "proxies/d.mp4"]
    assert found(tmp_path, exclude=("prox*",)) == ["a.mp4"]
    assert found(tmp_path, exclude=("prox*",), include=("proxies",)) == ["a.mp4", "proxies/d.mp4"]


def test_the_rules_hold_in_buckets(bucket: Bucket) -> None:
    for key in ("a.mp4", "@eaDir/b.mp4", "proxies/c.mp4", "d.txt", "x/e.LRV"):
        bucket.put(key)
    folders = Folders()
    videos = find_videos([bucket.address], folders=folders, exclude=("proxies",))
    assert [video.path for video in videos] == [f"{bucket.address}/a.mp4", f"{bucket.address}/x/e.LRV"]
    assert folders.left_out == {".txt": 1}


def test_a_pattern_with_a_slash_is_compared_with_the_whole_path() -> None:
    rules = Rules(exclude=("/v/old/*",))
    assert rules.leave_out("/v/old", "a.mp4") and not rules.leave_out("/v/new", "a.mp4")


TYPESCRIPT = "import { grüße } from './x';\r\n\texport const a = 1;\n".encode()
TRACKER = b"song name".ljust(1080, b"\0") + b"M.K."
STREAM = (b"G" + bytes(187)) * 10
DISC = b"\x00\x00\x01\xba" + bytes(100)


@pytest.mark.parametrize(
    ("name", "content", "is_video"),
    [
        ("a.ts", STREAM, True),
        ("a.TS", TYPESCRIPT, False),
        ("a.ts", b"", True),
        ("a.ts", bytes(300), True),
        ("a.mod", DISC, True),
        ("a.mod", STREAM, True),
        ("a.MOD", TRACKER, False),
        ("a.dat", b"RIFF\0\0\0\0CDXAfmt ", True),
        ("a.dat", bytes(4) + (b"G" + bytes(191)) * 3, True),
        ("a.dat", b"[settings]", False),
        ("a.dat", b"\x00\x00\x00\x01 of a recorder", True),
        ("a.mp4", TYPESCRIPT, True),
    ],
)
def test_a_file_that_only_has_the_extension_of_a_video_is_left_out(
    name: str, content: bytes, is_video: bool, tmp_path: Path
) -> None:
    (tmp_path / "other.mp4").touch()
    (tmp_path / name).write_bytes(content)
    folders = Folders()
    videos = find_videos([str(tmp_path)], [".dat"], folders=folders)
    assert (str(tmp_path / name) in [video.path for video in videos]) is is_video
    assert sum(folders.left_out.values()) == (0 if is_video else 1)
    assert [video.path for video in find_videos([str(tmp_path / name)])] == [str(tmp_path / name)], "named explicitly"


def test_a_link_to_a_pipe_does_not_stop_the_listing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.ts").symlink_to("pipe")
    assert found(tmp_path) == ["a.ts"]


def test_the_rules_hold_for_globs(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "a_old.mp4", "sub/b.mp4", "c.txt")
    (tmp_path / "d.ts").write_bytes(TYPESCRIPT)
    folders = Folders()
    for pattern, exclude, names in (
        ("*", "*_old.mp4", ["a.mp4", "sub/b.mp4"]),
        ("*", "sub/", ["a.mp4", "a_old.mp4"]),
        ("**/*.mp4", "sub", ["a.mp4", "a_old.mp4"]),
        ("[ad]*", "x", ["a.mp4", "a_old.mp4"]),
    ):
        videos = find_videos([f"{tmp_path}/{pattern}", f"{tmp_path}/a.mp4"], exclude=(exclude,), folders=folders)
        assert [video.path.removeprefix(f"{tmp_path}/") for video in videos] == names, pattern


def test_files_of_inputs_that_overlap_are_counted_once(tmp_path: Path) -> None:
    make(tmp_path, "sub/a.mp4", "sub/b.jpg")
    folders = Folders()
    find_videos([str(tmp_path), str(tmp_path), f"{tmp_path}/sub"], folders=folders)
    assert folders.left_out == {".jpg": 1}


def test_a_file_that_cannot_be_opened_is_taken_for_a_video(tmp_path: Path) -> None:
    (tmp_path / "a.ts").symlink_to("nowhere.ts")
    assert found(tmp_path) == ["a.ts"]
