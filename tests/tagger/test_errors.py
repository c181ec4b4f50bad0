"""Tests of files that are damaged or are not videos: no exception, and the readable windows are kept."""

import os
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tagger.clips import VideoEnd, read_spans
from tagger.errors import ERROR_KINDS, VideoError
from tagger.preprocessing import Preprocessing
from tagger.video.choose import has_decord
from tagger.video.facts import probe
from tagger.video.readers.decord_reader import DecordReader
from tagger.windows import Sampling, Window
from tests.videos import encode, encode_audio, picture, read_frame_number

SAMPLING = Sampling(num_frames=8, sampling_rate=2, target_fps=20.0)  # 0.8 s
PREPROCESSING = Preprocessing(size=64, resize=64)


def read(path: Path) -> tuple[list[Window], np.ndarray, VideoEnd]:
    spans = list(read_spans(path, SAMPLING, PREPROCESSING))
    end = spans[-1].end
    assert end is not None
    assert all(span.end is None for span in spans[:-1])
    windows = [window for span in spans for window in span.windows]
    assert end.windows == len(windows)
    assert (end.error is None) == (end.error_kind is None) == (end.status == "ok")
    assert (end.status == "failed") == (not windows)
    return windows, np.concatenate([span.clips for span in spans]), end


def assert_fails(path: Path, kind: str, words: str) -> None:
    end = read(path)[2]
    assert (end.status, end.windows, end.error_kind) == ("failed", 0, kind)
    assert end.error is not None
    assert str(path) in end.error
    assert words in end.error
    assert "\n" not in end.error
    assert kind in ERROR_KINDS
    with pytest.raises(VideoError) as error:
        probe(path)
    assert error.value.kind == kind


def test_a_missing_file(tmp_path: Path) -> None:
    assert_fails(tmp_path / "none.mp4", "missing", "does not exist")
    assert_fails(tmp_path / f"{'long' * 100}.mp4", "missing", "name too long")


def test_a_path_through_a_file(tmp_path: Path) -> None:
    assert_fails(encode(tmp_path / "a.mp4", frames=1) / "b.mp4", "missing", "cannot be read")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_forbidden_file(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", frames=1)
    path.chmod(0)
    assert_fails(path, "permission", "permission denied")


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.mp4"
    path.touch()
    assert_fails(path, "empty", "is empty (0 bytes)")


def test_a_folder_and_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    assert_fails(tmp_path / "folder.mp4", "not_video", "not a regular file")
    os.mkfifo(tmp_path / "pipe.mp4")
    assert_fails(tmp_path / "pipe.mp4", "not_video", "not a regular file")


@pytest.mark.parametrize(
    "content", [b"x", b"Some words.\n" * 500, bytes(9000), np.random.default_rng(0).bytes(9000)], ids=lambda c: len(c)
)
def test_a_file_that_is_no_video(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_bytes(content)
    assert_fails(path, "not_video", "is not a video that FFmpeg recognises")


@pytest.mark.parametrize("name", ["sound.m4a", "sound.mp4", "sound.mkv"])
def test_sound_alone(name: str, tmp_path: Path) -> None:
    assert_fails(encode_audio(tmp_path / name), "no_video_stream", "has no video stream")


def test_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png")
        stream.width, stream.height, stream.pix_fmt = 64, 64, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(1, 64, 64), format="rgb24")))
    assert_fails(path, "no_video_stream", "is a picture")
    assert_fails(path.rename(tmp_path / "picture.mp4"), "no_video_stream", "is a picture")


def test_an_unknown_codec(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", frames=10)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zz99"))
    assert_fails(path, "unsupported", "no decoder")


CUT: dict[str, dict[str, Any]] = {
    "h264.mp4": {"container_options": {"movflags": "faststart"}},
    "h264.mkv": {},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "mpeg4.avi": {"codec": "mpeg4"},
}


