"""``ok`` means that every frame of a file was looked at: kinds of files of which other tools show only a part."""

import errno
import gc
import os
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tagger import Preprocessing, Sampling
from tagger.clips import VideoEnd, read_spans
from tagger.video.choose import has_decord
from tagger.video.container import ffmpeg_reason
from tagger.video.facts import probe
from tagger.video.readers.pyav_reader import PyAVReader
from tagger.video.readers.reader import Frame, Gap
from tests.tagger.zoo import remux
from tests.videos import encode, read_frame_number

SIZE = 64


def read(path: Path) -> tuple[VideoEnd, list[tuple[float, int | None]], list[Gap]]:
    """Returns the end, the start and number of each frame, and the gaps, as PyAVReader gives them."""
    end = [span.end for span in read_spans(path, Sampling(), Preprocessing(SIZE, SIZE))][-1]
    assert end is not None
    facts = probe(path)
    reader = PyAVReader(path, facts, facts.width, facts.height)
    frames, gaps = [], []
    try:
        for item in reader.frames(lambda until_s: True):
            if isinstance(item, Frame):
                frames.append((round(item.start_s, 3), read_frame_number(item.pixels)))
            else:
                gaps.append(item)
    except Exception as error:
        assert end.error is not None and str(error).split(":")[-1] in end.error
    finally:
        reader.close()
    return end, frames, gaps


def numbers(frames: list[tuple[float, int | None]]) -> list[int | None]:
    return [number for _, number in frames]


def joined(first: Path, second: bytes, path: Path) -> Path:
    path.write_bytes(first.read_bytes() + second)
    return path


@pytest.mark.parametrize(
    ("name", "settings", "header_bytes"),
    [
        ("a.flv", {}, 13),
        ("a.flv", {"codec": "flv"}, 13),
        ("a.webm", {"codec": "libvpx"}, 0),
        ("a.mkv", {}, 0),
        ("a.ts", {}, 0),
        ("a.mpg", {"codec": "mpeg1video"}, 0),
    ],
    ids=["flv", "flv1", "webm", "mkv", "ts", "mpg"],
)
def test_a_recording_that_was_restarted_in_the_same_file_is_read_to_its_end(
    name: str, settings: dict[str, Any], header_bytes: int, tmp_path: Path
) -> None:
    first = encode(tmp_path / name, seconds=2, **settings)
    path = joined(first, first.read_bytes()[header_bytes:], tmp_path / f"joined-{name}")
    end, frames, _ = read(path)
    assert (end.status, end.error) == ("ok", None)
    assert numbers(frames) == [*range(60), *range(60)]
    assert end.facts is not None and end.facts.duration_s == pytest.approx(4.0, abs=0.1)
    starts_s = np.array([start_s for start_s, _ in frames])
    assert np.diff(starts_s) == pytest.approx(1 / 30, abs=0.04)


FRAGMENTED = ("frag_keyframe", "frag_keyframe+empty_moov", "frag_every_frame+empty_moov", "frag_keyframe+delay_moov")
APPENDED: dict[str, tuple[str, dict[str, Any]]] = {
    "mp4": ("a.mp4", {}),
    "index first": ("a.mp4", {"container_options": {"movflags": "faststart"}}),
    **{flags: ("a.mp4", {"container_options": {"movflags": flags}}) for flags in FRAGMENTED},
    "default base": ("a.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov+default_base_moof"}}),
    "dash": ("a.mp4", {"container_options": {"movflags": "dash"}}),
    "dash with an index": ("a.mp4", {"container_options": {"movflags": "dash+global_sidx"}}),
    "cmaf": ("a.mp4", {"container_options": {"movflags": "cmaf"}}),
    "no edit list": ("a.mp4", {"container_options": {"use_editlist": "0"}}),
    "vp9.mp4": ("a.mp4", {"codec": "libvpx-vp9"}),
    "mov": ("a.mov", {}),
    "3gp": ("a.3gp", {}),
    "flv": ("a.flv", {}),
    "wmv": ("a.wmv", {"codec": "wmv2"}),
    "avi": ("a.avi", {"codec": "mpeg4"}),
    "mkv": ("a.mkv", {}),
    "ts": ("a.ts", {}),
}


