"""Which moments get a thumbnail, and how many bytes all of them take."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.browse.report import thumbnails
from jobs.browse.report.gather import ReportData, gather
from jobs.browse.report.thumbnails import VideoMoments, make_thumbnails, moments_by_video
from jobs.browse.segments import open_result
from tests.jobs.browse.made_up import make_video
from tests.jobs.result.finished import publish_to


@pytest.fixture
def data(tmp_path: Path) -> ReportData:
    shown = {"/v/a.mp4": (0.9, 0.5), "/v/b.mp4": (0.8, 0.6), "s3://bucket/c.mp4": (0.99, 0.98)}
    videos = [make_video(name, [{"Biking": first}, {"Swing": second}]) for name, (first, second) in shown.items()]
    publish_to(tmp_path / "t.parquet", videos)
    return gather(open_result(str(tmp_path / "t.parquet")))


def test_the_moments_of_each_local_video_are_in_the_middle_of_their_segments(data: ReportData) -> None:
    found = {each.video: each.times_s for each in moments_by_video(data, 10)}
    assert found == {"/v/a.mp4": (1.0, 3.0), "/v/b.mp4": (1.0, 3.0)}
    assert moments_by_video(data, 0) == []


def test_the_least_confident_moments_are_left_out_when_the_pictures_are_too_large(
    data: ReportData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_this_machine(
        work: str, on_ray: object, moments: list[VideoMoments], *, on_event: Callable[[Any], None], **_: object
    ) -> list[tuple[int, bytes]]:
        for each in moments:
            on_event(each.video)
        return [(row, bytes([row]) * 100) for each in moments for row in each.rows]

    monkeypatch.setattr(thumbnails, "run_on_ray", on_this_machine)
    monkeypatch.setattr(thumbnails, "MAX_BYTES", 300)
    done = []
    made = make_thumbnails(data, moments_by_video(data, 10), on_video=lambda: done.append(1))
    assert [data.segments.confidence[row] for row in made.rows] == [9000, 8000, 6000]
    assert made.jpegs == [bytes([row]) * 100 for row in made.rows]
    # Each video moves the bar.
    assert len(done) == 2
