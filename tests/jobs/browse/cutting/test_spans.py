"""Spans of videos in files of their own: copied packet by packet, or encoded again."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from jobs.browse.cutting import stream_copy
from jobs.browse.cutting.encoding import encode_span
from jobs.browse.cutting.stream_copy import copy_ending, copy_span
from tagger.errors import VideoError
from tests.jobs.browse.cutting.shown_frames import RATE, frames_of, numbers_of
from tests.videos import encode, encode_audio, read_frame_number


def with_audio(path: Path, video: Path, audio: Path) -> Path:
    """Writes the packets of two files into one."""
    with av.open(str(video)) as first, av.open(str(audio)) as second, av.open(str(path), "w") as output:
        pairs = [(source, output.add_stream_from_template(source.streams[0])) for source in (first, second)]
        packets = [(packet, target) for source, target in pairs for packet in source.demux() if packet.size]
        for packet, target in sorted(packets, key=lambda pair: pair[0].dts * pair[0].time_base):
            packet.stream = target
            output.mux(packet)
    return path


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mkv", "libx264"),
        ("a.ts", "libx264"),
        ("a.avi", "libx264"),
        ("a.avi", "mpeg4"),
        ("a.mpg", "mpeg2video"),
        ("a.webm", "libvpx-vp9"),
        ("a.mov", "prores_ks"),
        ("a.flv", "flv"),
    ],
)
def test_an_exact_clip_has_the_frames_that_are_shown_in_its_span(tmp_path: Path, name: str, codec: str) -> None:
    source = encode(tmp_path / name, codec=codec, seconds=8, rate=RATE)
    assert encode_span(source, 3.5, 4.5, tmp_path / "clip") == pytest.approx(3.48)
    # Frame 87 is shown from 3.48 s to 3.52 s, and frame 112 from 4.48 s on.
    assert numbers_of(tmp_path / "clip") == list(range(87, 113))
    times_s = [time_s for _, time_s in frames_of(tmp_path / "clip")]
    assert times_s == pytest.approx([number / RATE for number in range(26)], abs=1e-3)


@pytest.mark.parametrize(
    ("name", "codec", "key"),
    [
        ("a.mp4", "libx264", 72),
        ("a.mkv", "libx264", 72),
        ("a.ts", "libx264", 72),
        ("a.avi", "libx264", 72),
        ("a.mpg", "mpeg2video", 84),
        ("a.webm", "libvpx-vp9", 0),
        ("a.mov", "prores_ks", 87),
        ("a.flv", "flv", 84),
    ],
)
def test_a_copy_begins_at_the_key_frame_at_or_before_its_start(tmp_path: Path, name: str, codec: str, key: int) -> None:
    source = encode(tmp_path / name, codec=codec, seconds=8, rate=RATE)
    assert copy_span(source, 3.5, 4.5, tmp_path / "clip") == pytest.approx(key / RATE)
    numbers = numbers_of(tmp_path / "clip")
    # The last packets may be of frames that later ones refer to.
    assert numbers[0] == key and numbers[: 113 - key] == list(range(key, 113)) and len(numbers) <= 113 - key + 4
    assert copy_span(source, key / RATE, 4.5, tmp_path / "clip") == pytest.approx(key / RATE)


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.mpg"])
def test_a_copy_leaves_out_frames_that_refer_to_frames_before_its_key_frame(tmp_path: Path, name: str) -> None:
    # Two frames after each key frame are shown before it.
    options = {"bf": "2", "g": "24", "b": "2M"}
    source = encode(tmp_path / name, codec="mpeg2video", seconds=8, rate=RATE, options=options)
    begins_s = copy_span(source, 3.5, 4.5, tmp_path / "clip")
    first = round(begins_s * RATE)
    assert 60 < first <= 87
    assert numbers_of(tmp_path / "clip")[: 113 - first] == list(range(first, 113))
    with av.open(str(tmp_path / "clip")) as container:
        key, *others = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert min(others) > key
    encode_span(source, 3.5, 4.5, tmp_path / "clip")
    assert numbers_of(tmp_path / "clip") == list(range(87, 113))


@pytest.mark.parametrize("name", ["late.mp4", "late.ts", "late.mkv"])
def test_times_are_those_from_the_first_frame(tmp_path: Path, name: str) -> None:
    source = encode(tmp_path / name, seconds=4, rate=RATE, start_s=30)
    assert encode_span(source, 2.0, 3.0, tmp_path / "clip") == pytest.approx(2.0)
    assert numbers_of(tmp_path / "clip") == list(range(50, 75))
    assert copy_span(source, 2.0, 3.0, tmp_path / "clip") == pytest.approx(48 / RATE)
    assert numbers_of(tmp_path / "clip")[0] == 48


def test_a_span_without_the_beginning_of_a_frame_shows_the_frame_that_is_on_the_screen(tmp_path: Path) -> None:
    source = encode(tmp_path / "slides.mp4", times_s=[0, 10, 20])
    assert encode_span(source, 13.0, 25.0, tmp_path / "clip") == 13.0
    assert frames_of(tmp_path / "clip") == [(1, 0.0), (2, 7.0)]
    assert encode_span(source, 13.0, 15.0, tmp_path / "clip") == 13.0
    assert numbers_of(tmp_path / "clip") == [1]


def test_an_exact_clip_is_upright_and_has_the_shape_of_its_pixels(tmp_path: Path) -> None:
    source = encode(tmp_path / "a.mp4", seconds=2, rate=RATE, rotation=90, sample_aspect=Fraction(4, 3))
    encode_span(source, 1.0, 2.0, tmp_path / "clip")
    with av.open(str(tmp_path / "clip")) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
    assert (frames[0].width, frames[0].height, stream.sample_aspect_ratio) == (64, 96, Fraction(3, 4))
    assert [read_frame_number(np.rot90(frame.to_ndarray(format="rgb24"))) for frame in frames] == list(range(25, 50))


def test_a_copy_is_shown_as_its_source(tmp_path: Path) -> None:
    source = encode(tmp_path / "a.mp4", seconds=2, rate=RATE, rotation=90)
    copy_span(source, 1.0, 2.0, tmp_path / "clip")
    with av.open(str(source)) as before, av.open(str(tmp_path / "clip")) as after:
        assert next(before.decode(video=0)).rotation == next(after.decode(video=0)).rotation != 0


def test_a_picture_of_odd_size_can_be_encoded(tmp_path: Path) -> None:
    source = encode(tmp_path / "a.mp4", seconds=2, rate=RATE, width=97, height=63)
    encode_span(source, 1.0, 2.0, tmp_path / "clip")
    assert numbers_of(tmp_path / "clip") == list(range(25, 50))


@pytest.mark.parametrize(("rotation", "size"), [(0, (96, 64)), (90, (64, 96))])
def test_a_picture_of_odd_size_is_encoded_as_browsers_play_it(
    rotation: int, size: tuple[int, int], tmp_path: Path
) -> None:
    shape = {"width": 97, "height": 64, "pixel_format": "yuv444p"}
    source = encode(tmp_path / "a.mp4", seconds=2, rate=RATE, rotation=rotation, **shape)
    encode_span(source, 1.0, 2.0, tmp_path / "clip", for_browsers=True)
    with av.open(str(tmp_path / "clip")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == RATE
    assert {(frame.format.name, frame.width, frame.height) for frame in frames} == {("yuv420p", *size)}


@pytest.mark.parametrize("is_exact", [False, True])
def test_audio_is_copied_from_the_time_of_the_first_frame_on(tmp_path: Path, video: Path, is_exact: bool) -> None:
    source = with_audio(tmp_path / "a.mp4", video, encode_audio(tmp_path / "a.m4a", seconds=8))
    begins_s = (encode_span if is_exact else copy_span)(source, 4.0, 6.0, tmp_path / "clip")
    assert begins_s == pytest.approx(4.0 if is_exact else 96 / RATE)
    with av.open(str(tmp_path / "clip")) as container:
        audio = container.streams.audio[0]
        packets = [packet for packet in container.demux(audio) if packet.size]
        assert audio.codec_context.name == "aac"
        assert float(packets[0].pts * audio.time_base) == pytest.approx(0, abs=0.05)
        assert float(packets[-1].pts * audio.time_base) == pytest.approx(6.0 - begins_s, abs=0.05)


def test_audio_that_the_format_does_not_take_is_left_out(tmp_path: Path, video: Path) -> None:
    source = with_audio(tmp_path / "a.mov", video, encode_audio(tmp_path / "a.wav", codec="pcm_alaw", seconds=8))
    encode_span(source, 4.0, 5.0, tmp_path / "exact")
    copy_span(source, 4.0, 5.0, tmp_path / "copy")
    with av.open(str(tmp_path / "exact")) as exact, av.open(str(tmp_path / "copy")) as copy:
        assert (len(exact.streams.audio), len(copy.streams.audio)) == (0, 1)
    assert numbers_of(tmp_path / "exact") == list(range(100, 125))
    # MP4 takes no A-law, but its relative does.
    assert copy_ending(source) == "mov" and copy_ending(video) == "mp4"


def test_a_span_after_the_end_of_a_video_cannot_be_copied(tmp_path: Path, video: Path) -> None:
    # As its second half, the file has another video, which players do not show, but which is tagged.
    source = tmp_path / "twice.mp4"
    source.write_bytes(video.read_bytes() * 2)
    copy_span(source, 7.9, 9.0, tmp_path / "clip")
    assert numbers_of(tmp_path / "clip")[-1] == 199
    with pytest.raises(VideoError, match=r"twice\.mp4 has no frame at 10\.0 s; it ends at 8\.0 s"):
        copy_span(source, 10.0, 12.0, tmp_path / "clip")
    assert encode_span(source, 10.0, 12.0, tmp_path / "clip") == 10.0
    assert numbers_of(tmp_path / "clip") == list(range(50, 100))
    for cut in (copy_span, encode_span):
        with pytest.raises(VideoError, match=r"no frame at 20\.0 s"):
            cut(source, 20.0, 21.0, tmp_path / "clip")


@pytest.mark.parametrize(("name", "start_s"), [("a.ts", 0), ("a.ts", 30), ("a.mpg", 0)])
def test_a_video_whose_clock_jumps_is_cut_as_it_was_tagged(tmp_path: Path, name: str, start_s: int) -> None:
    codec = "libx264" if name == "a.ts" else "mpeg2video"
    parts = [
        encode(tmp_path / f"{number}-{name}", codec=codec, seconds=4, rate=RATE, start_s=start)
        for number, start in enumerate((0, start_s))
    ]
    source = tmp_path / name
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert encode_span(source, 6.0, 7.0, tmp_path / "clip", 8.0) == pytest.approx(6.0)
    assert numbers_of(tmp_path / "clip") == list(range(50, 75))
    with pytest.raises(VideoError, match=r"has no clock, or one that jumps, so its packets cannot be copied"):
        copy_span(source, 6.0, 7.0, tmp_path / "clip", 8.0)


def test_a_span_after_damage_is_encoded(tmp_path: Path) -> None:
    source = encode(tmp_path / "a.ts", seconds=8, rate=RATE)
    content = bytearray(source.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 2000] = bytes(2000)
    source.write_bytes(content)
    encode_span(source, 6.0, 7.0, tmp_path / "clip", 8.0)
    assert numbers_of(tmp_path / "clip") == list(range(150, 175))


def test_a_codec_that_no_format_takes_is_only_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = encode(tmp_path / "a.flv", codec="flv", seconds=2, rate=RATE)
    monkeypatch.setitem(stream_copy.COPY_ENDINGS, "", ("mkv",))
    with pytest.raises(VideoError, match=r"a\.flv: no format of clips takes a copy of its codec flv1; use --exact"):
        copy_span(source, 0.0, 1.0, tmp_path / "clip")
    encode_span(source, 0.0, 1.0, tmp_path / "clip")
    assert numbers_of(tmp_path / "clip") == list(range(25))


def test_a_video_without_times_is_only_encoded(tmp_path: Path) -> None:
    source = encode(tmp_path / "a.264", seconds=2, rate=RATE)
    encode_span(source, 1.0, 1.5, tmp_path / "clip")
    assert numbers_of(tmp_path / "clip") == list(range(25, 38))
    with pytest.raises(VideoError, match=r"a\.264 has no clock, or one that jumps, so its packets cannot be copied"):
        copy_span(source, 0.0, 1.0, tmp_path / "clip")
