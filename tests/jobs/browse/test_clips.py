"""Clips: moments cut out of their videos, in folders that training reads."""

import csv
import errno
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from jobs.browse import clips as clips_module
from jobs.browse import video_span
from jobs.browse.clips import Clip, Moment, Recorded, Uncut, best_events, cut_clips, group_name, read_recorded
from jobs.browse.segments import open_result
from jobs.browse.video_span import copy_ending, copy_span, encode_span
from tagger.errors import OutputError, VideoError
from tests.jobs.browse.made_up import make_video
from tests.jobs.result.finished import publish_to
from tests.jobs.s3_server import Bucket
from tests.videos import encode, encode_audio, read_frame_number
from training.data.reading import read_data_set
from training.data.scenes import find_scenes

RATE = 25

Shown = list[tuple[int, float]]
"""The number of each frame, and its time in seconds from the first one."""


def frames_of(clip: Path) -> Shown:
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        found = [
            (read_frame_number(frame.to_ndarray(format="rgb24")), float((frame.pts or 0) * stream.time_base))
            for frame in container.decode(stream)
        ]
    return [(number, time_s - found[0][1]) for number, time_s in found]


def numbers_of(clip: Path) -> list[int]:
    return [number for number, _ in frames_of(clip)]


def with_audio(path: Path, video: Path, audio: Path) -> Path:
    """Writes the packets of two files into one."""
    with av.open(str(video)) as first, av.open(str(audio)) as second, av.open(str(path), "w") as output:
        pairs = [(source, output.add_stream_from_template(source.streams[0])) for source in (first, second)]
        packets = [(packet, target) for source, target in pairs for packet in source.demux() if packet.size]
        for packet, target in sorted(packets, key=lambda pair: pair[0].dts * pair[0].time_base):
            packet.stream = target
            output.mux(packet)
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds with a key frame every 24 frames, and B-frames."""
    return encode(tmp_path_factory.mktemp("videos") / "a.mp4", seconds=8, rate=RATE)


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
    monkeypatch.setitem(video_span.COPY_ENDINGS, "", ("mkv",))
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


def test_clips_are_in_a_folder_of_their_class_and_their_video(tmp_path: Path, video: Path) -> None:
    moments = [Moment(str(video), 4.0, 6.0, "Biking", 0.9), Moment(str(video), 0.0, 1.0, "ice / climbing", 0.5)]
    found = list(cut_clips(moments, tmp_path / "clips"))
    group = group_name(str(video))
    assert [clip.path for clip in found if isinstance(clip, Clip)] == [
        f"Biking/{group}/a_4.00-6.00.mp4",
        f"ice _ climbing/{group}/a_0.00-1.00.mp4",
    ]
    assert numbers_of(tmp_path / "clips" / found[0].path)[0] == 96  # type: ignore[union-attr]
    left = {path.name for path in (tmp_path / "clips").rglob("*") if path.is_file()}
    assert left == {"manifest.csv", "a_4.00-6.00.mp4", "a_0.00-1.00.mp4"}


def test_padding_makes_clips_longer_within_their_video(tmp_path: Path, video: Path) -> None:
    moments = [Moment(str(video), 0.5, 1.0, "Biking", 0.9), Moment(str(video), 7.0, 8.0, "Biking", 0.9)]
    recorded = {str(video): Recorded(duration_s=8.0)}
    found = cut_clips(moments, tmp_path / "clips", pad_s=1.0, exact=True, recorded=recorded)
    clips = [one for one in found if isinstance(one, Clip)]
    assert [(clip.source_start_s, clip.source_end_s) for clip in clips] == [(0.0, 2.0), (6.0, 8.0)]
    assert [numbers_of(tmp_path / "clips" / clip.path) for clip in clips] == [list(range(50)), list(range(150, 200))]


def test_training_keeps_the_clips_of_a_video_in_one_group(tmp_path: Path) -> None:
    # Two videos of one name, and names that look like those of UCF-101 and UCF-11.
    names = ("one/a.mp4", "two/a.mp4", "v_Biking_g01_c02.mp4", "v_biking_01.mp4")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        encode(tmp_path / name, seconds=4, rate=RATE)
    moments = [
        Moment(str(tmp_path / name), start_s, start_s + 1, label, 0.9)
        for name in names
        for start_s, label in ((0.0, "Biking"), (1.0, "Biking"), (2.0, "Swing"))
    ]
    clips = [found for found in cut_clips(moments, tmp_path / "clips") if isinstance(found, Clip)]
    data = read_data_set(tmp_path / "clips")
    assert data.labels == ("Biking", "Swing") and len(data.clips) == len(clips) == 12
    assert data.grouped_by == {"folder": 12}
    group_of = {str(clip.path.relative_to(tmp_path / "clips")): clip.key for clip in data.clips}
    by_key: dict[tuple[str, str], set[str]] = {}
    for clip in clips:
        by_key.setdefault(group_of[clip.path], set()).add(clip.group)
    assert len(by_key) == 8 and all(len(sources) == 1 for sources in by_key.values())
    # The manifest also keeps clips of two classes together.
    listed = read_data_set(tmp_path / "clips/manifest.csv")
    assert listed.grouped_by == {"manifest": 12} and all(clip.path.is_file() for clip in listed.clips)
    scenes = set(find_scenes(listed).values())
    assert len(scenes) == 4 and all({label for label, _ in scene} == {"Biking", "Swing"} for scene in scenes)


def test_a_video_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path, video: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video\n" * 50)
    cut_off = tmp_path / "cut.mp4"
    cut_off.write_bytes(video.read_bytes()[:3000])
    paths = [tmp_path / "gone.mp4", tmp_path / "text.mp4", cut_off, video]
    moments = [Moment(str(path), start_s, start_s + 1, "Biking", 0.9) for path in paths for start_s in (0.0, 2.0)]
    found = list(cut_clips(moments, tmp_path / "clips"))
    assert sum(isinstance(one, Clip) for one in found) == 2
    # One line for each of them: a damaged video may have other moments that can be read.
    assert [Path(one.video).name for one in found if isinstance(one, Uncut)].count("gone.mp4") == 1
    reasons = {Path(one.video).name: one.reason for one in found if isinstance(one, Uncut)}
    assert reasons["gone.mp4"] == "does not exist"
    assert reasons["text.mp4"].startswith("is not a video that FFmpeg recognises")
    assert reasons.keys() == {"gone.mp4", "text.mp4", "cut.mp4"}
    assert not [path for path in (tmp_path / "clips").rglob("*") if path.name.startswith(".")]


def test_a_video_of_another_size_than_when_it_was_tagged_is_not_cut(tmp_path: Path, video: Path) -> None:
    publish_to(tmp_path / "t.parquet", [make_video(str(video), [{"Biking": 0.9}])])
    recorded = read_recorded(open_result(str(tmp_path / "t.parquet")), [str(video), "/v/other.mp4"])
    assert recorded == {str(video): Recorded(1000, 4.0)}
    (found,) = cut_clips([Moment(str(video), 0.0, 1.0, "Biking", 0.9)], tmp_path / "clips", recorded=recorded)
    assert isinstance(found, Uncut) and found.reason.startswith("it has changed since it was tagged")


def test_an_interrupted_clip_leaves_nothing_under_its_name(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(source: Path, start_s: float, end_s: float, target: Path, duration_s: float | None) -> float:
        begins_s = copy_span(source, start_s, end_s, target)
        if start_s > 0:
            raise KeyboardInterrupt
        return begins_s

    monkeypatch.setattr(clips_module, "copy_span", interrupted)
    moments = [Moment(str(video), start_s, 5.0, "Biking", 0.9) for start_s in (0.0, 4.0)]
    with pytest.raises(KeyboardInterrupt):
        list(cut_clips(moments, tmp_path / "clips"))
    left = {path.name for path in (tmp_path / "clips").rglob("*") if path.is_file()}
    assert left == {"manifest.csv", "a_0.00-5.00.mp4"}
    assert len((tmp_path / "clips/manifest.csv").read_text().splitlines()) == 2


def test_a_full_disk_stops_with_one_line(tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, start_s: float, end_s: float, target: Path, duration_s: float | None) -> float:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(clips_module, "copy_span", full)
    with pytest.raises(OutputError, match=r"tmp cannot be written: no space left on device"):
        list(cut_clips([Moment(str(video), 0.0, 1.0, "Biking", 0.9)], tmp_path / "clips"))


def test_a_clip_replaces_an_earlier_one_and_the_manifest_keeps_the_others(tmp_path: Path, video: Path) -> None:
    def manifest() -> Iterator[tuple[str, str]]:
        with (tmp_path / "clips/manifest.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                yield row["label"], row["source_start_s"]

    list(cut_clips([Moment(str(video), start_s, 5.0, "Biking", 0.9) for start_s in (0.0, 4.0)], tmp_path / "clips"))
    assert list(manifest()) == [("Biking", "0.0"), ("Biking", "4.0")]
    (tmp_path / "clips/Biking" / group_name(str(video)) / "a_0.00-5.00.mp4").unlink()
    list(cut_clips([Moment(str(video), 4.0, 5.0, label, 0.9) for label in ("Biking", "Swing")], tmp_path / "clips"))
    assert list(manifest()) == [("Biking", "4.0"), ("Swing", "4.0")]


def test_a_manifest_of_something_else_is_not_replaced(tmp_path: Path, video: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/manifest.csv").write_text("path,label\na.mp4,Biking\n")
    with pytest.raises(OutputError, match=r"manifest\.csv is no manifest of vtag cut"):
        list(cut_clips([Moment(str(video), 0.0, 1.0, "Biking", 0.9)], tmp_path / "clips"))


def test_an_object_in_a_bucket_is_cut(tmp_path: Path, video: Path, bucket: Bucket) -> None:
    bucket.put("videos/a.mp4", video.read_bytes())
    moments = [Moment(f"{bucket.address}/videos/{name}.mp4", 4.0, 5.0, "Biking", 0.9) for name in "ab"]
    clip, gone = cut_clips(moments, tmp_path / "clips", exact=True)
    assert isinstance(clip, Clip) and numbers_of(tmp_path / "clips" / clip.path) == list(range(100, 125))
    assert isinstance(gone, Uncut) and gone.reason == "does not exist"


def test_the_best_events_of_each_label_are_cut(tmp_path: Path) -> None:
    low, high, other = {"Biking": 0.5, "Swing": 0.2}, {"Biking": 0.9, "Swing": 0.1}, {"Swing": 0.7, "Biking": 0.3}
    publish_to(
        tmp_path / "tags",
        [make_video("/v/a.mp4", [low, high, other, low]), make_video("/v/b.mp4", [other, other, high, high])],
    )
    publish_to(tmp_path / "tags", [make_video("/v/c.mp4", [low])])
    found = best_events(open_result(str(tmp_path / "tags")), ["Swing", "Biking"], 0.0, 3)
    assert [(m.label, m.video, m.start_s, m.end_s) for m in found] == [
        ("Swing", "/v/a.mp4", 4.0, 6.0),
        ("Swing", "/v/b.mp4", 0.0, 4.0),
        ("Biking", "/v/a.mp4", 0.0, 4.0),
        ("Biking", "/v/b.mp4", 4.0, 8.0),
        ("Biking", "/v/a.mp4", 6.0, 8.0),
    ]
    assert [m.confidence for m in found] == pytest.approx([0.7, 0.7, 0.9, 0.9, 0.5])
    assert len(best_events(open_result(str(tmp_path / "tags")), ["Biking"], 0.6, 3)) == 2
