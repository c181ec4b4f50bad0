"""Tests of special files and of unusual names. Each gives a result, and no reader waits or crashes."""

import os
from pathlib import Path

import pytest

from tagger.clips import VideoEnd, read_spans
from tagger.preprocessing import Preprocessing
from tagger.video.choose import has_decord
from tagger.windows import Sampling
from tests.videos import encode


def read(path: Path) -> VideoEnd:
    *_, last = read_spans(path, Sampling(4, 1, 10.0), Preprocessing(64, 64))
    assert last.end is not None
    return last.end


NAMES = [
    "12:30.mp4",
    "http:example.mp4",
    "%03d [1] *.mp4",
    "-y.mp4",
    'it\'s "quoted".mp4',
    "déjà vu 日本 🎬.mp4",
    "two\nlines.mp4",
    " spaces .mp4",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_read_by_the_reader_that_the_rule_chooses(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode(tmp_path / "a.mp4", frames=5).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    end = read(Path(name))
    assert end.status == "ok"
    assert end.choice is not None and (end.choice.decoder == "decord") == has_decord()


def test_a_name_that_is_not_utf8_is_read(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    try:
        encode(tmp_path / "a.mp4", frames=5).rename(path)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    end = read(path)
    assert end.status == "ok"
    assert end.choice is not None and (end.choice.decoder == "decord") == has_decord()


def test_a_link_is_followed_and_a_dangling_one_is_a_missing_file(tmp_path: Path) -> None:
    video = encode(tmp_path / "a.mp4", frames=5)
    (tmp_path / "link.mp4").symlink_to(video)
    assert read(tmp_path / "link.mp4").status == "ok"
    video.unlink()
    end = read(tmp_path / "link.mp4")
    assert (end.status, end.error_kind) == ("failed", "missing")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    assert read(tmp_path / "loop.mp4").error_kind == "missing"


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero", "/dev/tty"])
def test_a_device_is_not_opened(device: str, tmp_path: Path) -> None:
    path = tmp_path / "device.mp4"
    path.symlink_to(device)
    end = read(path)
    assert (end.status, end.error_kind) == ("failed", "not_video")


def test_a_pipe_without_a_writer_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    end = read(tmp_path / "pipe.mp4")
    assert (end.status, end.error_kind) == ("failed", "not_video")


def test_no_file_descriptor_is_left_open(tmp_path: Path) -> None:
    folder = Path("/dev/fd")
    if not folder.exists():
        pytest.skip("this system does not list open files")
    good, bad = encode(tmp_path / "a.mp4", frames=5), tmp_path / "b.mp4"
    bad.write_text("no video")
    read(good)
    before = len(list(folder.iterdir()))
    for path in (good, bad, tmp_path, tmp_path / "none.mp4"):
        read(path)
    assert len(list(folder.iterdir())) == before
