import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyarrow import fs

from jobs.errors import JobError
from jobs.storage import room, staging
from jobs.storage.file_systems import StorageError
from jobs.storage.location import Location
from jobs.storage.room import PREFIX
from jobs.storage.staging import StagedVideo, staged
from tagger.errors import VideoError

ADDRESS = "s3://bucket/some/clip.webm"
TIME_NS = 1_700_000_000_000_000_000
MB = 1_000_000

PROGRAM = """
import os, sys
from jobs.storage.room import own_folder
with own_folder() as folder:
    with (folder / "video.mp4").open("wb") as file:
        file.write(os.urandom(int(sys.argv[2])))
        file.truncate(int(sys.argv[1]))
    print(folder, flush=True)
    sys.stdin.readline()
"""
"""A worker with a copy."""

WORKERS = """
import contextlib, json, multiprocessing, os, sys, time
from pathlib import Path
from types import SimpleNamespace
from jobs.storage import room, staging

room.WAIT_S = 0.01
if int(sys.argv[2]):
    room.disk_of_copies = lambda: SimpleNamespace(f_frsize=1, f_blocks=10**9, f_bfree=10**9, f_bavail=10**9)

def work(results):
    for _ in range(5):
        with staging.staged(sys.argv[1]) as video:
            assert Path(video.path).read_bytes() == b"v" * 3_000_000
            whole = 0
            for folder in os.listdir(os.environ["TMPDIR"]):
                # Python tries whether it can write there with files of its own.
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    file = Path(os.environ["TMPDIR"], folder, "video.mp4")
                    whole += file.stat().st_blocks * 512 >= 3_000_000
            results.put(whole)
            time.sleep(0.02)

fork = multiprocessing.get_context("fork")
results = fork.SimpleQueue()
workers = [fork.Process(target=work, args=[results]) for _ in range(4)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
assert [worker.exitcode for worker in workers] == [0] * 4
print(json.dumps([results.get() for _ in range(20)]))
"""
"""Four workers that make five copies each. Prints how many complete copies each of them saw."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def serve(monkeypatch: pytest.MonkeyPatch, copy: Callable[[Path], None]) -> None:
    """Replaces downloads from a bucket by ``copy``, which gets the path to write to."""

    def download(location: object, to: Path, on_open: object) -> fs.FileInfo:
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


def disk_with(monkeypatch: pytest.MonkeyPatch, folder: Path, *, total: int, used: int = 0) -> None:
    """Makes the disk of the copies have ``total`` bytes, of which other things use ``used``."""

    def disk() -> SimpleNamespace:
        copies = sum(path.stat().st_blocks * 512 for path in folder.glob(f"{PREFIX}*/*"))
        free = total - used - copies
        return SimpleNamespace(f_frsize=1, f_blocks=total, f_bfree=free, f_bavail=free)

    monkeypatch.setattr(room, "disk_of_copies", disk)


class Worker:
    """Another worker, with a copy that will take ``size`` bytes, of which ``copied`` are there."""

    def __init__(self, folder: Path, size: int, copied: int = 0):
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(size), str(copied)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"TMPDIR": str(folder)},
            text=True,
        )
        assert self.process.stdout is not None
        self.folder = Path(self.process.stdout.readline().strip())
        assert self.folder.name.startswith(PREFIX)

    def finish(self) -> None:
        """Removes the copy."""
        self.process.communicate("\n")
        assert not self.folder.exists()


@pytest.fixture
def start_worker(folder: Path) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def start(size: int, copied: int = 0) -> Worker:
        workers.append(Worker(folder, size, copied))
        return workers[-1]

    yield start
    for worker in workers:
        worker.process.kill()
        worker.process.communicate()


@pytest.fixture
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a video of 2 MB."""
    path = tmp_path_factory.mktemp("bucket") / "clip.mp4"
    path.write_bytes(b"v" * 2 * MB)
    return f"file://{path}"


