"""A part of a video in a bucket reads its own bytes. Its windows are those of the same file on a local disk.

Most tests use a folder with an address, from which bytes are fetched as from a bucket.
"""

import errno
import math
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs.archive.fingerprint import fingerprint
from jobs.archive.video import Version
from jobs.storage import remote_blocks, room, staging
from jobs.storage.remote_blocks import MORE_BLOCKS, RemoteBlocks, slots_for
from jobs.tagging.decoding import read_video
from jobs.tagging.plan import make_plan
from jobs.tagging.run import run_job
from jobs.tagging.run_config import RunConfig
from tagger.clips import Span, VideoEnd
from tagger.isolation import decoder_of_this_thread
from tagger.preprocessing import Preprocessing
from tagger.video.readers.reader import WantedReader
from tagger.windows import Part, Sampling
from tests.jobs.s3_server import Bucket
from tests.jobs.tagging.driver_in_this_process import DriverInThisProcess
from tests.videos import encode, encode_late

SAMPLING = Sampling(num_frames=4, sampling_rate=1, target_fps=10.0)
PREPROCESSING = Preprocessing(size=32, resize=32)
BLOCK_BYTES = 5000
PARTS = 6

SECOND = {"g": "10", "keyint_min": "10", "sc_threshold": "0"}
"""Options for H.264 with a key frame every second at 10 fps."""

INDEXED: dict[str, dict[str, Any]] = {
    "index-at-end.mp4": {},
    "index-at-start.mp4": {"container_options": {"movflags": "faststart"}},
    "a.mkv": {},
    "a.webm": {"codec": "libvpx-vp9", "options": {"g": "10"}},
}
"""Videos with an index, by which a part is found."""

OTHERS: dict[str, dict[str, Any]] = {
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "no-index.mkv": {"container_options": {"live": "1"}},
    "a.ts": {},
    "a.flv": {},
}
"""Videos that one decoder reads whole."""


@dataclass
class Storage:
    """A folder with an address. ``fetched`` are the numbers of the blocks that were fetched from it."""

    folder: Path
    encoded: Callable[[str], Path]
    fetched: list[int] = field(default_factory=list)
    on_fetch: Callable[[], None] = lambda: None

    def put(self, name: str) -> Path:
        """Makes a video of a minute."""
        return Path(shutil.copy2(self.encoded(name), self.folder))


def address(path: Path) -> str:
    return f"file://{path}"


def blocks_of(path: Path) -> int:
    return path.stat().st_size // BLOCK_BYTES + 1


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("encoded")

    @cache
    def make(name: str) -> Path:
        settings = {"options": SECOND, "width": 160, "height": 120} | (INDEXED | OTHERS)[name]
        return encode(folder / name, seconds=60, rate=10, **settings)

    return make


