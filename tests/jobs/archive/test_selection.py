"""Ranges of videos choose among the videos of the inputs."""

import os
from pathlib import Path

import pytest

from jobs.archive.selection import Selection, choose_videos, named_ranges, recorded_ranges
from jobs.archive.video import Video
from jobs.archive.videos import Videos
from tagger.errors import InputError


def test_ranges_have_the_names_of_a_result_and_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    odd = os.fsdecode(b"/v/\xff.mp4")
    named = named_ranges(
        {
            "a.mp4": [(4.0, 5.0), (0.0, 1.0)],
            f"{tmp_path}/x/../a.mp4": [(1.0, 2.0)],
            f"file://{tmp_path}/b%20c.mp4": [(0.0, 1.0)],
            "s3://bucket/a.mp4": [(0.0, 1.0)],
            odd: [(0.0, 1.0)],
            "/v/empty.mp4": [],
        }
    )
    assert named == {
        f"{tmp_path}/a.mp4": ((0.0, 2.0), (4.0, 5.0)),
        f"{tmp_path}/b c.mp4": ((0.0, 1.0),),
        "file:///v/%FF.mp4": ((0.0, 1.0),),
        "s3://bucket/a.mp4": ((0.0, 1.0),),
    }
    assert named_ranges(named) == named


@pytest.mark.parametrize("each", [(1.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_a_range_ends_after_its_start(each: tuple[float, float]) -> None:
    with pytest.raises(InputError, match=r"a range of /v/a\.mp4 is from .* s to .* s; it must end later"):
        named_ranges({"/v/a.mp4": [(0.0, 1.0), each]})


@pytest.mark.parametrize("only", [{}, {"/v/a.mp4": []}])
def test_at_least_one_range_is_needed(only: dict[str, list[tuple[float, float]]]) -> None:
    with pytest.raises(InputError, match="--only has no ranges"):
        named_ranges(only)


def test_what_is_recorded_depends_on_names_and_ranges_not_on_their_order() -> None:
    first = recorded_ranges(named_ranges({"/v/a.mp4": [(0, 1), (1, 2), (5, 6)], "/v/b.mp4": [(0, 1)]}))
    assert first.keys() == {"videos", "ranges", "sha256"}
    assert (first["videos"], first["ranges"]) == (2, 3)
    assert first == recorded_ranges(named_ranges({"/v/b.mp4": [(0.0, 1.0)], "/v/a.mp4": [(5, 6), (0, 2)]}))
    for other in ({"/v/a.mp4": [(0, 2), (5, 6)], "/v/c.mp4": [(0, 1)]}, {"/v/a.mp4": [(0, 2), (5, 7)]}):
        assert first["sha256"] != recorded_ranges(named_ranges(other))["sha256"]


def test_videos_without_ranges_are_left_out_and_ranges_without_a_video_are_counted() -> None:
    videos = Videos.of(Video(f"/v/{name}.mp4", 1, 2) for name in "abc")
    named = named_ranges({"/v/b.mp4": [(0, 1), (3, 4)], "/v/x.mp4": [(0, 1)], "/v/gone.mp4": [(0, 1)]})
    chosen, selection = choose_videos(videos, named)
    assert list(chosen) == [Video("/v/b.mp4", 1, 2, ((0, 1), (3, 4)))]
    assert selection == Selection(videos=1, ranges=2, left_out=2, missing=2, first_missing="/v/gone.mp4")


def test_without_any_video_the_first_is_named() -> None:
    named = named_ranges({"/v/x.mp4": [(0, 1)], "/v/y.mp4": [(0, 1)]})
    with pytest.raises(InputError, match=r"no video of --only is in the inputs; the first of 2 is /v/x\.mp4"):
        choose_videos(Videos.of([Video("/v/a.mp4", 1, 2)]), named)