@pytest.mark.parametrize("part", [0.2, 0.5, 0.8, 0.96])
@pytest.mark.parametrize("name", CUT)
def test_a_cut_file_keeps_the_windows_before_the_cut_and_is_reported_as_damaged(
    name: str, part: float, tmp_path: Path
) -> None:
    path = encode(tmp_path / name, seconds=4, **CUT[name])
    whole_windows, whole_clips, whole_end = read(path)
    assert whole_end.status == "ok"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    windows, clips, end = read(path)
    assert (end.status, end.error_kind) == ("partial", "damaged")
    assert end.choice is not None
    assert end.choice.decoder == "pyav"
    assert not has_decord() or end.choice.reason == "the file is cut off, and decord may hang on its end"
    assert end.facts is not None
    assert end.facts.duration_s is not None
    assert 0 < windows[-1].end_s == end.facts.duration_s <= 4 * part + 1
    # The last window is filled up with the last good frame.
    assert windows[:-1] == whole_windows[: len(windows) - 1]
    assert numbers(clips[:-1]) == numbers(whole_clips[: len(windows) - 1])
    assert end.error is not None
    assert str(path) in end.error
    assert "\n" not in end.error


def test_a_file_cut_between_two_frames_is_reported_as_damaged(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", seconds=4, container_options={"movflags": "faststart"}, options={"bf": "0"})
    with av.open(str(path)) as container:
        entry = container.streams[0].index_entries[60]
    path.write_bytes(path.read_bytes()[: entry.pos])
    windows, _, end = read(path)
    assert (end.status, end.error_kind) == ("partial", "damaged")
    assert windows[-1].end_s == pytest.approx(2.0)
    assert "2.00 s" in (end.error or "")


@pytest.mark.parametrize(
    ("name", "codec"), [("mpeg1.mpg", "mpeg1video"), ("h264.ts", "libx264")], ids=["mpeg1.mpg", "h264.ts"]
)
def test_a_cut_stream_is_read_as_far_as_it_goes(name: str, codec: str, tmp_path: Path) -> None:
    # Such a stream does not declare its length, so the cut cannot be detected.
    path = encode(tmp_path / name, codec=codec, seconds=4)
    whole_windows, whole_clips, _ = read(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    windows, clips, _ = read(path)
    assert 1 < len(windows) < len(whole_windows)
    assert windows[:-1] == whole_windows[: len(windows) - 1]
    assert np.array_equal(clips[:-1], whole_clips[: len(windows) - 1])


@pytest.mark.parametrize("start", [0.02, 0.1, 0.97])
def test_a_recording_that_was_never_finished_is_no_video(start: float, tmp_path: Path) -> None:
    # The index of an MP4 is at its end, and the file cannot be read without it.
    path = encode(tmp_path / "a.mp4", seconds=2)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * start)])
    assert read(path)[2].status == "failed"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", [*CUT, "mpeg1.mpg"])
def test_bytes_overwritten_in_the_middle_leave_the_windows_before_them(name: str, seed: int, tmp_path: Path) -> None:
    path = encode(tmp_path / name, seconds=4, **CUT.get(name, {"codec": "mpeg1video"}))
    whole_windows, whole_clips, _ = read(path)
    data = bytearray(path.read_bytes())
    random = np.random.default_rng(seed)
    at, length = int(len(data) * 0.55), (1, 30, 400, 3000)[seed]
    data[at : at + length] = random.bytes(length)
    path.write_bytes(data)
    windows, clips, end = read(path)
    assert end.status in ("ok", "partial")
    # The first 1.6 s of 4 s are well before the damage.
    assert windows[:2] == whole_windows[:2]
    assert numbers(clips[:2]) == numbers(whole_clips[:2])


@pytest.mark.skipif(not has_decord(), reason="decord has no wheel for this machine")
def test_a_video_that_decord_gives_up_on_is_read_by_pyav_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / "a.mp4", seconds=2)
    _, good_clips, _ = read(path)
    frames = DecordReader.frames

    def failing(self: DecordReader, needs: Any) -> Any:
        for count, frame in enumerate(frames(self, needs)):
            if count == 12:
                raise VideoError("damaged", f"{path}: decord failed (on purpose)")
            yield frame

    monkeypatch.setattr(DecordReader, "frames", failing)
    _, clips, end = read(path)
    assert end.status == "ok"
    assert end.choice is not None
    assert (end.choice.decoder, end.choice.reason) == ("pyav", "decord failed (on purpose)")
    assert numbers(clips) == numbers(good_clips)


def test_an_error_is_one_line_that_a_table_can_store(tmp_path: Path) -> None:
    end = read(tmp_path / os.fsdecode(b"two\nlines caf\xe9.mp4"))[2]
    assert end.error is not None
    assert "two lines caf" in end.error.encode().decode()


def numbers(clips: np.ndarray) -> list[list[int]]:
    return [[read_frame_number(pixels) for pixels in clip] for clip in clips]
