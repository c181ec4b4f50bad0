"""The best moments, and the lines that play them."""

import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.browse.best_moments import best_moments
from jobs.browse.player import play_line, with_play_lines
from jobs.browse.search import search_label
from jobs.browse.segments import open_result, read_labels
from tagger.errors import OutputError
from tests.jobs.browse.made_up import Video, make_segments, make_video
from tests.jobs.result.finished import make_finished, publish_to, starting_at


def biking(*confidences: float) -> list[dict[str, float]]:
    """Segments with these confidences of Biking, which is the best label where it is at least a half."""
    return [
        dict(sorted({"Biking": share, "Diving": 1 - share}.items(), key=lambda item: -item[1])) for share in confidences
    ]


def search(path: Path, **options: object) -> list[tuple[str, float, float]]:
    _, found = search_label(open_result(str(path)), "bik", **({"top": 10} | options))  # type: ignore[arg-type]
    assert found.column_names == ["video", "segment", "start_s", "end_s", "label", "confidence"]
    assert set(found["label"].to_pylist()) <= {"Biking"}
    return [(row["video"], row["start_s"], row["confidence"]) for row in found.to_pylist()]


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """A result in two parts, so that the moments of both are put in order."""
    scores = [0.1, 0.9, 0.1, 0.1, 0.1]
    videos = [
        make_video("/v/b.mp4", biking(0.25, 0.5, 0.75, 0.5, 0.625), ood_scores=scores),
        make_video("/v/a.mp4", biking(0.375, 0.875), ood_scores=scores),
        make_video("/v/c.mp4", [{"Diving": 1.0}], ood_scores=[None]),
    ]
    for video in videos:
        publish_to(tmp_path / "tags", [video])
    return tmp_path / "tags"


def test_the_best_moment_of_each_video_is_found_best_first(result: Path) -> None:
    assert search(result) == [("/v/a.mp4", 2.0, 0.875), ("/v/b.mp4", 4.0, 0.75)]
    assert search(result, top=1) == [("/v/a.mp4", 2.0, 0.875)]


def test_with_all_there_are_moments_that_are_beside_no_better_one(result: Path) -> None:
    found = search(result, one_per_video=False)
    assert found == [("/v/a.mp4", 2.0, 0.875), ("/v/b.mp4", 4.0, 0.75), ("/v/b.mp4", 8.0, 0.625)]


def test_a_moment_counts_when_the_label_is_not_the_best_of_its_segment(tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet", [make_video("/v/a.mp4", biking(0.25, 0.125))])
    assert search(tmp_path / "t.parquet") == [("/v/a.mp4", 0.0, 0.25)]


def test_moments_with_a_high_ood_score_are_left_out(result: Path) -> None:
    assert search(result, max_ood=0.5) == [("/v/b.mp4", 4.0, 0.75), ("/v/a.mp4", 0.0, 0.375)]
    assert search(result, max_ood=0.9) == search(result)


def test_a_result_without_ood_scores_cannot_be_searched_by_them(tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet", [make_video("/v/a.mp4", biking(0.5))])
    with pytest.raises(OutputError, match=r"t\.parquet has no ood_score: its model was not calibrated for it"):
        search(tmp_path / "t.parquet", max_ood=0.5)


def test_the_labels_of_a_result_include_those_that_are_never_the_best(result: Path) -> None:
    assert read_labels(open_result(str(result))) == ["Biking", "Diving"]


def test_a_result_without_segments_has_no_moments(tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet", [make_finished("/v/a.mp4", "")])
    with pytest.raises(OutputError, match=r"t\.parquet has no segments: no video of it could be read"):
        search(tmp_path / "t.parquet")


@given(
    st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), min_size=1, max_size=6),
    st.integers(1, 8),
    st.booleans(),
)
def test_the_best_of_many_portions_are_the_best_of_all(scores: list[list[int]], top: int, one_per_video: bool) -> None:
    def portion(numbers: range) -> tuple[Video, ...]:
        return tuple(
            (f"/v/{number}.mp4", 2.0, 2.0, range(len(scores[number])), np.full((len(scores[number]), 4), 0.25))
            for number in numbers
        )

    def best(*portions: range) -> list[tuple[str, int, float]]:
        portioned = [make_segments(portion(numbers)) for numbers in portions]
        values = [np.array([s for n in numbers for s in scores[n]], np.float32) for numbers in portions]
        pairs = dict(zip(map(id, portioned), values, strict=True))
        table = best_moments(portioned, lambda part: pairs[id(part)], top, one_per_video=one_per_video)
        return [(row["video"], row["segment"], row["score"]) for row in table.to_pylist()]

    found = best(range(len(scores)))
    assert found == best(*(range(number, number + 1) for number in range(len(scores))))
    wanted = []
    for number, values in enumerate(scores):
        around = [-1, *values, -1]
        peaks = [i for i, value in enumerate(values) if value > around[i] and value >= around[i + 2]]
        kept = [values.index(max(values))] if one_per_video else peaks
        wanted += [(f"/v/{number}.mp4", i, float(values[i])) for i in kept]
    assert found == sorted(wanted, key=lambda moment: (-moment[2], *moment[:2]))[:top]


@pytest.mark.parametrize(
    "video", ["/v/a.mp4", "/v/it's $HOME.mp4", '/v/"a b".mp4', "/v/-x.mp4", "https://a.example/b?c=d&e"]
)
def test_a_play_line_names_the_video_as_one_word_of_the_shell(video: str) -> None:
    assert shlex.split(play_line(video, 12.5) or "") == ["mpv", "--start=12.5", video]
    assert shlex.split(play_line(video, 0.0, "ffplay") or "") == ["ffplay", "-ss", "0", video]


def test_a_play_line_is_one_printable_line_whatever_the_name() -> None:
    video = "/v/it's\n\\ \x1b[31m\x85\u200e ü.mp4"
    line = play_line(video, 1.0) or ""
    assert line.isprintable()
    script = line.replace("mpv --start=1", "printf %s")
    assert subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout.decode() == video


def test_a_play_line_of_an_object_signs_its_address() -> None:
    assert play_line("s3://b/it's.mp4", 2.1333333) == "mpv --start=2.133 \"$(aws s3 presign 's3://b/it'\"'\"'s.mp4')\""
    assert play_line("gs://b/a.mp4", 1.0) is None


def test_a_player_counts_from_the_start_of_the_file_and_not_from_the_first_frame(tmp_path: Path) -> None:
    videos = [starting_at(1.4, make_video("/v/late.mp4", biking(0.5, 0.9))), make_video("/v/a.mp4", biking(0.5, 0.8))]
    publish_to(tmp_path / "t.parquet", videos)
    finished = open_result(str(tmp_path / "t.parquet"))
    _, found = search_label(finished, "biking", 10)
    assert with_play_lines(finished, found, "mpv")["play"].to_pylist() == [
        "mpv --start=3.4 /v/late.mp4",
        "mpv --start=2 /v/a.mp4",
    ]
