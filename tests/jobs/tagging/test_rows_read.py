"""What a nightly run reads of its result: the videos once, and only segments that it writes again.

The result is in a file system of fsspec that counts what is read.
"""

import io
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import jobs.archive.fingerprint
import jobs.result.lock
from jobs.tagging import run
from jobs.tagging.plan import make_plan
from jobs.tagging.run import run_job
from jobs.tagging.run_config import MaxPrune, RunConfig
from tests.jobs.tagging.killed import DriverWithoutRay

VIDEOS = 30
SEGMENTS = 4
"""Number of segments of a video: one for each byte."""


class CountedFile(io.BytesIO):
    """A file that notes which of its bytes are read."""

    def __init__(self, content: bytes, reads: list[tuple[int, int]]):
        super().__init__(content)
        self.reads = reads

    def read(self, count: int | None = -1) -> bytes:
        start = self.tell()
        data = super().read(count)
        self.reads.append((start, start + len(data)))
        return data


class CountedFileSystem(MemoryFileSystem):
    """Files in memory. ``reads`` are the first and last bytes of all reads, by the path of the file."""

    protocol = "counted"
    store: dict[str, Any] = {}  # noqa: RUF012 - as in the class above, of all instances
    pseudo_dirs = [""]  # noqa: RUF012
    reads: dict[str, list[tuple[int, int]]] = {}  # noqa: RUF012

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        file = super()._open(path, mode, **options)
        if mode != "rb":
            return file
        return CountedFile(file.getvalue(), self.reads.setdefault(path, []))


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Replaces Ray and fingerprints, and registers the file system."""
    monkeypatch.setattr(run, "RayDriver", DriverWithoutRay)
    monkeypatch.setattr(jobs.result.lock, "SETTLE_S", 0.1)
    monkeypatch.setattr(jobs.result.lock, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(jobs.archive.fingerprint, "fingerprint", lambda path: "s1:" + Path(path).read_bytes().hex())
    fsspec.register_implementation("counted", CountedFileSystem, clobber=True)
    yield
    for values in (CountedFileSystem.store, CountedFileSystem.reads):
        values.clear()
    CountedFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """A run whose result has three parts, each of another night."""
    archive = tmp_path / "videos"
    archive.mkdir()
    config = RunConfig((str(archive),), "counted://result/tags", prune=True, max_prune=MaxPrune(videos=1))
    for night in range(3):
        for number in range(night, VIDEOS, 3):
            (archive / f"{number:02d}.mp4").write_text(f"{number:04d}")
        run_job(make_plan(config))
    return config


def rows_read(config: RunConfig) -> Counter[str]:
    """Runs a job. Returns the numbers of rows of the result that it reads, by table.

    The row groups of a file count if a read touches them that does not go on to the end of the file: that is where the
    list of the row groups is.
    """
    CountedFileSystem.reads.clear()
    before = {path: file.getvalue() for path, file in CountedFileSystem.store.items()}
    run_job(make_plan(config))
    rows: Counter[str] = Counter()
    for path, reads in CountedFileSystem.reads.items():
        if "/parts/" not in path or path not in before:
            continue
        content = before[path]
        metadata = pq.read_metadata(io.BytesIO(content))
        data = [(start, stop) for start, stop in reads if stop < len(content)]
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            start = min(group.column(i).data_page_offset for i in range(group.num_columns))
            stop = start + sum(group.column(i).total_compressed_size for i in range(group.num_columns))
            # Each column that is read is a read of its own: those of the names count.
            names = group.column(0)
            first = names.dictionary_page_offset or names.data_page_offset
            times = sum(begin <= first < end for begin, end in data)
            assert times or not any(begin < stop and end > start for begin, end in data), "names are always read"
            rows[path.split(".")[-2]] += times * group.num_rows
    return rows


def test_a_night_without_changes_reads_each_name_once_and_no_segment(config: RunConfig) -> None:
    assert rows_read(config) == {"videos": VIDEOS}


def test_a_night_with_new_videos_reads_each_name_once_and_no_segment(config: RunConfig, tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / "videos" / f"new {number}.mp4").write_text("new.")
    assert rows_read(config) == {"videos": VIDEOS}


def test_a_touched_video_reads_the_segments_of_its_part_alone(config: RunConfig, tmp_path: Path) -> None:
    os.utime(tmp_path / "videos/04.mp4", (1, 1))
    # The rows are read to change them, and when the part is written again.
    assert rows_read(config)["tags"] == 2 * SEGMENTS * VIDEOS // 3


def test_a_video_that_is_gone_reads_the_segments_of_its_part_alone(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "videos/05.mp4").unlink()
    assert rows_read(config)["tags"] == SEGMENTS * VIDEOS // 3


def test_a_dry_run_reads_no_segment_and_no_video(config: RunConfig, tmp_path: Path) -> None:
    from jobs.tagging.dry_run import dry_run

    os.utime(tmp_path / "videos/04.mp4", (1, 1))
    CountedFileSystem.reads.clear()
    assert dry_run(make_plan(replace(config))).unsure == 1
    assert not any(path.endswith(".tags.parquet") and reads for path, reads in CountedFileSystem.reads.items())
