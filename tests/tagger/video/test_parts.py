"""Tests of reading a video in parts: together they give the same windows as one decoder, frame by frame."""

import re
import struct
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tagger.video.choose import Choice
from tagger.video.cutting import ReadProgress, read_windows
from tagger.video.packets.table import Stretch, read_packets
from tagger.video.readers.sparse_reader import SparseError
from tagger.windows import NEVER, Part, Sampling
from tests.tagger.encodings import SECOND, VIDEOS, damage
from tests.tagger.sequential import PREPROCESSING, assert_parts_are_same_as_whole, assert_same_as_whole, windows_of
from tests.videos import encode

DENSE = Sampling(num_frames=4, sampling_rate=1, target_fps=10.0)


@given(duration_s=st.floats(0.1, 1e5), of=st.integers(1, 40))
def test_parts_have_all_windows_once_and_become_smaller(duration_s: float, of: int) -> None:
    ranges = [Part(index, of).windows(DENSE, duration_s) for index in range(of)]
    assert ranges[0].start == 0 and ranges[-1].stop == NEVER
    assert all(before.stop == after.start for before, after in pairwise(ranges))
    windows = DENSE.window_count(duration_s)
    counts = [len(each) for each in ranges[:-1]] + [windows - ranges[-1].start]
    assert all(after <= before + 1 for before, after in pairwise(counts))
    assert max(counts) <= 2 * windows / of + 1


def test_two_parts_are_equal_and_the_last_of_eight_is_a_fortieth() -> None:
    def counts(of: int) -> list[int]:
        starts = [Part(index, of).windows(DENSE, 400.0).start for index in range(of)]
        return [after - before for before, after in pairwise([*starts, 1000])]

    assert counts(2) == [500, 500]
    assert counts(8) == [227, 198, 169, 140, 110, 81, 52, 23]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    video=VIDEOS.filter(lambda video: not video[1].endswith("flv")),
    rate=st.sampled_from([12, 25, 30]),
    count=st.integers(1, 250),
    samples=st.integers(1, 6),
    hop=st.sampled_from([0.5, 1.0, 1.0, 3.0]),
    fast=st.booleans(),
    parts=st.integers(1, 5),
    only=st.none() | st.none() | st.lists(st.tuples(st.floats(0, 6), st.floats(0.01, 2)), max_size=3),
)
def test_parts_give_the_windows_of_one_decoder(
    video: tuple[str, str, dict[str, str]],
    rate: int,
    count: int,
    samples: int,
    hop: float,
    fast: bool,
    parts: int,
    only: list[tuple[float, float]] | None,
    tmp_path: Path,
) -> None:
    codec, name, options = video
    path = encode(tmp_path / name, codec=codec, rate=rate, frames=count, width=64, options=options)
    ranges = None if only is None else [(start_s, start_s + length_s) for start_s, length_s in only]
    hop_s = max(samples * hop, 1.0) * 2 / 19.37
    assert_parts_are_same_as_whole(path, Sampling(samples, 2, 19.37, hop_s=hop_s, fast_decode=fast), parts, ranges)


