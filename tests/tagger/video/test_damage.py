"""Tests of damaged data: detected damage costs the frames up to the next key frame, and all others are right."""

import contextlib
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.clips import read_spans
from tagger.errors import VideoError
from tagger.video.damage import hole_check
from tagger.video.facts import probe
from tagger.video.readers.pyav_reader import PyAVReader
from tagger.video.readers.reader import Frame
from tests.tagger.look_up import frame_at
from tests.tagger.whole import DELAY, PREPROCESSING, SAMPLING, Whole, read_start
from tests.tagger.zoo import video
from tests.videos import encode, read_frame_number

Damage = Callable[[bytearray, int, int], None]


def zeroed(data: bytearray, at: int, length: int) -> None:
    data[at : at + length] = bytes(length)


def overwritten(data: bytearray, at: int, length: int) -> None:
    data[at : at + length] = random.Random(at).randbytes(length)


def flipped(data: bytearray, at: int, length: int) -> None:
    for i in range(at, at + length, 20):
        data[i] ^= 1 << i % 8


def removed(data: bytearray, at: int, length: int) -> None:
    del data[at : at + length]


TRANSPORT_PACKET = 188

PICTURE: dict[str, Any] = {"width": 192, "height": 128}
LARGE: dict[str, Any] = {"frames": 40} | PICTURE
DETECTED: dict[str, dict[str, Any]] = {
    "h264.mp4": {"container_options": {"movflags": "faststart"}},
    "h264.mkv": {},
    "h264.ts": {},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg1.mpg": {"codec": "mpeg1video"},
    "mpeg2.mpg": {"codec": "mpeg2video", "rate": 25, "options": {"bf": "2"}},
    "flv1.flv": {"codec": "flv"},
    "ffv1.mkv": {"codec": "ffv1"},
}
# Almost any data are valid for these codecs, so damage may give wrong pictures without an error.
UNDETECTED: dict[str, dict[str, Any]] = {
    "mjpeg.mov": {"codec": "mjpeg", "container_options": {"movflags": "faststart"}},
    "picture.gif": {"codec": "gif", "rate": 30},
    "hevc.mp4": {"codec": "libx265", "container_options": {"movflags": "faststart"}},
    "vp8.webm": {"codec": "libvpx"},
    "vp9.webm": {"codec": "libvpx-vp9"},
}


def video_packets(data: bytes) -> list[int]:
    """Returns the positions of the packets of a transport stream that contain only video."""
    starts = range(0, len(data), TRANSPORT_PACKET)
    return [at for at in starts if data[at + 1 : at + 3] == b"\x01\x00" and data[at + 3] >> 4 == 1]


