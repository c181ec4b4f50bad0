"""Tests of the readers: the right frames, at the right times, from the right reader."""

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
from tagger.errors import VideoError
from tagger.preprocessing import Preprocessing
from tagger.video.choose import Choice, choose_reader, has_decord
from tagger.video.facts import probe
from tagger.video.packets.table import packet_times
from tagger.video.readers.decord_reader import DecordReader, _timeline_problem
from tagger.video.readers.pyav_reader import PyAVReader
from tagger.video.readers.reader import WantedReader
from tagger.windows import Sampling, Window
from tests.videos import encode, encode_audio, picture, read_frame_number

SAMPLING = Sampling(num_frames=8, sampling_rate=2, target_fps=20.0)  # 0.8 s, a sample every 0.1 s
PREPROCESSING = Preprocessing(size=64, resize=64)
NTSC = Fraction(30000, 1001)

needs_decord = pytest.mark.skipif(not has_decord(), reason="decord has no wheel for this machine")


def read(
    path: Path,
    sampling: Sampling = SAMPLING,
    preprocessing: Preprocessing = PREPROCESSING,
    reader: WantedReader = "auto",
) -> tuple[list[Window], np.ndarray, VideoEnd]:
    spans = list(read_spans(path, sampling, preprocessing, span_windows=3, reader=reader))
    end = spans[-1].end
    assert end is not None
    windows = [window for span in spans for window in span.windows]
    return windows, np.concatenate([span.clips for span in spans]), end


def numbers(clips: np.ndarray) -> list[list[int]]:
    return [[read_frame_number(pixels) for pixels in clip] for clip in clips]


@needs_decord
def test_windows_with_long_gaps_show_the_same_frames_with_both_readers(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", seconds=40, options={"g": "90"})
    sampling = replace(SAMPLING, hop_s=9.5)
    by_decord = read(path, sampling, reader="decord")
    assert by_decord[2].choice is not None and by_decord[2].choice.decoder == "decord"
    by_pyav = read(path, sampling)
    assert by_pyav[2].choice is not None and by_pyav[2].choice.decoder == "pyav-sparse"
    assert by_decord[0] == by_pyav[0] and len(by_decord[0]) == 5
    assert numbers(by_decord[1]) == numbers(by_pyav[1])


@needs_decord
# decord has a different row layout for pictures that are 24, 48 and 72 pixels wide.
@pytest.mark.parametrize("size", [24, 32, 48, 64, 72, 112])
def test_both_readers_give_nearly_the_same_pixels(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.mp4", width=128, height=128)
    by_decord = read(path, preprocessing=Preprocessing(size, size))[1]
    monkeypatch.setattr("tagger.video.choose.has_decord", lambda: False)
    by_pyav = read(path, preprocessing=Preprocessing(size, size))[1]
    assert by_decord.shape == by_pyav.shape == (2, 8, size, size, 3)
    # At even widths decord halves the resolution of colours, not of brightness.
    brightness = np.array([0.299, 0.587, 0.114])
    assert np.abs(by_decord @ brightness - by_pyav @ brightness).mean() < 3


@pytest.mark.parametrize("size", [(320, 240), (130, 98)])
def test_scaling_to_planar_rgb_gives_the_pixels_of_packed_rgb(size: tuple[int, int], tmp_path: Path) -> None:
    # At odd widths, where swscale keeps the full colour resolution either way.
    path = encode(tmp_path / "a.mp4", width=size[0], height=size[1], frames=5)
    reader = PyAVReader(path, probe(path), 67, 49)
    found = [frame.pixels for frame in reader.frames(lambda until_s: True)]
    reader.close()
    with av.open(str(path)) as container:
        expected = [
            frame.reformat(67, 49, "rgb24", interpolation="BICUBIC").to_ndarray() for frame in container.decode(video=0)
        ]
    assert len(expected) == 5
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "yuv422p"])
@pytest.mark.parametrize("size", [(72, 72), (340, 256), (96, 64)])
def test_pixels_up_to_the_right_edge_are_those_of_the_picture(
    pixel_format: str, size: tuple[int, int], tmp_path: Path
) -> None:
    path = encode(tmp_path / "a.mp4", frames=3, width=size[0], height=size[1], pixel_format=pixel_format)
    reader = PyAVReader(path, probe(path), *size)
    found = [frame.pixels.astype(int) for frame in reader.frames(lambda until_s: True)]
    reader.close()
    expected = np.array([picture(number, *size) for number in range(3)]).astype(int)
    assert np.abs(np.array(found) - expected)[:, :, -8:].mean() < 8


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("scaled", [(96, 64), (98, 66), (60, 40)])
def test_pixels_of_any_format_equal_those_of_planar_rgb(
    pixel_format: str, scaled: tuple[int, int], tmp_path: Path
) -> None:
    path = encode(tmp_path / "a.mp4", frames=5, pixel_format=pixel_format)
    reader = PyAVReader(path, probe(path), *scaled)
    found = [frame.pixels for frame in reader.frames(lambda until_s: True)]
    reader.close()
    with av.open(str(path)) as container:
        expected = [
            frame.reformat(*scaled, "gbrp", interpolation="BICUBIC").to_ndarray() for frame in container.decode(video=0)
        ]
    assert len(expected) == 5
    np.testing.assert_array_equal(found, expected)


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
            # The last window begins at 2.4 s and is shifted back, so that it ends with the video, at 3 s.
            first_s = min(window.start_s, 2.2)
            for i, number in enumerate(clip):
                assert -1e-3 <= first_s + 0.1 * i - times_s[number] < 2 / 30
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
    # np.rot90 rotates counter-clockwise.
    upright = np.rot90(read(plain)[1], -degrees // 90, axes=(2, 3))
    assert np.abs(clips.astype(int) - upright).mean() < 3


def test_a_frame_without_a_time_follows_the_one_before_and_no_frame_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / "a.mkv", rate=25)
    frames = []
    for pts, duration in [(1000, 40), (None, 0), (1080, 0), (1080, 40), (1060, 40), (1120, 0)]:
        frame = av.VideoFrame.from_ndarray(picture(len(frames), 64, 64), format="rgb24")
        frame.pts, frame.time_base, frame.duration = pts, Fraction(1, 1000), duration
        frames.append(frame)

    reader = PyAVReader(path, probe(path), 64, 64)
    monkeypatch.setattr("tagger.video.readers.pyav_reader.decoded_frames", lambda *_: iter(frames))
    found = [(f.start_s, f.end_s, read_frame_number(f.pixels), f.is_last) for f in reader.frames(lambda _: True)]
    assert [start_s for start_s, *_ in found] == pytest.approx([0.0, 0.04, 0.08, 0.12, 0.14, 0.16])
    assert [frame[1] for frame in found] == pytest.approx([*(start_s for start_s, *_ in found[1:]), 0.2])
    assert [frame[2:] for frame in found] == [(number, number == 5) for number in range(6)]


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