@pytest.fixture
def storage(tmp_path: Path, encoded: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Storage:
    """Its blocks are small."""
    used = Storage(tmp_path, encoded)
    fetch = RemoteBlocks.fetch

    def count(blocks: RemoteBlocks, block: int, slot: int) -> None:
        used.fetched.append(block)
        used.on_fetch()
        fetch(blocks, block, slot)

    monkeypatch.setattr(RemoteBlocks, "fetch", count)
    monkeypatch.setattr(remote_blocks, "BLOCK_BYTES", BLOCK_BYTES)
    monkeypatch.setattr(staging, "BLOCK_BYTES", BLOCK_BYTES)
    return used


@pytest.fixture
def copies(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    folder = tmp_path_factory.mktemp("copies")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def small_disk(monkeypatch: pytest.MonkeyPatch, total: int) -> None:
    disk = SimpleNamespace(f_frsize=1, f_blocks=total, f_bfree=total, f_bavail=total)
    monkeypatch.setattr(room, "disk_of_copies", lambda: disk)


@dataclass
class Read:
    """What was read: the windows (number, start and end), their clips, the end, and the version of the file."""

    windows: list[tuple[int, float, float]]
    clips: list[np.ndarray]
    end: VideoEnd
    version: Version | None


def read(name: str, part: Part | None = None, reader: WantedReader = "auto") -> Read:
    windows, clips = [], []
    last: tuple[Span, Version | None] | None = None
    for last in read_video(name, SAMPLING, PREPROCESSING, span_windows=4, reader=reader, part=part):
        windows += [(window.index, window.start_s, window.end_s) for window in last[0].windows]
        clips += list(last[0].clips.copy())
    assert last is not None and last[0].end is not None
    return Read(windows, clips, last[0].end, last[1])


def assert_parts_are_the_local_video(path: Path, name: str, parts: int) -> None:
    """Compares the parts of a video with an address with the local file."""
    windows, clips = [], []
    for index in range(parts):
        found = read(name, Part(index, parts) if parts > 1 else None)
        assert found.end.status == "ok"
        assert found.version is not None and found.version.size == path.stat().st_size
        assert found.version.fingerprint == (None if index else fingerprint(path))
        windows += found.windows
        clips += found.clips
    expected = read(str(path), reader="pyav")
    assert windows == expected.windows and len(windows) > parts
    assert np.array_equal(np.stack(clips), np.stack(expected.clips))


@pytest.mark.parametrize("name", [*INDEXED, *OTHERS])
def test_the_windows_of_the_parts_are_those_of_the_local_video(name: str, storage: Storage, copies: Path) -> None:
    path = storage.put(name)
    assert_parts_are_the_local_video(path, address(path), 3)
    assert list(copies.iterdir()) == []


def test_a_video_with_sound_between_its_pictures_is_read_in_parts(storage: Storage) -> None:
    path = encode_late(storage.folder / "a.mp4", after_s=1.0, seconds=20)
    assert_parts_are_the_local_video(path, address(path), 3)


def test_the_parts_of_a_video_in_a_bucket_are_those_of_the_local_video(
    bucket: Bucket, storage: Storage, copies: Path
) -> None:
    path = storage.put("a.mkv")
    bucket.put("50% of a.mkv", path.read_bytes())
    assert_parts_are_the_local_video(path, f"{bucket.address}/50% of a.mkv", 2)
    assert storage.fetched and list(copies.iterdir()) == []


@pytest.mark.parametrize("name", INDEXED)
def test_a_part_fetches_its_own_bytes_once(name: str, storage: Storage) -> None:
    path = storage.put(name)
    assert blocks_of(path) > 10 * PARTS
    for index in range(PARTS):
        storage.fetched.clear()
        assert read(address(path), Part(index, PARTS)).windows
        assert len(set(storage.fetched)) == len(storage.fetched) < blocks_of(path) / 2


@pytest.mark.parametrize("name", OTHERS)
def test_of_a_video_that_cannot_be_cut_the_first_part_is_the_whole_and_the_others_fetch_little(
    name: str, storage: Storage
) -> None:
    path = storage.put(name)
    for index in range(1, PARTS):
        storage.fetched.clear()
        assert read(address(path), Part(index, PARTS)).windows == []
        assert len(storage.fetched) < blocks_of(path) / 2


def test_few_blocks_are_enough_to_read_a_whole_video(
    storage: Storage, copies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = storage.put("a.ts")
    kept = []

    def look() -> None:
        kept.append(sum(file.stat().st_blocks * 512 for file in copies.rglob("*") if file.is_file()))

    storage.on_fetch = look
    monkeypatch.setattr(staging, "slots_for", lambda size, of: 4)
    assert_parts_are_the_local_video(path, address(path), 2)
    assert len(kept) > blocks_of(path)
    assert max(kept) <= 4 * BLOCK_BYTES + 4096


def test_a_part_keeps_the_blocks_of_one_and_a_half_parts_and_a_whole_video_few() -> None:
    block = remote_blocks.BLOCK_BYTES
    assert slots_for(1000 * block, 10) == 300 + MORE_BLOCKS
    assert slots_for(1000 * block - 1, 1) == MORE_BLOCKS
    assert slots_for(7 * block + 1, 2) == 8
    assert slots_for(0, 1) == 0


def test_a_part_of_a_video_that_is_larger_than_the_disk_is_read(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = storage.put("a.mkv")
    for disk in (path.stat().st_size // 2, MORE_BLOCKS * BLOCK_BYTES):
        small_disk(monkeypatch, disk)
        assert read(address(path), Part(1, PARTS)).end.status == "ok"
    small_disk(monkeypatch, (MORE_BLOCKS - 1) * BLOCK_BYTES)
    end = read(address(path), Part(1, PARTS)).end
    assert end.error_kind == "unreachable" and "set TMPDIR to a folder on a larger disk" in str(end.error)


@pytest.mark.parametrize("name", ["a.webm", "a.ts"])
def test_a_whole_video_for_which_the_disk_is_too_small_is_read_in_blocks(
    name: str, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = storage.put(name)
    assert read(address(path)).end.status == "ok" and not storage.fetched
    small_disk(monkeypatch, path.stat().st_size // 2)
    assert_parts_are_the_local_video(path, address(path), 1)
    assert storage.fetched
    assert read(address(path), reader="decord").windows == read(str(path), reader="pyav").windows


def test_an_empty_video_is_empty(storage: Storage) -> None:
    path = storage.folder / "a.mp4"
    path.touch()
    assert read(address(path), Part(0, 2)).end.error_kind == "empty"


def test_a_missing_video_has_the_error_of_one_that_is_copied(storage: Storage, copies: Path) -> None:
    end = read("file:///nowhere/a.mp4", Part(1, PARTS)).end
    assert (end.status, end.error_kind, end.error) == ("failed", "missing", "file:///nowhere/a.mp4 does not exist")
    assert list(copies.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, "missing"),
        (errno.EACCES, "permission"),
        (errno.EIO, "io"),
        (errno.EHOSTUNREACH, "unreachable"),
        (errno.EAGAIN, "changed"),
        (errno.ENOSPC, "unreachable"),
    ],
)
@pytest.mark.parametrize("after", [0, 8])
def test_a_storage_that_fails_gives_its_error_and_the_next_part_is_read(
    number: int, kind: str, after: int, storage: Storage, copies: Path
) -> None:
    path = storage.put("a.mkv")

    def fail() -> None:
        if len(storage.fetched) > after:
            raise OSError(number, os.strerror(number), address(path))

    storage.on_fetch = fail
    end = read(address(path), Part(1, PARTS)).end
    assert end.error_kind == kind and address(path) in str(end.error) and room.PREFIX not in str(end.error)
    assert len(storage.fetched) == after + 1, "a storage that fails is not asked again"
    storage.on_fetch = lambda: None
    assert read(address(path), Part(1, PARTS)).end.status == "ok"
    assert list(copies.iterdir()) == []


def test_windows_that_came_before_the_storage_failed_are_kept(storage: Storage) -> None:
    path = storage.put("a.ts")

    def fail() -> None:
        # The file is opened twice, then its packets are read in order.
        if storage.fetched[-1] == blocks_of(path) // 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO), address(path))

    storage.on_fetch = fail
    found = read(address(path), Part(0, PARTS))
    assert (found.end.status, found.end.error_kind) == ("partial", "io")
    assert found.end.windows == len(found.windows) > 20


def test_requests_to_a_bucket_that_fail_sometimes_are_repeated(bucket: Bucket, storage: Storage) -> None:
    bucket.put("a.mkv", storage.put("a.mkv").read_bytes())

    def fail() -> None:
        if len(storage.fetched) == 3:
            bucket.server.fail(2, method="GET")

    storage.on_fetch = fail
    assert read(f"{bucket.address}/a.mkv", Part(1, PARTS)).end.status == "ok"
    assert not bucket.server.is_failing


def test_the_error_of_a_bucket_that_refuses_to_go_on_is_that_of_the_storage(bucket: Bucket, storage: Storage) -> None:
    bucket.put("a.mkv", storage.put("a.mkv").read_bytes())

    def fail() -> None:
        if len(storage.fetched) == 3:
            bucket.server.fail(1, status=403, method="GET")

    storage.on_fetch = fail
    end = read(f"{bucket.address}/a.mkv", Part(1, PARTS)).end
    assert end.error_kind == "permission"
    assert str(end.error).startswith(f"{bucket.address}/a.mkv cannot be read: access is denied")


@pytest.mark.parametrize("change", ["written", "removed", "cut"])
def test_a_video_that_changes_while_a_part_is_read_is_changed(change: str, storage: Storage) -> None:
    path = storage.put("a.mkv")

    def alter() -> None:
        if len(storage.fetched) == 8:
            if change == "written":
                os.utime(path, (1e9, 1e9))
            elif change == "removed":
                path.unlink()
            else:
                os.truncate(path, 100)

    storage.on_fetch = alter
    found = read(address(path), Part(1, PARTS))
    assert found.end.error_kind == "changed"
    assert str(found.end.error).startswith(f"{address(path)} was written to")


def test_errors_that_stop_a_job_pass_through_and_the_decoder_goes_on(storage: Storage) -> None:
    path = storage.put("a.mkv")

    def fail() -> None:
        raise KeyboardInterrupt

    storage.on_fetch = fail
    with pytest.raises(KeyboardInterrupt):
        read(address(path), Part(1, PARTS))
    storage.on_fetch = lambda: None
    assert read(address(path), Part(1, PARTS)).end.status == "ok"
    assert decoder_of_this_thread().pid is not None


@pytest.mark.parametrize("name", ["a.mkv", "fragments.mp4"])
def test_a_job_tags_a_video_in_a_bucket_that_is_larger_than_the_disk_in_parts(
    name: str,
    bucket: Bucket,
    storage: Storage,
    copies: Path,
    model_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = storage.put(name)
    bucket.put(name, path.read_bytes())
    monkeypatch.setattr("jobs.tagging.run.RayDriver", DriverInThisProcess)
    monkeypatch.setattr(DriverInThisProcess, "read", [])
    monkeypatch.setattr(DriverInThisProcess, "decoders", 2)
    # There are no workers whose efficiency could be told, however long it takes.
    monkeypatch.setattr("jobs.tagging.job_state.MIN_EFFICIENCY_S", math.inf)
    monkeypatch.setattr("jobs.tagging.tasks.MIN_PART_BYTES", path.stat().st_size // PARTS)
    config = RunConfig((f"{bucket.address}/{name}",), tmp_path / "tags.parquet", model=str(model_file), device="cpu")
    with monkeypatch.context() as small:
        small_disk(small, path.stat().st_size * 2 // 3)
        assert run_job(make_plan(config)).ok == 1
    assert DriverInThisProcess.read == [name] * PARTS
    local = replace(config, inputs=(str(path),), out=tmp_path / "local.parquet")
    run_job(make_plan(local))
    tags, expected = (pq.read_table(each.out).drop_columns(["video"]).to_pylist() for each in (config, local))
    assert tags == expected and len(tags) > PARTS
    assert list(copies.iterdir()) == []