Made = Callable[[str, dict[str, Any]], Whole]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Makes a video with settings of ``encode``. The same one is made once."""
    folder = tmp_path_factory.mktemp("intact")
    wholes: dict[str, Whole] = {}

    def made(name: str, settings: dict[str, Any]) -> Whole:
        key = f"{name} {settings}"
        if key not in wholes:
            settings = LARGE | settings
            wholes[key] = Whole.of(encode(folder / name, **settings), video(**settings))
        return wholes[key]

    return made


# H.264 may miss damage in a single packet of a transport stream, unless the packet is gone.
CASES = [(name, damage) for name in DETECTED for damage in (zeroed, overwritten, flipped)]
CASES = [case for case in CASES if not case[0].endswith(".ts")] + [("h264.ts", zeroed)]


@pytest.mark.parametrize(("name", "damage"), CASES)
def test_damage_costs_the_frames_up_to_the_next_key_frame(
    name: str, damage: Damage, made: Made, tmp_path: Path
) -> None:
    whole = made(name, DETECTED[name])
    for part in (0.4, 0.55, 0.7, 0.85):
        at, length = int(part * len(whole.data)), 400
        if name.endswith(".ts"):
            at, length = next(packet + 20 for packet in video_packets(whole.data) if packet > at), 160
        data = bytearray(whole.data)
        damage(data, at, length)
        (tmp_path / name).write_bytes(data)
        end, count = read_start(tmp_path / name, whole, at)
        assert (end.status, end.error_kind) == ("partial", "damaged"), part
        assert whole.frames_before(at) - DELAY <= count < len(whole.starts_s), part


@pytest.mark.parametrize("damage", [zeroed, overwritten, flipped])
@pytest.mark.parametrize("name", UNDETECTED)
def test_damage_that_a_decoder_cannot_notice_does_no_harm_before_it(
    name: str, damage: Damage, made: Made, tmp_path: Path
) -> None:
    whole = made(name, UNDETECTED[name])
    (tmp_path / name).write_bytes(whole.data)
    intact = {w.index: w for span in read_spans(tmp_path / name, SAMPLING, PREPROCESSING) for w in span.windows}
    for part in (0.4, 0.55, 0.7, 0.85):
        at = int(part * len(whole.data))
        data = bytearray(whole.data)
        damage(data, at, 400)
        (tmp_path / name).write_bytes(data)
        spans = list(read_spans(tmp_path / name, SAMPLING, PREPROCESSING))
        windows = [window for span in spans for window in span.windows]
        clips = np.concatenate([span.clips for span in spans])
        assert windows[:-1] == [intact[window.index] for window in windows[:-1]], part
        safe_s = whole.starts_s[max(0, whole.frames_before(at) - DELAY)]
        before = sum(window.end_s < safe_s for window in intact.values())
        assert [window.index for window in windows[:before]] == list(range(before)), part
        assert 0 < before < len(windows), part
        for window, clip in zip(windows[:before], clips, strict=False):
            for i, pixels in enumerate(clip):
                number = frame_at(whole.starts_s, window.start_s + i * SAMPLING.step_s)
                assert np.abs(pixels.astype(int) - whole.pixels[number]).mean() < 6, (part, window)


@pytest.mark.parametrize(("damage", "first"), [(zeroed, 0), (removed, 1)])
@pytest.mark.parametrize(
    "settings",
    [{}, {"options": {"bf": "0"}}, {"codec": "libx265"}, {"codec": "mpeg2video", "options": {"g": "100"}}],
    ids=["h264", "h264 without b-frames", "hevc", "mpeg2"],
)
def test_a_lost_packet_of_a_transport_stream_costs_no_more(
    settings: dict[str, Any], damage: Damage, first: int, made: Made, tmp_path: Path
) -> None:
    whole = made("a.ts", settings)
    starts = range(0, len(whole.data), TRANSPORT_PACKET)
    packets = [at for at in starts if whole.data[at + 1] & 0x1F == 1 and whole.data[at + 2] == 0]
    missed = 0
    # Every other packet is zeroed, and those between are removed.
    for at in packets[len(packets) // 3 + first : len(packets) * 2 // 3 : 2]:
        data = bytearray(whole.data)
        damage(data, at, TRANSPORT_PACKET)
        (tmp_path / "a.ts").write_bytes(data)
        end, count = read_start(tmp_path / "a.ts", whole, at)
        # A frame that is lost completely before a key frame is not detected: the frame before it is shown longer.
        if end.status == "ok":
            missed += 1
        else:
            assert (end.status, end.error_kind) == ("partial", "damaged"), at
        assert whole.frames_before(at) - DELAY <= count < len(whole.starts_s) + (end.status == "ok"), at
    assert missed <= 2


@pytest.mark.parametrize("name", ["mpeg4.avi", "mjpeg.avi", "h264.mkv", "vp9.webm", "hevc.mkv"])
def test_a_lost_frame_is_reported_as_damage_and_not_as_a_pause(name: str, made: Made, tmp_path: Path) -> None:
    codec = {"mpeg4": "mpeg4", "mjpeg": "mjpeg", "vp9": "libvpx-vp9", "h264": "libx264", "hevc": "libx265"}
    whole = made(name, {"codec": codec[Path(name).stem]})
    for number in (12, 20, 28):
        # The header of the frame that is stored after this one.
        header = whole.ends[number]
        data = bytearray(whole.data)
        data[header - 8 : header + 8] = bytes(16)
        (tmp_path / name).write_bytes(data)
        end, count = read_start(tmp_path / name, whole, header - 8)
        assert (end.status, end.error_kind) == ("partial", "damaged"), number
        assert whole.frames_before(header - 8) - DELAY <= count < len(whole.starts_s), number


RAW: dict[str, dict[str, Any]] = {
    "raw.h264": {},
    "raw.hevc": {"codec": "libx265", "options": {"g": "25"}},
    "raw.m2v": {"codec": "mpeg2video", "options": {"g": "25"}},
    "raw.mjpeg": {"codec": "mjpeg"},
    "raw.obu": {"codec": "libsvtav1", "options": {"g": "25"}},
}


@pytest.mark.parametrize("name", RAW)
def test_a_raw_stream_is_read_up_to_its_first_damage_and_says_how_much_is_left(name: str, tmp_path: Path) -> None:
    rate = 25
    path = encode(tmp_path / name, rate=rate, **LARGE | RAW[name])
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    lost = 16
    at, length = packets[lost].pos, packets[lost].size
    assert at is not None
    data[at + length // 3 : at + length] = bytes(length - length // 3)
    path.write_bytes(data)
    numbers, gaps, error = shown(path, rate)
    assert numbers == list(range(len(numbers)))
    assert lost - DELAY <= len(numbers) <= lost
    *_, last = read_spans(path, SAMPLING, PREPROCESSING)
    end = last.end
    assert end is not None and end.error is not None and end.facts is not None
    assert (end.status, end.error_kind, end.gaps, gaps) == ("partial", "damaged", (), [])
    assert error == end.error
    assert end.facts.duration_s == pytest.approx(len(numbers) / rate, abs=0.01)
    assert f" after {(len(numbers) - 1) / rate:.2f} s" in end.error
    left = re.search(r"; without times, the rest cannot be placed \((\d+)% of the file\)$", end.error)
    assert left is not None
    assert int(left[1]) == pytest.approx(100 * (1 - at / len(data)), abs=8)


def test_a_stream_with_times_in_a_plain_container_is_read_after_damage(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.ivf", codec="libvpx", frames=40, rate=25, options={"g": "10"})
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    at = packets[15].pos
    assert at is not None
    data[at + 20 : at + packets[15].size] = bytes(packets[15].size - 20)
    path.write_bytes(data)
    numbers, gaps, error = shown(path, 25)
    assert numbers == [*range(15), *range(20, 40)]
    assert (gaps, error) == ([(0.6, 0.8)], None)


HOLED: dict[str, dict[str, Any]] = {
    "h264.mp4": {},
    "h264.mkv": {},
    "h264.flv": {},
    "h264.ts": {},
    "mpeg4.mov": {"codec": "mpeg4"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg1.mpg": {"codec": "mpeg1video"},
    "mpeg2.ts": {"codec": "mpeg2video"},
    "wmv2.wmv": {"codec": "wmv2"},
    "h264.avi": {},
    "flv1.flv": {"codec": "flv"},
    "mjpeg.mov": {"codec": "mjpeg"},
    "mjpeg.avi": {"codec": "mjpeg"},
    "hevc.mp4": {"codec": "libx265"},
    "hevc.mkv": {"codec": "libx265"},
    "vp8.webm": {"codec": "libvpx"},
    "vp9.webm": {"codec": "libvpx-vp9"},
}
HOLED_RATE = 25
HOLED_SIZE: dict[str, Any] = {"frames": 200, "rate": HOLED_RATE, "width": 128, "height": 96, "options": {"g": "10"}}


def test_a_video_that_is_bad_throughout_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", seconds=40, rate=25, options={"g": "25", "bf": "0"})
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for packet in packets[5::25]:
        assert packet.pos is not None
        data[packet.pos + 10 : packet.pos + packet.size] = bytes(packet.size - 10)
    path.write_bytes(data)
    *_, last = read_spans(path, SAMPLING, PREPROCESSING)
    end = last.end
    assert end is not None and end.error is not None and end.facts is not None
    assert (end.status, end.error_kind, len(end.gaps)) == ("partial", "damaged", 20)
    assert end.error == f"{path}: 16.0 s of 20.0 s cannot be read, first at 0.2 s; the rest was not read"
    assert end.facts.duration_s == pytest.approx(19.2, abs=0.1)


def shown(path: Path, rate: float) -> tuple[list[int], list[tuple[float, float]], str | None]:
    """Reads a video whose frames show their numbers, and asserts that each has its time.

    Returns the numbers, the gaps in seconds, and the error at the end.
    """
    facts = probe(path)
    reader = PyAVReader(path, facts, facts.width, facts.height)
    numbers, gaps, problem = [], [], None
    try:
        for frame in reader.frames(lambda until_s: True):
            if isinstance(frame, Frame):
                numbers.append(read_frame_number(frame.pixels))
                assert numbers[-1] == round(frame.start_s * rate)
            else:
                gaps.append((round(frame.start_s, 2), round(frame.end_s, 2)))
    except VideoError as error:
        problem = str(error)
    finally:
        reader.close()
    return numbers, gaps, problem


def plainly_decoded(path: Path) -> list[bytes]:
    """Returns the pictures that a plain decoder shows."""
    found = []
    with av.open(str(path)) as container, contextlib.suppress(av.error.FFmpegError):
        for packet in container.demux(video=0):
            with contextlib.suppress(av.error.FFmpegError):
                found += [frame.to_ndarray().tobytes() for frame in packet.decode()]
    return found


@pytest.mark.parametrize("name", HOLED)
def test_a_hole_costs_at_most_a_tenth_of_the_frames_that_a_plain_decoder_shows_right(name: str, tmp_path: Path) -> None:
    whole = encode(tmp_path / name, **HOLED_SIZE | HOLED[name])
    data = whole.read_bytes()
    pictures = set(plainly_decoded(whole))
    chosen = random.Random(name)
    unnoticed = 0
    for _ in range(3):
        length = chosen.randint(1000, min(10_000, len(data) // 20))
        at = chosen.randint(len(data) // 20, len(data) - length - len(data) // 20)
        holed = tmp_path / f"holed-{name}"
        holed.write_bytes(data[:at] + bytes(length) + data[at + length :])
        if name.endswith(".ts"):
            *_, last = read_spans(holed, SAMPLING, PREPROCESSING)
            assert last.end is not None
            if last.end.status == "ok":
                # A transport stream may hide a loss, because it counts its packets only up to 15.
                unnoticed += 1
                continue
        seen, _, _ = shown(holed, HOLED_RATE)
        assert len(seen) >= 0.9 * len(pictures.intersection(plainly_decoded(holed))), (at, length)
    assert unnoticed <= 1


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg2video"])
def test_zeros_in_a_stream_are_a_hole_unless_a_start_code_follows(codec: str) -> None:
    has_hole = hole_check(av.VideoCodecContext.create(codec, "r"))
    assert has_hole(b"\7" + bytes(16) + b"\7")
    assert not has_hole(b"\7" + bytes(1000))
    # A search that begins anew at each of these zeros would not end within the time limit of a test.
    assert not has_hole(b"\7" + bytes(1_000_000) + b"\1\7")


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from(b"\1\2\3"))), st.integers(0, 40))
def test_holes_are_found_as_by_a_search_at_each_byte(runs: list[tuple[int, int]], last: int) -> None:
    packet = b"".join(bytes(zeros) + bytes([end]) for zeros, end in runs) + bytes(last)
    has_hole = hole_check(av.VideoCodecContext.create("mpeg2video", "r"))
    assert has_hole(packet) == any(zeros >= 16 and end != 1 for zeros, end in runs)


@pytest.mark.parametrize("name", ["a.mov", "a.avi"])
def test_a_picture_whose_end_is_a_hole_is_damage_and_one_with_zeros_behind_it_is_not(name: str, tmp_path: Path) -> None:
    path = encode(tmp_path / name, codec="mjpeg", frames=20, rate=25, width=192, height=128)
    data = path.read_bytes()
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][10]
    assert packet.pos is not None
    at = data.index(b"\xff\xd8", packet.pos - 8)
    whole = without_comment(data[at : at + packet.size])
    cut, all_numbers = data[at : at + packet.size // 2], list(range(20))
    for picture, numbers in ((cut, [*range(10), *range(11, 20)]), (whole, all_numbers), (whole + b"\7", all_numbers)):
        assert len(picture) < packet.size - 16
        path.write_bytes(data[:at] + picture.ljust(packet.size, b"\0") + data[at + packet.size :])
        assert shown(path, 25)[0] == numbers


@pytest.mark.parametrize("codec", ["mpeg1video", "mpeg2video"])
def test_zeros_in_the_place_of_the_last_slices_are_damage(codec: str, tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", codec=codec, frames=40, rate=25, options={"g": "10"}, **PICTURE)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][15]
    at = data.index(bytes(packet))
    data[at + packet.size // 2 : at + packet.size] = bytes(packet.size - packet.size // 2)
    path.write_bytes(data)
    numbers, gaps, error = shown(path, 25)
    # The decoder holds one frame back, which is lost, too.
    assert numbers == [*range(14), *range(20, 40)]
    assert (gaps, error) == ([(0.56, 0.8)], None)


def without_comment(picture: bytes) -> bytes:
    """Returns a JPEG picture without its comment (ITU-T T.81, B.2.4.5)."""
    at = picture.index(b"\xff\xfe")
    return picture[:at] + picture[at + 2 + int.from_bytes(picture[at + 2 : at + 4], "big") :]