@needs_decord
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda own: own, None),
        (lambda own: own[:2], "decord finds 2 frames, but the file has 3"),
        (lambda own: own[[0, 2, 1]], "frame times are not those of the file"),
        (lambda own: own[[0, 1, 1]], "frame times are not those of the file"),
        (lambda own: np.where(own == own[1, 0], np.nan, own), "frame times are not those of the file"),
        (lambda own: np.where(own == 0, -3e17, own), "frame times are not those of the file"),
    ],
)
def test_decord_times_that_differ_from_the_packets_are_detected(
    change: Callable[[np.ndarray], np.ndarray], words: str | None, tmp_path: Path
) -> None:
    path = encode(tmp_path / "a.mp4", frames=3)
    times_s = packet_times(path)
    assert times_s == pytest.approx(np.array([[0, 1], [1, 2], [2, 3]]) / 30, abs=1e-6)
    problem = _timeline_problem(change(times_s), times_s, probe(path))
    assert problem is None if words is None else words in (problem or "")


@needs_decord
def test_a_wrong_declared_frame_count_is_detected_before_decord_allocates_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("decord.VideoReader", lambda *_, **__: pytest.fail("decord was asked to open it"))
    path = encode(tmp_path / "a.mp4", frames=3)
    with pytest.raises(VideoError, match="the file has 3 frames but declares 1073741824"):
        DecordReader(path, replace(probe(path), frames=2**30), 32, 32)


@needs_decord
def test_a_declared_length_a_little_too_short_is_no_problem(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", frames=3)
    times_s = packet_times(path)
    assert _timeline_problem(times_s, times_s, replace(probe(path), duration_s=0.01)) is None


def test_facts_are_what_the_file_says(tmp_path: Path) -> None:
    facts = probe(encode(tmp_path / "a.mp4", frames=45, rate=30, width=96, height=64))
    assert (facts.container, facts.codec, facts.width, facts.height) == ("mp4", "h264", 96, 64)
    assert (facts.fps, facts.frames, facts.stream_start_s, facts.rotation) == (30.0, 45, 0.0, 0)
    assert facts.duration_s == pytest.approx(1.5, abs=0.001)
    assert facts.time_base_s == pytest.approx(1 / 15360)
    assert not facts.is_truncated
    # The clock of an MPEG begins late, and players count from there.
    assert probe(encode(tmp_path / "a.mpg", codec="mpeg1video")).stream_start_s == 0.0
    assert probe(encode(tmp_path / "raw.h264")).duration_s is None


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
    assert "too long for decord" in (streamed_end.choice.reason or "")
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


@pytest.mark.parametrize(
    ("name", "codec", "cheaper"),
    [
        ("a.mp4", "libx264", "pyav"),
        ("a.avi", "mpeg4", "pyav"),
        ("a.webm", "libvpx-vp9", "decord"),
        ("b.webm", "libvpx", "pyav"),
        ("a.ts", "libx264", "pyav"),
    ],
)
def test_the_cheaper_of_two_correct_readers_is_chosen(
    name: str, codec: str, cheaper: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    facts = probe(encode(tmp_path / name, codec=codec, seconds=1))
    if cheaper == "decord" and not has_decord():
        assert choose_reader(facts, 1000) == Choice("pyav", "decord is not installed")
    else:
        assert choose_reader(facts, 1000) == Choice(cheaper)  # type: ignore[arg-type]
