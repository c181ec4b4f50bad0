"""Promises about what is read from a video: the right frames, at the right times, by the right reader."""

import os
import socket
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tagger.clips import VideoEnd, read_spans
from tagger.preprocessing import Preprocessing
from tagger.video.choose import has_decord
from tagger.video.decord_reader import DecordReader, _timeline_problem
from tagger.video.facts import probe
from tagger.video.pyav_reader import PyAVReader
from tagger.windows import Sampling, Window
from tests.tagger.look_up import look_up
from tests.videos import encode, encode_audio, picture, read_frame_number

SAMPLING = Sampling(num_frames=8, sampling_rate=2, target_fps=20.0)  # 0.8 s, a sample every 0.1 s
PREPROCESSING = Preprocessing(size=64, resize=64)
NTSC = Fraction(30000, 1001)
UNEVEN_S = [0, 0.04, 0.05, 0.31, 0.33, 0.34, 0.36, 0.7, 0.71, 1.15, 1.17, 1.19, 1.21, 1.5, 1.9, 1.91]
X265 = {"preset": "ultrafast", "x265-params": "log-level=none"}

needs_decord = pytest.mark.skipif(not has_decord(), reason="decord has no wheel for this machine")

# What decord is to read.
DECORD: dict[str, dict[str, Any]] = {
    "24 fps.mp4": {"rate": 24},
    "25 fps.mp4": {"rate": 25},
    "ntsc.mp4": {"rate": NTSC},
    "30 fps.mp4": {"rate": 30},
    "60 fps.mp4": {"rate": 60},
    "index first.mp4": {"container_options": {"movflags": "faststart"}},
    "shorter than a window.mp4": {"frames": 5},
    "one frame.mp4": {"frames": 1},
    "odd.mp4": {"width": 175, "height": 131},
    "portrait.mp4": {"width": 66, "height": 98},
    "tiny.mp4": {"width": 16, "height": 16},
    "uneven.mp4": {"times_s": UNEVEN_S, "options": {"bf": "0"}},
    "uneven.mkv": {"times_s": UNEVEN_S},
    "hevc.mp4": {"codec": "libx265", "options": X265},
    "h264.mov": {},
    "h264.mkv": {},
    "ntsc.mkv": {"rate": NTSC},
    "vp8.webm": {"codec": "libvpx"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4 odd.avi": {"codec": "mpeg4", "width": 175, "height": 131},
    "mjpeg.avi": {"codec": "mjpeg"},
}

# What PyAV is to read, and a word of the reason.
PYAV: dict[str, tuple[dict[str, Any], str]] = {
    "mpeg1.mpg": ({"codec": "mpeg1video"}, "mpeg files"),
    "b-frames.mpg": ({"codec": "mpeg1video", "rate": 25, "options": {"bf": "2"}}, "mpeg files"),
    "mpeg2.mpg": ({"codec": "mpeg2video"}, "mpeg files"),
    "h264.ts": ({}, "mpegts files"),
    "wmv2.wmv": ({"codec": "wmv2"}, "asf files"),
    "flv1.flv": ({"codec": "flv"}, "flv video"),
    "picture.gif": ({"codec": "gif", "rate": 25}, "gif files"),
    "raw.h264": ({}, "h264 files"),
    "b-frames.avi": ({}, "do not increase"),
    "mpeg4 b-frames.avi": ({"codec": "mpeg4", "options": {"bf": "2"}}, ""),
    "late.mp4": ({"start_s": 1}, "start at 1.000 s"),
    "late.mkv": ({"start_s": 1.5}, "start at 1.500 s"),
    "one frame.mkv": ({"frames": 1}, ""),
}


def read(
    path: Path, sampling: Sampling = SAMPLING, preprocessing: Preprocessing = PREPROCESSING
) -> tuple[list[Window], np.ndarray, VideoEnd]:
    spans = list(read_spans(path, sampling, preprocessing, span_windows=3))
    end = spans[-1].end
    assert end is not None
    windows = [window for span in spans for window in span.windows]
    return windows, np.concatenate([span.clips for span in spans]), end


def numbers(clips: np.ndarray) -> list[list[int]]:
    return [[read_frame_number(pixels) for pixels in clip] for clip in clips]


def assert_right(path: Path, settings: dict[str, Any]) -> VideoEnd:
    """Encodes a video, reads it, and compares it with a look-up on the times it was made of."""
    settings = {"seconds": 2} | settings
    encode(path, **settings)
    rate = Fraction(settings.get("rate", 30))
    starts_s = [float(time_s) for time_s in settings.get("times_s") or []]
    if not starts_s:
        count = settings.get("frames") or round(settings["seconds"] * rate)
        starts_s = [float(i / rate) for i in range(count)]
    # Samples fall exactly on frames, also at 29.97 fps: a clock of milliseconds must not move them to the frame before.
    sampling = replace(SAMPLING, target_fps=float(20 * rate / round(rate)))
    expected = look_up(sampling, starts_s, starts_s[-1] + float(1 / rate))
    windows, clips, end = read(path, sampling)
    assert end.status == "ok", end.error
    assert end.windows == len(windows) == len(expected)
    for window, (other, _) in zip(windows, expected, strict=True):
        assert window.index == other.index
        assert window.start_s == other.start_s
        assert window.end_s == pytest.approx(other.end_s, abs=2e-3)  # a clock of milliseconds, rounded twice
    assert numbers(clips) == [frames for _, frames in expected]
    assert end.facts is not None
    assert end.facts.duration_s == pytest.approx(expected[-1][0].end_s, abs=2e-3)
    return end


@needs_decord
@pytest.mark.parametrize("name", DECORD)
def test_decord_reads_what_it_reads_right(name: str, tmp_path: Path) -> None:
    end = assert_right(tmp_path / name, DECORD[name])
    assert end.choice is not None
    assert (end.choice.decoder, end.choice.reason) == ("decord", None)


@pytest.mark.parametrize("name", PYAV)
def test_pyav_reads_what_decord_gets_wrong_and_the_reason_is_recorded(name: str, tmp_path: Path) -> None:
    settings, reason = PYAV[name]
    end = assert_right(tmp_path / name, settings)
    assert end.choice is not None
    assert end.choice.decoder == "pyav"
    assert end.choice.reason
    assert not has_decord() or reason in end.choice.reason
    assert str(tmp_path) not in end.choice.reason


@pytest.mark.usefixtures("without_decord")
@pytest.mark.parametrize("name", DECORD)
def test_pyav_reads_everything_where_there_is_no_decord(name: str, tmp_path: Path) -> None:
    end = assert_right(tmp_path / name, DECORD[name])
    assert end.choice is not None
    assert (end.choice.decoder, end.choice.reason) == ("pyav", "decord is not installed")


@needs_decord
# decord lays out the rows of pictures 24, 48 and 72 pixels wide differently.
@pytest.mark.parametrize("size", [24, 32, 48, 64, 72, 112])
def test_both_readers_give_nearly_the_same_pixels(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.mp4", width=128, height=128)
    by_decord = read(path, preprocessing=Preprocessing(size, size))[1]
    monkeypatch.setattr("tagger.video.choose.has_decord", lambda: False)
    by_pyav = read(path, preprocessing=Preprocessing(size, size))[1]
    assert by_decord.shape == by_pyav.shape == (2, 8, size, size, 3)
    assert np.abs(by_decord.astype(int) - by_pyav).mean() < 3


@pytest.mark.parametrize("decord", [pytest.param(True, marks=needs_decord), False])
def test_colours_are_red_green_blue(decord: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.mp4", frames=1, width=64)
    monkeypatch.setattr("tagger.video.choose.has_decord", lambda: decord)
    pixels = read(path)[1][0, 0].astype(int)
    assert np.abs(pixels - picture(0, 64, 64)).mean() < 8


def test_the_same_content_gives_the_same_windows_at_every_rate(tmp_path: Path) -> None:
    timelines: dict[str, dict[str, Any]] = {
        "25.mp4": {"rate": 25, "seconds": 3},
        "30.mp4": {"rate": 30, "seconds": 3},
        "60.mp4": {"rate": 60, "seconds": 3},
        "uneven.mkv": {"times_s": [i / 30 for i in range(90) if i % 5 != 3 or i == 89]},
    }
    all_windows = []
    for name, settings in timelines.items():
        windows, clips, _ = read(encode(tmp_path / name, **settings))
        all_windows.append([(window.start_s, pytest.approx(window.end_s, abs=2e-3)) for window in windows])
        times_s = settings.get("times_s") or [i / settings["rate"] for i in range(3 * settings["rate"])]
        for window, clip in zip(windows, numbers(clips), strict=True):
            for i, number in enumerate(clip):
                wanted_s = min(window.start_s + 0.1 * i, times_s[-1])
                assert -1e-3 <= wanted_s - times_s[number] < 2 / 30
    assert all_windows.count(all_windows[0]) == len(timelines)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_video_is_read_upright(degrees: int, tmp_path: Path) -> None:
    plain = encode(tmp_path / "plain.mp4")
    turned = encode(tmp_path / "turned.mp4", rotation=degrees)
    facts = probe(turned)
    assert facts.rotation == degrees
    assert (facts.width, facts.height) == ((96, 64) if degrees == 180 else (64, 96))
    _, clips, end = read(turned)
    assert end.choice is not None
    assert end.choice.decoder == "pyav"
    # np.rot90 turns counter-clockwise.
    upright = np.rot90(read(plain)[1], -degrees // 90, axes=(2, 3))
    assert np.abs(clips.astype(int) - upright).mean() < 3


def test_streams_joined_byte_by_byte_are_read_to_the_end(tmp_path: Path) -> None:
    parts = [encode(tmp_path / f"{n}.mpg", codec="mpeg1video", frames=n) for n in (60, 45)]
    joined = tmp_path / "joined.mpg"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    windows, clips, _ = read(joined)
    expected = look_up(SAMPLING, [i / 30 for i in range(105)], 3.5)
    assert [window.end_s for window in windows] == pytest.approx([window.end_s for window, _ in expected])
    assert numbers(clips) == [[i if i < 60 else i - 60 for i in frames] for _, frames in expected]


def test_a_frame_without_a_time_follows_the_one_before_and_one_that_goes_back_is_not_shown(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv")
    frames = []
    for pts, duration in [(1000, 40), (None, 0), (1080, 0), (1080, 40), (1060, 40), (1120, 0)]:
        frame = av.VideoFrame.from_ndarray(picture(len(frames), 64, 64), format="rgb24")
        frame.pts, frame.time_base, frame.duration = pts, Fraction(1, 1000), duration
        frames.append(frame)

    class Container:
        def decode(self, _stream: object) -> Any:
            return iter(frames)

    reader = PyAVReader(path, probe(path), 64, 64)
    reader._container = Container()  # type: ignore[assignment]
    found = [(f.start_s, f.end_s, read_frame_number(f.pixels), f.is_last) for f in reader.frames(lambda _: True)]
    times = pytest.approx([0.0, 0.04, 0.04, 0.08, 0.08, 0.12, 0.12, 0.16])
    assert [time_s for frame in found for time_s in frame[:2]] == times
    assert [frame[2:] for frame in found] == [(0, False), (1, False), (2, False), (5, True)]


def test_only_frames_that_are_needed_are_scaled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.ts", seconds=2)
    scaled = []
    plain: Callable[[PyAVReader, Any], np.ndarray] = PyAVReader._pixels
    monkeypatch.setattr(PyAVReader, "_pixels", lambda self, frame: scaled.append(frame.pts) or plain(self, frame))
    read(path)
    assert len(scaled) == 21  # 2 s, a sample every 0.1 s, and the last frame


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    cover, music, song = tmp_path / "cover.jpg", encode_audio(tmp_path / "sound.m4a"), tmp_path / "song.mp4"
    encode(cover, codec="mjpeg", frames=1)
    with av.open(str(cover)) as pictures, av.open(str(music)) as sound, av.open(str(song), "w") as out:
        streams = [out.add_stream_from_template(c.streams[0]) for c in (pictures, sound)]
        streams[0].disposition = av.stream.Disposition.attached_pic
        for source, stream in zip((pictures, sound), streams, strict=True):
            for packet in source.demux(source.streams[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
    end = read(song)[2]
    assert (end.status, end.error_kind) == ("failed", "no_video_stream")


@needs_decord
def test_decord_gives_times_as_exact_as_the_clock_of_the_file(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", rate=NTSC, seconds=4)
    reader = DecordReader(path, probe(path), 16, 16)
    times = [frame.start_s for frame in reader.frames(lambda _: True)]
    reader.close()
    assert times == pytest.approx([i * 1001 / 30000 for i in range(120)], abs=1e-9)


@pytest.mark.parametrize(
    ("times_s", "words"),
    [
        ([[0.0, 0.1], [0.1, 0.2], [0.2, 0.3]], None),
        ([[0.0, 0.1], [0.2, 0.3], [0.1, 0.2]], "do not increase"),
        ([[0.0, 0.1], [0.1, 0.2], [0.1, 0.2]], "do not increase"),
        ([[0.0, 0.1], [0.1, 0.2], [0.2, 0.2]], "do not increase"),
        ([[0.0, 0.1], [0.1, 0.2], [np.nan, 0.3]], "do not increase"),
        ([[-3e17, -3e17], [0.1, 0.2], [0.2, 0.3]], "first frame is at -3e+17 s"),
        ([[0.0, 0.1], [0.1, 0.2]], "decord finds 2 frames where the file declares 3"),
    ],
)
def test_a_timeline_that_cannot_be_true_is_noticed(
    times_s: list[list[float]], words: str | None, tmp_path: Path
) -> None:
    problem = _timeline_problem(np.array(times_s), probe(encode(tmp_path / "a.mp4", frames=3)))
    assert problem is None if words is None else words in (problem or "")


def test_metadata_in_an_old_encoding_does_not_matter(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.avi", codec="mpeg4", frames=5, metadata={"title": "Cafe in 1999"})
    data = path.read_bytes()
    assert b"Cafe" in data
    path.write_bytes(data.replace(b"Cafe", b"Caf\xe9"))
    assert read(path)[2].status == "ok"


def test_facts_are_what_the_file_says(tmp_path: Path) -> None:
    facts = probe(encode(tmp_path / "a.mp4", frames=45, rate=30, width=96, height=64))
    assert (facts.container, facts.codec, facts.width, facts.height) == ("mp4", "h264", 96, 64)
    assert (facts.fps, facts.frames, facts.start_s, facts.rotation) == (30.0, 45, 0.0, 0)
    assert facts.duration_s == pytest.approx(1.5, abs=0.001)
    assert facts.time_base_s == pytest.approx(1 / 15360)
    assert not facts.is_truncated
    assert probe(encode(tmp_path / "a.mpg", codec="mpeg1video")).start_s == pytest.approx(0.5, abs=0.1)
    assert probe(encode(tmp_path / "raw.h264")).duration_s is None


@pytest.mark.parametrize("name", ["12:30.mp4", "%03d [1] *.mp4", "-y.mp4", "déjà vu 日本.mp4", "two\nlines.mp4"])
def test_any_file_name_is_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode(tmp_path / "a.mp4", frames=5).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert read(Path(name))[2].status == "ok"


def test_a_file_name_that_is_not_utf8_is_read(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    try:
        encode(tmp_path / "a.mp4", frames=5).rename(path)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    end = read(path)[2]
    assert end.status == "ok"
    assert end.choice is not None
    assert end.choice.reason is None or end.choice.reason.encode()


def test_a_playlist_makes_no_connection(tmp_path: Path) -> None:
    path = tmp_path / "list.m3u8"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n")
        assert read(path)[2].status == "failed"
        with pytest.raises(BlockingIOError):
            server.accept()


@needs_decord
def test_a_video_too_long_to_hold_is_streamed_with_pyav_and_gives_the_same_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / "a.mp4", seconds=3)
    windows, clips, end = read(path)
    monkeypatch.setattr("tagger.video.choose.DRAIN_LIMIT_BYTES", 10_000)
    streamed_windows, streamed_clips, streamed_end = read(path)
    assert end.choice is not None
    assert streamed_end.choice is not None
    assert (end.choice.decoder, streamed_end.choice.decoder) == ("decord", "pyav")
    assert "too long to drain" in (streamed_end.choice.reason or "")
    assert streamed_windows == windows
    assert numbers(streamed_clips) == numbers(clips)


@needs_decord
def test_decord_is_closed_before_the_first_span_is_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.mp4", seconds=5)
    closed = []
    close = DecordReader.close
    monkeypatch.setattr(DecordReader, "close", lambda self: closed.append(close(self)))
    spans = read_spans(path, SAMPLING, PREPROCESSING, span_windows=1)
    assert next(spans).end is None
    assert closed


def test_a_long_video_is_streamed_in_little_memory(tmp_path: Path) -> None:
    path = encode(tmp_path / "long.ts", seconds=60, rate=10, options={"g": "100"})
    windows = 0
    tracemalloc.start()
    try:
        for span in read_spans(path, SAMPLING, PREPROCESSING, span_windows=2):
            windows += len(span.windows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    window_bytes = 8 * 64 * 64 * 3
    assert windows == 75
    assert peak < 10 * window_bytes
