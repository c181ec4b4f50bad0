"""What a report shows of a result."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from jobs.browse.report.gather import NO_OOD, ReportData, gather
from jobs.browse.report.label_times import LabelTime
from jobs.browse.report.moments import strongest_rows
from jobs.browse.segments import open_result
from jobs.result.identity import RunIdentity
from tagger import Sampling
from tests.jobs.browse.made_up import make_video
from tests.jobs.result.finished import make_finished, publish_to

BIKING, SWING, NOTHING = (
    {"Biking": 0.9, "Swing": 0.1},
    {"Swing": 0.6123, "Biking": 0.3},
    {"background": 0.8, "Biking": 0.2},
)

IDENTITY = RunIdentity("actions38", "abc123", Sampling().to_json(), 2)


@pytest.fixture(params=["tags.parquet", "tags"])
def result(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A result in a file, or in a folder of two parts whose names interleave."""
    out = tmp_path / str(request.param)
    scores = [0.5, 0.25, None]
    publish_to(out, [make_video("/v/b.mp4", [BIKING, BIKING, SWING], ood_scores=scores)], identity=IDENTITY)
    rest = [make_video("/v/a.mp4", [SWING]), make_finished("/v/broken.mp4", ""), make_video("/v/c.mp4", [NOTHING])]
    publish_to(out, rest, identity=IDENTITY)
    yield out


def rows(data: ReportData) -> list[tuple[object, ...]]:
    segments, names = data.segments, data.videos["video"].to_pylist()
    return sorted(
        (
            names[segments.video[row]],
            segments.start_ms[row],
            segments.end_ms[row],
            data.labels[segments.label[row]],
            segments.confidence[row],
            segments.ood_score[row],
            [data.labels[label] for label in segments.others[:, row] if label >= 0],
            [value for value in segments.other_confidences[:, row] if value >= 0],
        )
        for row in range(len(segments))
    )


def test_a_report_has_every_segment_with_its_next_best_labels(result: Path) -> None:
    data = gather(open_result(str(result)))
    assert rows(data) == [
        ("/v/a.mp4", 0, 2000, "Swing", 6123, NO_OOD, ["Biking"], [30]),
        ("/v/b.mp4", 0, 2000, "Biking", 9000, 500, ["Swing"], [10]),
        ("/v/b.mp4", 2000, 4000, "Biking", 9000, 250, ["Swing"], [10]),
        ("/v/b.mp4", 4000, 6000, "Swing", 6123, NO_OOD, ["Biking"], [30]),
        ("/v/c.mp4", 0, 2000, "background", 8000, NO_OOD, ["Biking"], [20]),
    ]
    assert (np.diff(data.segments.video) >= 0).all()
    assert data.left_out == 0


def test_the_time_of_a_label_is_that_of_its_events(result: Path) -> None:
    assert gather(open_result(str(result))).times == (
        LabelTime("Biking", 4.0, 1, 1),
        LabelTime("Swing", 4.0, 2, 2),
        LabelTime("background", 2.0, 1, 1),
    )


def test_a_video_that_could_not_be_read_is_there_with_the_reason(result: Path) -> None:
    videos = gather(open_result(str(result))).videos.to_pylist()
    (broken,) = [video for video in videos if video["video"] == "/v/broken.mp4"]
    assert (broken["status"], broken["error_kind"]) == ("failed", "empty")
    assert len(videos) == 4


def test_the_videos_with_the_most_confident_segments_stay_when_not_all_fit(result: Path) -> None:
    data = gather(open_result(str(result)), max_segments=3)
    assert {row[0] for row in rows(data)} == {"/v/b.mp4"}
    assert data.videos["video"].to_pylist() == ["/v/b.mp4", "/v/broken.mp4"]
    assert data.left_out == 2
    assert sum(time.events for time in data.times) == 4


def test_a_video_that_is_too_long_for_a_page_leaves_room_for_the_others(tmp_path: Path) -> None:
    videos = [make_video("/v/a.mp4", [{"Biking": 0.9}] * 4), make_video("/v/b.mp4", [{"Swing": 0.6}])]
    publish_to(tmp_path / "t.parquet", videos, identity=IDENTITY)
    data = gather(open_result(str(tmp_path / "t.parquet")), max_segments=3)
    assert (data.videos["video"].to_pylist(), len(data.segments), data.left_out) == (["/v/b.mp4"], 1, 1)


def test_a_page_has_a_limited_number_of_videos_the_most_confident_first(result: Path, tmp_path: Path) -> None:
    shown = [gather(open_result(str(result)), max_videos=count) for count in (1, 2, 3)]
    assert [len(data.videos) for data in shown] == [1, 2, 3] and [data.left_out for data in shown] == [3, 2, 1]
    assert shown[0].videos["video"].to_pylist() == ["/v/b.mp4"] == sorted({row[0] for row in rows(shown[0])})
    assert "/v/broken.mp4" not in shown[1].videos["video"].to_pylist()
    failed = [make_finished(f"/v/{number}.mp4", "") for number in range(3)]
    publish_to(tmp_path / "t.parquet", failed, identity=IDENTITY)
    data = gather(open_result(str(tmp_path / "t.parquet")), max_videos=2)
    assert (len(data.videos), data.left_out) == (2, 1)


def test_a_result_without_segments_has_a_report(tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet", [make_finished("/v/broken.mp4", "")], identity=IDENTITY)
    data = gather(open_result(str(tmp_path / "t.parquet")))
    assert (len(data.videos), len(data.segments), data.times) == (1, 0, ())


def test_thumbnails_are_of_the_best_segments_of_different_events(result: Path) -> None:
    data = gather(open_result(str(result)))
    names = data.videos["video"].to_pylist()

    def moments(count: int, per_video: int = 4) -> set[tuple[str, int]]:
        picked = strongest_rows(data, count, per_video)
        return {(names[data.segments.video[row]], int(data.segments.start_ms[row])) for row in picked}

    assert moments(10) == {("/v/a.mp4", 0), ("/v/b.mp4", 0), ("/v/b.mp4", 4000)}
    assert moments(10, per_video=1) == {("/v/a.mp4", 0), ("/v/b.mp4", 0)}
    assert moments(1) == {("/v/b.mp4", 0)}
    assert moments(0) == set()
