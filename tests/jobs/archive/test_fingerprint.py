import hashlib
import os
from pathlib import Path

import pyarrow.fs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.archive import fingerprint as module
from jobs.archive.fingerprint import BLOCK_BYTES, BLOCKS, fingerprint, fingerprint_of

WHOLE_BYTES = 64 * 2**20


def expected(content: bytes, block: int = 2**20) -> str:
    """Computes a fingerprint as the docstring of the module defines it, byte by byte."""
    size = len(content)
    hashed = bytes(size >> 8 * i & 255 for i in range(8))
    if size <= 64 * block:
        hashed += content
    else:
        for i in range(64):
            start = i * (size - block) // 63
            hashed += content[start : start + block]
    return "s1:" + hashlib.sha256(hashed).hexdigest()


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "BLOCK_BYTES", 8)
    return 8


def test_at_most_64_blocks_of_a_mebibyte_are_read() -> None:
    assert (BLOCK_BYTES, BLOCKS * BLOCK_BYTES) == (2**20, WHOLE_BYTES)


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1, WHOLE_BYTES, WHOLE_BYTES + 1, WHOLE_BYTES + 2**20 + 7])
def test_the_fingerprint_of_a_file_is_as_documented(tmp_path: Path, size: int) -> None:
    content = os.urandom(2**20) * (size // 2**20) + os.urandom(size % 2**20)
    path = tmp_path / "video.mp4"
    path.write_bytes(content)
    assert fingerprint(path) == expected(content)


@settings(max_examples=200)
@given(size=st.integers(0, 2000), seed=st.integers(0, 5))
def test_the_fingerprint_is_as_documented_for_any_size(
    tmp_path_factory: pytest.TempPathFactory, size: int, seed: int
) -> None:
    content = bytes((i * 7 + seed) % 251 for i in range(size))
    path = tmp_path_factory.getbasetemp() / "any-size"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_BYTES", 8)
        assert fingerprint(path) == expected(content, 8)


@pytest.mark.parametrize("size", [1, 64 * 8, 64 * 8 + 1, 5000])
def test_the_first_and_the_last_byte_count_whatever_the_size(tmp_path: Path, small_blocks: int, size: int) -> None:
    path = tmp_path / "video.mp4"
    fingerprints = set()
    for at in (None, 0, -1):
        content = bytearray(size)
        if at is not None:
            content[at] += 1
        path.write_bytes(content)
        fingerprints.add(fingerprint(path))
    assert len(fingerprints) == (2 if size == 1 else 3)


def test_files_of_nothing_but_zeros_differ_by_their_size(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    fingerprints = set()
    for size in (0, 1, 2**20, WHOLE_BYTES, WHOLE_BYTES + 1, 2**40):
        with path.open("wb") as file:
            file.truncate(size)
        fingerprints.add(fingerprint(path))
    assert len(fingerprints) == 6


def test_a_file_opened_by_pyarrow_has_the_same_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(os.urandom(3_000_000))
    with pyarrow.fs.LocalFileSystem().open_input_file(str(path)) as file:
        assert fingerprint_of(file, 3_000_000) == fingerprint(path)


def test_a_file_that_became_shorter_has_no_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(b"12345")
    with path.open("rb") as file, pytest.raises(OSError, match="ends within its 6 bytes"):
        fingerprint_of(file, 6)


def test_a_pipe_does_not_block_and_a_missing_file_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert fingerprint(tmp_path / "pipe") == expected(b"")
    with pytest.raises(FileNotFoundError):
        fingerprint(tmp_path / "gone.mp4")