@pytest.mark.parametrize("kind", APPENDED)
def test_videos_that_were_appended_to_each_other_are_read_to_the_end(kind: str, tmp_path: Path) -> None:
    name, settings = APPENDED[kind]
    # Each video is shorter than the jump back that counts as a restart, and begins in the middle of the clock.
    parts = [encode(tmp_path / f"{n}-{name}", frames=n, options={"g": "9"}, **settings) for n in (20, 5, 12)]
    path = tmp_path / name
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    end, frames, gaps = read(path)
    assert (end.status, end.error, gaps) == ("ok", None, [])
    assert numbers(frames) == [*range(20), *range(5), *range(12)]
    starts_s = np.array([start_s for start_s, _ in frames])
    assert np.diff(starts_s) == pytest.approx(1 / 30, abs=0.02)
    assert end.facts is not None and end.facts.duration_s == pytest.approx(37 / 30, abs=0.05)


@pytest.mark.parametrize("fast", [True, False])
def test_a_reader_that_would_read_only_the_first_of_two_videos_is_replaced(fast: bool, tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mp4", frames=20, codec="libx264" if fast else "libvpx-vp9")
    path = joined(whole, whole.read_bytes(), tmp_path / "joined.mp4")
    sampling = Sampling(fast_decode=fast)
    end = [span.end for span in read_spans(path, sampling, Preprocessing(SIZE, SIZE))][-1]
    assert end is not None and end.choice is not None and end.facts is not None
    if fast or has_decord():
        assert (end.choice.decoder, end.choice.reason) == ("pyav", "another video is appended to it")
    assert (end.status, round(end.facts.duration_s or 0, 1)) == ("ok", 1.3)


def test_an_appended_video_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mp4", frames=20)
    second = bytearray(whole.read_bytes())
    second[second.index(b"moov") :] = b"junk" * 10
    path = joined(whole, bytes(second), tmp_path / "joined.mp4")
    end, frames, _ = read(path)
    assert (end.status, numbers(frames)) == ("partial", list(range(20)))
    assert end.error is not None
    assert end.error.startswith(f"{path}: another video is appended to it, which is not a video that FFmpeg recognises")


def test_a_second_index_does_not_end_an_mp4(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mp4", frames=20)
    data = whole.read_bytes()
    path = joined(whole, data[data.index(b"moov") - 4 :], tmp_path / "twice.mp4")
    end, frames, _ = read(path)
    assert (end.status, numbers(frames)) == ("ok", list(range(20)))


def test_a_restart_after_damage_is_read_to_its_end(tmp_path: Path) -> None:
    first = encode(tmp_path / "a.flv", seconds=4, options={"g": "30"})
    data = bytearray(first.read_bytes())
    second = bytes(data[13:])
    at = len(data) // 4
    data[at : at + 500] = bytes(500)
    first.write_bytes(data)
    end, frames, gaps = read(joined(first, second, tmp_path / "joined.flv"))
    assert (end.status, len(gaps)) == ("partial", 1)
    assert numbers(frames)[-120:] == list(range(120))
    assert len(frames) > 120 + 60


def test_a_joined_ogg_file_is_read_to_its_end(tmp_path: Path) -> None:
    first = encode(tmp_path / "a.ogv", codec="libvpx", seconds=2)
    path = joined(first, first.read_bytes(), tmp_path / "joined.ogv")
    end, frames, _ = read(path)
    assert numbers(frames) == [*range(60), *range(60)]
    # FFmpeg marks the page after the join as damaged.
    assert end.error == f"{path}: less than 0.1 s of 4.0 s cannot be read, first at 2.0 s"


def test_frames_that_all_have_one_time_are_spaced_by_the_frame_rate(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", seconds=2, options={"bf": "0"})
    data = bytearray(path.read_bytes())
    at = data.index(b"stts")
    (count,) = struct.unpack_from(">I", data, at + 8)
    assert count == 1
    struct.pack_into(">I", data, at + 16, 0)
    path.write_bytes(data)
    end, frames, _ = read(path)
    assert (end.status, numbers(frames)) == ("ok", list(range(60)))
    assert end.facts is not None and end.facts.duration_s == pytest.approx(2.0, rel=0.2)


@pytest.mark.parametrize("name", ["a.mpg", "a.ts", "a.mkv"])
@pytest.mark.parametrize("codec", ["mpeg1video", "mpeg2video"])
def test_zeros_that_fill_up_a_constant_bit_rate_are_no_damage(codec: str, name: str, tmp_path: Path) -> None:
    rate = {"b": "1M", "minrate": "1M", "maxrate": "1M", "bufsize": "1M", "g": "12"}
    path = encode(tmp_path / name, codec=codec, frames=30, rate=25, width=192, height=144, options=rate)
    assert bytes(100) in path.read_bytes()
    end, frames, gaps = read(path)
    assert (end.status, end.error, gaps) == ("ok", None, [])
    assert numbers(frames) == list(range(30))


@pytest.mark.parametrize(
    ("codec", "height", "options"),
    [("mpeg1video", 144, {"threads": "3"}), ("mpeg2video", 240, {"flags": "+ildct+ilme"})],
    ids=["mpeg1 with three slices", "interlaced mpeg2 of 240 lines"],
)
def test_zeros_behind_slices_of_several_rows_or_of_fields_are_no_damage(
    codec: str, height: int, options: dict[str, str], tmp_path: Path
) -> None:
    rate = {"b": "2M", "minrate": "2M", "maxrate": "2M", "bufsize": "1M", "g": "12"}
    path = encode(tmp_path / "a.mkv", codec=codec, frames=30, rate=25, width=192, height=height, options=rate | options)
    assert bytes(100) in path.read_bytes()
    end, frames, gaps = read(path)
    assert (end.status, end.error, gaps) == ("ok", None, [])
    assert numbers(frames) == list(range(30))


@pytest.mark.parametrize("name", ["a.ts", "a.mp4", "a.mkv"])
def test_zeros_that_fill_up_h264_are_no_damage_when_it_is_copied_to_another_container(
    name: str, tmp_path: Path
) -> None:
    raw, path = encode(tmp_path / "a.h264", frames=30, rate=25, options={"bf": "0"}), tmp_path / name
    # 0x41 is the first byte of the unit of a P-frame.
    raw.write_bytes(raw.read_bytes().replace(b"\0\0\0\1\x41", bytes(100) + b"\1\x41"))
    with av.open(str(raw)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size:
                packet.stream, packet.time_base = stream, Fraction(1, 25)
                packet.pts, packet.dts, packet.duration = number, number, 1
                out.mux(packet)
    assert bytes(50) in path.read_bytes()
    end, frames, gaps = read(path)
    assert (end.status, end.error, gaps) == ("ok", None, [])
    assert numbers(frames) == list(range(30))


def test_an_empty_packet_shows_the_frame_before_it_again(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.avi", codec="mjpeg", rate=25, frames=50)
    path = tmp_path / "a.avi"
    # The muxer writes empty packets for the frames that are left out.
    with av.open(str(whole)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.dts is None:
                continue
            if number < 30 or number % 10 == 0:
                packet.stream = stream
                out.mux(packet)
    end, frames, _ = read(path)
    assert (end.status, end.error) == ("ok", None)
    assert numbers(frames) == [*range(30), 30, 40]
    assert end.facts is not None and end.facts.duration_s == pytest.approx(1.64, abs=0.05)


def test_the_first_stream_that_holds_frames_is_read(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mp4", seconds=2)
    other = encode(tmp_path / "other.mp4", seconds=1, width=128, height=96)
    fragmented = {"movflags": "empty_moov+frag_keyframe"}
    path = remux(tmp_path / "a.mp4", [other, whole], keep=lambda stream, packet: stream == 1, options=fragmented)
    end, frames, _ = read(path)
    assert (end.status, numbers(frames)) == ("ok", list(range(60)))
    assert probe(path).stream == 1


def test_an_image_sequence_whose_first_stream_is_a_still_is_read_as_a_sequence(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mp4", seconds=2)
    still = encode(tmp_path / "still.mp4", frames=1)
    path = remux(tmp_path / "a.mp4", [still, whole])
    end, frames, _ = read(path)
    assert (end.status, numbers(frames)) == ("ok", list(range(60)))


def test_the_time_before_the_first_key_frame_is_a_gap(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.webm", codec="libvpx-vp9", seconds=4, options={"g": "60"})
    path = remux(tmp_path / "a.webm", [whole], keep=lambda stream, packet: packet > 0)
    end, frames, gaps = read(path)
    assert (end.status, end.error_kind) == ("partial", "damaged")
    assert end.error == f"{path}: 2.0 s of 4.0 s cannot be read, first at 0.0 s"
    assert numbers(frames) == list(range(60, 120))
    assert [(gap.start_s, round(gap.end_s, 1)) for gap in gaps] == [(0.0, 2.0)]
    windows = [window for span in read_spans(path, Sampling(), Preprocessing(SIZE, SIZE)) for window in span.windows]
    assert [window.index for window in windows] == [1]


def test_a_transport_stream_whose_video_goes_on_in_another_stream_is_partial(tmp_path: Path) -> None:
    first = encode(tmp_path / "a.ts", seconds=2)
    second = encode(tmp_path / "b.ts", seconds=2, container_options={"mpegts_start_pid": "0x200"})
    path = joined(first, second.read_bytes(), tmp_path / "joined.ts")
    end, frames, _ = read(path)
    assert (end.status, end.error_kind) == ("partial", "damaged")
    assert end.error is not None and "its video stream ends at 5" in end.error
    assert numbers(frames) == list(range(60))


def test_an_encrypted_video_is_said_to_be_encrypted(tmp_path: Path) -> None:
    protection = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0" * 32, "encryption_kid": "1" * 32}
    path = encode(tmp_path / "a.mp4", seconds=1, container_options=protection)
    end = [span.end for span in read_spans(path, Sampling(), Preprocessing(SIZE, SIZE))][-1]
    assert end is not None
    assert (end.status, end.error_kind, end.error) == ("failed", "encrypted", f"{path} is encrypted")


def mirrored(pixels: np.ndarray) -> np.ndarray:
    return pixels[:, ::-1]


def as_stored(pixels: np.ndarray) -> np.ndarray:
    return pixels


ORIENTATIONS: dict[tuple[int, int, int, int], Callable[[np.ndarray], np.ndarray]] = {
    (1, 0, 0, 1): as_stored,
    (0, 1, -1, 0): lambda pixels: np.rot90(pixels, -1),
    (-1, 0, 0, -1): lambda pixels: np.rot90(pixels, 2),
    (0, -1, 1, 0): lambda pixels: np.rot90(pixels, 1),
    (-1, 0, 0, 1): mirrored,
    (1, 0, 0, -1): lambda pixels: pixels[::-1],
    (0, 1, 1, 0): lambda pixels: pixels.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda pixels: np.rot90(pixels, 2).transpose(1, 0, 2),
}
"""The picture that each display matrix (a, b, c, d) shows. A point (x, y) goes to (a x + c y, b x + d y)."""


def with_matrix(path: Path, matrix: tuple[float, float, float, float]) -> Path:
    a, b, c, d = (round(value * (1 << 16)) for value in matrix)
    data = bytearray(path.read_bytes())
    struct.pack_into(">9i", data, data.index(b"tkhd") + 4 + 40, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def first_picture(path: Path) -> np.ndarray:
    facts = probe(path)
    reader = PyAVReader(path, facts, facts.width, facts.height)
    frame = next(iter(reader.frames(lambda until_s: True)))
    assert isinstance(frame, Frame)
    reader.close()
    return frame.pixels


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_every_display_matrix_gives_an_upright_picture(matrix: tuple[int, int, int, int], tmp_path: Path) -> None:
    plain = first_picture(encode(tmp_path / "plain.mp4", frames=3))
    turned = first_picture(with_matrix(encode(tmp_path / "turned.mp4", frames=3), matrix))
    assert np.array_equal(turned, ORIENTATIONS[matrix](plain))


@pytest.mark.parametrize("degrees", [1, -1, 3])
def test_a_display_matrix_that_is_a_little_off_is_rounded(degrees: float, tmp_path: Path) -> None:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    assert probe(with_matrix(encode(tmp_path / "a.mp4", frames=3), (cos, sin, -sin, cos))).rotation == 0


@pytest.mark.parametrize("matrix", ["YCgCo", "bt2020c", "ictcp", "chroma-derived-ncl", "smpte240m", "GBR"])
def test_colour_tags_that_the_scaler_does_not_know_are_read(matrix: str, tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", seconds=1, options={"x264-params": f"colormatrix={matrix}"})
    end, frames, _ = read(path)
    assert (end.status, len(frames)) == ("ok", 30)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EPERM, errno.EINVAL])
def test_a_reason_speaks_of_the_file_and_not_of_the_system(number: int) -> None:
    error = av.error.FFmpegError(number, os.strerror(number))
    reason = ffmpeg_reason(error)
    assert os.strerror(number).lower() not in reason
    assert reason.startswith("it")


def test_probing_a_video_leaves_no_frame_in_memory(tmp_path: Path) -> None:
    """A frame refers to itself when its side data are read, so only the garbage collection frees it."""
    path = encode(tmp_path / "a.mp4", frames=3)
    gc.collect()
    gc.disable()
    try:
        probe(path)
        assert not any(isinstance(thing, av.VideoFrame) for thing in gc.get_objects())
    finally:
        gc.enable()
