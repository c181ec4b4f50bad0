"""What is exported of a result."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.browse.events import Rules
from jobs.browse.exporting.exported import Span, exported_videos
from jobs.browse.recorded import Recorded
from jobs.browse.segments import open_result
from tagger.video.facts import probe
from tests.ffmpeg import shown_at
from tests.jobs.browse.made_up import make_video
from tests.jobs.result.finished import make_finished, publish_to, starting_at
from tests.videos import encode_late

BIKING, SWING = {"Biking": 0.9, "Swing": 0.1}, {"Swing": 0.6, "Biking": 0.4}


def exported(path: Path, rules: Rules | None = None, *, events: bool = False) -> dict[str, list[Span]]:
    videos = exported_videos(open_result(str(path)), rules or Rules(), events=events)
    return {each.video: list(each.spans) for each in videos}


@pytest.fixture(params=["t.parquet", "t"])
def tags(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / str(request.param)
    failed = make_finished("/v/b.mp4", "")
    publish_to(path, [starting_at(1.4, make_video("/v/c.mp4", [BIKING, BIKING, SWING])), failed])
    publish_to(path, [make_video("/v/a.mp4", [SWING])])
    return path


def test_segments_have_the_times_of_players(tags: Path) -> None:
    assert exported(tags) == {
        "/v/a.mp4": [Span(0.0, 2.0, "Swing", 0.6)],
        "/v/c.mp4": [Span(1.4, 3.4, "Biking", 0.9), Span(3.4, 5.4, "Biking", 0.9), Span(5.4, 7.4, "Swing", 0.6)],
    }


def test_events_have_the_times_of_players(tags: Path) -> None:
    assert exported(tags, events=True)["/v/c.mp4"] == [Span(1.4, 5.4, "Biking", 0.9), Span(5.4, 7.4, "Swing", 0.6)]


def test_ffmpeg_shows_a_segment_at_its_exported_time(tmp_path: Path) -> None:
    late = encode_late(tmp_path / "late.mp4", after_s=1.4, seconds=6, rate=10)
    publish_to(
        tmp_path / "t.parquet", [starting_at(probe(late).stream_start_s, make_video(str(late), [BIKING, SWING]))]
    )
    second = exported(tmp_path / "t.parquet")[str(late)][1]
    # The second segment begins with frame 20, 2 s after the first frame. FFmpeg gives the first frame that does not
    # begin before the time.
    assert second.start_s == 3.4
    assert shown_at(late, second.start_s - 0.02) == 20


def test_rules_leave_segments_and_videos_out(tags: Path) -> None:
    assert exported(tags, Rules(only=frozenset({"Swing"})))["/v/c.mp4"] == [Span(5.4, 7.4, "Swing", 0.6)]
    assert list(exported(tags, Rules(min_confidence=0.7))) == ["/v/c.mp4"]
    assert exported(tags, Rules(min_duration_s=9), events=True) == {}


def test_a_video_comes_with_what_the_result_records_of_it(tags: Path) -> None:
    found = {each.video: each for each in exported_videos(open_result(str(tags)), Rules(), events=False)}
    assert found["/v/c.mp4"].recorded == Recorded(1000, 6.0, 1.4, 30.0, 96, 64, 3)
    assert (found["/v/c.mp4"].fps, found["/v/c.mp4"].labels) == (30.0, ["Biking", "Swing"])


def test_times_of_an_older_result_count_from_the_first_frame(tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet", [make_video("/v/a.mp4", [SWING])])
    videos = tmp_path / "t.videos.parquet"
    pq.write_table(pq.read_table(videos).drop_columns(["stream_start_s"]), videos)
    (found,) = exported_videos(open_result(str(tmp_path / "t.parquet")), Rules(), events=False)
    assert found.recorded.stream_start_s is None
    assert found.spans == [Span(0.0, 2.0, "Swing", 0.6)]
