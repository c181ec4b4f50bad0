"""Copies of videos with chapters."""

from pathlib import Path

import av
import pytest

from jobs.browse.exporting.exported import ExportedVideo, Span
from jobs.browse.exporting.remux import copy_with_chapters
from jobs.browse.recorded import Recorded
from tagger.errors import VideoError
from tagger.video.facts import probe
from tests.jobs.browse.exporting.made_up import ODD
from tests.videos import encode, encode_late

SPANS = (Span(1.4, 3.4, ODD, 0.9), Span(3.4, 4.0, "Biking", 0.9))


def packets(path: Path) -> dict[str, list[tuple[float, bytes]]]:
    """The times in seconds and the content of the packets of video and audio, in the order of presentation."""
    found: dict[str, list[tuple[float, bytes]]] = {"video": [], "audio": []}
    with av.open(str(path)) as container:
        start_s = (container.start_time or 0) / av.time_base
        for packet in container.demux([*container.streams.video, *container.streams.audio]):
            if packet.size:
                assert packet.pts is not None
                time_s = round(float(packet.pts * packet.time_base) - start_s, 3)
                found[packet.stream.type].append((time_s, bytes(packet)))
    return {kind: sorted(each) for kind, each in found.items()}


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv", "late.mov"])
def test_a_copy_has_the_chapters_and_the_same_packets_at_the_same_times(tmp_path: Path, name: str) -> None:
    path = encode_late(tmp_path / name, after_s=1.4, seconds=3)
    copy = tmp_path / "copy" / name
    copy.parent.mkdir()
    copy_with_chapters(ExportedVideo(str(path), Recorded(), SPANS), copy, copy.suffix)
    with av.open(str(copy)) as container:
        found = [(each["start"] * each["time_base"], each["metadata"]["title"]) for each in container.chapters()]
    assert [(round(float(start_s), 3), title) for start_s, title in found] == [
        (0.0, "–"),
        (1.4, ODD),
        (3.4, "Biking"),
    ]
    assert probe(copy).stream_start_s == 1.4
    assert packets(copy) == packets(path)


def test_a_copy_begins_at_0_where_players_count_from(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", seconds=2, start_s=10)
    copy = tmp_path / "copy.mkv"
    copy_with_chapters(ExportedVideo(str(path), Recorded(), SPANS), copy, ".mkv")
    with av.open(str(copy)) as container:
        assert container.start_time == 0
    assert packets(copy)["video"] == packets(path)["video"]


def test_a_format_without_chapters_is_refused(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.avi", codec="mpeg4", seconds=1)
    with pytest.raises(VideoError, match=r"a\.avi is in a format without chapters; with chapters: \.mp4, \.m4v"):
        copy_with_chapters(ExportedVideo(str(path), Recorded(), SPANS), tmp_path / "b.avi", ".avi")


def test_a_video_that_has_changed_or_is_none_is_refused(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", seconds=1)
    with pytest.raises(VideoError, match="has changed since it was tagged"):
        copy_with_chapters(ExportedVideo(str(path), Recorded(size=7), SPANS), tmp_path / "b.mp4", ".mp4")
    path.write_text("no video")
    with pytest.raises(VideoError, match="is not a video that FFmpeg recognises"):
        copy_with_chapters(ExportedVideo(str(path), Recorded(), SPANS), tmp_path / "b.mp4", ".mp4")
