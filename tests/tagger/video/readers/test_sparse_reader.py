"""Tests of sparse decoding: only groups of pictures with needed frames are decoded, and the frames are the same."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tagger.clips import VideoEnd, read_spans
from tagger.errors import VideoError
from tagger.video.choose import WHOLE_DECODERS, Choice
from tagger.video.packets.table import read_packets
from tagger.windows import Sampling
from tests.tagger.encodings import SECOND, VIDEOS, damage
from tests.tagger.sequential import PREPROCESSING, assert_same_as_whole, windows_of
from tests.videos import encode

SPARSE = Sampling(num_frames=4, sampling_rate=1, target_fps=10.0, hop_s=2.0)  # 0.4 s every 2 s


def end_of(path: Path, sampling: Sampling) -> VideoEnd:
    *_, last = read_spans(path, sampling, PREPROCESSING)
    assert last.end is not None
    return last.end


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    video=VIDEOS,
    rate=st.sampled_from([12, 25, 30]),
    count=st.integers(1, 150),
    samples=st.integers(1, 6),
    pause=st.floats(0.05, 6),
    fast=st.booleans(),
    only=st.none() | st.lists(st.tuples(st.floats(0, 6), st.floats(0.01, 2)), max_size=3),
)
def test_any_codec_group_of_pictures_and_hop_gives_the_frames_of_sequential_decoding(
    video: tuple[str, str, dict[str, str]],
    rate: int,
    count: int,
    samples: int,
    pause: float,
    fast: bool,
    only: list[tuple[float, float]] | None,
    tmp_path: Path,
) -> None:
    codec, name, options = video
    path = encode(tmp_path / name, codec=codec, rate=rate, frames=count, width=64, options=options)
    ranges = None if only is None else [(start_s, start_s + length_s) for start_s, length_s in only]
    # With ranges, windows may also overlap.
    hop_s = samples * 2 / 19.37 + pause if only is None else 2 / 19.37 + pause
    choice = assert_same_as_whole(path, Sampling(samples, 2, 19.37, hop_s=hop_s, fast_decode=fast), ranges)
    assert choice.decoder in WHOLE_DECODERS, choice


def test_damage_between_the_windows_is_not_seen(tmp_path: Path) -> None:
    sound = encode(tmp_path / "sound.mp4", seconds=8, options=SECOND, width=320, height=240)
    expected, *_ = windows_of(sound, SPARSE)
    # Frames are needed at 0.0 to 0.3 s, 2.0 to 2.3 s, and so on, and at the end.
    damaged = damage(sound, range(3, 4))
    windows, progress, _ = windows_of(damaged, SPARSE)
    assert progress.choice == Choice("pyav-sparse")
    assert all(np.array_equal(found, wanted) for (_, found), (_, wanted) in zip(windows, expected, strict=True))
    assert end_of(damaged, SPARSE).status == "ok"
    whole = end_of(damaged, Sampling(num_frames=4, sampling_rate=1, target_fps=10.0))
    assert whole.status == "partial", "the damage can be seen"


def test_damage_in_a_window_is_reported_as_in_sequential_decoding(tmp_path: Path) -> None:
    path = damage(encode(tmp_path / "a.mp4", seconds=8, options=SECOND, width=320, height=240), range(4, 5))
    choice = assert_same_as_whole(path, SPARSE)
    assert choice.decoder == "pyav" and choice.reason is not None and "it is decoded whole" in choice.reason
    end = end_of(path, SPARSE)
    assert end.status == "partial" and len(end.gaps) == 1


@pytest.mark.parametrize(
    ("pattern", "value"),
    [(b"stss", b"free"), (b"stss\0\0\0\0\0\0\0\x06", b"stss\0\0\0\0\0\0\0\x01")],
    ids=["all frames are key frames", "only the first frame is a key frame"],
)
def test_a_wrong_table_of_key_frames_does_no_harm(pattern: bytes, value: bytes, tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", seconds=6, options=SECOND)
    data = path.read_bytes()
    assert data.count(pattern) == 1
    path.write_bytes(data.replace(pattern, value))
    assert assert_same_as_whole(path, SPARSE) == Choice("pyav-sparse")


def test_decoding_begins_at_no_frame_of_a_gradual_refresh_but_the_first(tmp_path: Path) -> None:
    options = {"x264-params": "keyint=20:intra-refresh=1"}
    path = encode(tmp_path / "a.mp4", seconds=4, options=options)
    with av.open(str(path)) as container:
        assert sum(packet.is_keyframe for packet in container.demux(video=0)) > 1
    assert np.flatnonzero(read_packets(path, with_kinds=True).entries).tolist() == [0]
    assert_same_as_whole(path, SPARSE)


@pytest.mark.parametrize(
    ("codec", "suffix", "other"),
    [("libx264", "h264", {"preset": "medium"}), ("mpeg4", "m4v", {"mpeg_quant": "1", "b": "100k"})],
)
def test_parameter_sets_that_change_are_not_skipped(
    codec: str, suffix: str, other: dict[str, str], tmp_path: Path
) -> None:
    # Parameter sets stand in the packets of raw video, and in those of the Matroska file that is made of it.
    names = {"a": {}, "b": other, "c": {}}
    usual = SECOND if codec == "libx264" else {"g": "30"}
    parts = [
        encode(tmp_path / f"{name}.{suffix}", codec=codec, seconds=3, options=usual | options)
        for name, options in names.items()
    ]
    joined, path = tmp_path / f"joined.{suffix}", tmp_path / "joined.mkv"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    with av.open(str(joined), options={"framerate": "30"}) as opened, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(opened.streams.video[0])
        for number, packet in enumerate(opened.demux(video=0)):
            if packet.size:
                packet.stream, packet.time_base = stream, opened.streams.video[0].time_base
                packet.pts = packet.dts = round(number / 30 / float(packet.time_base))
                out.mux(packet)
    entries = np.flatnonzero(read_packets(path, with_kinds=True).entries)
    assert len(entries) > 1 and entries.max() < 90
    assert_same_as_whole(path, SPARSE)


def tags_of(path: Path) -> list[tuple[int, int, bytes]]:
    """Returns the type, the time in milliseconds and the body of each tag of an FLV file (FLV 10.1, annex E.4)."""
    data, at, tags = path.read_bytes(), 13, []
    while at < len(data):
        size, time_ms = (int.from_bytes(data[at + i : at + i + 3], "big") for i in (1, 4))
        tags.append((data[at], time_ms, data[at + 11 : at + 11 + size]))
        at += 11 + size + 4
    return tags


def test_a_header_that_changes_in_the_middle_is_not_skipped(tmp_path: Path) -> None:
    # The parts decode without errors with the header of the other, but to other colours.
    options = SECOND | {"bf": "0"}
    parts = [
        encode(tmp_path / f"{offset}.flv", seconds=3, options=options | {"x264-params": f"chroma-qp-offset={offset}"})
        for offset in (0, 6)
    ]
    path, is_end = tmp_path / "joined.flv", b"\x17\x02"
    data = parts[0].read_bytes()[:13]
    for start_ms, part in ((0, parts[0]), (3100, parts[1])):
        for kind, time_ms, body in tags_of(part):
            if kind == 9 and body[:2] != is_end:
                size, shown_ms = (value.to_bytes(3, "big") for value in (len(body), start_ms + time_ms))
                head = bytes([kind, *size, *shown_ms, 0, 0, 0, 0])
                data += head + body + (len(head) + len(body)).to_bytes(4, "big")
    path.write_bytes(data)
    assert np.flatnonzero(read_packets(path, with_kinds=True).entries).tolist() == [0, 30, 60]
    assert assert_same_as_whole(path, SPARSE, [(4.3, 5.0)]) == Choice("pyav-sparse")


def test_encrypted_packets_are_not_decoded_in_parts(tmp_path: Path) -> None:
    # A file may be encrypted after a clear beginning, so opening it is no check.
    protection = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0" * 32, "encryption_kid": "1" * 32}
    path = encode(tmp_path / "a.mp4", seconds=1, container_options=protection)
    with pytest.raises(VideoError, match="a packet is encrypted"):
        read_packets(path, with_kinds=True)


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("a.ts", {}, "mpegts files are decoded whole, between the windows, too"),
        ("a.avi", {"codec": "mpeg4"}, "avi files are decoded whole, between the windows, too"),
        ("a.mov", {"codec": "qtrle", "pixel_format": "rgb24"}, "where decoding of qtrle can begin is not known"),
        ("cut.mp4", {"start_s": -0.5}, "an edit list cuts frames out"),
    ],
)
def test_a_video_that_cannot_be_decoded_in_parts_is_decoded_whole_and_the_reason_is_given(
    name: str, settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    path = encode(tmp_path / name, seconds=3, **settings)
    assert assert_same_as_whole(path, SPARSE) == Choice("pyav", reason)


def test_windows_without_pauses_are_read_as_ever(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", seconds=3)
    _, progress, _ = windows_of(path, Sampling(num_frames=4, sampling_rate=1, target_fps=10.0))
    assert progress.choice == Choice("pyav")