def finish_while_waiting(monkeypatch: pytest.MonkeyPatch, *workers: Worker) -> list[float]:
    """Makes a worker finish each time this process waits for room. Returns the waiting times."""
    waits: list[float] = []

    def wait(seconds: float) -> None:
        workers[len(waits)].finish()
        waits.append(seconds)

    monkeypatch.setattr(room.time, "sleep", wait)
    return waits


def test_free_space_is_looked_at_before_a_video_is_copied(
    folder: Path, monkeypatch: pytest.MonkeyPatch, video: str
) -> None:
    disk_with(monkeypatch, folder, total=40 * MB, used=40 * MB - 1_500_000)
    monkeypatch.setattr(Location, "chunks", lambda self: pytest.fail("the video is read"))
    with pytest.raises(JobError) as caught, staged(video):
        pass
    assert str(caught.value) == (
        f"{socket.gethostname()} has no room for a copy of {video} in {folder} (it needs 2.0 MB, and 1.5 MB are free); "
        "make room there, or set TMPDIR to a folder that has it"
    )
    assert list(folder.iterdir()) == []


def test_a_video_larger_than_the_free_space_fails_when_others_may_find_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch, video: str
) -> None:
    disk_with(monkeypatch, folder, total=3 * MB, used=1_500_000)
    with (
        pytest.raises(
            VideoError, match=rf"clip.mp4 needs 2.0 MB, and 1.5 MB are free in {folder}; make room"
        ) as caught,
        staged(video),
    ):
        pass
    assert caught.value.kind == "unreachable"
    assert list(folder.iterdir()) == []


def test_a_single_copy_may_fill_the_disk(folder: Path, monkeypatch: pytest.MonkeyPatch, video: str) -> None:
    disk_with(monkeypatch, folder, total=2 * MB)
    with staged(video) as copy:
        assert Path(copy.path).stat().st_size == 2 * MB


def test_a_disk_that_does_not_tell_its_size_is_used(folder: Path, monkeypatch: pytest.MonkeyPatch, video: str) -> None:
    disk_with(monkeypatch, folder, total=0)
    with staged(video) as copy:
        assert Path(copy.path).stat().st_size == 2 * MB


def test_a_video_larger_than_the_whole_disk_fails_and_does_not_stop_the_job(
    folder: Path, monkeypatch: pytest.MonkeyPatch, video: str
) -> None:
    disk_with(monkeypatch, folder, total=1_900_000)
    with pytest.raises(VideoError) as caught, staged(video):
        pass
    assert caught.value.kind == "unreachable"
    assert str(caught.value) == (
        f"{video} needs 2.0 MB for its copy, and the whole disk of {folder} on {socket.gethostname()} has 1.9 MB; "
        "set TMPDIR to a folder on a larger disk"
    )
    assert list(folder.iterdir()) == []


def test_a_copy_waits_until_other_copies_are_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, video: str, start_worker: Callable[..., Worker]
) -> None:
    disk_with(monkeypatch, folder, total=5 * MB)
    # With both, 1 MB is free; without the first, 2.9 MB.
    waits = finish_while_waiting(monkeypatch, start_worker(1_900_000, 1_900_000), start_worker(2 * MB, 2 * MB))
    with staged(video) as copy:
        assert Path(copy.path).stat().st_size == 2 * MB
        assert len(waits) == 1


def test_a_copy_leaves_room_for_what_other_copies_will_still_take_and_a_reserve(
    folder: Path, monkeypatch: pytest.MonkeyPatch, video: str, start_worker: Callable[..., Worker]
) -> None:
    disk_with(monkeypatch, folder, total=4 * MB)
    waits = finish_while_waiting(monkeypatch, start_worker(1_900_000, 4096))
    with staged(video):
        assert len(waits) == 1, "2.0 + 1.9 MB leave 0.1 MB, and a twentieth of the disk is 0.2 MB"
    disk_with(monkeypatch, folder, total=4_200_000)
    start_worker(1_900_000, 4096)
    with staged(video):
        assert len(waits) == 1


