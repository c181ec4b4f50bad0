"""Whether a program has a file open for writing."""

import os
import sys
from pathlib import Path

import pytest

from jobs.watching.open_files import is_open_for_writing


@pytest.mark.skipif(sys.platform != "linux", reason="a lease of Linux")
def test_a_file_that_is_written_is_open_until_its_writer_closes_it(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    with file.open("wb") as stream:
        stream.write(b"some")
        assert is_open_for_writing(str(file))
    assert not is_open_for_writing(str(file))


def test_a_file_that_is_read_is_not_open_for_writing(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(b"some")
    with file.open("rb"):
        assert not is_open_for_writing(str(file))


def test_what_cannot_be_asked_is_not_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "fifo", "s3://bucket/a.mp4", "a\0b"):
        assert not is_open_for_writing(str(path))
