"""The time of a video's first frame as players count it, compared with what FFmpeg shows when it seeks."""

from pathlib import Path

import pytest

from tagger.video.facts import probe
from tests.ffmpeg import shown_at
from tests.videos import encode, encode_late

RATE = 10


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv", "late.mov"])
def test_ffmpeg_finds_a_frame_at_its_time_from_the_first_frame_plus_the_start_of_the_stream(
    tmp_path: Path, name: str
) -> None:
    path = encode_late(tmp_path / name, after_s=1.4, seconds=3, rate=RATE)
    start_s = probe(path).stream_start_s
    assert start_s == 1.4
    for number in (0, 7, 13, 29):
        # A little early, because FFmpeg gives the first frame that does not begin before.
        assert shown_at(path, start_s + (number - 0.25) / RATE) == number


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.mpg", "a.avi", "a.h264"])
def test_a_video_without_audio_starts_at_0_whatever_its_clock_says(tmp_path: Path, name: str) -> None:
    codec = "mpeg2video" if name == "a.mpg" else "mpeg4" if name == "a.avi" else "libx264"
    path = encode(tmp_path / name, codec=codec, seconds=1, rate=25, start_s=0 if name == "a.h264" else 3)
    assert probe(path).stream_start_s == pytest.approx(0, abs=1e-6)


def test_a_late_transport_stream_starts_after_its_audio(tmp_path: Path) -> None:
    path = encode_late(tmp_path / "late.ts", after_s=1.4, seconds=3, rate=RATE)
    # The audio begins with the silence that its encoder puts before it.
    assert probe(path).stream_start_s == pytest.approx(1.4, abs=0.03)