def test_the_copy_of_a_worker_that_dies_makes_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch, video: str, start_worker: Callable[..., Worker]
) -> None:
    disk_with(monkeypatch, folder, total=3 * MB)
    worker = start_worker(2 * MB, 2 * MB)

    def kill(seconds: float) -> None:
        worker.process.kill()
        worker.process.wait()

    monkeypatch.setattr(room.time, "sleep", kill)
    with staged(video):
        assert not worker.folder.exists()


def test_a_worker_that_waits_itself_is_not_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, video: str, start_worker: Callable[..., Worker]
) -> None:
    disk_with(monkeypatch, folder, total=40 * MB, used=39 * MB)
    start_worker(0)
    with pytest.raises(JobError, match=r"needs 2\.0 MB, and 1\.0 MB are free"), staged(video):
        pass


def test_workers_look_for_room_one_after_the_other(folder: Path, monkeypatch: pytest.MonkeyPatch, video: str) -> None:
    turn = os.open(folder, os.O_RDONLY)

    def look() -> SimpleNamespace:
        with pytest.raises(BlockingIOError):
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return SimpleNamespace(f_frsize=1, f_blocks=9 * MB, f_bfree=9 * MB, f_bavail=9 * MB)

    monkeypatch.setattr(room, "disk_of_copies", look)
    try:
        with staged(video):
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(turn)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_when_the_disk_gets_full_the_video_is_copied_again_as_the_only_copy(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, start_worker: Callable[..., Worker]
) -> None:
    tries: list[list[int]] = []

    def fill(to: Path) -> None:
        tries.append([path.stat().st_size for path in folder.glob(f"{PREFIX}*/*") if path != to])
        to.write_bytes(b"film")
        if len(tries) == 1:
            raise OSError(number, os.strerror(number), str(to))

    serve(monkeypatch, fill)
    finish_while_waiting(monkeypatch, start_worker(5, 5), start_worker(5, 5))
    with staged(ADDRESS) as copy:
        assert Path(copy.path).read_bytes() == b"film"
    assert tries == [[5, 5], []]


def test_a_disk_that_is_full_with_a_single_copy_ends_the_job_with_a_line_that_says_where(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(to: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(to))

    serve(monkeypatch, fail)
    with pytest.raises(JobError) as caught, staged(ADDRESS):
        pass
    assert f"no room for a copy of {ADDRESS} in {folder} (no space left on device; it needs " in str(caught.value)
    assert str(caught.value).endswith(" are free); make room there, or set TMPDIR to a folder that has it")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("quota", [False, True], ids=["free-space-is-known", "free-space-is-not-known"])
def test_a_small_disk_holds_fewer_copies_at_a_time_and_every_video_is_copied(tmp_path: Path, quota: bool) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "clip.mp4").write_bytes(b"v" * 3 * MB)
    command = ["unshare", "--mount", *(["--user", "--map-root-user"] if os.geteuid() else []), "--fork", "--kill-child"]
    mount = 'mount -t tmpfs -o size=8M tmpfs "$0" && exec "$@"'
    command += ["sh", "-c", mount, str(disk)]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine mounts no small disk here ({error})")
    command += [sys.executable, "-c", WORKERS, f"file://{tmp_path}/clip.mp4", str(int(quota))]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TMPDIR": str(disk)})
    assert done.returncode == 0, done.stderr
    copies = json.loads(done.stdout)
    assert len(copies) == 4 * 5
    assert max(copies) <= 2


def test_a_missing_folder_for_temporary_files_ends_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(JobError, match=r"gone \(no such file or directory\)"), staged(ADDRESS):
        pass


def test_the_copy_of_a_killed_worker_is_removed_and_that_of_a_living_one_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, start_worker: Callable[..., Worker]
) -> None:
    killed, living = start_worker(4, 4), start_worker(4, 4)
    killed.process.kill()
    killed.process.wait()
    assert killed.folder.exists()

    serve(monkeypatch, lambda to: to.write_bytes(b"film"))
    with staged(ADDRESS):
        assert not killed.folder.exists()
        assert (living.folder / "video.mp4").exists()
    living.finish()
    assert list(folder.iterdir()) == []
