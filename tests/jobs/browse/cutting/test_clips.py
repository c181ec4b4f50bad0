"""Clips: moments cut out of their videos, in folders that training reads."""

import csv
import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.browse.cutting import clips as clips_module
from jobs.browse.cutting.clips import Uncut, cut_clips, group_name
from jobs.browse.cutting.manifest import Clip
from jobs.browse.cutting.stream_copy import copy_span
from jobs.browse.moment import Moment
from jobs.browse.recorded import Recorded, read_recorded
from jobs.browse.segments import open_result
from tagger.errors import OutputError
from tests.jobs.browse.cutting.shown_frames import RATE, numbers_of
from tests.jobs.browse.made_up import make_video
from tests.jobs.result.finished import publish_to
from tests.jobs.s3_server import Bucket
from tests.videos import encode
from training.data.reading import read_data_set
from training.data.scenes import find_scenes


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
    assert recorded == {str(video): Recorded(1000, 2.0, 0.0, 30.0, 96, 64, 1)}
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