@pytest.mark.parametrize("factor", [0.3, 0.5, 2.0, 7.0])
def test_a_wrong_duration_makes_parts_unequal_but_loses_nothing(factor: float, tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", seconds=8, options=SECOND)
    data, mark = path.read_bytes(), b"\x44\x89\x88"  # The element Duration, with 8 bytes (RFC 9559, 5.1.2.10).
    at = data.index(mark) + len(mark)
    (duration,) = struct.unpack(">d", data[at : at + 8])
    path.write_bytes(data[:at] + struct.pack(">d", duration * factor) + data[at + 8 :])
    assert_parts_are_same_as_whole(path, DENSE, 4)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_part_reads_only_the_packets_around_it(name: str, tmp_path: Path) -> None:
    path = encode(tmp_path / name, seconds=40, options=SECOND, width=64)
    table = read_packets(path, with_kinds=True, stretch=Stretch(20.5, 22.0))
    starts_s = np.sort((table.ticks - table.origin) * float(table.time_base))
    assert starts_s[0] == pytest.approx(20.0, abs=1.1) and starts_s[0] <= 20.5
    assert 22.0 < starts_s[-1] < 24.2
    assert not table.has_start and not table.has_end


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_long_pause_between_windows_is_skipped_by_seeking(name: str, tmp_path: Path) -> None:
    path = encode(tmp_path / name, seconds=80, options=SECOND, width=64)
    sampling = Sampling(num_frames=4, sampling_rate=1, target_fps=10.0, hop_s=39.0)
    packets = 0

    class Count(ReadProgress):
        def on_advance(self) -> None:
            nonlocal packets
            packets += 1

    progress = Count()
    windows = list(read_windows(path, sampling, PREPROCESSING, None, False, "pyav", progress))
    assert len(windows) == 3 and progress.choice == Choice("pyav-sparse")
    # The packets are read once for their times. Each frame is examined when it is planned, and when it is decoded.
    assert packets < 2 * 2400 + 600
    assert_same_as_whole(path, sampling)


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("a.ts", {}, "mpegts files are not read in parts"),
        ("a.flv", {}, "flv files are not read in parts"),
        ("a.avi", {"codec": "mpeg4"}, "avi files are not read in parts"),
        ("a.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}, "fragmented files are not"),
        ("a.mkv", {"container_options": {"live": "1"}}, "Matroska files without an index are not read in parts"),
        ("a.mov", {"codec": "qtrle", "pixel_format": "rgb24"}, "where decoding of qtrle can begin is not known"),
    ],
)
def test_a_video_that_cannot_be_read_in_parts_is_of_the_first_part(
    name: str, settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    path = encode(tmp_path / name, seconds=4, **({"options": SECOND} if "codec" not in settings else {}) | settings)
    assert_parts_are_same_as_whole(path, DENSE, 3)
    _, progress, _ = windows_of(path, DENSE, part=Part(0, 3))
    assert progress.choice is not None and progress.choice.decoder == "pyav"
    assert reason in str(progress.choice.reason)


def elements(data: bytes, name: bytes) -> list[int]:
    """Returns the positions behind the ids ``name`` of elements of Matroska."""
    return [found.end() for found in re.finditer(re.escape(name), data)]


def test_a_wrong_index_gives_no_wrong_frames(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", seconds=20, options=SECOND, container_options={"cluster_time_limit": "1000"})
    data = bytearray(path.read_bytes())
    begin = data.rindex(b"\x1c\x53\xbb\x6b")
    # The elements CueClusterPosition (RFC 9559, 5.1.5.1.2.2) with two bytes: all name the same cluster, at 6 s.
    cues = [at for at in elements(data, b"\xf1\x82") if at > begin]
    for at in cues:
        data[at : at + 2] = data[cues[-1] : cues[-1] + 2]
    path.write_bytes(data)
    with pytest.raises(SparseError, match="seeking does not find the packet"):
        windows_of(path, DENSE, part=Part(1, 8))


def with_a_clock_that_jumps_back(path: Path, back_ms: int) -> Path:
    """Sets the times of the last half of the clusters back (Timestamp, RFC 9559, 5.1.3.1), and returns ``path``."""
    data = bytearray(path.read_bytes())
    clusters = elements(data, b"\x1f\x43\xb6\x75")
    for at in clusters[len(clusters) // 2 :]:
        begin = data.index(b"\xe7", at) + 2
        end = begin + (data[begin - 1] & 0x7F)
        data[begin:end] = (int.from_bytes(data[begin:end]) - back_ms).to_bytes(end - begin)
    path.write_bytes(data)
    return path


def test_parts_around_a_clock_that_jumps_back_are_not_read_or_do_not_follow_each_other(tmp_path: Path) -> None:
    options = {"cluster_time_limit": "1000"}
    path = encode(tmp_path / "a.mkv", seconds=40, options=SECOND, container_options=options, width=64)
    with_a_clock_that_jumps_back(path, 7013)
    with pytest.raises((SparseError, AssertionError), match=r"unusual order|follow each other"):
        assert_parts_are_same_as_whole(path, DENSE, 5)


def packet_near(path: Path, time_s: float) -> tuple[int, int]:
    """Returns the position in the file and the size of the first packet from a time on."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size > 100]
    found = next(packet for packet in packets if (packet.pts or 0) * packet.time_base >= time_s)
    assert found.pos is not None
    return found.pos, found.size


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_damage_before_the_next_part_is_found_though_no_window_shows_it(name: str, tmp_path: Path) -> None:
    path = encode(tmp_path / name, codec="mjpeg", seconds=8)
    data = bytearray(path.read_bytes())
    at, size = packet_near(path, 3.8)
    data[at + size - 100 : at + size] = bytes(100)
    path.write_bytes(data)
    # A window of one frame begins every second, and the second part begins at 4 s.
    sampling = Sampling(num_frames=1, sampling_rate=1, target_fps=1.0)
    _, whole, _ = windows_of(path, sampling)
    assert len(whole.gaps) == 1
    with pytest.raises(SparseError, match=r"its data are damaged|decoding of a part failed"):
        windows_of(path, sampling, part=Part(0, 2))


def test_a_hole_between_wanted_ranges_is_found(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", seconds=8, options=SECOND)
    at, _ = packet_near(path, 3.0)
    data = bytearray(path.read_bytes())
    data[at + 30 : at + 80] = bytes(50)
    path.write_bytes(data)
    with pytest.raises(SparseError, match="a packet has a hole"):
        windows_of(path, DENSE, only=[(0.0, 1.0), (7.0, 8.0)], part=Part(0, 2))


@pytest.mark.parametrize("parts", [1, 3])
def test_a_frame_that_starts_exactly_at_a_tolerated_time_is_of_the_same_window(parts: int, tmp_path: Path) -> None:
    # Frame 30 starts at 1.001 s, one millisecond after a sample.
    options = SECOND | {"preset": "veryfast", "g": "12", "bf": "3", "b_strategy": "0"}
    path = encode(tmp_path / "a.mp4", seconds=8, rate=Fraction(30000, 1001), options=options)
    assert_parts_are_same_as_whole(path, replace(DENSE, fast_decode=True), parts)


def test_damage_in_a_part_means_that_the_video_must_be_read_whole(tmp_path: Path) -> None:
    sound = encode(tmp_path / "a.mp4", seconds=8, options=SECOND, width=320, height=240)
    path = damage(sound, range(5, 6))
    windows, _, error = windows_of(path, DENSE, part=Part(0, 2))
    assert len(windows) == 10 and error is None
    with pytest.raises(SparseError, match=r"is damaged|decoding of a part failed"):
        windows_of(path, DENSE, part=Part(1, 2))


def test_where_decoding_can_begin_nowhere_near_a_part_the_video_must_be_read_whole(tmp_path: Path) -> None:
    options = {"x264-params": "keyint=40:intra-refresh=1"}
    path = encode(tmp_path / "a.mp4", seconds=140, rate=10, options=options, width=64)
    with pytest.raises(SparseError, match=r"decoding can begin at no frame of the 60 s before 1\d\d"):
        windows_of(path, DENSE, part=Part(4, 5))
