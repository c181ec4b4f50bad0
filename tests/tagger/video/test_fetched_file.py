"""The bytes of a file that is fetched in blocks are those of the file, whatever is read and however few are kept."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tagger.clips import read_spans
from tagger.errors import VideoError
from tagger.preprocessing import Preprocessing
from tagger.video.container import open_file
from tagger.video.facts import VideoFacts
from tagger.video.fetched_file import BlockCache, FetchedFile, fetching
from tagger.video.readers.decord_reader import DecordReader
from tagger.video.watched_file import WatchedFile
from tagger.windows import Sampling
from tests.videos import encode

CONTENT = bytes(range(256)) * 3 + b"end"


class Original:
    """A file that is fetched to ``cache``. ``fetched`` are the numbers of its blocks that were fetched."""

    def __init__(self, content: bytes, cache: Path, slots: int, block_bytes: int):
        cache.write_bytes(b"")
        self.content, self.fetched = content, list[int]()
        self.cache = BlockCache(str(cache), slots, block_bytes)

    def fetch(self, block: int, slot: int) -> None:
        self.fetched.append(block)
        size = self.cache.block_bytes
        with Path(self.cache.path).open("r+b") as file:
            file.seek(slot * size)
            file.write(self.content[block * size : (block + 1) * size])

    @contextmanager
    def in_place_of(self, path: Path) -> Iterator[FetchedFile]:
        path.touch()
        os.truncate(path, len(self.content))
        file = FetchedFile(self.cache, len(self.content), self.fetch)
        with fetching(path, file):
            yield file


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    reads=st.lists(st.tuples(st.integers(0, 800), st.integers(0, 300)), max_size=20),
    slots=st.integers(1, 8),
    block_bytes=st.integers(20, 300),
)
def test_any_bytes_are_read(reads: list[tuple[int, int]], slots: int, block_bytes: int, tmp_path: Path) -> None:
    original = Original(CONTENT, tmp_path / "cache", slots, block_bytes)
    with original.in_place_of(tmp_path / "a") as file:
        for offset, count in reads:
            assert file.read(offset, count) == CONTENT[offset : offset + count]
    assert Path(original.cache.path).stat().st_size <= slots * block_bytes


def test_the_blocks_that_were_read_last_are_kept(tmp_path: Path) -> None:
    original = Original(CONTENT, tmp_path / "cache", 2, 100)
    with original.in_place_of(tmp_path / "a") as file:
        for offset in (0, 100, 0, 200, 0, 100):
            file.read(offset, 100)
    assert original.fetched == [0, 1, 2, 1]


def test_an_open_file_reads_the_blocks_and_never_the_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    original = Original(CONTENT, tmp_path / "cache", 2, 100)
    with original.in_place_of(path):
        descriptor, head = open_file(path, 5)
        file, inner = WatchedFile(path, descriptor), WatchedFile(path, descriptor, 10, 500)
        os.close(descriptor)
        assert head == CONTENT[5:]
        assert file.seek(-3, os.SEEK_END) == len(CONTENT) - 3
        assert file.read(100) == b"end" and file.read(100) == b"" and file.tell() == len(CONTENT)
        assert inner.seek(480) == 480
        assert inner.read(100) == CONTENT[490:500] and inner.read(1) == b""
    assert path.read_bytes() == bytes(len(CONTENT))


def test_blocks_that_are_not_in_the_cache_are_an_error_of_reading_and_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    original = Original(encode(tmp_path / "b.mp4", seconds=1).read_bytes(), tmp_path / "cache", 2, 1000)
    file = FetchedFile(original.cache, len(original.content), lambda block, slot: None)
    path.write_bytes(original.content)
    with fetching(path, file):
        (span,) = read_spans(path, Sampling(), Preprocessing(32, 32))
    assert span.end is not None and span.end.error_kind == "io"
    assert f"cannot be read: {os.strerror(errno.EIO)}" in str(span.end.error)


def test_decord_reads_no_file_that_is_fetched(tmp_path: Path) -> None:
    facts = VideoFacts("mp4", "h264", 96, 64, 30.0, 1.0, 30, 0.0, 1.0, 0, False)
    original, refused = (
        Original(CONTENT, tmp_path / "cache", 2, 100),
        "decord reads no files that are fetched in blocks",
    )
    with original.in_place_of(tmp_path / "a.mp4"), pytest.raises(VideoError, match=refused):
        DecordReader(tmp_path / "a.mp4", facts, 96, 64)
