import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow import fs

from jobs.errors import JobError
from jobs.storage import staging
from jobs.storage.file_systems import StorageError
from jobs.storage.staging import PREFIX, StagedVideo, staged
from tagger.errors import VideoError

ADDRESS = "s3://bucket/some/clip.webm"
TIME_NS = 1_700_000_000_000_000_000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for temporary files, as for a process that has not copied anything yet."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    staging._remove_abandoned.cache_clear()
    return tmp_path


def serve(monkeypatch: pytest.MonkeyPatch, copy: Callable[[Path], None]) -> None:
    """Replaces downloads from a bucket by ``copy``, which gets the path to write to."""

    def download(location: object, to: Path) -> fs.FileInfo:
        copy(to)
        return fs.FileInfo("bucket/some/clip.webm", fs.FileType.File, size=4, mtime_ns=TIME_NS)

    monkeypatch.setattr(staging, "locate", lambda address: address)
    monkeypatch.setattr(staging, "download", download)


@pytest.mark.parametrize("name", ["/videos/clip.mp4", os.fsdecode(b"/videos/\xff\xfe clip.mp4"), "/a:/b//c.mp4"])
def test_a_local_path_is_passed_through_unchanged(folder: Path, name: str) -> None:
    with staged(name) as video:
        assert video == StagedVideo(name, name, None)
        assert list(folder.iterdir()) == []


def test_an_address_is_copied_with_its_ending_and_the_copy_is_removed_afterwards(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, lambda to: to.write_bytes(b"film"))
    with staged(ADDRESS) as video:
        assert Path(video.path).read_bytes() == b"film"
        assert Path(video.path).suffix == ".webm"
        assert Path(video.path).is_relative_to(folder)
        assert video.original_version == (4, TIME_NS)
        assert video.with_original_name(f"{video.path} is no video") == f"{ADDRESS} is no video"
    assert list(folder.iterdir()) == []


def test_the_copy_is_removed_when_reading_it_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, lambda to: to.write_bytes(b"film"))
    with pytest.raises(RuntimeError), staged(ADDRESS):
        raise RuntimeError
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", ADDRESS), "missing"),
        (PermissionError(errno.EACCES, "Access denied", ADDRESS), "permission"),
        (OSError(errno.EAGAIN, "it changed while it was read", ADDRESS), "changed"),
        (OSError(errno.EHOSTUNREACH, "no answer", ADDRESS), "unreachable"),
        (OSError("something else"), "unreachable"),
        (StorageError(f"{ADDRESS} has an unknown scheme"), "unreachable"),
    ],
)
def test_a_video_that_cannot_be_copied_raises_a_video_error_of_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str
) -> None:
    def fail(to: Path) -> None:
        to.write_bytes(b"half")
        raise error

    serve(monkeypatch, fail)
    with pytest.raises(VideoError) as caught, staged(ADDRESS):
        pass
    assert caught.value.kind == kind
    assert str(caught.value).startswith(ADDRESS)
    assert "\n" not in str(caught.value)
    assert list(folder.iterdir()) == []


def test_a_full_disk_ends_the_job_with_a_line_that_says_where(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(to: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(to))

    serve(monkeypatch, fail)
    with pytest.raises(JobError, match=rf"no room for a copy of {ADDRESS} in {folder} .*TMPDIR"), staged(ADDRESS):
        pass
    assert list(folder.iterdir()) == []


def test_a_missing_folder_for_temporary_files_ends_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(JobError, match=r"gone \(no such file or directory\)"), staged(ADDRESS):
        pass


PROGRAM = """
import sys
from pathlib import Path
from jobs.storage import staging
with staging._folder() as folder:
    (folder / "video.mp4").write_bytes(b"film")
    print(folder, flush=True)
    sys.stdin.readline()
"""


def test_the_copy_of_a_killed_worker_is_removed_and_that_of_a_living_one_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = os.environ | {"TMPDIR": str(folder)}
    workers = [
        subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=-1, stdout=-1, env=environment, text=True)
        for _ in range(2)
    ]
    try:
        folders = [Path(worker.stdout.readline().strip()) for worker in workers if worker.stdout is not None]
        assert all(path.name.startswith(PREFIX) for path in folders)
        workers[0].kill()
        workers[0].wait()
        assert folders[0].exists()

        serve(monkeypatch, lambda to: to.write_bytes(b"film"))
        with staged(ADDRESS):
            assert not folders[0].exists()
            assert (folders[1] / "video.mp4").exists()
        workers[1].communicate("\n")
        assert list(folder.iterdir()) == []
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
