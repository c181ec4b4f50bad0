"""Where the files of videos go."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.browse.exporting.places import mirror_of

PART = st.text(st.sampled_from("ab."), min_size=1, max_size=4).filter(lambda part: part not in (".", ".."))
PATHS = st.lists(st.lists(PART, min_size=1, max_size=3).map(lambda parts: "/".join(["", *parts])), unique=True)


def targets(*videos: str, keeps_name: bool = False) -> list[str]:
    mirror = mirror_of(videos)
    return [str(mirror.target(video, ".srt", keeps_name=keeps_name)) for video in videos]


def test_folders_below_the_common_one_are_mirrored() -> None:
    assert targets("/v/2023/x/a.mp4", "/v/2024/a.mp4", "/v/b.mp4") == ["2023/x/a.srt", "2024/a.srt", "b.srt"]
    assert targets("/v/2024/a.mp4") == ["a.srt"]
    assert targets("/v/2024/a.mp4", "/v/2024/b.mp4") == ["a.srt", "b.srt"]
    assert targets("/v/2024/a.mp4", "/v/2024 b/a.mp4") == ["2024/a.srt", "2024 b/a.srt"]


def test_the_ending_stays_where_two_videos_differ_only_by_it() -> None:
    assert targets("/v/a.mp4", "/v/a.mkv", "/v/b.mp4") == ["a.mp4.srt", "a.mkv.srt", "b.srt"]
    assert targets("/v/a.mp4", "/v/a.mp4.mkv") == ["a.srt", "a.mp4.mkv.srt"]
    assert targets("/v/a.mp4", keeps_name=True) == ["a.mp4.srt"]


@pytest.mark.parametrize(
    ("videos", "found"),
    [
        (["s3://bucket/x/a.mp4", "s3://bucket/y/a.mp4"], ["x/a.srt", "y/a.srt"]),
        (["s3://one/a.mp4", "s3://two/a.mp4", "/v/a.mp4"], ["s3/one/a.srt", "s3/two/a.srt", "v/a.srt"]),
        (["s3://bucket/x/../a.mp4", "s3://bucket//b.mp4"], ["x/_../a.srt", "_/b.srt"]),
        (["file:///v/%FF/a.mp4", "/v/b.mp4"], ["\udcff/a.srt", "b.srt"]),
    ],
)
def test_addresses_are_folders(videos: list[str], found: list[str]) -> None:
    assert targets(*videos) == found


@given(PATHS)
def test_no_two_videos_have_one_file(videos: list[str]) -> None:
    assert len(set(targets(*videos))) == len(videos)
    mirror = mirror_of(videos)
    assert len({mirror.inside(video) for video in videos}) == len(videos)
    assert not any(PurePosixPath(target).is_absolute() for target in targets(*videos))


def test_an_archive_without_videos_has_a_mirror() -> None:
    assert mirror_of([]).root == ()
